// Normalisation layers: batch, layer, group and RMS norm.

import { noGrad } from "../autograd/mode.ts";
import { batchNormRelu } from "../functional/norm.ts";
import { groupNorm, layerNorm, rmsNorm } from "../functional/layers.ts";
import { checkOptions } from "../options.ts";
import { show } from "../shape.ts";
import { ones, zeros } from "../tensor/create.ts";
import type { Tensor } from "../tensor/mod.ts";
import { factoryKeys, type FactoryOptions, positiveSizes, sizesOf } from "./factory.ts";
import { markBuiltin, Module, Parameter } from "./module.ts";

/** Options of BatchNorm. */
export interface BatchNormOptions extends FactoryOptions {
  /** Added to the variance (default 1e-5). */
  readonly eps?: number;
  /** Weight of the new batch in the running statistics (default 0.1); null: the plain mean of all batches. */
  readonly momentum?: number | null;
  /** Learn a scale and a shift (default true). */
  readonly affine?: boolean;
  /** Keep running statistics for evaluation (default true). */
  readonly trackRunningStats?: boolean;
  /** Learn the shift too (default true). */
  readonly bias?: boolean;
}

const batchKeys = ["eps", "momentum", "affine", "trackRunningStats", "bias", ...factoryKeys];

/** (x - mean) / √(var + eps) · weight + bias per channel, Ioffe & Szegedy 2015. */
export abstract class BatchNorm extends Module {
  /** Scale per channel, or null. */
  weight: Parameter | null;
  /** Shift per channel, or null. */
  bias: Parameter | null;
  /** Running mean per channel, or null. */
  declare running_mean: Tensor | null;
  /** Running variance per channel (unbiased), or null. */
  declare running_var: Tensor | null;
  /** Batches seen, int64, or null. */
  declare num_batches_tracked: Tensor | null;
  readonly #features: number;
  readonly #eps: number;
  readonly #momentum: number | null;

  /** Normalises `numFeatures` channels. */
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super();
    const name = this.constructor.name;
    checkOptions(name, options, batchKeys);
    positiveSizes(name, { numFeatures });
    const {
      eps = 1e-5,
      momentum = 0.1,
      affine = true,
      trackRunningStats = true,
      bias = true,
      ...factory
    } = options;
    this.#features = numFeatures;
    this.#eps = eps;
    this.#momentum = momentum;
    this.weight = affine ? new Parameter(ones([numFeatures], factory)) : null;
    this.bias = affine && bias ? new Parameter(zeros([numFeatures], factory)) : null;
    const track = trackRunningStats;
    this.registerBuffer("running_mean", track ? zeros([numFeatures], factory) : null);
    this.registerBuffer("running_var", track ? ones([numFeatures], factory) : null);
    this.registerBuffer(
      "num_batches_tracked",
      track ? zeros([], { ...factory, dtype: "int64" }) : null,
    );
  }

  /** Numbers of dims that inputs may have. */
  protected abstract get ranks(): readonly number[];

  /** Channels are dim 1. */
  override forward(x: Tensor): Tensor {
    return this._normalise(x, false);
  }

  /** @internal forward, followed by ReLU in the same pass if `relu`: what Sequential calls for the pair. */
  _normalise(x: Tensor, relu: boolean): Tensor {
    if (!this.ranks.includes(x.ndim) || x.shape[1] !== this.#features) {
      throw new RangeError(
        `Cannot apply ${this.constructor.name}(${this.#features}) to ${show(x.shape)}: it takes ${
          this.ranks.join(" or ")
        } dims with ${this.#features} channels in dim 1`,
      );
    }
    let momentum = this.#momentum ?? 0;
    if (this.training && this.num_batches_tracked !== null) {
      const count = this.num_batches_tracked;
      noGrad(() => count.add_(1));
      if (this.#momentum === null) momentum = 1 / count.item();
    }
    return batchNormRelu(x, this.running_mean, this.running_var, {
      weight: this.weight,
      bias: this.bias,
      training: this.training || this.running_mean === null,
      momentum,
      eps: this.#eps,
    }, relu);
  }

  override extraRepr(): string {
    return `${this.#features}, eps=${this.#eps}, momentum=${this.#momentum}`;
  }
}

/** Batch norm of (N, C) or (N, C, L). */
export class BatchNorm1d extends BatchNorm {
  protected override get ranks(): readonly number[] {
    return [2, 3];
  }
}

/** Batch norm of (N, C, H, W). */
export class BatchNorm2d extends BatchNorm {
  protected override get ranks(): readonly number[] {
    return [4];
  }
}

/** Options of LayerNorm. */
export interface LayerNormOptions extends FactoryOptions {
  /** Added to the variance (default 1e-5). */
  readonly eps?: number;
  /** Learn a scale and a shift (default true). */
  readonly elementwiseAffine?: boolean;
  /** Learn the shift too (default true). */
  readonly bias?: boolean;
}

