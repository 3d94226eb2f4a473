// Convolution layers: cross-correlations with learned filters, PyTorch's shapes and initialisation.

import { conv1d, conv2d, convTranspose1d, convTranspose2d } from "../functional/layers.ts";
import { checkOptions } from "../options.ts";
import { scoped } from "../scope.ts";
import { show } from "../shape.ts";
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
  /** What the padding is made of (default "zeros"). */
  readonly paddingMode?: PaddingMode;
}

/** What stands around the input of a convolution. */
export type PaddingMode = "zeros" | "reflect" | "replicate" | "circular";
const paddingModes: readonly string[] = ["zeros", "reflect", "replicate", "circular"];

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

/** The sizes of a frame around the input, for `pad`, that stands for the option `padding`. */
function frameOf(
  what: string,
  kernel: readonly number[],
  options: {
    readonly stride?: Pair;
    readonly padding?: Pair | "same" | "valid";
    readonly dilation?: Pair;
  },
): number[] {
  const { padding = 0 } = options;
  const each = (p: Pair): readonly number[] => typeof p === "number" ? kernel.map(() => p) : p;
  const stride = each(options.stride ?? 1), dilation = each(options.dilation ?? 1);
  if (padding === "same" && stride.some((s) => s !== 1)) {
    throw new RangeError(`Cannot make ${what} with padding "same" and a stride other than 1`);
  }
  const sides = kernel.map((k, d) => {
    if (padding === "valid") return [0, 0];
    if (padding !== "same") return [each(padding)[d]!, each(padding)[d]!];
    const total = dilation[d]! * (k - 1), before = Math.floor(total / 2);
    return [before, total - before];
  });
  return sides.reverse().flat();
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
  readonly #mode: PaddingMode;
  readonly #frame: readonly number[];

  /** @internal `kernel`: one size per spatial dim. */
  constructor(
    inChannels: number,
    outChannels: number,
    kernel: readonly number[],
    options: O & {
      readonly groups?: number;
      readonly bias?: boolean;
      readonly paddingMode?: PaddingMode;
    } & FactoryOptions,
    transposed: boolean,
  ) {
    super();
    const name = this.constructor.name;
    const own = [
      "stride",
      "padding",
      "dilation",
      "groups",
      transposed ? "outputPadding" : "paddingMode",
    ];
    checkOptions(name, options, [...own, "bias", ...factoryKeys]);
    const { bias = true, device, dtype, paddingMode = "zeros", ...window } = options;
    if (!paddingModes.includes(paddingMode)) {
      throw new TypeError(
        `Cannot make ${name} with paddingMode ${JSON.stringify(paddingMode)}: use one of ${
          paddingModes.join(", ")
        }`,
      );
    }
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
    this.#mode = paddingMode;
    this.#frame = paddingMode === "zeros" ? [] : frameOf(name, kernel, window as object);
    this.#channels = [inChannels, outChannels];
  }

  /** Runs `convolve` on x in its frame, or with the padding that it does itself. */
  protected framed(x: Tensor, convolve: (x: Tensor, window: O) => Tensor): Tensor {
    const mode = this.#mode;
    if (mode === "zeros") return convolve(x, this.window);
    return scoped(() => convolve(x.pad(this.#frame, { mode }), { ...this.window, padding: 0 }));
  }

  /** Channels, kernel and options. */
  override extraRepr(): string {
    const text = (v: unknown): string => Array.isArray(v) ? `[${v.join(", ")}]` : String(v);
    const options = Object.entries(this.window).map(([k, v]) => `, ${k}=${text(v)}`);
    const kernel = this.weight.shape.slice(2);
    const mode = this.#mode === "zeros" ? "" : `, paddingMode=${this.#mode}`;
    return `${this.#channels.join(", ")}, kernelSize=${text(kernel)}${options.join("")}${mode}`;
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
    const { weight, bias } = this;
    return this.framed(x, (t, window) => conv2d(t, weight, { ...window, bias }));
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
    const { weight, bias } = this;
    return this.framed(x, (t, window) => conv1d(t, weight, { ...window, bias }));
  }
}

/** What is missing from the smallest result of a transposed convolution to the size asked for. */
function missingSizes(
  x: Tensor,
  weight: Tensor,
  window: ConvTransposeOptions<Pair>,
  outputSize: readonly number[],
): number[] {
  const dims = weight.ndim - 2;
  const each = (p: Pair): readonly number[] =>
    typeof p === "number" ? new Array<number>(dims).fill(p) : p;
  const stride = each(window.stride ?? 1), padding = each(window.padding ?? 0);
  const dilation = each(window.dilation ?? 1);
  return stride.map((s, d) => {
    const least = (x.shape[x.ndim - dims + d]! - 1) * s - 2 * padding[d]! +
      dilation[d]! * (weight.shape[d + 2]! - 1) + 1;
    const missing = outputSize.length === dims ? outputSize[d]! - least : -1;
    if (!(missing >= 0 && missing < s)) {
      throw new RangeError(
        `Cannot make an output of size ${show(outputSize)} from ${show(x.shape)}: ` +
          `dim ${d} of ${dims} must be from ${least} to ${least + s - 1}`,
      );
    }
    return missing;
  });
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

  /**
   * @param x (N, C, P, Q) or (C, P, Q)
   * @param outputSize [H, W] of the result, instead of the option outputPadding
   */
  override forward(x: Tensor, outputSize?: readonly [number, number]): Tensor {
    const extra = outputSize === undefined ? {} : {
      outputPadding: missingSizes(x, this.weight, this.window, outputSize) as [number, number],
    };
    return convTranspose2d(x, this.weight, { ...this.window, ...extra, bias: this.bias });
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

  /**
   * @param x (N, C, M) or (C, M)
   * @param outputSize [L] of the result, instead of the option outputPadding
   */
  override forward(x: Tensor, outputSize?: readonly [number]): Tensor {
    const extra = outputSize === undefined
      ? {}
      : { outputPadding: missingSizes(x, this.weight, this.window, outputSize)[0]! };
    return convTranspose1d(x, this.weight, { ...this.window, ...extra, bias: this.bias });
  }
}

markBuiltin(Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d);
