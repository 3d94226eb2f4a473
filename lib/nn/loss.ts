// Losses as modules: each holds its options and calls the function of the same name. Weights are buffers, as in
// PyTorch: they move with the module and stand in its state dict.

import * as F from "../functional/loss.ts";
import { checkOptions } from "../options.ts";
import type { Tensor } from "../tensor/mod.ts";
import { Module } from "./module.ts";

/** -ln softmax(x)[target], for logits (N, C, ...) and integer classes (N, ...) or class probabilities. */
export class CrossEntropyLoss extends Module<[Tensor, Tensor], Tensor> {
  /** A weight for each class, or null. */
  declare weight: Tensor | null;
  readonly #options: F.CrossEntropyOptions;

  /** The options of `crossEntropy`. */
  constructor(options: F.CrossEntropyOptions = {}) {
    super();
    checkOptions("CrossEntropyLoss", options, [
      "weight",
      "ignoreIndex",
      "labelSmoothing",
      "reduction",
    ]);
    this.#options = options;
    this.registerBuffer("weight", options.weight?.detach() ?? null);
  }

  /** The loss of `input` against `target`, reduced as the options say (default: the mean). */
  override forward(input: Tensor, target: Tensor): Tensor {
    return F.crossEntropy(input, target, { ...this.#options, weight: this.weight });
  }
}

/** -x[target], for log probabilities (N, C, ...) and integer classes (N, ...). */
export class NLLLoss extends Module<[Tensor, Tensor], Tensor> {
  /** A weight for each class, or null. */
  declare weight: Tensor | null;
  readonly #options: F.NLLLossOptions;

  /** The options of `nllLoss`. */
  constructor(options: F.NLLLossOptions = {}) {
    super();
    checkOptions("NLLLoss", options, ["weight", "ignoreIndex", "reduction"]);
    this.#options = options;
    this.registerBuffer("weight", options.weight?.detach() ?? null);
  }

  /** The loss of `input` against `target`, reduced as the options say (default: the mean). */
  override forward(input: Tensor, target: Tensor): Tensor {
    return F.nllLoss(input, target, { ...this.#options, weight: this.weight });
  }
}

/** (x - y)². */
export class MSELoss extends Module<[Tensor, Tensor], Tensor> {
  readonly #options: F.LossOptions;

  /** The options of `mseLoss`. */
  constructor(options: F.LossOptions = {}) {
    super();
    checkOptions("MSELoss", options, ["reduction"]);
    this.#options = options;
  }

  /** The loss of `input` against `target`, reduced as the options say (default: the mean). */
  override forward(input: Tensor, target: Tensor): Tensor {
    return F.mseLoss(input, target, this.#options);
  }
}

/** |x - y|. */
export class L1Loss extends Module<[Tensor, Tensor], Tensor> {
  readonly #options: F.LossOptions;

  /** The options of `l1Loss`. */
  constructor(options: F.LossOptions = {}) {
    super();
    checkOptions("L1Loss", options, ["reduction"]);
    this.#options = options;
  }

  /** The loss of `input` against `target`, reduced as the options say (default: the mean). */
  override forward(input: Tensor, target: Tensor): Tensor {
    return F.l1Loss(input, target, this.#options);
  }
}

/** Quadratic within beta, linear outside, Girshick 2015. */
export class SmoothL1Loss extends Module<[Tensor, Tensor], Tensor> {
  readonly #options: F.SmoothL1Options;

  /** The options of `smoothL1Loss`. */
  constructor(options: F.SmoothL1Options = {}) {
    super();
    checkOptions("SmoothL1Loss", options, ["beta", "reduction"]);
    this.#options = options;
  }

  /** The loss of `input` against `target`, reduced as the options say (default: the mean). */
  override forward(input: Tensor, target: Tensor): Tensor {
    return F.smoothL1Loss(input, target, this.#options);
  }
}

/** Quadratic within delta, linear outside, Huber 1964. */
export class HuberLoss extends Module<[Tensor, Tensor], Tensor> {
  readonly #options: F.HuberOptions;

  /** The options of `huberLoss`. */
  constructor(options: F.HuberOptions = {}) {
    super();
    checkOptions("HuberLoss", options, ["delta", "reduction"]);
    this.#options = options;
  }

  /** The loss of `input` against `target`, reduced as the options say (default: the mean). */
  override forward(input: Tensor, target: Tensor): Tensor {
    return F.huberLoss(input, target, this.#options);
  }
}

/** -(y ln x + (1 - y) ln(1 - x)) for probabilities x. */
export class BCELoss extends Module<[Tensor, Tensor], Tensor> {
  /** A factor of each element's loss, or null. */
  declare weight: Tensor | null;
  readonly #options: F.BCEOptions;

  /** The options of `binaryCrossEntropy`. */
  constructor(options: F.BCEOptions = {}) {
    super();
    checkOptions("BCELoss", options, ["weight", "reduction"]);
    this.#options = options;
    this.registerBuffer("weight", options.weight?.detach() ?? null);
  }

  /** The loss of `input` against `target`, reduced as the options say (default: the mean). */
  override forward(input: Tensor, target: Tensor): Tensor {
    return F.binaryCrossEntropy(input, target, { ...this.#options, weight: this.weight });
  }
}

/** Binary cross entropy of sigmoid(x), computed stably. */
export class BCEWithLogitsLoss extends Module<[Tensor, Tensor], Tensor> {
  /** A factor of each element's loss, or null. */
  declare weight: Tensor | null;
  /** How much more the positive part weighs, or null. */
  declare pos_weight: Tensor | null;
  readonly #options: F.BCEWithLogitsOptions;

  /** The options of `binaryCrossEntropyWithLogits`. */
  constructor(options: F.BCEWithLogitsOptions = {}) {
    super();
    checkOptions("BCEWithLogitsLoss", options, ["weight", "posWeight", "reduction"]);
    this.#options = options;
    this.registerBuffer("weight", options.weight?.detach() ?? null);
    this.registerBuffer("pos_weight", options.posWeight?.detach() ?? null);
  }

  /** The loss of `input` against `target`, reduced as the options say (default: the mean). */
  override forward(input: Tensor, target: Tensor): Tensor {
    return F.binaryCrossEntropyWithLogits(input, target, {
      ...this.#options,
      weight: this.weight,
      posWeight: this.pos_weight,
    });
  }
}

/** y (ln y - x) for log probabilities x. */
export class KLDivLoss extends Module<[Tensor, Tensor], Tensor> {
  readonly #options: F.KLDivOptions;

  /** The options of `klDiv`. */
  constructor(options: F.KLDivOptions = {}) {
    super();
    checkOptions("KLDivLoss", options, ["logTarget", "reduction"]);
    this.#options = options;
  }

  /** The loss of `input` against `target`, reduced as the options say (default: the mean). */
  override forward(input: Tensor, target: Tensor): Tensor {
    return F.klDiv(input, target, this.#options);
  }
}
