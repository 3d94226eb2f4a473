// ReduceLROnPlateau: the one schedule that looks at a metric.

import { Tensor } from "../tensor/mod.ts";
import {
  checkCount,
  checkNumber,
  LRScheduler,
  perGroup,
  type ScheduledOptimizer,
} from "./scheduler.ts";
import { checkOptions } from "../options.ts";

/** Options of ReduceLROnPlateau. */
export interface ReduceLROnPlateauOptions {
  /** Whether a smaller metric ("min", default) or a larger one ("max") is better. */
  readonly mode?: "min" | "max";
  /** Factor of a reduction, below 1 (default 0.1). */
  readonly factor?: number;
  /** Epochs without improvement that are let pass (default 10). */
  readonly patience?: number;
  /** What counts as an improvement (default 1e-4). */
  readonly threshold?: number;
  /** Whether the threshold is a part of the best metric ("rel", default) or a difference ("abs"). */
  readonly thresholdMode?: "rel" | "abs";
  /** Epochs to wait after a reduction (default 0). */
  readonly cooldown?: number;
  /** Lower bound of the learning rate, for all groups or for each (default 0). */
  readonly minLr?: number | readonly number[];
  /** Reductions by less than this are not made (default 1e-8). */
  readonly eps?: number;
}

const names = [
  "mode",
  "factor",
  "patience",
  "threshold",
  "thresholdMode",
  "cooldown",
  "minLr",
  "eps",
];

function oneOf<T extends string>(name: string, value: T, allowed: readonly T[]): T {
  if (allowed.includes(value)) return value;
  throw new RangeError(
    `Cannot make ReduceLROnPlateau with ${name} = ${value}: it must be ${allowed.join(" or ")}`,
  );
}

/** Reduces the learning rate when a metric has stopped improving: `scheduler.step(validationLoss)`. */
export class ReduceLROnPlateau extends LRScheduler {
  /** @internal Which direction is better. */
  protected readonly mode: "min" | "max";
  /** @internal Factor of a reduction. */
  protected readonly factor: number;
  /** @internal Epochs without improvement that are let pass. */
  protected readonly patience: number;
  /** @internal What counts as an improvement. */
  protected readonly threshold: number;
  /** @internal How the threshold is meant. */
  protected readonly thresholdMode: "rel" | "abs";
  /** @internal Epochs to wait after a reduction. */
  protected readonly cooldown: number;
  /** @internal Lower bounds, by group. */
  protected readonly minLrs: number[];
  /** @internal Reductions by less are not made. */
  protected readonly eps: number;
  /** @internal The best metric so far. */
  protected best: number;
  /** @internal Epochs still to wait. */
  protected cooldownCounter = 0;
  /** @internal Epochs without improvement. */
  protected numBadEpochs = 0;

  /**
   * Starts the schedule: the optimizer gets the learning rates of epoch 0.
   *
   * @throws RangeError for options that do not fit
   */
  constructor(optimizer: ScheduledOptimizer, options: ReduceLROnPlateauOptions = {}) {
    const what = "ReduceLROnPlateau";
    checkOptions(what, options, names);
    super(optimizer, {}, []);
    this.mode = oneOf("mode", options.mode ?? "min", ["min", "max"]);
    this.factor = checkNumber(
      what,
      "factor",
      options.factor ?? 0.1,
      "be a number below 1",
      (x) => x < 1,
    );
    this.patience = checkCount(what, "patience", options.patience ?? 10, 0);
    this.threshold = checkNumber(what, "threshold", options.threshold ?? 1e-4);
    this.thresholdMode = oneOf("thresholdMode", options.thresholdMode ?? "rel", ["rel", "abs"]);
    this.cooldown = checkCount(what, "cooldown", options.cooldown ?? 0, 0);
    this.minLrs = perGroup(what, "minLr", optimizer, options.minLr ?? 0);
    this.eps = checkNumber(what, "eps", options.eps ?? 1e-8);
    this.best = this.mode === "min" ? Infinity : -Infinity;
    this.lastEpoch = 0;
  }

  #improves(metric: number): boolean {
    const { best, threshold, mode } = this;
    const min = mode === "min";
    const bound = this.thresholdMode === "rel"
      ? best * (min ? 1 - threshold : threshold + 1)
      : best + (min ? -threshold : threshold);
    return min ? metric < bound : metric > bound;
  }

  /** @internal The learning rates of this epoch, from the present ones. */
  protected override next(): number[] {
    return this.lrs.map((lr, i) => {
      const reduced = Math.max(lr * this.factor, this.minLrs[i]!);
      return lr - reduced > this.eps ? reduced : lr;
    });
  }

  /**
   * Notes the metric of an epoch, and reduces the learning rates where it is time to.
   *
   * @throws TypeError without a metric
   */
  override step(metric?: number | Tensor): void {
    const value = metric instanceof Tensor ? metric.item() : metric;
    if (typeof value !== "number") {
      throw new TypeError(
        "Cannot step ReduceLROnPlateau without a metric: pass the validation loss to step",
      );
    }
    this.lastEpoch++;
    if (this.#improves(value)) {
      this.best = value;
      this.numBadEpochs = 0;
    } else this.numBadEpochs++;
    if (this.cooldownCounter > 0) {
      this.cooldownCounter--;
      this.numBadEpochs = 0;
    }
    if (this.numBadEpochs > this.patience) {
      this.assign(this.next());
      this.cooldownCounter = this.cooldown;
      this.numBadEpochs = 0;
    }
    this.lastLr = this.lrs;
  }
}
