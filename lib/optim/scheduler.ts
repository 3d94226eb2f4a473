// LRScheduler: what all learning rate schedules share. Most schedules are PyTorch's recursions: a step computes the
// next learning rate from the present one, so that a rate assigned by hand in between is respected.

import { checkOptions, told } from "../options.ts";
import type { Tensor } from "../tensor/mod.ts";
import { Optimizer } from "./optimizer.ts";
import { isPlainObject } from "./rules.ts";
import { schedulerState } from "./torch_state.ts";

/** What a schedule reads and assigns in a parameter group. */
export interface ScheduledGroup {
  /** Learning rate. */
  lr: number;
  /** Where schedules start from. */
  initialLr?: number;
  /** Momentum, which OneCycleLR cycles. */
  momentum?: number;
  /** Adam's decay rates, the first of which OneCycleLR cycles. */
  betas?: readonly [number, number];
}

/** An optimiser, as far as schedules are concerned. */
export interface ScheduledOptimizer {
  /** The groups whose learning rates are assigned. */
  readonly paramGroups: ScheduledGroup[];
}

/** What `stateDict` of a schedule gives: its settings and counters by name, plain values. */
export type SchedulerState = Record<string, unknown>;

/** The option that (nearly) every schedule has. */
export interface LastEpoch {
  /** The last epoch of the run that is resumed (default -1: a new run). */
  readonly lastEpoch?: number;
}

/** Throws a RangeError unless `value` is a whole number of at least `least`. */
export function checkCount(what: string, name: string, value: unknown, least: number): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= least) return value;
  throw new RangeError(
    `Cannot make ${what} with ${name} = ${value}: it must be a whole number of at least ${least}`,
  );
}

/** Throws a RangeError unless `value` is a finite number for which `fits` holds. */
export function checkNumber(
  what: string,
  name: string,
  value: unknown,
  must = "be a finite number",
  fits: (x: number) => boolean = () => true,
): number {
  if (typeof value === "number" && Number.isFinite(value) && fits(value)) return value;
  throw new RangeError(`Cannot make ${what} with ${name} = ${value}: it must ${must}`);
}

/** Milestones: a list of whole numbers. */
export function checkMilestones(what: string, milestones: readonly number[]): number[] {
  if (!Array.isArray(milestones)) {
    throw new TypeError(`Cannot make ${what} with milestones ${told(milestones)}: give a list`);
  }
  return milestones.map((m) => checkCount(what, "a milestone", m, 0));
}

/** One number per group: `value` for all of them, or a list. */
export function perGroup(
  what: string,
  name: string,
  optimizer: ScheduledOptimizer,
  value: number | readonly number[],
): number[] {
  const n = optimizer.paramGroups.length;
  if (typeof value !== "number" && !Array.isArray(value)) {
    throw new TypeError(
      `Cannot make ${what} with ${name} = ${told(value)}: give a number or a list`,
    );
  }
  const list = typeof value === "number" ? new Array<number>(n).fill(value) : [...value];
  if (list.length !== n) {
    throw new RangeError(
      `Cannot make ${what} with ${list.length} values of ${name} for ${n} param groups`,
    );
  }
  return list.map((x) => checkNumber(what, name, x));
}

/** The number of entries of the ascending list `xs` that are at most `x`. */
export function countUpTo(xs: readonly number[], x: number): number {
  return xs.filter((m) => m <= x).length;
}

/** The base class of learning rate schedules. A subclass calls `start` at the end of its constructor. */
export abstract class LRScheduler {
  /** Number of steps since the start; counted from 0. */
  lastEpoch: number;
  /** @internal Learning rates that the schedule starts from, by group. */
  protected baseLrs: number[];
  /** @internal The learning rates of the last step, by group. */
  protected lastLr: number[];
  readonly #optimizer: ScheduledOptimizer;
  #initial = false;

