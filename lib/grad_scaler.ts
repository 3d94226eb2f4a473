// GradScaler: multiplies losses so that small float16 gradients do not become 0, and adapts the factor.

import { noGrad } from "./autograd/mode.ts";
import type { Device } from "./device.ts";
import { call } from "./dispatch.ts";
import { optimOps } from "./ops/optim.ts";
import { checkOptions } from "./options.ts";
import { unscoped } from "./scope.ts";
import { zeros } from "./tensor/create.ts";
import { Tensor } from "./tensor/mod.ts";

/** What GradScaler needs of an optimiser. */
export interface ScalableOptimizer {
  /** Parameters, in groups. */
  readonly paramGroups: readonly { readonly params: readonly Tensor[] }[];
  /** Updates the parameters. */
  step(): void;
}

/** Options of GradScaler. */
export interface GradScalerOptions {
  /** The scale at first (default 65536). */
  readonly initScale?: number;
  /** Factor of the scale after `growthInterval` good steps (default 2). */
  readonly growthFactor?: number;
  /** Factor of the scale after a step with infinite or NaN gradients (default 0.5). */
  readonly backoffFactor?: number;
  /** Good steps in a row until the scale grows (default 2000). */
  readonly growthInterval?: number;
  /** false makes every method pass its work through unscaled (default true). */
  readonly enabled?: boolean;
}

/** What `stateDict` of a GradScaler gives; empty for one that is not enabled. */
export type GradScalerState = Record<string, number>;

/** What was done for an optimiser since the last update. */
interface Progress {
  unscaled: boolean;
  stepped: boolean;
  foundInf: boolean;
}

function checked(name: string, value: number, fits: (x: number) => boolean, must: string): number {
  if (typeof value === "number" && Number.isFinite(value) && fits(value)) return value;
  throw new RangeError(`Cannot use GradScaler with ${name} = ${value}: it must ${must}`);
}

/**
 * Scales losses so that float16 gradients do not underflow, and skips steps whose gradients overflowed.
 *
 * @example
 * ```ts
 * import * as ndl from "../mod.ts";
 * const w = ndl.ones([2], { requiresGrad: true });
 * const optimizer = new ndl.optim.SGD([w], { lr: 0.5 });
 * const scaler = new ndl.GradScaler();
 * scaler.scale(w.sum()).backward();
 * scaler.step(optimizer);
 * scaler.update();
 * console.log(w.tolist()); // [0.5, 0.5]
 * ```
 */
export class GradScaler {
  readonly #enabled: boolean;
  #scale: number;
  #growthFactor: number;
  #backoffFactor: number;
  #growthInterval: number;
  #growthTracker = 0;
  #optimizers = new Map<ScalableOptimizer, Progress>();

  /**
   * Makes a scaler.
   *
   * @throws RangeError for factors and counts that do not fit
   */
  constructor(options: GradScalerOptions = {}) {
    const known = ["initScale", "growthFactor", "backoffFactor", "growthInterval", "enabled"];
    checkOptions("GradScaler", options, known);
    const { initScale = 65536, growthFactor = 2, backoffFactor = 0.5, growthInterval = 2000 } =
      options;
    this.#enabled = options.enabled ?? true;
    this.#scale = checked("initScale", initScale, (x) => x > 0, "be above 0");
    this.#growthFactor = checked("growthFactor", growthFactor, (x) => x > 1, "be above 1");
    const part = (x: number): boolean => x > 0 && x < 1;
    this.#backoffFactor = checked("backoffFactor", backoffFactor, part, "lie between 0 and 1");
    const whole = (x: number): boolean => Number.isInteger(x) && x > 0;
    this.#growthInterval = checked("growthInterval", growthInterval, whole, "be a whole number");
  }

  /** Whether scaling is on. */
  isEnabled(): boolean {
    return this.#enabled;
  }

  /** The present scale; 1 where scaling is off. */
  getScale(): number {
    return this.#enabled ? this.#scale : 1;
  }

  /** The loss times the scale, recorded. */
  scale(loss: Tensor): Tensor;
  /** Each of several losses times the scale. */
  scale(losses: readonly Tensor[]): Tensor[];
  /** Both forms. */
  scale(losses: Tensor | readonly Tensor[]): Tensor | Tensor[] {
    if (losses instanceof Tensor) return this.#enabled ? losses.mul(this.#scale) : losses;
    return losses.map((loss) => this.scale(loss));
  }

