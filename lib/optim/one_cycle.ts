// OneCycleLR (Smith & Topin 2018): the learning rate rises to its maximum and falls far below its start; momentum
// (or Adam's first beta) goes the other way.

import {
  checkCount,
  checkNumber,
  type LastEpoch,
  LRScheduler,
  perGroup,
  type ScheduledGroup,
  type ScheduledOptimizer,
} from "./scheduler.ts";

/** Options of OneCycleLR. Either `totalSteps`, or `epochs` and `stepsPerEpoch`, must be given. */
export interface OneCycleLROptions extends LastEpoch {
  /** Steps of the whole cycle. */
  readonly totalSteps?: number;
  /** Epochs of the whole cycle. */
  readonly epochs?: number;
  /** Steps in an epoch. */
  readonly stepsPerEpoch?: number;
  /** The part of the cycle in which the learning rate rises (default 0.3). */
  readonly pctStart?: number;
  /** The shape of rise and fall (default "cos"). */
  readonly annealStrategy?: "cos" | "linear";
  /** Whether momentum is cycled too (default true). */
  readonly cycleMomentum?: boolean;
  /** The lowest momentum, for all groups or for each (default 0.85). */
  readonly baseMomentum?: number | readonly number[];
  /** The highest momentum, for all groups or for each (default 0.95). */
  readonly maxMomentum?: number | readonly number[];
  /** The maximum divided by the learning rate at the start (default 25). */
  readonly divFactor?: number;
  /** The learning rate at the start divided by that at the end (default 1e4). */
  readonly finalDivFactor?: number;
  /** Fall back to the start in as many steps as the rise took, then go below (default false). */
  readonly threePhase?: boolean;
}

const names = [
  "totalSteps",
  "epochs",
  "stepsPerEpoch",
  "pctStart",
  "annealStrategy",
  "cycleMomentum",
  "baseMomentum",
  "maxMomentum",
  "divFactor",
  "finalDivFactor",
  "threePhase",
  "lastEpoch",
];

/** A stretch of the cycle, ending at step `end`. */
interface Phase {
  readonly end: number;
  readonly lr: readonly [from: number, to: number];
  readonly momentum: readonly [from: number, to: number];
}

function stepsOf(options: OneCycleLROptions): number {
  const { totalSteps, epochs, stepsPerEpoch } = options;
  if (totalSteps !== undefined) return checkCount("OneCycleLR", "totalSteps", totalSteps, 1);
  if (epochs === undefined || stepsPerEpoch === undefined) {
    throw new TypeError("Cannot make OneCycleLR: give totalSteps, or epochs and stepsPerEpoch");
  }
  return checkCount("OneCycleLR", "epochs", epochs, 1) *
    checkCount("OneCycleLR", "stepsPerEpoch", stepsPerEpoch, 1);
}

/** The one-cycle policy; `step` is called after every batch. */
export class OneCycleLR extends LRScheduler {
  /** @internal Steps of the whole cycle. */
  protected readonly totalSteps: number;
  /** @internal The part in which the learning rate rises. */
  protected readonly pctStart: number;
  /** @internal Shape of rise and fall. */
  protected readonly annealStrategy: "cos" | "linear";
  /** @internal Whether momentum is cycled. */
  protected readonly cycleMomentum: boolean;
  /** @internal Whether there is a phase back to the start. */
  protected readonly threePhase: boolean;
  /** @internal Highest learning rates, by group. */
  protected readonly maxLrs: number[];
  /** @internal Learning rates at the end, by group. */
  protected readonly minLrs: number[];
  /** @internal Lowest momenta, by group. */
  protected readonly baseMomenta: number[];
  /** @internal Highest momenta, by group. */
  protected readonly maxMomenta: number[];

