// Stochastic gradient descent with momentum, as PyTorch defines it (the momentum buffer collects gradients, not
// steps, so a new learning rate acts at once).

import { call } from "../dispatch.ts";
import { pendingCall } from "../later.ts";
import { gradOps } from "../ops/grads.ts";
import { indexOps } from "../ops/index.ts";
import { optimOps } from "../ops/optim.ts";
import { scoped } from "../scope.ts";
import type { Tensor } from "../tensor/mod.ts";
import {
  Optimizer,
  type ParamGroup,
  type Params,
  type StateField,
  stateLike,
} from "./optimizer.ts";
import { finite, flag, nonNegative, OptionRules } from "./rules.ts";

/** Options of SGD. */
export interface SGDOptions {
  /** Learning rate (default 1e-3). */
  readonly lr?: number;
  /** How much of the buffer stays from step to step (default 0: no buffer). */
  readonly momentum?: number;
  /** How much of a new gradient the buffer leaves out (default 0). */
  readonly dampening?: number;
  /** Factor of the parameter that is added to its gradient (default 0). */
  readonly weightDecay?: number;
  /** Nesterov's momentum: looks one step ahead (default false). */
  readonly nesterov?: boolean;
  /** Ascend instead of descending (default false). */
  readonly maximize?: boolean;
}

/** State of one parameter of SGD. */
export interface SGDState {
  /** Decaying sum of gradients. */
  momentumBuffer?: Tensor;
}

const rules = new OptionRules<SGDOptions>(
  {
    lr: nonNegative(1e-3),
    momentum: nonNegative(0),
    dampening: finite(0),
    weightDecay: nonNegative(0),
    nesterov: flag(false),
    maximize: flag(false),
  },
  (o) =>
    o.nesterov && (o.momentum <= 0 || o.dampening !== 0)
      ? "nesterov needs a momentum above 0 and no dampening"
      : null,
);

/** Stochastic gradient descent. */
export class SGD extends Optimizer<SGDOptions, SGDState> {
  /** @internal What the state of a parameter holds. */
  protected readonly fields: Readonly<Record<string, StateField>> = { momentumBuffer: "tensor?" };

  /**
   * Makes an optimiser for `params`.
   *
   * @param params tensors, or groups `{ params, lr, ... }`
   * @throws TypeError, RangeError or Error for options and params that do not fit
   */
  constructor(params: Params<SGDOptions>, options: SGDOptions = {}) {
    super(params, options, rules);
  }

  /** @internal Updates one parameter in place. */
  protected override update(param: Tensor, grad: Tensor, group: ParamGroup<SGDOptions>): void {
    if (group.momentum === 0) {
      if (group.weightDecay !== 0 || !addRows(param, grad, group.maximize ? group.lr : -group.lr)) {
        call(optimOps.sgdStep, [param, grad], group);
      }
      return;
    }
    const before = this.state.get(param)?.momentumBuffer;
    const buffer = before ?? stateLike(param);
    if (before === undefined) this.state.set(param, { momentumBuffer: buffer });
    const { lr, weightDecay, maximize, momentum, dampening, nesterov } = group;
    const first = before === undefined;
    call(optimOps.sgdMomentumStep, [param, grad, buffer], {
      lr,
      weightDecay,
      maximize,
      momentum,
      dampening,
      nesterov,
      first,
    });
  }
}

/**
 * `param += alpha grad` for the gradient of an embedding that nobody has read: touches no other rows.
 *
 * @returns whether the gradient is one
 */
function addRows(param: Tensor, grad: Tensor, alpha: number): boolean {
  const pending = pendingCall(grad, indexOps.indexAdd);
  if (pending === null) return false;
  const { skip } = pending.attrs;
  scoped(() => {
    const [index, src] = pending.inputs() as [Tensor, Tensor];
    const rows = src.reshape([index.numel(), src.shape.at(-1)!]);
    return call(gradOps.addRows, [param, rows, index], { skip, alpha });
  });
  return true;
}
