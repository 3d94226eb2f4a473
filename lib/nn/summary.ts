// summary: a table of a model's layers with output shapes and parameter counts, found by running the model once on
// zeros with a forward hook on every module. Training modes and hooks are put back afterwards.

import { noGrad } from "../autograd/mode.ts";
import type { Device } from "../device.ts";
import { type DType, dtypes } from "../dtype.ts";
import { checkOptions, told } from "../options.ts";
import { checkShape, type Shape, show } from "../shape.ts";
import { zeros } from "../tensor/create.ts";
import { Tensor } from "../tensor/mod.ts";
import { type AnyModule, Module } from "./module.ts";

/** Options of `summary`. */
export interface SummaryOptions {
  /** Element type of the inputs (default: that of the first parameter); "int64" for models that begin by looking up. */
  readonly dtype?: DType;
  /** Where the inputs lie (default: with the first parameter). */
  readonly device?: Device;
}

/** Shapes and bytes of the tensors in what a module gave: a tensor, or lists and records of them. */
function outputs(value: unknown): { shapes: string[]; bytes: number } {
  if (value instanceof Tensor) {
    return { shapes: [show(value.shape)], bytes: value.numel() * dtypes[value.dtype].bytes };
  }
  if (value === null || typeof value !== "object") return { shapes: [], bytes: 0 };
  const inner = Object.values(value).map(outputs);
  return {
    shapes: inner.flatMap((o) => o.shapes),
    bytes: inner.reduce((n, o) => n + o.bytes, 0),
  };
}

/** The parameters among `parameters` that are not in `seen` yet; they are put into it. */
function unseen(parameters: Iterable<Tensor>, seen: Set<Tensor>): Tensor[] {
  return [...parameters].filter((p) => !seen.has(p) && seen.add(p));
}

const elements = (list: readonly Tensor[]): number => list.reduce((n, p) => n + p.numel(), 0);
const count = (n: number): string => n.toLocaleString("en-US");
const megabytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(2);

/**
 * A table of the layers of `model` in their order, each with its output's shape and its own number of parameters, and
 * the totals. The model runs once on zeros, in evaluation mode and unrecorded; nothing of it is changed.
 *
 * @param model what to describe
 * @param inputShape shape of the input with its batch dim, or a list of shapes where `forward` takes several tensors
 * @returns lines to print
 * @throws whatever `forward` throws on inputs of these shapes
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const model = new ndl.nn.Sequential(new ndl.nn.Linear(4, 8), new ndl.nn.ReLU(), new ndl.nn.Linear(8, 2));
 * console.log(ndl.summary(model, [1, 4]));
 * ```
 */
export function summary<I extends unknown[], O>(
  model: Module<I, O>,
  inputShape: Shape | readonly Shape[],
  options: SummaryOptions = {},
): string {
  checkOptions("summary", options, ["dtype", "device"]);
  if (!(model instanceof Module)) {
    throw new TypeError(`Cannot summarise ${told(model)}: give a Module`);
  }
  const first = [...model.parameters()][0];
  const dtype = options.dtype ?? first?.dtype ?? "float32";
  const device = options.device ?? first?.device;
  if (!Array.isArray(inputShape)) {
    throw new TypeError(`Cannot summarise an input of shape ${told(inputShape)}: give a list`);
  }
  const nested = inputShape.length > 0 && typeof inputShape[0] !== "number";
  const shapes = (nested ? inputShape : [inputShape]) as readonly Shape[];
  for (const shape of shapes) checkShape("summarise an input", shape);

  const named = [...model.namedModules()];
  const given = new Map<AnyModule, { shapes: string[]; bytes: number }>();
  const modes = named.map(([, m]) => m.training);
  const removals: (() => void)[] = [];
  let inputBytes = 0;
  try {
    model.eval();
    for (const [, m] of named) {
      const module = m as Module<unknown[], unknown>;
      removals.push(module.registerForwardHook((_, __, y) => {
        if (!given.has(m)) given.set(m, outputs(y));
      }));
    }
    noGrad(() => {
      const inputs = shapes.map((shape) => zeros(shape, { dtype, ...(device ? { device } : {}) }));
      inputBytes = outputs(inputs).bytes;
      model.forward(...inputs as unknown as I);
    });
  } finally {
    for (const remove of removals.reverse()) remove();
    named.forEach(([, m], i) => m.training = modes[i]!);
  }

  const seen = new Set<Tensor>();
  let outputBytes = 0;
  const rows = named.map(([path, m]): [string, string, string] => {
    const parts = path === "" ? [] : path.split(".");
    const isLeaf = [...m.children()].length === 0;
    const result = given.get(m);
    if (isLeaf) outputBytes += result?.bytes ?? 0;
    const below = new Set([...m.children()].flatMap((child) => [...child.parameters()]));
    const mine = elements(unseen([...m.parameters()].filter((p) => !below.has(p)), seen));
    const name = `${m.constructor.name}${parts.length > 0 ? ` (${path})` : ""}`;
    const shape = result === undefined ? "--" : result.shapes.join(", ");
    return ["  ".repeat(parts.length) + name, shape, mine > 0 ? count(mine) : "--"];
  });
  const parameters = [...model.parameters()];
  const total = elements(parameters);
  const trainable = elements(parameters.filter((p) => p.requiresGrad));
  const parameterBytes = outputs(parameters).bytes;
  return table(["Layer", "Output shape", "Parameters"], rows, [
    `Parameters: ${count(total)}`,
    `Trainable: ${count(trainable)}`,
    `Not trainable: ${count(total - trainable)}`,
  ], [
    `Input (MiB): ${megabytes(inputBytes)}`,
    `Outputs of layers (MiB): ${megabytes(outputBytes)}`,
    `Parameters (MiB): ${megabytes(parameterBytes)}`,
  ]);
}

type Row = readonly [string, string, string];

/** Rows in columns, the last flush right, with lines between the parts. */
function table(head: Row, rows: readonly Row[], ...feet: string[][]): string {
  const width = [0, 1, 2].map((i) => Math.max(head[i]!.length, ...rows.map((r) => r[i]!.length)));
  const text = ([a, b, c]: Row): string =>
    `${a.padEnd(width[0]!)}  ${b.padEnd(width[1]!)}  ${c.padStart(width[2]!)}`;
  const across = (c: string): string => c.repeat(width[0]! + width[1]! + width[2]! + 4);
  const parts = feet.flatMap((lines, i) => [across(i === 0 ? "=" : "-"), ...lines]);
  return [across("="), text(head), across("="), ...rows.map(text), ...parts, across("=")].join(
    "\n",
  );
}
