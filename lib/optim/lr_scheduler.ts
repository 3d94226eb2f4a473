// Learning rate schedules: PyTorch's, with its recursions. `next` goes on from the present learning rates, `direct`
// computes them from the start (SequentialLR begins a schedule with it).

import {
  checkCount,
  checkMilestones,
  checkNumber,
  countUpTo,
  type LastEpoch,
  LRScheduler,
  type ScheduledOptimizer,
  type SchedulerState,
} from "./scheduler.ts";
import { ReduceLROnPlateau } from "./plateau.ts";
import { schedulerState } from "./torch_state.ts";

export {
  type LastEpoch,
  LRScheduler,
  type ScheduledGroup,
  type ScheduledOptimizer,
  type SchedulerState,
} from "./scheduler.ts";
export { OneCycleLR, type OneCycleLROptions } from "./one_cycle.ts";
export { ReduceLROnPlateau, type ReduceLROnPlateauOptions } from "./plateau.ts";

/** Options of StepLR and MultiStepLR. */
export interface GammaOptions extends LastEpoch {
  /** Factor of the learning rate (default 0.1). */
  readonly gamma?: number;
}

/**
 * Multiplies the learning rate by `gamma` every `stepSize` epochs.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const optimizer = new ndl.optim.SGD([ndl.zeros([2], { requiresGrad: true })], { lr: 0.5 });
 * const scheduler = new ndl.optim.lrScheduler.StepLR(optimizer, 2, { gamma: 0.1 });
 * for (let epoch = 0; epoch < 2; epoch++) {
 *   optimizer.step();
 *   scheduler.step();
 * }
 * console.log(scheduler.getLastLr()); // [0.05]
 * ```
 */
export class StepLR extends LRScheduler {
  /** @internal Epochs between two reductions. */
  protected readonly stepSize: number;
  /** @internal Factor of a reduction. */
  protected readonly gamma: number;

  /**
   * Starts the schedule: the optimizer gets the learning rates of epoch 0.
   *
   * @throws RangeError for a step size or gamma that does not fit
   */
  constructor(optimizer: ScheduledOptimizer, stepSize: number, options: GammaOptions = {}) {
    super(optimizer, options, ["gamma", "lastEpoch"]);
    this.stepSize = checkCount("StepLR", "stepSize", stepSize, 1);
    this.gamma = checkNumber("StepLR", "gamma", options.gamma ?? 0.1);
    this._start();
  }

  /** @internal The learning rates of this epoch, from the present ones. */
  protected override next(): number[] {
    const due = this.lastEpoch !== 0 && this.lastEpoch % this.stepSize === 0;
    return due ? this.lrs.map((lr) => lr * this.gamma) : this.lrs;
  }

  /** @internal The learning rates of this epoch, from the first ones. */
  protected override direct(): number[] {
    const factor = this.gamma ** Math.floor(this.lastEpoch / this.stepSize);
    return this.baseLrs.map((lr) => lr * factor);
  }
}

/** Multiplies the learning rate by `gamma` at each milestone. */
export class MultiStepLR extends LRScheduler {
  /** @internal Epochs of the reductions, ascending. */
  protected readonly milestones: number[];
  /** @internal Factor of a reduction. */
  protected readonly gamma: number;

  /**
   * Starts the schedule: the optimizer gets the learning rates of epoch 0.
   *
   * @throws RangeError for milestones that are no whole numbers, or a gamma that is no number
   */
  constructor(
    optimizer: ScheduledOptimizer,
    milestones: readonly number[],
    options: GammaOptions = {},
  ) {
    super(optimizer, options, ["gamma", "lastEpoch"]);
    this.milestones = checkMilestones("MultiStepLR", milestones)
      .sort((a, b) => a - b);
    this.gamma = checkNumber("MultiStepLR", "gamma", options.gamma ?? 0.1);
    this._start();
  }

  /** @internal The learning rates of this epoch, from the present ones. */
  protected override next(): number[] {
    const here = this.milestones.filter((m) => m === this.lastEpoch).length;
    return here === 0 ? this.lrs : this.lrs.map((lr) => lr * this.gamma ** here);
  }

  /** @internal The learning rates of this epoch, from the first ones. */
  protected override direct(): number[] {
    const factor = this.gamma ** countUpTo(this.milestones, this.lastEpoch);
    return this.baseLrs.map((lr) => lr * factor);
  }
}

/** Multiplies the learning rate by `gamma` every epoch. */
export class ExponentialLR extends LRScheduler {
  /** @internal Factor of an epoch. */
  protected readonly gamma: number;

