// RMSprop (Hinton's lecture 6e; centered as in Graves 2013), as in-place tensor operations.

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

/** Options of RMSprop. */
export interface RMSpropOptions {
  /** Learning rate (default 1e-2). */
  readonly lr?: number;
  /** Decay rate of the averages (default 0.99). */
  readonly alpha?: number;
  /** Added to the root of the average square (default 1e-8). */
  readonly eps?: number;
  /** Factor of the parameter that is added to its gradient (default 0). */
  readonly weightDecay?: number;
  /** How much of the last step's direction stays (default 0). */
  readonly momentum?: number;
  /** Divide by the standard deviation instead of the root mean square (default false). */
  readonly centered?: boolean;
  /** Ascend instead of descending (default false). */
  readonly maximize?: boolean;
}

/** State of one parameter of RMSprop. */
export interface RMSpropState {
  /** Steps so far. */
  step: number;
  /** Running average of the squared gradient. */
  readonly squareAvg: Tensor;
  /** Decaying sum of steps. */
  momentumBuffer?: Tensor;
  /** Running average of the gradient (centered). */
  gradAvg?: Tensor;
}

const rules = new OptionRules<RMSpropOptions>({
  lr: nonNegative(1e-2),
  alpha: nonNegative(0.99),
  eps: nonNegative(1e-8),
  weightDecay: nonNegative(0),
  momentum: nonNegative(0),
  centered: flag(false),
  maximize: flag(false),
});

/** RMSprop: gradients divided by a running root mean square. */
export class RMSprop extends Optimizer<RMSpropOptions, RMSpropState> {
  /** @internal What the state of a parameter holds. */
  protected readonly fields: Readonly<Record<string, StateField>> = {
    step: "count",
    squareAvg: "tensor",
    momentumBuffer: "tensor?",
    gradAvg: "tensor?",
  };

  /**
   * Makes an optimiser for `params`.
   *
   * @param params tensors, or groups `{ params, lr, ... }`
   * @throws TypeError, RangeError or Error for options and params that do not fit
   */
  constructor(params: Params<RMSpropOptions>, options: RMSpropOptions = {}) {
    super(params, options, rules);
  }

  /** @internal Updates one parameter in place. */
  protected override update(param: Tensor, grad: Tensor, group: ParamGroup<RMSpropOptions>): void {
    let own = this.state.get(param);
    if (own === undefined) this.state.set(param, own = { step: 0, squareAvg: stateLike(param) });
    if (group.momentum > 0) own.momentumBuffer ??= stateLike(param);
    if (group.centered) own.gradAvg ??= stateLike(param);
    const { squareAvg, momentumBuffer, gradAvg } = own;
    const { lr, alpha, eps, weightDecay, momentum, centered, maximize } = group;
    scoped(() => {
      let d = maximize ? grad.neg() : grad;
      if (weightDecay !== 0) d = d.add(param.mul(weightDecay));
      squareAvg.mul_(alpha).add_(d.square().mul_(1 - alpha));
      let average = squareAvg;
      if (centered) {
        gradAvg!.add_(d.sub(gradAvg!).mul_(1 - alpha));
        average = squareAvg.sub(gradAvg!.square());
      }
      const step = d.div(average.sqrt().add_(eps));
      if (momentum > 0) param.sub_(momentumBuffer!.mul_(momentum).add_(step).mul(lr));
      else param.sub_(step.mul_(lr));
    });
    own.step++;
  }
}
