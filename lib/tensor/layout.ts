// Layout methods: views, reshapes and rearrangements over lib/ops/layout.ts.

import { copy, makeView, rawContiguous } from "../dispatch.ts";
import { contiguousStrides, inferSize, list, show, viewStrides, wrapDim } from "../shape.ts";
import { layoutOps as ops } from "../ops/layout.ts";
import type { ViewOp } from "../ops/op.ts";
import { LinalgTensor } from "./linalg.ts";
import type { Tensor } from "./mod.ts";

/** Layout methods of tensors. */
export abstract class LayoutTensor extends LinalgTensor {
  get #self(): Tensor {
    return this as unknown as Tensor;
  }

  /** @internal This tensor if row-major, else a row-major copy for the caller to dispose; not recorded. */
  _dense(): Tensor {
    return rawContiguous(this.#self);
  }

  /** @internal A view by a declared op. */
  _viewAs(op: ViewOp<unknown>, attrs: unknown): Tensor {
    return makeView(op, this.#self, attrs);
  }

  /** This tensor if its elements lie in row-major order, else a copy that does. */
  contiguous(): Tensor {
    return this._layout === 0 ? this.#self : copy(this.#self, contiguousStrides(this.shape));
  }

  /** A copy with memory of its own, recorded. */
  clone(): Tensor {
    return copy(this.#self);
  }

  /**
   * The same elements in row-major order under another shape; one size may be -1. A view where possible, else a copy.
   *
   * @throws RangeError where the element counts differ
   */
  reshape(...shape: (number | readonly number[])[]): Tensor {
    const target = inferSize("reshape", this.shape, list(shape));
    const fits = viewStrides(this.shape, this._strides, target) !== null;
    return makeView(ops.view, fits ? this.#self : this.contiguous(), { shape: target });
  }

  /**
   * Like reshape, but always sharing memory.
   *
   * @throws Error where the strides that the user made do not allow that
   */
  view(...shape: (number | readonly number[])[]): Tensor {
    // An order of memory that the library chose must not be visible: such a tensor copies.
    if (this._layout === 1 && this._view === null) return this.reshape(...shape);
    return makeView(ops.view, this.#self, { shape: list(shape) });
  }

  /** Dims in the order given. */
  permute(...dims: (number | readonly number[])[]): Tensor {
    const given = list(dims);
    const order = given.map((d) => wrapDim("permute", d, this.ndim));
    if (order.length !== this.ndim || new Set(order).size !== order.length) {
      throw new RangeError(
        `Cannot permute ${show(this.shape)} by ${show(given)}: every dim must appear exactly once`,
      );
    }
    return makeView(ops.permute, this.#self, { dims: order });
  }

  /** This tensor repeated along dims of size 1 (and new leading dims), without copying; -1 keeps a size. */
  expand(...shape: (number | readonly number[])[]): Tensor {
    return makeView(ops.expand, this.#self, { shape: list(shape) });
  }
}
