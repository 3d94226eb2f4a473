// Linear algebra methods: documented one-liners over lib/ops/matmul.ts.

import { call } from "../dispatch.ts";
import { checkMatmul, matmulOps as ops } from "../ops/matmul.ts";
import { checkTensors } from "../options.ts";
import { scoped } from "../scope.ts";
import { show } from "../shape.ts";
import { self } from "./base.ts";
import { ReduceTensor } from "./reduce.ts";
import type { Tensor } from "./mod.ts";

function checkRanks(name: string, a: Tensor, b: Tensor, left: number, right: number): void {
  checkTensors(name, { other: b });
  if (a.ndim !== left || b.ndim !== right) {
    throw new RangeError(
      `Cannot ${name} ${show(a.shape)} by ${
        show(b.shape)
      }: it takes tensors of ${left} and ${right} dims; matmul takes any`,
    );
  }
}

/** Linear algebra methods of tensors. */
export abstract class LinalgTensor extends ReduceTensor {
  /**
   * The matrix product, batched over leading dims, which broadcast (torch.matmul).
   *
   * Vectors: (k) by (k) is the dot product, (k) by (..., k, n) and (..., m, k) by (k) drop the vector's dim.
   * Integers multiply exactly and wrap.
   *
   * @throws RangeError where inner sizes differ or batch dims do not broadcast, TypeError where dtypes differ
   */
  matmul(other: Tensor): Tensor {
    const a = self(this);
    if (a.ndim > 1 && other?.ndim > 1) return call(ops.matmul, [a, other], {})[0]!;
    checkTensors("matmul", { other });
    checkMatmul("matmul", a, other);
    return scoped(() => {
      const left = a.ndim === 1 ? a.reshape([1, a.shape[0]!]) : a;
      const right = other.ndim === 1 ? other.reshape([other.shape[0]!, 1]) : other;
      const y = call(ops.matmul, [left, right], {})[0]!;
      const gone = (i: number): boolean =>
        (i === y.ndim - 2 && a.ndim === 1) || (i === y.ndim - 1 && other.ndim === 1);
      return y.reshape(y.shape.filter((_, i) => !gone(i)));
    });
  }

  /** The product of two matrices, (m, k) by (k, n). */
  mm(other: Tensor): Tensor {
    checkRanks("mm", self(this), other, 2, 2);
    checkMatmul("mm", self(this), other);
    return this.matmul(other);
  }

  /** The products of two batches of matrices of equal length, (b, m, k) by (b, k, n). */
  bmm(other: Tensor): Tensor {
    checkRanks("bmm", self(this), other, 3, 3);
    if (this.shape[0] !== other.shape[0]) {
      throw new RangeError(
        `Cannot bmm ${show(this.shape)} by ${show(other.shape)}: batch sizes ${this.shape[0]} and ${
          other.shape[0]
        } differ; matmul broadcasts`,
      );
    }
    checkMatmul("bmm", self(this), other);
    return this.matmul(other);
  }

  /** The product of a matrix (m, k) and a vector (k). */
  mv(vector: Tensor): Tensor {
    checkRanks("mv", self(this), vector, 2, 1);
    checkMatmul("mv", self(this), vector);
    return this.matmul(vector);
  }

  /** The sum of the products of two vectors of equal length: a 0-d tensor. */
  dot(other: Tensor): Tensor {
    checkRanks("dot", self(this), other, 1, 1);
    checkMatmul("dot", self(this), other);
    return this.matmul(other);
  }

  /** Every element of this vector (m) times every element of another (n): (m, n). */
  outer(other: Tensor): Tensor {
    checkRanks("outer", self(this), other, 1, 1);
    return scoped(() =>
      self(this).reshape([this.shape[0]!, 1]).mul(other.reshape([1, other.shape[0]!]))
    );
  }
}