  /**
   * Starts the schedule: the optimizer gets the learning rates of epoch 0.
   *
   * @throws RangeError for a gamma that is no number
   */
  constructor(optimizer: ScheduledOptimizer, gamma: number, options: LastEpoch = {}) {
    super(optimizer, options, ["lastEpoch"]);
    this.gamma = checkNumber("ExponentialLR", "gamma", gamma);
    this._start();
  }

  /** @internal The learning rates of this epoch, from the present ones. */
  protected override next(): number[] {
    return this.initial ? this.lrs : this.lrs.map((lr) => lr * this.gamma);
  }

  /** @internal The learning rates of this epoch, from the first ones. */
  protected override direct(): number[] {
    return this.baseLrs.map((lr) => lr * this.gamma ** this.lastEpoch);
  }
}

/** Options of LinearLR. */
export interface LinearLROptions extends LastEpoch {
  /** Factor of the learning rate at the start (default 1/3). */
  readonly startFactor?: number;
  /** Factor of the learning rate at the end (default 1). */
  readonly endFactor?: number;
  /** Epochs from start to end (default 5). */
  readonly totalIters?: number;
}

/** Changes the factor of the learning rate linearly from `startFactor` to `endFactor`: warm-up. */
export class LinearLR extends LRScheduler {
  /** @internal Factor at the start. */
  protected readonly startFactor: number;
  /** @internal Factor at the end. */
  protected readonly endFactor: number;
  /** @internal Epochs from start to end. */
  protected readonly totalIters: number;

  /**
   * Starts the schedule: the optimizer gets the learning rates of epoch 0.
   *
   * @throws RangeError for factors outside of [0, 1], a start factor of 0, or a count that does not fit
   */
  constructor(optimizer: ScheduledOptimizer, options: LinearLROptions = {}) {
    super(optimizer, options, ["startFactor", "endFactor", "totalIters", "lastEpoch"]);
    const { startFactor = 1 / 3, endFactor = 1, totalIters = 5 } = options;
    const above = "be above 0 and at most 1", within = "lie between 0 and 1";
    this.startFactor = checkNumber(
      "LinearLR",
      "startFactor",
      startFactor,
      above,
      (x) => x > 0 && x <= 1,
    );
    this.endFactor = checkNumber(
      "LinearLR",
      "endFactor",
      endFactor,
      within,
      (x) => x >= 0 && x <= 1,
    );
    this.totalIters = checkCount("LinearLR", "totalIters", totalIters, 1);
    this._start();
  }

  /** @internal The learning rates of this epoch, from the present ones. */
  protected override next(): number[] {
    const { startFactor, endFactor, totalIters, lastEpoch } = this;
    if (lastEpoch === 0) return this.lrs.map((lr) => lr * startFactor);
    if (this.initial || lastEpoch > totalIters) return this.lrs;
    const slope = endFactor - startFactor;
    const factor = 1 + slope / (totalIters * startFactor + (lastEpoch - 1) * slope);
    return this.lrs.map((lr) => lr * factor);
  }

  /** @internal The learning rates of this epoch, from the first ones. */
  protected override direct(): number[] {
    const { startFactor, endFactor, totalIters, lastEpoch } = this;
    const part = Math.min(totalIters, lastEpoch) / totalIters;
    return this.baseLrs.map((lr) => lr * (startFactor + (endFactor - startFactor) * part));
  }
}

/** Options of CosineAnnealingLR. */
export interface CosineAnnealingLROptions extends LastEpoch {
  /** The lowest learning rate (default 0). */
  readonly etaMin?: number;
}

/** Lets the learning rate fall along half a cosine to `etaMin` in `tMax` epochs (and rise again after them). */
export class CosineAnnealingLR extends LRScheduler {
  /** @internal Epochs of the descent. */
  protected readonly tMax: number;
  /** @internal The lowest learning rate. */
  protected readonly etaMin: number;

  /**
   * Starts the schedule: the optimizer gets the learning rates of epoch 0.
   *
   * @throws RangeError for a `tMax` below 1 or an `etaMin` that is no number
   */
  constructor(
    optimizer: ScheduledOptimizer,
    tMax: number,
    options: CosineAnnealingLROptions = {},
  ) {
    super(optimizer, options, ["etaMin", "lastEpoch"]);
    this.tMax = checkCount("CosineAnnealingLR", "tMax", tMax, 1);
    this.etaMin = checkNumber("CosineAnnealingLR", "etaMin", options.etaMin ?? 0);
    this._start();
  }

