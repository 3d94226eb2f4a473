// Moving tensors between devices: a copy through host memory, recorded.

import type { Device } from "../device.ts";
import type { Tensor } from "./mod.ts";
import { allocate } from "./base.ts";
import { edgeOf, needsGrad, Node } from "../autograd/graph.ts";
import { gradEnabled } from "../autograd/mode.ts";
import { dtypes } from "../dtype.ts";

class TransferNode extends Node {
  readonly #from: Device;

  constructor(t: Tensor) {
    super([edgeOf(t)], [t._outputIndex]);
    this.#from = t.device;
  }

  get name(): string {
    return "to";
  }

  backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
    return [transfer(grads[0]!, this.#from)];
  }

  free(): void {}
}

/** `t` on `device`; t itself where it is there already. */
export function transfer(t: Tensor, device: Device): Tensor {
  if (t.device === device) return t;
  const target = device.backend;
  const dense = t._layout === 2 ? t._dense() : t;
  const bytes = dtypes[t.dtype].bytes;
  const data = dense.device.backend.read(
    dense._memory,
    dense._start * bytes,
    dense.numel() * bytes,
  );
  const y = allocate(dense.shape, dense.dtype, device, dense._strides, dense._layout);
  target.write(y._memory, y._start * bytes, data);
  if (dense !== t) dense.dispose();
  if (gradEnabled() && needsGrad(t)) y._node = new TransferNode(t);
  return y;
}