/** Normalises over the last dims, Ba et al. 2016. */
export class LayerNorm extends Module {
  /** Scale, of the normalised shape, or null. */
  weight: Parameter | null;
  /** Shift, of the normalised shape, or null. */
  bias: Parameter | null;
  readonly #shape: readonly number[];
  readonly #eps: number;

  /** `normalizedShape`: sizes of the last dims, or one size. */
  constructor(normalizedShape: number | readonly number[], options: LayerNormOptions = {}) {
    super();
    checkOptions("LayerNorm", options, ["eps", "elementwiseAffine", "bias", ...factoryKeys]);
    const { eps = 1e-5, elementwiseAffine = true, bias = true, ...factory } = options;
    this.#shape = sizesOf("LayerNorm", normalizedShape);
    this.#eps = eps;
    this.weight = elementwiseAffine ? new Parameter(ones(this.#shape, factory)) : null;
    this.bias = elementwiseAffine && bias ? new Parameter(zeros(this.#shape, factory)) : null;
  }

  /** (..., normalizedShape) -> the same shape. */
  override forward(x: Tensor): Tensor {
    return layerNorm(x, this.#shape, { weight: this.weight, bias: this.bias, eps: this.#eps });
  }

  override extraRepr(): string {
    return `${show(this.#shape)}, eps=${this.#eps}`;
  }
}

/** Options of RMSNorm. */
export interface RMSNormOptions extends FactoryOptions {
  /** Added to the mean square; null: the machine epsilon of the input's dtype, as PyTorch. */
  readonly eps?: number | null;
  /** Learn a scale (default true). */
  readonly elementwiseAffine?: boolean;
}

/** x / √(mean(x²) + eps) · weight over the last dims, Zhang & Sennrich 2019. */
export class RMSNorm extends Module {
  /** Scale, of the normalised shape, or null. */
  weight: Parameter | null;
  readonly #shape: readonly number[];
  readonly #eps: number | null;

  /** `normalizedShape`: sizes of the last dims, or one size. */
  constructor(normalizedShape: number | readonly number[], options: RMSNormOptions = {}) {
    super();
    checkOptions("RMSNorm", options, ["eps", "elementwiseAffine", ...factoryKeys]);
    const { eps = null, elementwiseAffine = true, ...factory } = options;
    this.#shape = sizesOf("RMSNorm", normalizedShape);
    this.#eps = eps;
    this.weight = elementwiseAffine ? new Parameter(ones(this.#shape, factory)) : null;
  }

  /** (..., normalizedShape) -> the same shape. */
  override forward(x: Tensor): Tensor {
    return rmsNorm(x, this.#shape, { weight: this.weight, eps: this.#eps });
  }

  override extraRepr(): string {
    return `${show(this.#shape)}, eps=${this.#eps}`;
  }
}

/** Options of GroupNorm. */
export interface GroupNormOptions extends FactoryOptions {
  /** Added to the variance (default 1e-5). */
  readonly eps?: number;
  /** Learn a scale and a shift per channel (default true). */
  readonly affine?: boolean;
  /** Learn the shift too (default true). */
  readonly bias?: boolean;
}

/** Normalises groups of channels within each sample, Wu & He 2018. */
export class GroupNorm extends Module {
  /** Scale per channel, or null. */
  weight: Parameter | null;
  /** Shift per channel, or null. */
  bias: Parameter | null;
  readonly #groups: number;
  readonly #channels: number;
  readonly #eps: number;

  /** Splits `numChannels` channels into `numGroups` groups. */
  constructor(numGroups: number, numChannels: number, options: GroupNormOptions = {}) {
    super();
    checkOptions("GroupNorm", options, ["eps", "affine", "bias", ...factoryKeys]);
    positiveSizes("GroupNorm", { numGroups, numChannels });
    if (numChannels % numGroups !== 0) {
      throw new RangeError(
        `Cannot split ${numChannels} channels into ${numGroups} groups: it must divide`,
      );
    }
    const { eps = 1e-5, affine = true, bias = true, ...factory } = options;
    this.#groups = numGroups;
    this.#channels = numChannels;
    this.#eps = eps;
    this.weight = affine ? new Parameter(ones([numChannels], factory)) : null;
    this.bias = affine && bias ? new Parameter(zeros([numChannels], factory)) : null;
  }

  /** (N, C, ...) -> the same shape. */
  override forward(x: Tensor): Tensor {
    return groupNorm(x, this.#groups, { weight: this.weight, bias: this.bias, eps: this.#eps });
  }

  override extraRepr(): string {
    return `${this.#groups}, ${this.#channels}, eps=${this.#eps}`;
  }
}

markBuiltin(BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm, GroupNorm);
