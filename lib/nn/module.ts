// Module: the base of layers and models. Fields that are Parameters, Modules, or arrays and records of them register
// themselves: they are found by walking the instance's own fields, in the order in which they were assigned.

import type { Device } from "../device.ts";
import { checkDType, type DType, isFloat } from "../dtype.ts";
import { noGrad } from "../autograd/mode.ts";
import { escape } from "../scope.ts";
import { same, show } from "../shape.ts";
import { Tensor } from "../tensor/mod.ts";
import { checkOptions, checkTensors } from "../options.ts";

/** A tensor that a module learns: a leaf that requires grad. */
export class Parameter extends Tensor {
  /** Shares the elements of `data`. Pass `requiresGrad` false to freeze it. */
  constructor(data: Tensor, requiresGrad = true) {
    checkTensors("Parameter", { data });
    super(data._data, data.shape, data._strides, data._offset, data.dtype, data._layout);
    escape(this); // a parameter outlives the scope it is made in
    this.requiresGrad_(requiresGrad);
  }

  /** The elements as PyTorch prints them. */
  override toString(): string {
    return `Parameter containing:\n${super.toString()}`;
  }
}

/** Tensors by dotted name, as `stateDict` gives and `loadStateDict` takes them. */
export type StateDict = Record<string, Tensor>;

/** Called after `forward` with the module, its inputs and its output; what it returns replaces the output. */
export type ForwardHook<I extends unknown[], O> = (
  module: Module<I, O>,
  inputs: I,
  output: O,
) => O | void;

/** A module of whatever inputs and outputs: everything but calling it. */
export interface AnyModule {
  /** Whether the module is in training mode. */
  training: boolean;
  /** Direct child modules. */
  children(): Iterable<AnyModule>;
  /** Direct child modules with their names. */
  namedChildren(): Iterable<[string, AnyModule]>;
  /** The module and all below it. */
  modules(): Iterable<AnyModule>;
  /** The module and all below it, with dotted names. */
  namedModules(prefix?: string, seen?: Set<unknown>): Iterable<[string, AnyModule]>;
  /** Parameters of the module and all below it. */
  parameters(): Iterable<Tensor>;
  /** Parameters with dotted names. */
  namedParameters(): Iterable<[string, Tensor]>;
  /** Buffers of the module and all below it. */
  buffers(): Iterable<Tensor>;
  /** Calls `fn` on every module below, then on the module itself. */
  apply(fn: (module: AnyModule) => void): AnyModule;
  /** The constructor arguments shown when printed. */
  extraRepr(): string;
  /** The module tree. */
  toString(): string;
}

type Visit = (name: string, value: Tensor | AnyModule) => void;

/** Calls `visit` for each Parameter and Module in a field's value: itself, or nested in arrays and plain records. */
function eachEntry(name: string, value: unknown, visit: Visit): void {
  if (value instanceof Parameter || value instanceof Module) visit(name, value);
  else if (Array.isArray(value)) value.forEach((v, i) => eachEntry(`${name}.${i}`, v, visit));
  else if (
    value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype
  ) {
    for (const [key, v] of Object.entries(value)) eachEntry(`${name}.${key}`, v, visit);
  }
}

/** Calls `visit` for each Parameter and Module among a module's own fields. */
function entries(module: AnyModule, visit: Visit): void {
  for (const [name, value] of Object.entries(module)) eachEntry(name, value, visit);
}

/** A module's own parameters. */
function own(module: AnyModule): [string, Tensor][] {
  const found: [string, Tensor][] = [];
  entries(module, (name, v) => v instanceof Tensor && found.push([name, v]));
  return found;
}

/** Adds the parameters of a module, then those of the modules below it: training loops ask for them every step. */
function addParameters(module: AnyModule, found: Set<Tensor>, seen: Set<AnyModule>): void {
  if (seen.has(module)) return;
  seen.add(module);
  const below: AnyModule[] = [];
  entries(module, (_, v) => {
    if (v instanceof Tensor) found.add(v);
    else below.push(v);
  });
  for (const child of below) addParameters(child, found, seen);
}

// Names of buffers by module, with whether they belong to the state dict.
const bufferNames = new WeakMap<AnyModule, Map<string, boolean>>();

/** A module's own buffers. */
function ownBuffers(module: AnyModule, persistentOnly: boolean): [string, Tensor][] {
  const fields = module as unknown as Record<string, Tensor | null>;
  return [...bufferNames.get(module) ?? []]
    .filter(([name, keep]) => (keep || !persistentOnly) && fields[name] !== null)
    .map(([name]) => [name, fields[name]!]);
}

/** Writes the state of a module and of all below it into `state`: a shared module under each of its names. */
function addState(
  module: AnyModule,
  prefix: string,
  state: StateDict,
  above: ReadonlySet<AnyModule>,
): void {
  if (above.has(module)) return;
  for (const [name, t] of [...own(module), ...ownBuffers(module, true)]) {
    state[prefix + name] = t.detach();
  }
  const path = new Set(above).add(module);
  for (const [name, child] of module.namedChildren()) {
    addState(child, `${prefix}${name}.`, state, path);
  }
}