  /** @internal The learning rates of this epoch, from the present ones. */
  protected override next(): number[] {
    const { tMax, etaMin, lastEpoch } = this;
    if (this.initial) return this.lrs;
    if ((lastEpoch - 1 - tMax) % (2 * tMax) === 0) {
      // Out of the lowest point, where the recursion divides by 0.
      const rise = (1 - Math.cos(Math.PI / tMax)) / 2;
      return this.lrs.map((lr, i) => lr + (this.baseLrs[i]! - etaMin) * rise);
    }
    const ratio = (1 + Math.cos(Math.PI * lastEpoch / tMax)) /
      (1 + Math.cos(Math.PI * (lastEpoch - 1) / tMax));
    return this.lrs.map((lr) => ratio * (lr - etaMin) + etaMin);
  }

  /** @internal The learning rates of this epoch, from the first ones. */
  protected override direct(): number[] {
    const height = (1 + Math.cos(Math.PI * this.lastEpoch / this.tMax)) / 2;
    return this.baseLrs.map((lr) => this.etaMin + (lr - this.etaMin) * height);
  }
}

/** Options of CosineAnnealingWarmRestarts. */
export interface WarmRestartsOptions extends CosineAnnealingLROptions {
  /** Factor of the period after each restart, a whole number (default 1). */
  readonly tMult?: number;
}

/** Half a cosine from the learning rate to `etaMin`, again and again; the first time in `t0` epochs. */
export class CosineAnnealingWarmRestarts extends LRScheduler {
  /** @internal Epochs of the first period. */
  protected readonly t0: number;
  /** @internal Factor of the period after each restart. */
  protected readonly tMult: number;
  /** @internal The lowest learning rate. */
  protected readonly etaMin: number;
  /** @internal Epochs of the present period. */
  protected period: number;
  /** @internal Epochs since the last restart. */
  protected since: number;

  /**
   * Starts the schedule: the optimizer gets the learning rates of epoch 0.
   *
   * @throws RangeError for periods that are no positive whole numbers, or an `etaMin` that is no number
   */
  constructor(optimizer: ScheduledOptimizer, t0: number, options: WarmRestartsOptions = {}) {
    super(optimizer, options, ["tMult", "etaMin", "lastEpoch"]);
    const what = "CosineAnnealingWarmRestarts";
    this.t0 = checkCount(what, "t0", t0, 1);
    this.tMult = checkCount(what, "tMult", options.tMult ?? 1, 1);
    this.etaMin = checkNumber(what, "etaMin", options.etaMin ?? 0);
    this.period = this.t0;
    this.since = this.lastEpoch;
    this._start();
  }

  /** @internal The learning rates of this epoch, from the present ones. */
  protected override next(): number[] {
    const height = (1 + Math.cos(Math.PI * this.since / this.period)) / 2;
    return this.baseLrs.map((lr) => this.etaMin + (lr - this.etaMin) * height);
  }

  /** Goes to the next epoch and assigns its learning rates. */
  override step(): void {
    if (this.lastEpoch < 0) this.since = 0;
    else if (++this.since >= this.period) {
      this.since %= this.period;
      this.period *= this.tMult;
    }
    super.step();
  }
}

/** The factor of the learning rate at an epoch. */
export type LRLambda = (epoch: number) => number;

/** The learning rate times a function of the epoch; one function for all groups, or one for each. */
export class LambdaLR extends LRScheduler {
  readonly #lambdas: readonly LRLambda[];

  /**
   * Starts the schedule: the optimizer gets the learning rates of epoch 0.
   *
   * @throws TypeError for something that is no function
   * @throws RangeError where the number of functions is not that of the groups
   */
  constructor(
    optimizer: ScheduledOptimizer,
    lrLambda: LRLambda | readonly LRLambda[],
    options: LastEpoch = {},
  ) {
    super(optimizer, options, ["lastEpoch"]);
    const list = Array.isArray(lrLambda)
      ? lrLambda as readonly LRLambda[]
      : this.groups.map(() => lrLambda as LRLambda);
    if (list.length !== this.groups.length) {
      throw new RangeError(
        `Cannot make LambdaLR with ${list.length} functions for ${this.groups.length} param groups`,
      );
    }
    for (const f of list) {
      if (typeof f !== "function") {
        throw new TypeError(
          `Cannot make LambdaLR with a ${typeof f}: give a function of the epoch`,
        );
      }
    }
    this.#lambdas = list;
    this._start();
  }

