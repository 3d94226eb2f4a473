// Tensor: the end of the class chain base -> elementwise -> reduce -> linalg -> layout -> index, one file a family.

import { castTo, runInto } from "../dispatch.ts";
import { checkDType, type DType } from "../dtype.ts";
import { Device } from "../device.ts";
import { contiguousStrides, type Shape } from "../shape.ts";
import { layoutOps } from "../ops/layout.ts";
import { checkOptions } from "../options.ts";
import { allocate, setTensorClass } from "./base.ts";
import { IndexTensor } from "./index.ts";
import { show } from "./print.ts";
import { transfer } from "./transfer.ts";

/**
 * An n-dimensional array on a device, with reverse-mode automatic differentiation.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const x = ndl.tensor([[1, 2], [3, 4]], { requiresGrad: true });
 * x.mul(x).sum().backward();
 * console.log(x.grad!.tolist()); // [[2, 4], [6, 8]]
 * ```
 */
export class Tensor extends IndexTensor {
  /**
   * This tensor with another dtype or on another device, or with those of another tensor (itself where nothing
   * changes). Recorded.
   */
  to(...targets: (DType | Device | Tensor | { dtype?: DType; device?: Device })[]): Tensor {
    let t = this as Tensor;
    for (const target of targets) {
      if (target instanceof Device) t = transfer(t, target);
      else if (typeof target === "object" && target !== null) {
        const other = target instanceof Tensor;
        if (!other) checkOptions("to", target, ["dtype", "device"]);
        if (target.device !== undefined) t = transfer(t, target.device);
        if (target.dtype !== undefined) t = castTo(t, checkDType(target.dtype));
      } else t = castTo(t, checkDType(target));
    }
    return t;
  }

  /** The elements as PyTorch prints them. */
  override toString(): string {
    return show(this);
  }

  /** Shown by console.log in Deno. */
  [Symbol.for("Deno.customInspect")](): string {
    return this._storage === null ? "tensor(<disposed>)" : this.toString();
  }

  /** Shown by console.log in Node. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this._storage === null ? "tensor(<disposed>)" : this.toString();
  }

  /** @internal Zeros of `shape` with this tensor's dtype and device. */
  _zeros(shape: Shape): Tensor {
    return this._filled(shape, 0);
  }

  /** @internal This tensor's shape, dtype and device, every element `value`. */
  _full(value: number): Tensor {
    return this._filled(this.shape, value);
  }

  /** @internal A new tensor of one value with this tensor's dtype and device. */
  _filled(shape: Shape, value: number): Tensor {
    const y = allocate(shape, this.dtype, this.device, contiguousStrides(shape), 0);
    runInto(layoutOps.fill, [], [y], { value, shape, dtype: this.dtype });
    return y;
  }
}

setTensorClass((storage, shape, strides, offset, dtype, layout) =>
  new Tensor(storage, shape, strides, offset, dtype, layout)
);