type AnyHook = ForwardHook<unknown[], unknown>;

// The hooks of modules that have any, with what took their own `forward` field before.
const hooksOf = new WeakMap<
  AnyModule,
  { hooks: Map<symbol, AnyHook>; own: PropertyDescriptor | undefined }
>();

/**
 * The base class of everything with parameters. `I` is what `forward` takes, `O` what it gives.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * class Net extends ndl.nn.Module {
 *   hidden = new ndl.nn.Linear(4, 8);
 *   out = new ndl.nn.Linear(8, 2);
 *   override forward(x: ndl.Tensor): ndl.Tensor {
 *     return this.out.forward(this.hidden.forward(x).relu());
 *   }
 * }
 * console.log(new Net().forward(ndl.zeros([3, 4])).shape); // [3, 2]
 * ```
 */
export abstract class Module<I extends unknown[] = [Tensor], O = Tensor> implements AnyModule {
  /** Whether this module is in training mode (dropout drops, batch norm uses batch statistics). */
  training = true;

  /** Computes the output. */
  abstract forward(...inputs: I): O;

  /** Direct child modules with their names. */
  *namedChildren(): Generator<[string, AnyModule]> {
    const found: [string, AnyModule][] = [];
    entries(this, (name, v) => v instanceof Module && found.push([name, v]));
    yield* found;
  }

  /** Direct child modules. */
  *children(): Generator<AnyModule> {
    for (const [, m] of this.namedChildren()) yield m;
  }

