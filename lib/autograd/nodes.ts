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

/** A recorded kernel op. */
export class KernelNode extends Node {
  readonly #op: KernelOp;
  readonly #attrs: unknown;
  readonly #inputs: readonly ({ shape: Shape; dtype: DType } | null)[];
  #saved: Map<string, SavedTensor> | null = new Map();

  constructor(
    op: KernelOp,
    inputs: readonly (Tensor | null)[],
    results: readonly Tensor[],
    attrs: unknown,
  ) {
    super(
      inputs.map((t) => t === null ? null : edgeOf(t)),
      inputs.map((t) => t === null ? 0 : t._outputIndex),
    );
    this.#op = op;
    this.#attrs = attrs;
    this.#inputs = inputs.map((t) => t === null ? null : { shape: t.shape, dtype: t.dtype });
    // A composition needs every input again.
    const names = op.composition === null ? op.saves : [...new Set([...op.saves, ...op.inputs])];
    for (const name of names) {
      const i = op.inputs.indexOf(name);
      const j = i >= 0 ? -1 : [...op.outputs, ...op.aux].indexOf(name);
      const t = i >= 0 ? inputs[i]! : results[j]!;
      if (t !== null) this.#saved!.set(name, new SavedTensor(t));
    }
  }

  get name(): string {
    return this.#op.name;
  }

  backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
    if (this.#saved === null) throw freedError(this.name);
    const saved: Record<string, Tensor> = {};
    for (const name of this.#op.optional) saved[name] = null as unknown as Tensor;
    for (const [name, kept] of this.#saved) saved[name] = kept.unpack();
    const given = this.#op.outputs.map((_, i) => grads[i] ?? null);
    const needs = this.next.map((n) => n !== null);
    const out = gradEnabled() && this.#op.composition !== null
      ? this.#recomposed(given, saved)
      : (this.#op.vjp as Exclude<KernelOp["vjp"], string>)(
        given,
        saved,
        this.#attrs as never,
        needs,
      );
    return this.#inputs.map((input, i) => {
      const g = out[i];
      if (input === null || !needs[i] || g === null || g === undefined) return null;
      return toOperand(g, input.shape, input.dtype);
    });
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
    this.#saved?.forEach((s) => s.free());
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
