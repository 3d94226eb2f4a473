// Convolution layers: cross-correlations with learned filters, PyTorch's shapes and initialisation.

import { conv1d, conv2d, convTranspose1d, convTranspose2d } from "../functional/layers.ts";
import { checkOptions } from "../options.ts";
import { empty } from "../tensor/create.ts";
import type { Tensor } from "../tensor/mod.ts";
import { factoryKeys, type FactoryOptions, type Pair, pair, positiveSizes } from "./factory.ts";
import * as init from "./init.ts";
import { markBuiltin, Module, Parameter } from "./module.ts";

/** Options of the convolution layers; `P` is a size per spatial dim. */
export interface ConvOptions<P> extends FactoryOptions {
  /** Step of the window (default 1). */
  readonly stride?: P;
  /** Zeros added on each side (default 0), "same" (output size = input size) or "valid" (none). */
  readonly padding?: P | "same" | "valid";
  /** Distance between the window's elements (default 1). */
  readonly dilation?: P;
  /** Independent blocks of channels (default 1). */
  readonly groups?: number;
  /** Learn a bias (default true). */
  readonly bias?: boolean;
}

/** Options of the transposed convolution layers. */
export interface ConvTransposeOptions<P> extends FactoryOptions {
  /** Step of the forward convolution (default 1). */
  readonly stride?: P;
  /** Padding of the forward convolution (default 0). */
  readonly padding?: P;
  /** Extra size on one side of the output (default 0). */
  readonly outputPadding?: P;
  /** Distance between the window's elements (default 1). */
  readonly dilation?: P;
  /** Independent blocks of channels (default 1). */
  readonly groups?: number;
  /** Learn a bias (default true). */
  readonly bias?: boolean;
}

/** What the four layers share: sizes and their checks, parameters and their initialisation, printing. */
abstract class Convolution<O extends object> extends Module {
  /** (outChannels, inChannels / groups, kernel sizes); transposed: (inChannels, outChannels / groups, ...). */
  weight: Parameter;
  /** (outChannels), or null. */
  bias: Parameter | null;
  /** @internal What the function takes beside input, weight and bias. */
  protected readonly window: O;
  readonly #channels: readonly [number, number];

  /** @internal `kernel`: one size per spatial dim. */
  constructor(
    inChannels: number,
    outChannels: number,
    kernel: readonly number[],
    options: O & { readonly groups?: number; readonly bias?: boolean } & FactoryOptions,
    transposed: boolean,
  ) {
    super();
    const name = this.constructor.name;
    const own = [
      "stride",
      "padding",
      "dilation",
      "groups",
      ...(transposed ? ["outputPadding"] : []),
    ];
    checkOptions(name, options, [...own, "bias", ...factoryKeys]);
    const { bias = true, device, dtype, ...window } = options;
    const groups = options.groups ?? 1;
    positiveSizes(name, { inChannels, outChannels, groups });
    for (const kernelSize of kernel) positiveSizes(name, { kernelSize });
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      throw new RangeError(
        `Cannot make ${name} from ${inChannels} to ${outChannels} channels in ${groups} groups: ` +
          `both must be divisible by the groups`,
      );
    }
    const factory = { ...(device ? { device } : {}), ...(dtype ? { dtype } : {}) };
    const shape = transposed
      ? [inChannels, outChannels / groups, ...kernel]
      : [outChannels, inChannels / groups, ...kernel];
    this.weight = new Parameter(empty(shape, factory));
    this.bias = bias ? new Parameter(empty([outChannels], factory)) : null;
    init.kaimingUniform_(this.weight, { a: Math.sqrt(5) });
    const fanIn = shape.slice(1).reduce((a, b) => a * b, 1);
    if (this.bias !== null) init.uniformBound_(this.bias, fanIn);
    this.window = window as unknown as O;
    this.#channels = [inChannels, outChannels];
  }

  /** Channels, kernel and options. */
  override extraRepr(): string {
    const text = (v: unknown): string => Array.isArray(v) ? `[${v.join(", ")}]` : String(v);
    const options = Object.entries(this.window).map(([k, v]) => `, ${k}=${text(v)}`);
    const kernel = this.weight.shape.slice(2);
    return `${this.#channels.join(", ")}, kernelSize=${text(kernel)}${options.join("")}`;
  }
}

/** (N, C, H, W) -> (N, K, P, Q): cross-correlation with K filters of shape (C / groups, R, S). */
export class Conv2d extends Convolution<ConvOptions<Pair>> {
  /** `kernelSize` and the options take one number, or [height, width]. */
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Pair,
    options: ConvOptions<Pair> = {},
  ) {
    super(inChannels, outChannels, pair(kernelSize), options, false);
  }

  /** (N, C, H, W) or (C, H, W). */
  override forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, { ...this.window, bias: this.bias });
  }
}

/** (N, C, L) -> (N, K, M): cross-correlation with K filters of shape (C / groups, R). */
export class Conv1d extends Convolution<ConvOptions<number>> {
  /** A convolution along one dim. */
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: number,
    options: ConvOptions<number> = {},
  ) {
    super(inChannels, outChannels, [kernelSize], options, false);
  }

  /** (N, C, L) or (C, L). */
  override forward(x: Tensor): Tensor {
    return conv1d(x, this.weight, { ...this.window, bias: this.bias });
  }
}

/** The gradient of Conv2d with respect to its input, as a layer: (N, C, P, Q) -> (N, K, H, W). */
export class ConvTranspose2d extends Convolution<ConvTransposeOptions<Pair>> {
  /** `kernelSize` and the options take one number, or [height, width]. */
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Pair,
    options: ConvTransposeOptions<Pair> = {},
  ) {
    super(inChannels, outChannels, pair(kernelSize), options, true);
  }

  /** (N, C, P, Q) or (C, P, Q). */
  override forward(x: Tensor): Tensor {
    return convTranspose2d(x, this.weight, { ...this.window, bias: this.bias });
  }
}

/** The gradient of Conv1d with respect to its input, as a layer: (N, C, M) -> (N, K, L). */
export class ConvTranspose1d extends Convolution<ConvTransposeOptions<number>> {
  /** A transposed convolution along one dim. */
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: number,
    options: ConvTransposeOptions<number> = {},
  ) {
    super(inChannels, outChannels, [kernelSize], options, true);
  }

  /** (N, C, M) or (C, M). */
  override forward(x: Tensor): Tensor {
    return convTranspose1d(x, this.weight, { ...this.window, bias: this.bias });
  }
}

markBuiltin(Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d);
