// The kinds of recorded operations: one class per kind of op declaration, plus assignment through a view.

import type { ElementwiseOp, Grad, KernelOp, ViewOp } from "../ops/op.ts";
import type { Operand } from "../backend.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { DType } from "../dtype.ts";
import type { Shape } from "../shape.ts";
import { alias } from "../tensor/base.ts";
import {
  edgeOf,
  freedError,
  needsGrad,
  Node,
  onStaleView,
  SavedTensor,
  setOrigin,
  toOperand,
} from "./graph.ts";
import { gradEnabled, setGradEnabled } from "./mode.ts";
import { grad } from "./engine.ts";

type Kept = SavedTensor | number | null;

function unpack(k: Kept): Operand {
  return k instanceof SavedTensor ? k.unpack() : (k as number);
}

function free(k: Kept): void {
  if (k instanceof SavedTensor) k.free();
}

/** A recorded elementwise op. */
export class ElementwiseNode extends Node {
  readonly #op: ElementwiseOp;
  readonly #shapes: (Shape | null)[] = [];
  readonly #dtypes: (DType | null)[] = [];
  #saved: Kept[] | null;

  constructor(op: ElementwiseOp, a: Operand, b: Operand, c: Operand, y: Tensor) {
    const operands = [a, b, c];
    const next: (Node | null)[] = [], indices: number[] = [];
    let saves = "";
    for (let i = 0; i < op.arity; i++) {
      const t = operands[i]!, g = op.grads[i] as { saves: string } | null;
      const edge = typeof t === "number" || g === null ? null : edgeOf(t);
      next.push(edge);
      indices.push(edge === null ? 0 : (t as Tensor)._outputIndex);
      if (edge !== null) saves += g!.saves;
    }
    super(next, indices);
    this.#op = op;
    for (let i = 0; i < op.arity; i++) {
      const t = operands[i]!;
      this.#shapes.push(typeof t === "number" ? null : t.shape);
      this.#dtypes.push(typeof t === "number" ? null : t.dtype);
    }
    const keep = (t: Operand, letter: string): Kept =>
      typeof t === "number" ? t : saves.includes(letter) ? new SavedTensor(t) : null;
    this.#saved = [keep(a, "a"), keep(b, "b"), keep(c, "c"), keep(y, "y")];
  }

  get name(): string {
    return this.#op.name;
  }