  /**
   * Notes where the schedule starts from.
   *
   * @param known the names of the subclass's options
   * @throws TypeError for something that is no optimiser, or an unknown option
   * @throws Error for a resumed run whose groups lack `initialLr`
   */
  constructor(optimizer: ScheduledOptimizer, options: LastEpoch, known: readonly string[]) {
    const { name } = this.constructor;
    if (!(optimizer instanceof Optimizer)) {
      throw new TypeError(`Cannot make ${name}: its first argument must be an optimizer`);
    }
    checkOptions(name, options, known);
    const lastEpoch = checkCount(name, "lastEpoch", options.lastEpoch ?? -1, -1);
    const groups: ScheduledGroup[] = optimizer.paramGroups;
    groups.forEach((group, i) => {
      if (lastEpoch === -1) group.initialLr ??= group.lr;
      else if (group.initialLr === undefined) {
        throw new Error(
          `Cannot resume ${name} at epoch ${lastEpoch}: param group ${i} has no initialLr; ` +
            "load the optimizer's state dict first",
        );
      }
    });
    this.#optimizer = optimizer;
    this.lastEpoch = lastEpoch;
    this.baseLrs = groups.map((g) => g.initialLr!);
    this.lastLr = groups.map((g) => g.lr);
  }

  /** @internal The optimiser's groups. */
  protected get groups(): readonly ScheduledGroup[] {
    return this.#optimizer.paramGroups;
  }

  /** @internal The present learning rates, by group. */
  protected get lrs(): number[] {
    return this.groups.map((g) => g.lr);
  }

  /** @internal Whether the step under way is the one that the constructor makes. */
  protected get initial(): boolean {
    return this.#initial;
  }

  /** @internal Whether this schedules `optimizer`. */
  _schedules(optimizer: ScheduledOptimizer): boolean {
    return this.#optimizer === optimizer;
  }

  /** @internal The learning rates of epoch `lastEpoch`, from the present ones. */
  protected abstract next(): number[];

  /** @internal The learning rates of epoch `lastEpoch`, whatever the present ones are. */
  protected direct(): number[] {
    return this.next();
  }

  /** @internal Makes the first step. */
  _start(): void {
    this.#initial = true;
    try {
      this.step();
    } finally {
      this.#initial = false;
    }
  }

  /** @internal Takes the first step back, for a schedule that begins later. */
  _undo(): void {
    this.lastEpoch--;
  }

  /** @internal Begins at epoch 0 now. */
  _begin(): void {
    this.lastEpoch = 0;
    this.assign(this.direct());
  }

  /** @internal Assigns the learning rates. */
  protected assign(lrs: readonly number[]): void {
    const { groups } = this;
    if (groups.length !== this.baseLrs.length) {
      throw new Error(
        `Cannot step ${this.constructor.name}: the optimizer has ${groups.length} param groups, but ` +
          `had ${this.baseLrs.length} when the schedule was made; make a new schedule after addParamGroup`,
      );
    }
    groups.forEach((group, i) => group.lr = lrs[i]!);
    this.lastLr = this.lrs;
  }

  /**
   * Goes to the next epoch (or step, as the schedule was meant) and assigns its learning rates. Call it after
   * the optimiser's `step`.
   *
   * @param _metric only ReduceLROnPlateau reads it
   */
  step(_metric?: number | Tensor): void {
    this.lastEpoch++;
    this.assign(this.next());
  }

  /** The learning rate of each group at the last step. */
  getLastLr(): number[] {
    return [...this.lastLr];
  }

  /** Settings and counters as plain values. */
  stateDict(): SchedulerState {
    return structuredClone({ ...this }) as SchedulerState;
  }

  /**
   * Takes over settings and counters, also those of a state dict of PyTorch, as `loadTorch` gives it.
   *
   * @throws Error where the state is not one of this kind of schedule; nothing is written then
   */
  loadStateDict(given: SchedulerState): void {
    const state = schedulerState(given, this.stateDict()) as SchedulerState;
    this._checkState(state);
    Object.assign(this, structuredClone(state));
  }

  /** @internal Throws where `state` does not have the names and kinds of values that this has. */
  _checkState(state: SchedulerState): void {
    const what = `Cannot load the state dict into ${this.constructor.name}`;
    if (!isPlainObject(state)) throw new TypeError(`${what}: it is not an object`);
    const own = this.stateDict();
    for (const [key, value] of Object.entries(own)) {
      if (!Object.hasOwn(state, key)) throw new Error(`${what}: it lacks ${key}`);
      if (!alike(value, state[key])) throw new Error(`${what}: ${key} is of another kind`);
    }
    const stray = Object.keys(state).find((key) => !Object.hasOwn(own, key));
    if (stray !== undefined) throw new Error(`${what}: it has ${stray}, which is not known here`);
  }
}

function alike(a: unknown, b: unknown): boolean {
  if (!Array.isArray(a)) return typeof a === typeof b && !Array.isArray(b);
  return Array.isArray(b) && b.every((x) => typeof x === typeof (a[0] ?? x));
}