  #progress(optimizer: ScalableOptimizer): Progress {
    let progress = this.#optimizers.get(optimizer);
    if (progress === undefined) {
      progress = { unscaled: false, stepped: false, foundInf: false };
      this.#optimizers.set(optimizer, progress);
    }
    return progress;
  }

  /**
   * Divides the gradients of the optimiser's parameters by the scale, for example to clip them before `step`.
   *
   * @throws Error where they were divided since the last `update`, or where there are none
   * @throws TypeError for float16 parameters, whose gradients the scale would overflow
   */
  unscale_(optimizer: ScalableOptimizer): void {
    if (!this.#enabled) return;
    const progress = this.#progress(optimizer);
    if (progress.unscaled || progress.stepped) {
      throw new Error(
        `Cannot unscale gradients ${
          progress.stepped ? "after step" : "twice"
        }: call update() after each step`,
      );
    }
    const grads = optimizer.paramGroups.flatMap((g) => g.params).map((p) => p._grad)
      .filter((g) => g !== null);
    if (grads.length === 0) {
      throw new Error("Cannot unscale gradients: no parameter of the optimizer has one");
    }
    if (grads.some((g) => g.dtype === "float16")) {
      throw new TypeError(
        "Cannot unscale float16 gradients: keep the parameters in float32 and use autocast",
      );
    }
    const found = new Map<Device, Tensor>();
    unscoped(() =>
      noGrad(() => {
        for (const g of grads) {
          const flag = found.get(g.device) ?? zeros([], { device: g.device });
          found.set(g.device, flag);
          call(optimOps.unscale, [g, flag], { factor: 1 / this.#scale });
        }
      })
    );
    for (const flag of found.values()) {
      if (flag.item() !== 0) progress.foundInf = true;
      flag.dispose();
    }
    progress.unscaled = true;
  }

  /**
   * Divides the gradients by the scale (where `unscale_` has not) and calls the optimiser's `step`, unless a
   * gradient is infinite or NaN.
   *
   * @throws Error where `step` was called since the last `update`
   */
  step(optimizer: ScalableOptimizer): void {
    if (!this.#enabled) {
      optimizer.step();
      return;
    }
    const progress = this.#progress(optimizer);
    if (progress.stepped) throw new Error("Cannot step twice: call update() after each step");
    if (!progress.unscaled) this.unscale_(optimizer);
    if (!progress.foundInf) optimizer.step();
    progress.stepped = true;
  }

  /**
   * Adapts the scale, or sets it to `newScale`. Call it once per iteration, after `step`.
   *
   * @throws Error where no optimiser was unscaled or stepped since the last update
   */
  update(newScale?: number): void {
    if (!this.#enabled) return;
    if (newScale !== undefined) {
      this.#scale = checked("newScale", newScale, (x) => x > 0, "be above 0");
    } else {
      const all = [...this.#optimizers.values()].filter((p) => p.unscaled);
      if (all.length === 0) throw new Error("Cannot update the scale: call step(optimizer) first");
      this.#adapt(all.some((p) => p.foundInf));
    }
    this.#optimizers.clear();
  }

  #adapt(foundInf: boolean): void {
    if (foundInf) {
      this.#scale *= this.#backoffFactor;
      this.#growthTracker = 0;
    } else if (++this.#growthTracker === this.#growthInterval) {
      const grown = Math.fround(this.#scale * this.#growthFactor);
      if (grown !== Infinity) this.#scale = grown;
      this.#growthTracker = 0;
    }
  }

  /** Scale, factors and the count of good steps. */
  stateDict(): GradScalerState {
    if (!this.#enabled) return {};
    return {
      scale: this.#scale,
      growthFactor: this.#growthFactor,
      backoffFactor: this.#backoffFactor,
      growthInterval: this.#growthInterval,
      growthTracker: this.#growthTracker,
    };
  }

  /**
   * Takes over the state of another scaler.
   *
   * @throws Error where the state lacks something, RangeError for values that do not fit
   */
  loadStateDict(state: GradScalerState): void {
    if (!this.#enabled) return;
    const read = (name: string): number => {
      const value = state[name];
      if (typeof value !== "number") {
        throw new Error(
          `Cannot load the state dict into GradScaler: it lacks ${name}` +
            (Object.keys(state).length === 0 ? "; it comes from a scaler that was off" : ""),
        );
      }
      return value;
    };
    const initScale = read("scale"), growthTracker = read("growthTracker");
    const growthFactor = read("growthFactor"), backoffFactor = read("backoffFactor");
    const growthInterval = read("growthInterval");
    const other = new GradScaler({ initScale, growthFactor, backoffFactor, growthInterval });
    this.#growthTracker = growthTracker;
    this.#scale = other.#scale;
    this.#growthFactor = other.#growthFactor;
    this.#backoffFactor = other.#backoffFactor;
    this.#growthInterval = other.#growthInterval;
  }
}