  backward(grads: readonly (Tensor | null)[]): (Tensor | null)[] {
    if (this.#saved === null) throw freedError(this.name);
    const g = grads[0]!;
    const [a, b, c, y] = this.#saved.map(unpack) as [Operand, Operand, Operand, Tensor];
    const out: (Tensor | null)[] = [];
    for (let i = 0; i < this.next.length; i++) {
      const rule = (this.#op.grads as readonly (Grad | null)[])[i];
      out.push(
        this.next[i] === null || !rule
          ? null
          : toOperand(rule.f(g, a, b, c, y), this.#shapes[i]!, this.#dtypes[i]!),
      );
    }
    return out;
  }

  free(): void {
    this.#saved?.forEach(free);
    this.#saved = null;
  }
}

/** Passes its gradient on: gives a tensor a place of its own in the graph. */
class IdentityNode extends Node {
  constructor(t: Tensor) {
    super([edgeOf(t)], [t._outputIndex]);
  }

  get name(): string {
    return "identity";
  }

  backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
    return grads;
  }

  free(): void {}
}

// Loops, not array methods: most programs run this code too seldom for the compiler to see through closures.

function edgesOf(inputs: readonly (Tensor | null)[]): (Node | null)[] {
  const edges: (Node | null)[] = [];
  for (const t of inputs) edges.push(t === null ? null : edgeOf(t));
  return edges;
}

function outputIndices(inputs: readonly (Tensor | null)[]): number[] {
  const indices: number[] = [];
  for (const t of inputs) indices.push(t === null ? 0 : t._outputIndex);
  return indices;
}

/** A recorded kernel op. */
export class KernelNode extends Node {
  readonly #op: KernelOp;
  readonly #attrs: unknown;
  readonly #shapes: Shape[] = [];
  readonly #dtypes: DType[] = [];
  /** As `saves` of the op; null for optional inputs left out. */
  #saved: (SavedTensor | null)[] | null = [];

  constructor(
    op: KernelOp,
    inputs: readonly (Tensor | null)[],
    results: readonly Tensor[],
    attrs: unknown,
  ) {
    super(edgesOf(inputs), outputIndices(inputs));
    this.#op = op;
    this.#attrs = attrs;
    for (const t of inputs) {
      this.#shapes.push(t === null ? [] : t.shape);
      this.#dtypes.push(t === null ? "float32" : t.dtype);
    }
    for (const { input, result } of op.saves) {
      const t = input >= 0 ? inputs[input]! : results[result]!;
      this.#saved!.push(t === null ? null : new SavedTensor(t));
    }
  }

  get name(): string {
    return this.#op.name;
  }

  backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
    const op = this.#op, { next } = this;
    if (this.#saved === null) throw freedError(this.name);
    const saved: Record<string, Tensor> = {};
    for (const name of op.optional) saved[name] = null as unknown as Tensor;
    for (let i = 0; i < op.saves.length; i++) {
      const kept = this.#saved[i]!;
      if (kept !== null) saved[op.saves[i]!.name] = kept.unpack();
    }
    const given: (Tensor | null)[] = [], needs: boolean[] = [];
    for (let i = 0; i < op.outputs.length; i++) given.push(grads[i] ?? null);
    for (const n of next) needs.push(n !== null);
    const out = gradEnabled() && op.composition !== null
      ? this.#recomposed(given, saved)
      : (op.vjp as Exclude<KernelOp["vjp"], string>)(given, saved, this.#attrs as never, needs);
    const results: (Tensor | null)[] = [];
    for (let i = 0; i < next.length; i++) {
      const g = needs[i] ? out[i] ?? null : null;
      results.push(g === null ? null : toOperand(g, this.#shapes[i]!, this.#dtypes[i]!));
    }
    return results;
  }

  /** The gradients by differentiating the composition, so that they can be differentiated again. */
  #recomposed(
    grads: readonly (Tensor | null)[],
    saved: Record<string, Tensor>,
  ): readonly (Tensor | null)[] {
    const inputs = this.#op.inputs.map((name, i) => {
      const t = saved[name] ?? null;
      if (t === null || this.next[i] === null) return t;
      const own = alias(t, t._data, false);
      own._node = new IdentityNode(t);
      return own;
    });
    const outputs = this.#op.composition!(inputs, this.#attrs as never);
    const used = outputs.map((y, i) => ({ y, g: grads[i] ?? null }))
      .filter(({ y, g }) => g !== null && y.requiresGrad);
    const wanted = inputs.filter((t, i) => t !== null && this.next[i] !== null) as Tensor[];
    const found = grad(used.map(({ y }) => y), wanted, {
      gradOutputs: used.map(({ g }) => g),
      createGraph: true,
      allowUnused: true,
    });
    return inputs.map((t, i) =>
      this.next[i] === null || t === null ? null : found[wanted.indexOf(t)]!
    );
  }

  free(): void {
    for (const kept of this.#saved ?? []) kept?.free();
    this.#saved = null;
  }
}

/** A recorded view. */
export class ViewNode extends Node {
  readonly #op: ViewOp<unknown>;
  readonly #shape: Shape;
  readonly #attrs: unknown;

  constructor(op: ViewOp<unknown>, t: Tensor, attrs: unknown) {
    super([edgeOf(t)], [t._outputIndex]);
    this.#op = op;
    this.#shape = t.shape;
    this.#attrs = attrs;
  }

  get name(): string {
    return this.#op.name;
  }

  backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
    return [this.#op.vjp(grads[0]!, this.#shape, this.#attrs, this.#op)];
  }

  free(): void {}
}

/** A value that depends on nothing: what fill_ leaves behind. */
export class ConstantNode extends Node {
  constructor() {
    super([], []);
  }

  get name(): string {
    return "fill";
  }

  backward(): readonly (Tensor | null)[] {
    return [];
  }

  free(): void {}
}

/** A tensor whose window was overwritten by a view's in-place op: its old part, and the new window. */
class AssignNode extends Node {
  readonly #op: ViewOp<unknown>;
  readonly #attrs: unknown;

  constructor(parent: Tensor, node: Node, op: ViewOp<unknown>, attrs: unknown) {
    super([edgeOf(parent), node], [parent._outputIndex, 0]);
    this.#op = op;
    this.#attrs = attrs;
  }

  get name(): string {
    return "assignWindow";
  }

  backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
    const g = grads[0]!;
    const window = (t: Tensor): Tensor => t._viewAs(this.#op, this.#attrs);
    const inside = window(g).clone();
    if (this.next[0] === null) return [null, inside];
    const rest = g.clone();
    window(rest).zero_();
    return [rest, inside];
  }

  free(): void {}
}

/** Makes `node` the origin of `t` after an in-place op, and of the tensors that `t` is a view of. */
export function recordAssignment(t: Tensor, node: Node): void {
  const storage = t._data;
  // Stale views on the way must be re-recorded as they were before this write.
  for (let p = t._view?.parent ?? null; p !== null; p = p._view?.parent ?? null) needsGrad(p);
  storage.epoch++;
  let inner = t, current: Node = node;
  setOrigin(inner, current);
  while (inner._view !== null) {
    const { parent, op, attrs } = inner._view;
    inner._view.epoch = storage.epoch;
    if (parent._view !== null) parent._view.epoch = storage.epoch;
    current = new AssignNode(parent, current, op, attrs);
    setOrigin(parent, current);
    inner = parent;
  }
}

onStaleView((t) => {
  const { parent, op, attrs } = t._view!;
  const before = setGradEnabled(true);
  try {
    setOrigin(t, edgeOf(parent) === null ? null : new ViewNode(op, parent, attrs));
  } finally {
    setGradEnabled(before);
  }
});
