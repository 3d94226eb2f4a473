// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019): one kernel call per parameter and step.

import { call } from "../dispatch.ts";
import { optimOps } from "../ops/optim.ts";
import { checkOptions } from "../options.ts";
import type { Tensor } from "../tensor/mod.ts";
import {
  Optimizer,
  type ParamGroup,
  type Params,
  type StateField,
  stateLike,
} from "./optimizer.ts";
import { flag, nonNegative, OptionRules, rates } from "./rules.ts";

/** Options of Adam and AdamW. */
export interface AdamOptions {
  /** Learning rate (default 1e-3). */
  readonly lr?: number;
  /** Decay rates of the first and second moment (default [0.9, 0.999]). */
  readonly betas?: readonly [number, number];
  /** Added to the root of the second moment (default 1e-8). */
  readonly eps?: number;
  /** Adam: factor of the parameter that is added to its gradient (default 0). AdamW: decoupled from it (default 0.01). */
  readonly weightDecay?: number;
  /** Divide by the largest second moment so far (default false). */
  readonly amsgrad?: boolean;
  /** Ascend instead of descending (default false). */
  readonly maximize?: boolean;
}

/** State of one parameter of Adam. */
export interface AdamState {
  /** Steps so far. */
  step: number;
  /** Running average of the gradient. */
  readonly expAvg: Tensor;
  /** Running average of its square. */
  readonly expAvgSq: Tensor;
  /** The largest such average so far (amsgrad). */
  maxExpAvgSq?: Tensor;
}

const rules = new OptionRules<AdamOptions>({
  lr: nonNegative(1e-3),
  betas: rates([0.9, 0.999]),
  eps: nonNegative(1e-8),
  weightDecay: nonNegative(0),
  amsgrad: flag(false),
  maximize: flag(false),
});

/** Adam: steps scaled by running averages of the gradient and of its square. */
export class Adam extends Optimizer<AdamOptions, AdamState> {
  /** @internal Whether weight decay acts on the parameter directly instead of through the gradient. */
  protected readonly decoupled: boolean = false;
  /** @internal What the state of a parameter holds. */
  protected readonly fields: Readonly<Record<string, StateField>> = {
    step: "count",
    expAvg: "tensor",
    expAvgSq: "tensor",
    maxExpAvgSq: "tensor?",
  };

  /**
   * Makes an optimiser for `params`.
   *
   * @param params tensors, or groups `{ params, lr, ... }`
   * @throws TypeError, RangeError or Error for options and params that do not fit
   */
  constructor(params: Params<AdamOptions>, options: AdamOptions = {}) {
    super(params, options, rules);
  }

  /** @internal Updates one parameter in place. */
  protected override update(param: Tensor, grad: Tensor, group: ParamGroup<AdamOptions>): void {
    let own = this.state.get(param);
    if (own === undefined) {
      own = { step: 0, expAvg: stateLike(param), expAvgSq: stateLike(param) };
      this.state.set(param, own);
    }
    const attrs = {
      lr: group.lr,
      beta1: group.betas[0],
      beta2: group.betas[1],
      eps: group.eps,
      weightDecay: group.weightDecay,
      decoupled: this.decoupled,
      maximize: group.maximize,
      step: own.step + 1,
    };
    if (group.amsgrad) {
      const largest = own.maxExpAvgSq ??= stateLike(param);
      call(optimOps.amsgradStep, [param, grad, own.expAvg, own.expAvgSq, largest], attrs);
    } else call(optimOps.adamStep, [param, grad, own.expAvg, own.expAvgSq], attrs);
    own.step++;
  }
}

/** Adam with decoupled weight decay. */
export class AdamW extends Adam {
  /** @internal Weight decay acts on the parameter directly. */
  protected override readonly decoupled: boolean = true;

  /**
   * Makes an optimiser for `params`.
   *
   * @param params tensors, or groups `{ params, lr, ... }`
   * @throws TypeError, RangeError or Error for options and params that do not fit
   */
  constructor(params: Params<AdamOptions>, options: AdamOptions = {}) {
    checkOptions("AdamW", options, rules.names);
    super(params, { ...options, weightDecay: options.weightDecay ?? 0.01 });
  }
}
