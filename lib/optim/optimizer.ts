// Optimizer: what all optimisers share. Parameter groups with their options, state per parameter, the walk over
// parameters that have a gradient, and saving and loading in PyTorch's structure.

import { setGradEnabled } from "../autograd/mode.ts";
import { isFloat } from "../dtype.ts";
import { unscoped } from "../scope.ts";
import { same, show } from "../shape.ts";
import { zerosLike } from "../tensor/create.ts";
import { Tensor } from "../tensor/mod.ts";
import { isPlainObject, type OptionRules } from "./rules.ts";
import { optimizerState } from "./torch_state.ts";

/** The option that every optimiser has. */
export interface LearningRate {
  /** Learning rate. */
  readonly lr?: number;
}

/** Parameters with options of their own; options left out are the optimiser's. */
export type GroupOptions<O> = O & { readonly params: Tensor | Iterable<Tensor> };

/** What an optimiser is made from: tensors, or groups of them. */
export type Params<O> = Iterable<Tensor> | Iterable<GroupOptions<O>>;

/** A parameter group as the optimiser holds it: every option has a value and can be assigned. */
export type ParamGroup<O> =
  & { -readonly [K in keyof O]-?: O[K] }
  & {
    /** The parameters. */
    params: Tensor[];
    /** The learning rate that schedules start from; set by the first scheduler. */
    initialLr?: number;
  };

/** A group in a state dict: its options, and its parameters as numbers. */
export type SavedGroup = Record<string, unknown> & { params: number[] };

/** What `stateDict` gives and `loadStateDict` takes: state by parameter number, and the groups. */
export interface OptimizerState {
  /** By the number of the parameter: moments, buffers and step counts by name. */
  state: Record<string, Record<string, Tensor | number>>;
  /** Options of each group, with the numbers of its parameters. */
  paramGroups: SavedGroup[];
}

/** What a state has under a name: a tensor like the parameter, always or from some step on, or a count of steps. */
export type StateField = "tensor" | "tensor?" | "count";

/** State of one parameter, by name. */
type Fields = Record<string, Tensor | number>;

function describe(x: unknown): string {
  if (x === null || typeof x !== "object") return x === null ? "null" : `a ${typeof x}`;
  return Array.isArray(x) ? "an array" : `an object of class ${x.constructor?.name ?? "unknown"}`;
}

/** Zeros like `t`, as optimiser state: no scope releases them. */
export function stateLike(t: Tensor): Tensor {
  return unscoped(() => zerosLike(t));
}

/**
 * The base class of optimisers: `O` are the options, `S` is the state of one parameter.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const w = ndl.tensor([1, 2], { requiresGrad: true });
 * const optimizer = new ndl.optim.SGD([w], { lr: 0.1 });
 * w.square().sum().backward();
 * optimizer.step();
 * optimizer.zeroGrad();
 * console.log(w.tolist()); // [0.8, 1.6]
 * ```
 */
export abstract class Optimizer<O extends LearningRate, S extends object> {
  /** The groups; their options (`lr` above all) can be assigned between steps. */
  readonly paramGroups: ParamGroup<O>[] = [];
  /** Options of groups that do not say otherwise. */
  readonly defaults: Readonly<Required<O>>;
  /** @internal State by parameter. */
  protected readonly state: Map<Tensor, S> = new Map();
  readonly #rules: OptionRules<O>;

  /**
   * Checks params and options, and makes the groups.
   *
   * @param params tensors, or groups `{ params, ...options }`
   * @throws TypeError for unknown options, and for params that are no tensors
   * @throws RangeError for values that no optimiser can work with
   * @throws Error for duplicate params, results of recorded ops, and for no params at all
   */
  constructor(params: Params<O>, options: O, rules: OptionRules<O>) {
    this.#rules = rules;
    this.defaults = rules.fill(this.#name, options, null);
    if (
      params instanceof Tensor || typeof params !== "object" || params === null ||
      !(Symbol.iterator in params)
    ) {
      throw new TypeError(
        `Cannot make ${this.#name} with ${
          params instanceof Tensor ? "one tensor" : describe(params)
        } as params: give a list of tensors, or of groups { params, ... }`,
      );
    }
    const items: unknown[] = [...params];
    if (items.length === 0) throw new Error(`Cannot make ${this.#name} without params`);
    const groups = items[0] instanceof Tensor ? [{ params: items }] : items;
    for (const group of groups) this.addParamGroup(group as GroupOptions<O>);
  }

  get #name(): string {
    return this.constructor.name;
  }

