/**
 * Datasets and transforms of one's own that workers can load: the address of a module and the name of
 * an export, because functions and objects with methods cannot be sent to a worker.
 * @module
 */

/** What `export` of `module` makes of `args`. */
export interface ModuleSpec {
  /** The absolute address of the module: `new URL("./mine.ts", import.meta.url)`. */
  readonly module: string | URL;
  /** The name of the exported function, class or object (default `"default"`). */
  readonly export?: string;
  /** What the function or class is called with: values that can be sent to a worker. */
  readonly args?: readonly unknown[];
}

/** True if a value is a {@linkcode ModuleSpec}. */
export function isModuleSpec(value: unknown): value is ModuleSpec {
  if (typeof value !== "object" || value === null || !("module" in value)) return false;
  return typeof value.module === "string" || value.module instanceof URL;
}

/** The spec with its address as text and nothing left out, as it is sent to workers. */
export function plainSpec(spec: ModuleSpec): Required<ModuleSpec> & { module: string } {
  let module: string;
  try {
    module = new URL(spec.module).href;
  } catch {
    throw new TypeError(
      `Cannot load ${spec.module}: the address of a module is absolute; ` +
        "write new URL(path, import.meta.url)",
    );
  }
  return { module, export: spec.export ?? "default", args: spec.args ?? [] };
}

/**
 * Imports the module and calls the export with `args`: `new` for a class, a plain call for a function
 * (whose promise is awaited); an object is taken as it is.
 *
 * @param kind What is needed, for errors.
 * @param fits Tells whether the result is that.
 * @throws {TypeError} If the module has no such export or it makes something else.
 */
export async function loadSpec<T>(
  spec: ModuleSpec,
  kind: string,
  fits: (value: unknown) => value is T,
): Promise<T> {
  const { module, export: name, args } = plainSpec(spec);
  const exports = await import(module) as Record<string, unknown>;
  const exported = exports[name];
  if (exported === undefined) {
    throw new TypeError(
      `Cannot load ${kind} from ${module}: it has no export ${JSON.stringify(name)}, ` +
        `only ${Object.keys(exports).join(", ") || "none"}`,
    );
  }
  let value = exported;
  if (typeof exported === "function") {
    const isClass = /^class\b/.test(Function.prototype.toString.call(exported));
    value = isClass
      ? Reflect.construct(exported, args)
      : await (exported as (...args: readonly unknown[]) => unknown)(...args);
  }
  if (!fits(value)) {
    throw new TypeError(
      `Cannot use export ${JSON.stringify(name)} of ${module}: it made no ${kind}`,
    );
  }
  return value;
}