  /** This module and all modules below it with dotted names, each once. */
  *namedModules(
    prefix = "",
    seen: Set<unknown> = new Set(),
  ): Generator<[string, AnyModule]> {
    if (seen.has(this)) return;
    seen.add(this);
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) {
      yield* child.namedModules(prefix === "" ? name : `${prefix}.${name}`, seen);
    }
  }

  /** This module and all modules below it, each once. */
  *modules(): Generator<AnyModule> {
    for (const [, m] of this.namedModules()) yield m;
  }

  /** Parameters of this module and all below it with dotted names, each once. */
  *namedParameters(): Generator<[string, Tensor]> {
    const seen = new Set<Tensor>();
    for (const [prefix, module] of this.namedModules()) {
      for (const [name, p] of own(module)) {
        if (seen.has(p)) continue;
        seen.add(p);
        yield [prefix === "" ? name : `${prefix}.${name}`, p];
      }
    }
  }

  /** Parameters of this module and all below it, each once. */
  *parameters(): Generator<Tensor> {
    const found = new Set<Tensor>();
    addParameters(this, found, new Set());
    yield* found;
  }

  /**
   * Adds a tensor that belongs to the state but is not learned (running statistics).
   *
   * @param name the field that will hold it
   */
  registerBuffer(name: string, value: Tensor | null, options: { persistent?: boolean } = {}): void {
    checkOptions("registerBuffer", options, ["persistent"]);
    if (value !== null) escape(value);
    const known = bufferNames.get(this) ?? new Map<string, boolean>();
    bufferNames.set(this, known.set(name, options.persistent ?? true));
    (this as unknown as Record<string, Tensor | null>)[name] = value;
  }

  /** Buffers of this module and all below it with dotted names. */
  *namedBuffers(): Generator<[string, Tensor]> {
    for (const [prefix, module] of this.namedModules()) {
      for (const [name, b] of ownBuffers(module, false)) {
        yield [prefix === "" ? name : `${prefix}.${name}`, b];
      }
    }
  }

  /** Buffers of this module and all below it. */
  *buffers(): Generator<Tensor> {
    for (const [, b] of this.namedBuffers()) yield b;
  }

  /** Parameters and persistent buffers by dotted name, sharing storage with the model (clone to keep a copy). */
  stateDict(): StateDict {
    const state: StateDict = {};
    addState(this, "", state, new Set());
    return state;
  }

  /**
   * Copies tensors into the parameters and buffers of the same names. Checks everything before it writes anything.
   *
   * @param options.strict whether missing and unexpected names are an error (default true)
   * @returns the names that were missing or unexpected
   * @throws Error that lists missing and unexpected names and shapes that do not fit
   */
  loadStateDict(
    state: StateDict,
    options: { strict?: boolean } = {},
  ): { missingKeys: string[]; unexpectedKeys: string[] } {
    checkOptions("loadStateDict", options, ["strict"]);
    const current = this.stateDict();
    const missingKeys = Object.keys(current).filter((name) => !Object.hasOwn(state, name));
    const unexpectedKeys = Object.keys(state).filter((name) => !Object.hasOwn(current, name));
    const problems: string[] = [];
    if (options.strict ?? true) {
      if (missingKeys.length > 0) problems.push(`missing ${missingKeys.join(", ")}`);
      if (unexpectedKeys.length > 0) problems.push(`unexpected ${unexpectedKeys.join(", ")}`);
    }
    const names = Object.keys(current).filter((name) => Object.hasOwn(state, name));
    for (const name of names) {
      const given: unknown = state[name];
      if (!(given instanceof Tensor)) problems.push(`"${name}" is not a tensor`);
      else if (!same(given.shape, current[name]!.shape)) {
        problems.push(
          `"${name}" has shape ${show(given.shape)} instead of ${show(current[name]!.shape)}`,
        );
      }
    }
    if (problems.length > 0) {
      throw new Error(
        `Cannot load the state dict into ${this.constructor.name}: ${problems.join("; ")}`,
      );
    }
    noGrad(() => {
      for (const name of names) current[name]!.copy_(state[name]!.to(current[name]!.device));
    });
    return { missingKeys, unexpectedKeys };
  }

  /** Switches training mode on (or off) here and below. */
  train(mode = true): this {
    for (const m of this.modules()) m.training = mode;
    return this;
  }

  /** Switches training mode off here and below. */
  eval(): this {
    return this.train(false);
  }

  /** Moves parameters, their gradients and buffers to a device, or converts the floating point ones to a dtype, in place. */
  to(...targets: (Device | DType)[]): this {
    for (const target of targets) {
      const dtype = typeof target === "string" ? checkDType(target) : null;
      if (dtype !== null && !isFloat(dtype)) {
        throw new TypeError(`Cannot convert a module to ${dtype}: parameters are floating point`);
      }
      noGrad(() => {
        for (const t of [...this.parameters(), ...this.buffers()]) {
          if (dtype !== null && !isFloat(t.dtype)) continue;
          const moved = t.to(target), g = t._grad;
          if (moved === t) continue;
          t._become(moved);
          if (g === null) continue;
          const grad = g.to(target);
          if (grad === g) continue;
          if (!t._gradSeen) g.dispose();
          t._setGrad(grad);
        }
      });
    }
    return this;
  }

  /** Sets the gradient of every parameter to null. */
  zeroGrad(): void {
    for (const p of this.parameters()) p._clearGrad();
  }

  /** Sets whether parameters here and below are recorded. */
  requiresGrad_(on = true): this {
    for (const p of this.parameters()) p.requiresGrad_(on);
    return this;
  }

  /**
   * Calls `hook` after each `forward` of this instance, after the hooks that it has already.
   *
   * @returns a function that removes the hook
   */
  registerForwardHook(hook: ForwardHook<I, O>): () => void {
    let known = hooksOf.get(this);
    if (known === undefined) {
      known = { hooks: new Map(), own: Object.getOwnPropertyDescriptor(this, "forward") };
      hooksOf.set(this, known);
      const inner = this.forward.bind(this), { hooks } = known;
      Object.defineProperty(this, "forward", {
        configurable: true,
        writable: true,
        enumerable: false,
        value: (...inputs: I): O => {
          let output = inner(...inputs);
          for (const h of [...hooks.values()]) {
            const replaced = h(this as unknown as Module<unknown[], unknown>, inputs, output);
            if (replaced !== undefined) output = replaced as O;
          }
          return output;
        },
      });
    }
    const { hooks, own } = known, key = Symbol("hook");
    hooks.set(key, hook as unknown as AnyHook);
    return () => {
      if (!hooks.delete(key) || hooks.size > 0) return;
      hooksOf.delete(this);
      if (own === undefined) delete (this as { forward?: unknown }).forward;
      else Object.defineProperty(this, "forward", own);
    };
  }

  /** Calls `fn` on every module below this one, children first, then on this one. */
  apply(fn: (module: AnyModule) => void): this {
    for (const child of this.children()) child.apply(fn);
    fn(this);
    return this;
  }

  /** The constructor arguments shown when a module is printed. */
  extraRepr(): string {
    return "";
  }

  /** The module tree with parameter counts, as PyTorch prints it. */
  toString(): string {
    const children = [...this.namedChildren()];
    const head = `${this.constructor.name}(${this.extraRepr()}`;
    const count = own(this).reduce((n, [, p]) => n + p.numel(), 0);
    if (children.length === 0) {
      return `${head})${count > 0 ? `  # ${count.toLocaleString("en-US")} parameters` : ""}`;
    }
    const lines = children.map(([name, m]) =>
      `  (${name}): ${m.toString().replaceAll("\n", "\n  ")}`
    );
    const total = [...this.parameters()].reduce((n, p) => n + p.numel(), 0);
    return `${head}\n${lines.join("\n")}\n)  # ${total.toLocaleString("en-US")} parameters`;
  }

  /** Shown by console.log in Deno. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }

  /** Shown by console.log in Node. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

const builtins = new WeakSet<object>();

/** Marks module classes of this library: they keep no handle on what they take and give. */
export function markBuiltin(...classes: (abstract new (...args: never[]) => unknown)[]): void {
  for (const c of classes) builtins.add(c);
}

/** Whether `m` is exactly a built-in module, without hooks: its activations can be released once used. */
export function isPlainBuiltin(m: object): boolean {
  return builtins.has(m.constructor) && !Object.hasOwn(m, "forward");
}

/** A module that maps a tensor to a tensor. */
export type Layer = Module<[Tensor], Tensor>;