  /**
   * Starts the schedule: the optimizer gets the learning rates of epoch 0.
   *
   * @param maxLr the highest learning rate, for all groups or for each
   * @throws RangeError for values that do not fit; TypeError without a number of steps
   * @throws Error with `cycleMomentum` where the optimiser has no momentum
   */
  constructor(
    optimizer: ScheduledOptimizer,
    maxLr: number | readonly number[],
    options: OneCycleLROptions = {},
  ) {
    const what = "OneCycleLR";
    super(optimizer, options, names);
    const above = "be above 0", positive = (x: number): boolean => x > 0;
    const { divFactor = 25, finalDivFactor = 1e4, pctStart = 0.3 } = options;
    checkNumber(what, "divFactor", divFactor, above, positive);
    checkNumber(what, "finalDivFactor", finalDivFactor, above, positive);
    checkNumber(what, "pctStart", pctStart, "lie between 0 and 1", (x) => x >= 0 && x <= 1);
    this.totalSteps = stepsOf(options);
    this.pctStart = pctStart;
    this.annealStrategy = options.annealStrategy ?? "cos";
    if (!["cos", "linear"].includes(this.annealStrategy)) {
      throw new RangeError(
        `Cannot make OneCycleLR with annealStrategy = ${this.annealStrategy}: it must be cos or linear`,
      );
    }
    this.threePhase = options.threePhase ?? false;
    this.cycleMomentum = options.cycleMomentum ?? true;
    this.baseMomenta = perGroup(what, "baseMomentum", optimizer, options.baseMomentum ?? 0.85);
    this.maxMomenta = perGroup(what, "maxMomentum", optimizer, options.maxMomentum ?? 0.95);
    if (this.cycleMomentum && !this.groups.every((g) => "momentum" in g || "betas" in g)) {
      throw new Error(
        "Cannot make OneCycleLR with cycleMomentum: the optimizer has neither momentum nor betas",
      );
    }
    this.maxLrs = perGroup(what, "maxLr", optimizer, maxLr);
    if (this.lastEpoch === -1) {
      // The cycle starts from the maximum's fraction, not from the optimiser's learning rate.
      this.baseLrs = this.maxLrs.map((lr) => lr / divFactor);
      this.groups.forEach((group, i) => group.initialLr = this.baseLrs[i]!);
    }
    this.minLrs = this.baseLrs.map((lr) => lr / finalDivFactor);
    this._start();
  }

  #phases(i: number): Phase[] {
    const { totalSteps, pctStart } = this;
    const start = this.baseLrs[i]!, top = this.maxLrs[i]!, bottom = this.minLrs[i]!;
    const low = this.baseMomenta[i]!, high = this.maxMomenta[i]!;
    const rise: Phase = { end: pctStart * totalSteps - 1, lr: [start, top], momentum: [high, low] };
    if (!this.threePhase) {
      return [rise, { end: totalSteps - 1, lr: [top, bottom], momentum: [low, high] }];
    }
    return [
      rise,
      { end: 2 * pctStart * totalSteps - 2, lr: [top, start], momentum: [low, high] },
      { end: totalSteps - 1, lr: [start, bottom], momentum: [high, high] },
    ];
  }

  #between([from, to]: readonly [number, number], part: number): number {
    if (this.annealStrategy === "linear") return (to - from) * part + from;
    return to + (from - to) / 2 * (Math.cos(Math.PI * part) + 1);
  }

  /** @internal The learning rates of this epoch, from the present ones. */
  protected override next(): number[] {
    const at = this.lastEpoch;
    if (at > this.totalSteps) {
      throw new RangeError(
        `Cannot step OneCycleLR ${at} times: the cycle has ${this.totalSteps} steps`,
      );
    }
    return this.groups.map((group, i) => {
      const phases = this.#phases(i);
      let k = 0;
      while (k < phases.length - 1 && at > phases[k]!.end) k++;
      const phase = phases[k]!, begin = k === 0 ? 0 : phases[k - 1]!.end;
      // A phase of no length is over as soon as it begins.
      const part = phase.end === begin ? 1 : (at - begin) / (phase.end - begin);
      if (this.cycleMomentum) setMomentum(group, this.#between(phase.momentum, part));
      return this.#between(phase.lr, part);
    });
  }
}

function setMomentum(group: ScheduledGroup, value: number): void {
  if (group.betas !== undefined) group.betas = [value, group.betas[1]];
  else group.momentum = value;
}
