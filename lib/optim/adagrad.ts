// Adagrad (Duchi, Hazan & Singer 2011), as in-place tensor operations.

import { noGrad } from "../autograd/mode.ts";
import { scoped } from "../scope.ts";
import type { Tensor } from "../tensor/mod.ts";
import {
  Optimizer,
  type ParamGroup,
  type Params,
  type StateField,
  stateLike,
} from "./optimizer.ts";
import { flag, nonNegative, OptionRules } from "./rules.ts";

/** Options of Adagrad. */
export interface AdagradOptions {
  /** Learning rate (default 1e-2). */
  readonly lr?: number;
  /** The learning rate is divided by 1 + lrDecay · (step - 1) (default 0). */
  readonly lrDecay?: number;
  /** Factor of the parameter that is added to its gradient (default 0). */
  readonly weightDecay?: number;
  /** Where the sums of squares start (default 0). */
  readonly initialAccumulatorValue?: number;
  /** Added to the root of the sum of squares (default 1e-10). */
  readonly eps?: number;
  /** Ascend instead of descending (default false). */
  readonly maximize?: boolean;
}

/** State of one parameter of Adagrad. */
export interface AdagradState {
  /** Steps so far. */
  step: number;
  /** Sum of the squared gradients. */
  readonly sum: Tensor;
}

const rules = new OptionRules<AdagradOptions>({
  lr: nonNegative(1e-2),
  lrDecay: nonNegative(0),
  weightDecay: nonNegative(0),
  initialAccumulatorValue: nonNegative(0),
  eps: nonNegative(1e-10),
  maximize: flag(false),
});

/** Adagrad: gradients divided by the root of the sum of all their squares. */
export class Adagrad extends Optimizer<AdagradOptions, AdagradState> {
  /** @internal What the state of a parameter holds. */
  protected readonly fields: Readonly<Record<string, StateField>> = {
    step: "count",
    sum: "tensor",
  };

  /**
   * Makes an optimiser for `params`.
   *
   * @param params tensors, or groups `{ params, lr, ... }`
   * @throws TypeError, RangeError or Error for options and params that do not fit
   */
  constructor(params: Params<AdagradOptions>, options: AdagradOptions = {}) {
    super(params, options, rules);
  }

  /** @internal Makes the state of a new parameter. */
  protected override initialize(param: Tensor, group: ParamGroup<AdagradOptions>): void {
    const sum = stateLike(param);
    noGrad(() => sum.fill_(group.initialAccumulatorValue));
    this.state.set(param, { step: 0, sum });
  }

  /** @internal Updates one parameter in place. */
  protected override update(param: Tensor, grad: Tensor, group: ParamGroup<AdagradOptions>): void {
    if (!this.state.has(param)) this.initialize(param, group);
    const own = this.state.get(param)!;
    const { lr, lrDecay, weightDecay, eps, maximize } = group;
    const rate = lr / (1 + own.step * lrDecay);
    scoped(() => {
      let d = maximize ? grad.neg() : grad;
      if (weightDecay !== 0) d = d.add(param.mul(weightDecay));
      own.sum.add_(d.square());
      param.sub_(d.div(own.sum.sqrt().add_(eps)).mul_(rate));
    });
    own.step++;
  }
}
