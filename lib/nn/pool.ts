// Pooling layers: the largest or mean element of each window.

import {
  adaptiveAvgPool2d,
  type AdaptiveSize,
  avgPool2d,
  type AvgPoolOptions,
  maxPool2d,
  type MaxPoolOptions,
} from "../functional/layers.ts";
import { adaptiveSizes } from "../functional/pool.ts";
import { checkOptions } from "../options.ts";
import type { Tensor } from "../tensor/mod.ts";
import { type Pair, pair, positiveSizes } from "./factory.ts";
import { markBuiltin, Module } from "./module.ts";

/**
 * The largest element of each window: (N, C, H, W) -> (N, C, P, Q). With `returnIndices` also its position h W + w in
 * the plane: forward gives [values, indices] then.
 */
export class MaxPool2d<Indices extends boolean = false>
  extends Module<[Tensor], Indices extends true ? [Tensor, Tensor] : Tensor> {
  readonly #kernel: Pair;
  readonly #options: MaxPoolOptions;

  /** The stride defaults to the kernel size. */
  constructor(kernelSize: Pair, options: MaxPoolOptions & { returnIndices?: Indices } = {}) {
    super();
    checkOptions("MaxPool2d", options, maxKeys);
    for (const size of pair(kernelSize)) positiveSizes("MaxPool2d", { kernelSize: size });
    this.#kernel = kernelSize;
    this.#options = options;
  }

  /** (N, C, H, W) or (C, H, W). */
  override forward(x: Tensor): Indices extends true ? [Tensor, Tensor] : Tensor {
    const pool = maxPool2d as (
      x: Tensor,
      kernel: Pair,
      options: MaxPoolOptions,
    ) => Tensor | [Tensor, Tensor];
    type Result = Indices extends true ? [Tensor, Tensor] : Tensor;
    return pool(x, this.#kernel, this.#options) as Result;
  }

  override extraRepr(): string {
    return `kernelSize=${this.#kernel}`;
  }
}

const maxKeys = ["stride", "padding", "dilation", "ceilMode", "returnIndices"];
const avgKeys = ["stride", "padding", "ceilMode", "countIncludePad", "divisorOverride"];

/** The mean of each window: (N, C, H, W) -> (N, C, P, Q). */
export class AvgPool2d extends Module {
  readonly #kernel: Pair;
  readonly #options: AvgPoolOptions;

  /** The stride defaults to the kernel size. */
  constructor(kernelSize: Pair, options: AvgPoolOptions = {}) {
    super();
    checkOptions("AvgPool2d", options, avgKeys);
    for (const size of pair(kernelSize)) positiveSizes("AvgPool2d", { kernelSize: size });
    this.#kernel = kernelSize;
    this.#options = options;
  }

  /** (N, C, H, W) or (C, H, W). */
  override forward(x: Tensor): Tensor {
    return avgPool2d(x, this.#kernel, this.#options);
  }

  override extraRepr(): string {
    return `kernelSize=${this.#kernel}`;
  }
}

/** Means over windows that divide the input into the given output size. */
export class AdaptiveAvgPool2d extends Module {
  readonly #size: AdaptiveSize;

  /** Output size; null keeps the input's. */
  constructor(outputSize: AdaptiveSize) {
    super();
    adaptiveSizes("AdaptiveAvgPool2d", outputSize);
    this.#size = outputSize;
  }

  /** (N, C, H, W) or (C, H, W). */
  override forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, this.#size);
  }

  override extraRepr(): string {
    return `outputSize=${this.#size}`;
  }
}

markBuiltin(MaxPool2d, AvgPool2d, AdaptiveAvgPool2d);