  /** @internal The learning rates of this epoch, from the present ones. */
  protected override next(): number[] {
    return this.baseLrs.map((lr, i) => lr * this.#lambdas[i]!(this.lastEpoch));
  }
}

/** Runs schedules one after another; `milestones` are the epochs at which the second, third, ... begin. */
export class SequentialLR extends LRScheduler {
  /** @internal When the schedules after the first begin. */
  protected readonly milestones: number[];
  readonly #schedulers: readonly LRScheduler[];

  /**
   * Starts the schedule: the optimizer gets the learning rates of epoch 0.
   *
   * @throws RangeError where there is not one milestone less than schedules
   * @throws TypeError for a schedule of another optimiser, or one that needs a metric
   */
  constructor(
    optimizer: ScheduledOptimizer,
    schedulers: readonly LRScheduler[],
    milestones: readonly number[],
    options: LastEpoch = {},
  ) {
    super(optimizer, options, ["lastEpoch"]);
    checkMilestones("SequentialLR", milestones);
    if (!Array.isArray(schedulers)) {
      throw new TypeError("Cannot make SequentialLR: its schedulers must be a list");
    }
    if (schedulers.length === 0 || milestones.length !== schedulers.length - 1) {
      throw new RangeError(
        `Cannot make SequentialLR with ${milestones.length} milestones for ${schedulers.length} ` +
          "schedulers: each but the first needs one",
      );
    }
    schedulers.forEach((s, i) => {
      if (!(s instanceof LRScheduler) || s instanceof ReduceLROnPlateau) {
        throw new TypeError(
          `Cannot make SequentialLR: scheduler ${i} is ${
            s instanceof ReduceLROnPlateau ? "ReduceLROnPlateau, which needs a metric" : "none"
          }`,
        );
      }
      if (!s._schedules(optimizer)) {
        throw new TypeError(
          `Cannot make SequentialLR: scheduler ${i} belongs to another optimizer`,
        );
      }
    });
    this.milestones = checkMilestones("SequentialLR", milestones);
    this.#schedulers = [...schedulers];
    this.lastEpoch++;
    // Making the schedules has taken the first step of each: only that of the first one may count.
    for (const group of this.groups) group.lr = group.initialLr!;
    for (const s of schedulers) s._undo();
    const first = schedulers[countUpTo(this.milestones, 0)]!;
    first._start();
    this.lastLr = first.getLastLr();
  }

  /** @internal The learning rates of this epoch, from the present ones. */
  protected override next(): number[] {
    const active = countUpTo(this.milestones, this.lastEpoch);
    const scheduler = this.#schedulers[active]!;
    if (active > 0 && this.milestones[active - 1] === this.lastEpoch) scheduler._begin();
    else scheduler.step();
    return scheduler.getLastLr();
  }

  /** @internal Takes the first steps back. */
  override _undo(): void {
    for (const s of this.#schedulers) s._undo();
  }

  /** Settings and counters, those of the schedules included. */
  override stateDict(): SchedulerState {
    return { ...super.stateDict(), schedulers: this.#schedulers.map((s) => s.stateDict()) };
  }

  /**
   * Takes over settings and counters, those of the schedules included.
   *
   * @throws Error where the state is not one of these schedules; nothing is written then
   */
  override loadStateDict(given: SchedulerState): void {
    const present = this.stateDict(), inner = present["schedulers"] as SchedulerState[];
    const state = { ...schedulerState(given, present) as SchedulerState };
    if (Array.isArray(state["schedulers"])) {
      state["schedulers"] = state["schedulers"].map((s, i) => schedulerState(s, inner[i] ?? {}));
    }
    this._checkState(state);
    const { schedulers, ...own } = state;
    Object.assign(this, structuredClone(own));
    this.#schedulers.forEach((s, i) => s.loadStateDict((schedulers as SchedulerState[])[i]!));
  }

  /** @internal Throws where `state` does not fit. */
  override _checkState(state: SchedulerState): void {
    super._checkState(state);
    const { length } = state["schedulers"] as unknown[];
    if (length !== this.#schedulers.length) {
      throw new Error(
        `Cannot load the state dict into SequentialLR: it has ${length} schedulers instead of ` +
          `${this.#schedulers.length}`,
      );
    }
    this.#schedulers.forEach((s, i) =>
      s._checkState((state["schedulers"] as SchedulerState[])[i]!)
    );
  }
}