  /** Updates one parameter in place; recording is off. */
  protected abstract update(param: Tensor, grad: Tensor, group: ParamGroup<O>): void;

  /** What the state of a parameter holds. */
  protected abstract readonly fields: Readonly<Record<string, StateField>>;

  /** Called for each parameter of a new group, for optimisers whose state exists before the first step. */
  protected initialize(_param: Tensor, _group: ParamGroup<O>): void {}

  /**
   * Adds parameters with options of their own, for example when a frozen layer starts to learn.
   *
   * @throws as the constructor; nothing is added then
   */
  addParamGroup(group: GroupOptions<O>): void {
    const what = `add a param group to ${this.#name}`;
    if (!isPlainObject(group) || !("params" in group)) {
      throw new TypeError(
        `Cannot ${what}: ${describe(group)} is neither a tensor nor a group { params, ... }`,
      );
    }
    const { params: given, ...options } = group;
    const params: unknown[] = given instanceof Tensor ? [given] : [...given];
    const known = new Set<unknown>(this.paramGroups.flatMap((g) => g.params));
    params.forEach((p, i) => {
      if (!(p instanceof Tensor)) {
        throw new TypeError(`Cannot ${what}: params[${i}] is ${describe(p)}, not a tensor`);
      }
      if (!isFloat(p.dtype)) {
        throw new TypeError(`Cannot ${what}: params[${i}] is ${p.dtype}, not floating point`);
      }
      if (!p.isLeaf) {
        throw new Error(
          `Cannot ${what}: params[${i}] is the result of recorded ops, not a leaf; use detach()`,
        );
      }
      if (known.has(p)) throw new Error(`Cannot ${what}: params[${i}] appears twice`);
      known.add(p);
    });
    const { initialLr, ...own } = options as O & { initialLr?: number };
    const filled = this.#rules.fill(this.#name, own as unknown as O, this.defaults);
    const added = { ...filled, params: params as Tensor[] } as unknown as ParamGroup<O>;
    if (initialLr !== undefined) added.initialLr = initialLr;
    this.paramGroups.push(added);
    for (const p of added.params) this.initialize(p, added);
  }

  /** Updates every parameter that has a gradient. */
  step(): void {
    const before = setGradEnabled(false);
    try {
      for (const group of this.paramGroups) {
        const { params } = group;
        for (let i = 0; i < params.length; i++) {
          const p = params[i]!;
          if (p._grad !== null) this.update(p, p._grad, group);
        }
      }
    } finally {
      setGradEnabled(before);
    }
  }

  /** Sets the gradient of every parameter to null. */
  zeroGrad(): void {
    for (const group of this.paramGroups) {
      for (const p of group.params) p._clearGrad();
    }
  }

  /**
   * State and options as plain values: `{ state: { "0": { ... } }, paramGroups: [{ lr, ..., params: [0] }] }`.
   * Tensors share storage with the optimiser (clone to keep a copy).
   */
  stateDict(): OptimizerState {
    const numbers = new Map<Tensor, number>();
    const paramGroups = this.paramGroups.map((group): SavedGroup => {
      const { params, ...options } = group;
      for (const p of params) numbers.set(p, numbers.size);
      const copies = Object.entries(options).map(([k, v]) => [k, Array.isArray(v) ? [...v] : v]);
      return { ...Object.fromEntries(copies), params: params.map((p) => numbers.get(p)!) };
    });
    const state: OptimizerState["state"] = {};
    for (const [p, own] of this.state) {
      state[numbers.get(p)!] = Object.fromEntries(
        Object.entries(own as Fields).map(([k, v]) => [k, v instanceof Tensor ? v.detach() : v]),
      );
    }
    return { state, paramGroups };
  }

