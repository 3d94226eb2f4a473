// The recorded graph: nodes, edges and saved tensors. engine.ts walks it; lib/dispatch.ts builds it.

import type { Storage } from "../storage.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { Shape } from "../shape.ts";
import type { DType } from "../dtype.ts";
import { alias } from "../tensor/base.ts";
import { anomalyEnabled } from "./mode.ts";

/** A hook sees a gradient and may return another in its place. */
export type GradHook = (grad: Tensor) => Tensor | null | undefined | void;

let sequence = 0;

/** One recorded operation: knows its inputs' nodes and how to turn gradients of outputs into gradients of inputs. */
export abstract class Node {
  /** Creation order: an input's node is always older than its users. */
  readonly seq: number = ++sequence;
  /** For each input the node that takes its gradient, or null. */
  readonly next: (Node | null)[];
  /** Which output of `next[i]` input i is. */
  readonly nextIndex: number[];
  /** Gradients of the outputs, while a backward pass is under way. */
  pending: (Tensor | null)[] | null = null;
  /** The pass that reached this node last. */
  mark = 0;
  /** Hooks per output index. */
  hooks: Map<number, Set<GradHook>> | null = null;
  /** Outputs that keep their gradient, by index. */
  retained: Map<number, Tensor> | null = null;
  /** Where the op was recorded (anomaly mode). */
  readonly trace: string | undefined = anomalyEnabled() ? new Error("recorded").stack : undefined;

  /** @internal Nodes are made by the dispatcher. */
  constructor(next: (Node | null)[], nextIndex: number[]) {
    this.next = next;
    this.nextIndex = nextIndex;
  }

  /** The op's name, as PyTorch prints grad_fn. */
  abstract get name(): string;
  /** Gradients of the inputs. Entries of `grads` are null where none arrived. */
  abstract backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[];
  /** Lets go of saved tensors; a later backward is an error. */
  abstract free(): void;
  /** Whether user code sees the gradients here, so that they must not be recycled. */
  get exposes(): boolean {
    return this.hooks !== null || this.retained !== null;
  }

  /** Printed as `<MulBackward>`. */
  toString(): string {
    return `<${this.name[0]!.toUpperCase()}${this.name.slice(1)}Backward>`;
  }

  /** Shown by console.log. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }
}

/** The end of the graph at a leaf: adds into `tensor.grad`. */
export class AccumulateGrad extends Node {
  readonly tensor: Tensor;

  constructor(tensor: Tensor) {
    super([], []);
    this.tensor = tensor;
  }

  get name(): string {
    return "accumulateGrad";
  }

  backward(): readonly (Tensor | null)[] {
    throw new Error("AccumulateGrad is handled by the engine");
  }

  free(): void {}
}

/** A tensor kept for backward: its storage is counted, its version checked when it is read. */
export class SavedTensor {
  readonly tensor: Tensor;
  readonly storage: Storage;
  readonly version: number;

  constructor(tensor: Tensor) {
    this.tensor = tensor;
    this.storage = tensor._storage!;
    this.version = this.storage.version;
    this.storage.retain();
    if (this.storage.deferred !== null) this.storage.deferred.wanted = true;
  }

  /** The tensor as it was saved. Throws if its storage was written since. */
  unpack(): Tensor {
    const { tensor, storage } = this;
    if (storage.version !== this.version) {
      throw new Error(
        `Cannot compute gradients: a saved tensor of shape [${
          tensor.shape.join(", ")
        }] was modified in place ` +
          `(version ${storage.version}, saved at ${this.version}); clone it before the in-place operation`,
      );
    }
    return tensor._storage === null ? alias(tensor, storage) : tensor;
  }

  /** Lets go of the storage. */
  free(): void {
    this.storage.release();
  }
}

/** The error of a second backward through freed tensors. */
export function freedError(name: string): Error {
  return new Error(
    `Cannot run backward through "${name}" a second time: its saved tensors were freed; ` +
      `pass { retainGraph: true } to the first backward`,
  );
}

/** Whether gradients flow to `t`. */
export function needsGrad(t: Tensor): boolean {
  if (t._view !== null && t._storage !== null && t._view.epoch !== t._storage.epoch) refreshView(t);
  return t._node !== null || t._leafGrad;
}

/** The node that takes the gradient of `t`, or null. */
export function edgeOf(t: Tensor): Node | null {
  if (!needsGrad(t)) return null;
  if (t._node !== null) return t._node;
  return t._accumulate ??= new AccumulateGrad(t);
}

/** Makes `node` the origin of `t`, which keeps its gradient there if it did so before. */
export function setOrigin(t: Tensor, node: Node | null): void {
  const before = t._node?.retained ?? null, index = t._outputIndex;
  t._node = node;
  t._outputIndex = 0;
  if (before === null || before.get(index) !== t) return;
  before.delete(index);
  if (node !== null) (node.retained ??= new Map()).set(0, t);
}

// Set by lib/dispatch.ts: views are re-recorded after their base changed in place.
let recordView: (t: Tensor) => void = () => {};

/** Lets lib/dispatch.ts say how a view is recorded. */
export function onStaleView(record: (t: Tensor) => void): void {
  recordView = record;
}

function refreshView(t: Tensor): void {
  t._view!.epoch = t._storage!.epoch;
  recordView(t);
}

/** `g` summed and cast to the shape and dtype of the operand it belongs to. */
export function toOperand(g: Tensor, shape: Shape, dtype: DType): Tensor {
  const summed = g.shape === shape ? g : g.sumTo(shape);
  return summed.dtype === dtype ? summed : summed.to(dtype);
}
