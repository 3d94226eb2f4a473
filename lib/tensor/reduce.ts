// Reduction methods: documented one-liners over lib/ops/reduce.ts.

import { call } from "../dispatch.ts";
import { reducedDims, reduceShape, same, type Shape, wrapDims } from "../shape.ts";
import { reduceOps as ops, sumDType } from "../ops/reduce.ts";
import { checkOptions } from "../options.ts";
import { ElementwiseTensor } from "./elementwise.ts";
import type { Tensor } from "./mod.ts";

/** One dim or several; all where omitted. */
export type Dims = number | readonly number[] | null;

/** Options of reductions. */
export interface ReduceOptions {
  /** Keep reduced dims with size 1. */
  readonly keepdim?: boolean;
}

/** Reduction methods of tensors. */
export abstract class ReduceTensor extends ElementwiseTensor {
  get #self(): Tensor {
    return this as unknown as Tensor;
  }

  /** The sum over `dim` (all dims where omitted). Integers and bools sum in int64. */
  sum(dim?: Dims, options: ReduceOptions = {}): Tensor {
    checkOptions("sum", options, ["keepdim"]);
    const dims = wrapDims("sum", dim, this.ndim);
    const x = this.#self.to(sumDType(this.dtype));
    return call(ops.sum, [x], { dims, keepdim: options.keepdim ?? false })[0]!;
  }

  /** @internal The sum over the dims along which `shape` was broadcast to this shape. */
  sumTo(shape: Shape): Tensor {
    if (same(this.shape, shape)) return this.#self;
    const dims = reducedDims(this.shape, shape);
    const y = call(ops.sum, [this.#self], { dims, keepdim: true })[0]!;
    return y.reshape(reduceShape(this.shape, dims, true).slice(this.ndim - shape.length));
  }
}
