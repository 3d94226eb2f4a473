/**
 * Nested values as a flat list of tensors and back. Tensors get dotted names ("model.0.weight");
 * all the rest becomes JSON in which `{"$tensor": name}` stands for a tensor and `{"$number": text}`
 * for what JSON has no number for. An object that looks like one of these is wrapped in `$object`.
 */

import type { Tensor } from "../tensor/mod.ts";
import { parseJson } from "./json.ts";
import { malformed, setOwn } from "./record.ts";

/** A nested value taken apart. */
export interface Flattened {
  /** The tensors by name. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  /** The rest as JSON; undefined for a flat object of tensors, which needs none. */
  readonly structure: string | undefined;
}

/** Deeper nesting is refused rather than left to overflow the stack. */
const MAX_DEPTH = 1000;
const MARKERS: ReadonlySet<string> = new Set(["$tensor", "$number", "$object"]);
const RESERVED_NAME = "__metadata__";

/**
 * Takes a nested value apart.
 *
 * @param root a plain object or array of tensors, numbers, strings, booleans, null, and such
 * @param isTensor tells tensors
 * @returns the tensors and the structure
 * @throws TypeError naming the place of any other value
 */
export function flatten(root: object, isTensor: (value: unknown) => value is Tensor): Flattened {
  if (!isPlain(root) && !Array.isArray(root)) {
    throw new TypeError(
      `Cannot save ${
        describe(root)
      }: it must be a plain object, such as a stateDict(), or an array`,
    );
  }
  const tensors = new Map<string, Tensor>();
  const values = Object.entries(root);
  if (!Array.isArray(root) && values.every(([name, v]) => isTensor(v) && name !== RESERVED_NAME)) {
    for (const [name, value] of values) tensors.set(name, value as Tensor);
    return { tensors, structure: undefined };
  }

  const encode = (value: unknown, path: readonly string[], around: readonly unknown[]): unknown => {
    if (isTensor(value)) {
      let name = path.join(".");
      while (tensors.has(name) || name === RESERVED_NAME) name += "_";
      tensors.set(name, value);
      return { $tensor: name };
    }
    if (value === null || typeof value === "string" || typeof value === "boolean") return value;
    if (typeof value === "number") {
      const exact = Number.isFinite(value) && !Object.is(value, -0);
      return exact ? value : { $number: Object.is(value, -0) ? "-0" : String(value) };
    }
    const where = `"${path.join(".")}"`;
    if (!Array.isArray(value) && !isPlain(value)) {
      throw new TypeError(
        `Cannot save ${describe(value)} at ${where}: only tensors, numbers, strings, booleans, ` +
          "null, arrays and plain objects can be saved",
      );
    }
    if (around.includes(value)) throw new TypeError(`Cannot save ${where}: it contains itself`);
    if (around.length >= MAX_DEPTH) {
      throw new RangeError(`Cannot save ${where}: it is nested more than ${MAX_DEPTH} deep`);
    }
    const inside = [...around, value];
    if (Array.isArray(value)) {
      return Array.from(value, (item, i) => encode(item, [...path, String(i)], inside));
    }
    const object = {};
    for (const [key, item] of Object.entries(value)) {
      setOwn(object, key, encode(item, [...path, key], inside));
    }
    return markerOf(object) === undefined ? object : { $object: object };
  };
  return { tensors, structure: JSON.stringify(encode(root, [], [])) };
}

/**
 * Puts a nested value together.
 *
 * @param structure the JSON of {@linkcode flatten}
 * @param tensors the tensors by name
 * @param file the file's name, for error messages
 * @returns the nested value
 * @throws Error where the structure is damaged, or names other tensors than there are
 */
export function unflatten(
  structure: string,
  tensors: ReadonlyMap<string, Tensor>,
  file: string,
): unknown {
  const unused = new Set(tensors.keys());
  const decode = (node: unknown, depth: number, wrapped: boolean): unknown => {
    if (depth > MAX_DEPTH) throw malformed(file, `it is nested more than ${MAX_DEPTH} deep`);
    if (typeof node !== "object" || node === null) return node;
    if (Array.isArray(node)) return node.map((item) => decode(item, depth + 1, false));
    const marker = wrapped ? undefined : markerOf(node);
    if (marker === undefined) {
      const object = {};
      for (const [key, item] of Object.entries(node)) {
        setOwn(object, key, decode(item, depth + 1, false));
      }
      return object;
    }
    const content = (node as Record<string, unknown>)[marker];
    if (marker === "$object") return decode(content, depth + 1, true);
    if (typeof content !== "string") throw malformed(file, `its structure has a bad ${marker}`);
    if (marker === "$number") return Number(content);
    const tensor = tensors.get(content);
    if (tensor === undefined) throw malformed(file, `its structure lacks the tensor "${content}"`);
    unused.delete(content);
    return tensor;
  };
  const value = decode(parseJson(structure, "its structure", file), 0, false);
  for (const name of unused) throw malformed(file, `its structure has no place for "${name}"`);
  return value;
}

function isPlain(value: unknown): value is object {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Plain objects of another realm (a worker, a test sandbox) have that realm's Object.prototype.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** The marker, if an object has nothing but one. */
function markerOf(object: object): string | undefined {
  const keys = Object.keys(object);
  const [key] = keys;
  return keys.length === 1 && key !== undefined && MARKERS.has(key) ? key : undefined;
}

function describe(value: unknown): string {
  if (typeof value !== "object" || value === null) return `a value of type ${typeof value}`;
  return `an object of class ${value.constructor?.name ?? "unknown"}`;
}
