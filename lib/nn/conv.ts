// Convolution layers: cross-correlations with learned filters, PyTorch's shapes and initialisation.

import { conv1d, conv2d, convTranspose1d, convTranspose2d } from "../functional_nn.ts";
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

const convKeys = ["stride", "padding", "dilation", "groups", "bias", ...factoryKeys];

/** Makes and initialises the weight and bias of a convolution. */
function convParameters(
  what: string,
  inChannels: number,
  outChannels: number,
  kernel: readonly number[],
  options: { groups?: number; bias?: boolean } & FactoryOptions,
  transposed: boolean,
): { weight: Parameter; bias: Parameter | null } {
  const groups = options.groups ?? 1;
  positiveSizes(what, { inChannels, outChannels, groups });
  kernel.forEach((k) => positiveSizes(what, { kernelSize: k }));
  if (inChannels % groups !== 0 || outChannels % groups !== 0) {
    throw new RangeError(
      `Cannot make ${what} from ${inChannels} to ${outChannels} channels in ${groups} groups: both must be divisible by the groups`,
    );
  }
  const factory: FactoryOptions = {
    ...(options.device ? { device: options.device } : {}),
    ...(options.dtype ? { dtype: options.dtype } : {}),
  };
  const shape = transposed
    ? [inChannels, outChannels / groups, ...kernel]
    : [outChannels, inChannels / groups, ...kernel];
  const weight = new Parameter(empty(shape, factory));
  init.kaimingUniform_(weight, { a: Math.sqrt(5) });
  const bias = (options.bias ?? true) ? new Parameter(empty([outChannels], factory)) : null;
  if (bias !== null) init.uniformBound_(bias, shape[1]! * kernel.reduce((a, b) => a * b, 1));
  return { weight, bias };
}

/** (N, C, H, W) -> (N, K, P, Q): cross-correlation with K filters of shape (C / groups, R, S). */
export class Conv2d extends Module {
  /** (outChannels, inChannels / groups, kernel height, kernel width). */
  weight: Parameter;
  /** (outChannels), or null. */
  bias: Parameter | null;
  readonly #options: {
    stride: Pair;
    padding: Pair | "same" | "valid";
    dilation: Pair;
    groups: number;
  };

  /** `kernelSize` and the options take one number, or [height, width]. */
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Pair,
    options: ConvOptions<Pair> = {},
  ) {
    super();
    checkOptions("Conv2d", options, convKeys);
    const { weight, bias } = convParameters(
      "Conv2d",
      inChannels,
      outChannels,
      pair(kernelSize),
      options,
      false,
    );
    this.weight = weight;
    this.bias = bias;
    const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
    this.#options = { stride, padding, dilation, groups };
  }

  /** (N, C, H, W) or (C, H, W). */
  override forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, { bias: this.bias, ...this.#options });
  }

  override extraRepr(): string {
    const [k, c, r, s] = this.weight.shape, o = this.#options;
    return `${c! * o.groups}, ${k}, kernelSize=[${r}, ${s}], stride=${text(o.stride)}, padding=${
      text(o.padding)
    }`;
  }
}

function text(v: Pair | string): string {
  return typeof v === "string" ? v : `[${pair(v).join(", ")}]`;
}

/** (N, C, L) -> (N, K, M): cross-correlation with K filters of shape (C / groups, R). */
export class Conv1d extends Module {
  /** (outChannels, inChannels / groups, kernel size). */
  weight: Parameter;
  /** (outChannels), or null. */
  bias: Parameter | null;
  readonly #options: {
    stride: number;
    padding: number | "same" | "valid";
    dilation: number;
    groups: number;
  };

  /** A convolution along one dim. */
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: number,
    options: ConvOptions<number> = {},
  ) {
    super();
    checkOptions("Conv1d", options, convKeys);
    const { weight, bias } = convParameters(
      "Conv1d",
      inChannels,
      outChannels,
      [kernelSize],
      options,
      false,
    );
    this.weight = weight;
    this.bias = bias;
    const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
    this.#options = { stride, padding, dilation, groups };
  }

  /** (N, C, L) or (C, L). */
  override forward(x: Tensor): Tensor {
    return conv1d(x, this.weight, { bias: this.bias, ...this.#options });
  }

  override extraRepr(): string {
    const [k, c, r] = this.weight.shape, o = this.#options;
    return `${c! * o.groups}, ${k}, kernelSize=${r}, stride=${o.stride}, padding=${o.padding}`;
  }
}

const transposeKeys = ["outputPadding", ...convKeys];

/** The gradient of Conv2d with respect to its input, as a layer: (N, C, P, Q) -> (N, K, H, W). */
export class ConvTranspose2d extends Module {
  /** (inChannels, outChannels / groups, kernel height, kernel width). */
  weight: Parameter;
  /** (outChannels), or null. */
  bias: Parameter | null;
  readonly #options: {
    stride: Pair;
    padding: Pair;
    outputPadding: Pair;
    dilation: Pair;
    groups: number;
  };

  /** `kernelSize` and the options take one number, or [height, width]. */
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Pair,
    options: ConvTransposeOptions<Pair> = {},
  ) {
    super();
    checkOptions("ConvTranspose2d", options, transposeKeys);
    const made = convParameters(
      "ConvTranspose2d",
      inChannels,
      outChannels,
      pair(kernelSize),
      options,
      true,
    );
    this.weight = made.weight;
    this.bias = made.bias;
    const { stride = 1, padding = 0, outputPadding = 0, dilation = 1, groups = 1 } = options;
    this.#options = { stride, padding, outputPadding, dilation, groups };
  }

  /** (N, C, P, Q) or (C, P, Q). */
  override forward(x: Tensor): Tensor {
    return convTranspose2d(x, this.weight, { bias: this.bias, ...this.#options });
  }

  override extraRepr(): string {
    const [c, k, r, s] = this.weight.shape, o = this.#options;
    return `${c}, ${k! * o.groups}, kernelSize=[${r}, ${s}], stride=${text(o.stride)}`;
  }
}

/** The gradient of Conv1d with respect to its input, as a layer. */
export class ConvTranspose1d extends Module {
  /** (inChannels, outChannels / groups, kernel size). */
  weight: Parameter;
  /** (outChannels), or null. */
  bias: Parameter | null;
  readonly #options: {
    stride: number;
    padding: number;
    outputPadding: number;
    dilation: number;
    groups: number;
  };

  /** A transposed convolution along one dim. */
  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: number,
    options: ConvTransposeOptions<number> = {},
  ) {
    super();
    checkOptions("ConvTranspose1d", options, transposeKeys);
    const made = convParameters(
      "ConvTranspose1d",
      inChannels,
      outChannels,
      [kernelSize],
      options,
      true,
    );
    this.weight = made.weight;
    this.bias = made.bias;
    const { stride = 1, padding = 0, outputPadding = 0, dilation = 1, groups = 1 } = options;
    this.#options = { stride, padding, outputPadding, dilation, groups };
  }

  /** (N, C, M) or (C, M). */
  override forward(x: Tensor): Tensor {
    return convTranspose1d(x, this.weight, { bias: this.bias, ...this.#options });
  }
}

markBuiltin(Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d);