  /**
   * Takes over state and options; tensors are copied. Everything is checked before anything is written. A state dict of
   * PyTorch, as `loadTorch` gives it, is taken too.
   *
   * @throws TypeError for values of the wrong kind, RangeError for options out of range
   * @throws Error where groups, parameter counts or shapes differ from this optimiser's
   */
  loadStateDict(given: OptimizerState | Record<string, unknown>): void {
    const dict = optimizerState(given) as OptimizerState;
    const fail = (text: string): never => {
      throw new Error(`Cannot load the state dict into ${this.#name}: ${text}`);
    };
    if (!isPlainObject(dict) || !isPlainObject(dict.state) || !Array.isArray(dict.paramGroups)) {
      throw new TypeError(
        `Cannot load the state dict into ${this.#name}: it must be { state, paramGroups }`,
      );
    }
    const saved = dict.paramGroups;
    if (saved.length !== this.paramGroups.length) {
      fail(`it has ${saved.length} param groups instead of ${this.paramGroups.length}`);
    }
    const byNumber = new Map<string, Tensor>();
    const options = saved.map((group, i) => {
      const { params } = this.paramGroups[i]!;
      if (!isPlainObject(group) || !Array.isArray(group.params)) {
        return fail(`group ${i} has no list of params`);
      }
      if (group.params.length !== params.length) {
        fail(`group ${i} has ${group.params.length} params instead of ${params.length}`);
      }
      group.params.forEach((number, k) => byNumber.set(String(number), params[k]!));
      return this.#loadedOptions(group, i);
    });
    for (const [number, fields] of Object.entries(dict.state)) {
      const param = byNumber.get(number) ?? fail(`no group has param ${number}`);
      const problem = isPlainObject(fields) ? this.#problem(fields, param) : "is not an object";
      if (problem !== null) fail(`the state of param ${number} ${problem}`);
    }
    const before = setGradEnabled(false);
    try {
      unscoped(() => {
        const loaded = Object.entries(dict.state).map(([number, fields]): [Tensor, S] => {
          const param = byNumber.get(number)!;
          const copies = Object.entries(fields).map(([k, v]) => [k, copied(v, param)]);
          return [param, Object.fromEntries(copies)];
        });
        for (const own of this.state.values()) {
          for (const v of Object.values(own)) if (v instanceof Tensor) v.dispose();
        }
        this.state.clear();
        for (const [param, own] of loaded) this.state.set(param, own);
      });
    } finally {
      setGradEnabled(before);
    }
    options.forEach((o, i) => Object.assign(this.paramGroups[i]!, o));
  }

  /** The options of a saved group, checked; those that it lacks keep their present values. */
  #loadedOptions(group: SavedGroup, i: number): Partial<ParamGroup<O>> {
    const { params: _, initialLr, ...options } = group;
    const { params: __, initialLr: ___, ...present } = this.paramGroups[i]!;
    const filled: Record<string, unknown> = {
      ...this.#rules.fill(this.#name, options as unknown as O, present as unknown as Required<O>),
    };
    if (initialLr !== undefined) {
      if (typeof initialLr !== "number") {
        throw new TypeError(
          `Cannot load the state dict into ${this.#name}: initialLr of group ${i} is no number`,
        );
      }
      filled["initialLr"] = initialLr;
    }
    return filled as Partial<ParamGroup<O>>;
  }

  /** What is wrong with the loaded state of `param`, or null. */
  #problem(fields: Fields, param: Tensor): string | null {
    for (const [name, kind] of Object.entries(this.fields)) {
      if (!Object.hasOwn(fields, name) && kind !== "tensor?") return `lacks ${name}`;
    }
    for (const [name, value] of Object.entries(fields)) {
      const kind = Object.hasOwn(this.fields, name) ? this.fields[name] : undefined;
      if (kind === undefined) return `has ${name}, which ${this.#name} does not use`;
      if (kind === "count") {
        const whole = typeof value === "number" && Number.isInteger(value) && value >= 0;
        if (!whole) return `has ${name} that is not a count of steps`;
      } else if (!(value instanceof Tensor)) return `has ${name} that is not a tensor`;
      else if (!isFloat(value.dtype)) return `has ${name} of dtype ${value.dtype}`;
      else if (!same(value.shape, param.shape)) {
        return `has ${name} of shape ${show(value.shape)} instead of ${show(param.shape)}`;
      }
    }
    return null;
  }
}

/** A copy of a loaded value, with the dtype and device of the parameter. */
function copied(value: Tensor | number, param: Tensor): Tensor | number {
  if (!(value instanceof Tensor)) return value;
  const own = stateLike(param);
  return own.copy_(value.device === param.device ? value : value.to(param.device));
}
