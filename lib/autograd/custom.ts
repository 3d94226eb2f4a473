// User-defined differentiable functions, and checkpointing, which is one of them in spirit: it runs a function
// without recording and records it again when backward needs it.

import { Tensor } from "../tensor/mod.ts";
import { alias } from "../tensor/base.ts";
import { getRngState, setRngState } from "../tensor/random.ts";
import { backward } from "./engine.ts";
import { edgeOf, freedError, needsGrad, Node, SavedTensor, toOperand } from "./graph.ts";
import { enableGrad, gradEnabled, noGrad } from "./mode.ts";

/** What `forward` and `backward` of a custom function share. */
export interface FunctionContext {
  /** Keeps tensors for backward; they are checked for in-place changes and freed like any saved tensor. */
  saveForBackward(...tensors: Tensor[]): void;
  /** The tensors that `saveForBackward` kept. */
  readonly savedTensors: Tensor[];
  /** For each argument of forward, whether it is a tensor that requires grad. */
  readonly needsInputGrad: boolean[];
  /** Anything else that backward needs. */
  [key: string]: unknown;
}

/** The two halves of a custom function. `A` are forward's arguments, `R` a tensor or a list of tensors. */
export interface CustomFunction<A extends unknown[], R extends Tensor | Tensor[]> {
  /** Computes the result; nothing in it is recorded. */
  forward(ctx: FunctionContext, ...args: A): R;
  /** Gradients of the arguments, given those of the results: one tensor, or a list with null where there is none. */
  backward(ctx: FunctionContext, ...grads: Tensor[]): Tensor | null | readonly (Tensor | null)[];
}

class Context implements FunctionContext {
  [key: string]: unknown;
  readonly needsInputGrad: boolean[];
  kept: SavedTensor[] = [];
  freed = false;

  constructor(needsInputGrad: boolean[]) {
    this.needsInputGrad = needsInputGrad;
  }

  saveForBackward(...tensors: Tensor[]): void {
    this.kept = tensors.map((t) => new SavedTensor(t));
  }

  get savedTensors(): Tensor[] {
    if (this.freed) throw freedError("customFunction");
    return this.kept.map((k) => k.unpack());
  }
}

class CustomNode extends Node {
  readonly #ctx: Context;
  readonly #def: CustomFunction<never[], Tensor | Tensor[]>;
  readonly #args: readonly unknown[];
  readonly #outputs: { shape: readonly number[]; like: Tensor }[];

  constructor(
    ctx: Context,
    def: CustomFunction<never[], Tensor | Tensor[]>,
    args: readonly unknown[],
    outputs: readonly Tensor[],
  ) {
    const tensors = args.map((a) => a instanceof Tensor ? a : null);
    super(tensors.map((t) => t && edgeOf(t)), tensors.map((t) => t?._outputIndex ?? 0));
    this.#ctx = ctx;
    this.#def = def;
    this.#args = tensors.map((t) => t === null ? null : { shape: t.shape, dtype: t.dtype });
    this.#outputs = outputs.map((y) => ({ shape: y.shape, like: y }));
  }

  get name(): string {
    return "customFunction";
  }

  override get exposes(): boolean {
    return true; // user code sees the gradients and may keep them
  }

  backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
    if (this.#ctx.freed) throw freedError(this.name);
    const full = this.#outputs.map((o, i) => grads[i] ?? noGrad(() => o.like._zeros(o.shape)));
    const result = this.#def.backward(this.#ctx, ...full);
    const list = Array.isArray(result) ? result as (Tensor | null)[] : [result as Tensor | null];
    const expected = this.#args.length;
    if (
      list.length !== expected &&
      !(list.length < expected && this.#args.slice(list.length).every((a) => a === null))
    ) {
      throw new Error(
        `A custom function's backward returned ${list.length} gradients for ${expected} arguments: return one per argument, null where there is none`,
      );
    }
    return this.#args.map((a, i) => {
      const g = list[i] ?? null;
      if (a === null || g === null) return null;
      const { shape, dtype } = a as { shape: readonly number[]; dtype: Tensor["dtype"] };
      return toOperand(g, shape, dtype);
    });
  }

  free(): void {
    if (this.#ctx.freed) return;
    this.#ctx.freed = true;
    for (const k of this.#ctx.kept) k.free();
  }
}

/**
 * Makes a differentiable function from a forward and a backward of your own.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const cube = ndl.customFunction<[ndl.Tensor], ndl.Tensor>({
 *   forward(ctx, x) {
 *     ctx.saveForBackward(x);
 *     return x.pow(3);
 *   },
 *   backward(ctx, g) {
 *     const [x] = ctx.savedTensors;
 *     return g.mul(x!.square()).mul(3);
 *   },
 * });
 * const x = ndl.tensor(2, { requiresGrad: true });
 * cube(x).backward();
 * console.log(x.grad!.item()); // 12
 * ```
 * @returns a plain function of the same arguments; those that are no tensors pass through
 */
export function customFunction<A extends unknown[], R extends Tensor | Tensor[]>(
  definition: CustomFunction<A, R>,
): (...args: A) => R {
  return (...args: A): R => {
    const needs = args.map((a) => a instanceof Tensor && needsGrad(a));
    const ctx = new Context(needs);
    const result = noGrad(() => definition.forward(ctx, ...args));
    const outputs: Tensor[] = Array.isArray(result) ? result : [result];
    if (!gradEnabled() || !needs.some(Boolean)) {
      for (const k of ctx.kept) k.free();
      ctx.kept = [];
      return result;
    }
    // An argument that is returned as it is must not become the function's own result.
    const own = outputs.map((y) => args.includes(y) ? alias(y, y._data, false) : y);
    const erased = definition as unknown as CustomFunction<never[], Tensor | Tensor[]>;
    const node = new CustomNode(ctx, erased, args, own);
    own.forEach((y, i) => {
      y._node = node;
      y._outputIndex = i;
    });
    return (Array.isArray(result) ? own : own[0]) as R;
  };
}

/**
 * Runs `fn` without keeping its intermediate results; backward runs it again (with the same random numbers).
 * Trades time for memory, Chen et al. 2016.
 *
 * @param fn a function of tensors that returns a tensor
 */
export function checkpoint<A extends Tensor[]>(fn: (...inputs: A) => Tensor, ...inputs: A): Tensor {
  const state = getRngState();
  const run = customFunction<A, Tensor>({
    forward(ctx, ...xs) {
      ctx.saveForBackward(...xs);
      return fn(...xs);
    },
    backward(ctx, g) {
      const now = getRngState();
      setRngState(state);
      const again = ctx.savedTensors.map((x) => {
        const copy = alias(x, x._data, false);
        if (needsGrad(x)) copy.requiresGrad_();
        return copy;
      });
      try {
        const y = enableGrad(() => fn(...again as unknown as A));
        if (gradEnabled()) {
          throw new Error(
            "Cannot differentiate twice through checkpoint: call the function directly",
          );
        }
        const wanted = again.filter((x) => x.requiresGrad);
        // Parameters that fn captured get their gradients through an ordinary backward.
        backward(y, g, {});
        return again.map((x) => wanted.includes(x) ? x._grad : null);
      } finally {
        setRngState(now);
      }
    },
  });
  // With no input that requires grad, parameters inside fn may still need one: record plainly then.
  return inputs.some((x) => x.requiresGrad) || !gradEnabled() ? run(...inputs) : fn(...inputs);
}
