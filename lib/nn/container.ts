// Containers: modules made of modules. Activations between built-in layers are released as soon as they were used;
// what backward needs is kept by the graph itself.

import { argumentsOf, told } from "../options.ts";
import type { Tensor } from "../tensor/mod.ts";
import { ReLU } from "./activation.ts";
import { type AnyModule, isPlainBuiltin, type Layer, markBuiltin, Module } from "./module.ts";
import { BatchNorm } from "./norm.ts";

/** A list of modules: `length`, `at`, `push`, iteration; children are named by position. */
abstract class ModuleSequence<M extends AnyModule, I extends unknown[], O> extends Module<I, O> {
  #items: M[] = [];

  constructor(items: Iterable<M>) {
    super();
    if (typeof items?.[Symbol.iterator] !== "function") {
      throw new TypeError(
        `Cannot make ${new.target.name} of ${told(items)}: give a list of modules`,
      );
    }
    for (const m of items) this.push(m);
  }

  /** Number of modules. */
  get length(): number {
    return this.#items.length;
  }

  /** The module at a position; negative positions count from the end. */
  at(i: number): M {
    const m = this.#items.at(i);
    if (m === undefined) throw new RangeError(`Cannot take module ${i} of ${this.length}`);
    return m;
  }

  /** Adds a module at the end. */
  push(m: M): this {
    if (!(m instanceof Module)) {
      throw new TypeError(
        `Cannot add ${m === null ? "null" : typeof m} to ${this.constructor.name}: give a Module`,
      );
    }
    // Numbered fields register themselves and give PyTorch's state-dict names: "0.weight".
    (this as unknown as Record<number, M>)[this.#items.length] = m;
    this.#items.push(m);
    return this;
  }

  /** The modules in order. */
  [Symbol.iterator](): IterableIterator<M> {
    return this.#items[Symbol.iterator]();
  }
}

/** Holds modules in a list; calls none of them. */
export class ModuleList<M extends AnyModule = Layer> extends ModuleSequence<M, never[], never> {
  /** A list of `modules`. */
  constructor(modules: Iterable<M> = []) {
    super(modules);
  }

  /** Always an error: a list has no order of computation. */
  override forward(..._: never[]): never {
    throw new Error("Cannot call forward of a ModuleList: call its modules");
  }
}

/**
 * Applies modules one after the other.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const net = new ndl.nn.Sequential(new ndl.nn.Linear(4, 8), new ndl.nn.ReLU(), new ndl.nn.Linear(8, 2));
 * console.log(net.forward(ndl.zeros([3, 4])).shape); // [3, 2]
 * ```
 */
export class Sequential extends ModuleSequence<Layer, [Tensor], Tensor> {
  /** Applies `modules` in this order. */
  constructor(...modules: Layer[]) {
    super(modules);
  }

  /** The last module's output. */
  override forward(x: Tensor): Tensor {
    let h = x, mine = false;
    for (let i = 0; i < this.length; i++) {
      const m = this.at(i), plain = keepsNothing(m);
      // Batch norm and ReLU are one pass over the data where nobody can tell.
      const next = i + 1 < this.length ? this.at(i + 1) : null;
      const pair = plain && m instanceof BatchNorm && next instanceof ReLU && keepsNothing(next);
      const y = pair ? m._normalise(h, true) : m.forward(h);
      if (pair) i++;
      // Our own intermediate, made and used by layers that keep no handle: nobody else can see it.
      if (y === h) mine &&= plain;
      else {
        if (mine && plain) h.dispose();
        mine = plain && y !== x;
      }
      h = y;
    }
    return h;
  }
}

/** x + fn(x). */
export class Residual extends Module {
  /** The module that is added to. */
  fn: Layer;

  /** Adds the input to the output of `fn`. */
  constructor(fn: Layer) {
    super();
    if (!(fn instanceof Module)) {
      throw new TypeError(`Cannot make Residual of ${told(fn)}: give a Module`);
    }
    this.fn = fn;
  }

  /** x + fn(x). */
  override forward(x: Tensor): Tensor {
    const inner = this.fn.forward(x);
    const y = x.add(inner);
    if (inner !== x && keepsNothing(this.fn)) inner.dispose();
    return y;
  }
}

/** Whether `m` and all it calls are built-in modules without hooks: they keep no handle on what they see. */
function keepsNothing(m: Layer): boolean {
  if (!isPlainBuiltin(m)) return false;
  if (m instanceof Residual) return keepsNothing(m.fn);
  if (m instanceof Sequential) { for (const inner of m) if (!keepsNothing(inner)) return false; }
  return true;
}

/** Gives back its input. */
export class Identity extends Module {
  /** x. */
  override forward(x: Tensor): Tensor {
    return x;
  }
}

/** Merges dims startDim to endDim into one (default: all but the first). */
export class Flatten extends Module {
  readonly #start: number;
  readonly #end: number;

  /** Dims to merge, both included (default: 1 to -1), by position or by name. */
  constructor(
    startDim: number | { readonly startDim?: number; readonly endDim?: number } = 1,
    endDim?: number | { readonly endDim?: number },
  ) {
    super();
    const dims = argumentsOf("Flatten", [startDim, endDim], { startDim: 1, endDim: -1 });
    this.#start = dims.startDim;
    this.#end = dims.endDim;
  }

  /** The dims. */
  override extraRepr(): string {
    return `startDim=${this.#start}, endDim=${this.#end}`;
  }

  /** x with the dims merged. */
  override forward(x: Tensor): Tensor {
    return x.flatten(this.#start, this.#end);
  }
}

markBuiltin(Sequential, Residual, Identity, Flatten);
