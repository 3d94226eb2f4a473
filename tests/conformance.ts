// Writes tests/CONFORMANCE.md: op × dtype × device × (forward, gradient, second gradient), from the op table and from
// runs of its samples. The reference is held to float64 and to finite differences, the other devices to the reference.
//
// Usage: deno task conformance [--filter NAME]      (--filter: print what fails in some ops, write nothing)

import * as ndl from "../mod.ts";
import { allDevices, type Device } from "../lib/device.ts";
import { type DType, dtypeNames, isFloat, isHalf } from "../lib/dtype.ts";
import { gradcheck, gradgradcheck } from "../lib/autograd/gradcheck.ts";
import type { ElementwiseOp, KernelOp, ViewOp } from "../lib/ops/op.ts";
import { ops } from "../lib/ops/mod.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, type LayoutName, seeded, seedOf, tolerance } from "./harness.ts";
import { withGuards } from "./guards.ts";
import { dtypesOf, operands, runElementwise } from "./elementwise_cases.ts";
import { inputsOf, leaves, runSample } from "./op_cases.ts";
import { elementwiseSamples } from "./samples/elementwise.ts";
import { samples } from "./samples/mod.ts";
import type { ElementwiseSample, OpSample } from "./samples/sample.ts";

type Op = ElementwiseOp | KernelOp | ViewOp<unknown>;

/** What a trial computes on: the tensors that have derivatives, and a function of them. */
interface Run {
  readonly free: readonly Tensor[];
  /** The outputs, then the inputs that the op wrote. */
  readonly forward: () => Tensor[];
}

/** One row of the op test table in one layout. */
interface Trial {
  readonly label: string;
  readonly dtypes: readonly DType[];
  readonly layout: LayoutName;
  readonly slack: number;
  /** Too large for finite differences and second gradients. */
  readonly large: boolean;
  /** Whether float64 means the same (draws of random numbers differ). */
  readonly comparable: boolean;
  /** With `wide`, the values that `dtype` holds are given as float64. */
  readonly make: (dtype: DType, device: Device, wide: boolean) => Run;
}

const stages = ["forward", "gradient", "second gradient"] as const;
/** Tensors of each stage; null where there is none. */
type Outcome = readonly [Tensor[], (Tensor | null)[] | null, (Tensor | null)[] | null];

const marks = { passed: "✓", defined: "=", failed: "✗" } as const;
const tried: readonly LayoutName[] = ["contiguous", "sliced"];

function elementwiseTrials(op: ElementwiseOp): Trial[] {
  const sample: ElementwiseSample = elementwiseSamples[op.name as keyof typeof elementwiseSamples];
  const shapeSets = [[[3, 1, 5], [4, 1]], [[31]], [[]], [[0, 3]]];
  return shapeSets.flatMap((shapes) =>
    tried.map((layout): Trial => {
      const label = `${op.name} ${JSON.stringify(shapes)} ${layout}`;
      return {
        label,
        layout,
        dtypes: dtypesOf(op),
        slack: sample.slack ?? 1,
        large: false,
        comparable: true,
        make: (dtype, device, wide) => {
          const drawn = operands(op, sample, shapes, dtype, device, layout, seedOf(label));
          const x = drawn.map((t) =>
            wide && typeof t !== "number" && isFloat(t.dtype) ? t.to("float64") : t
          );
          const free = op.grads === "nondifferentiable" || op.result !== "same" ? [] : x.filter(
            (t, i): t is Tensor =>
              typeof t !== "number" && isFloat(t.dtype) && op.grads[i] !== null,
          );
          return { free, forward: () => [runElementwise(op, x)] };
        },
      };
    })
  );
}

/** The dtypes to try a row with: those it names, and those that are like them. */
function dtypesOfRow(op: KernelOp | ViewOp<unknown>, row: OpSample): readonly DType[] {
  if (op.kind === "view") return dtypeNames;
  const listed = row.dtypes ?? ["float32", "float64"];
  const fixed = typeof row.attrs === "object" && row.attrs !== null && "dtype" in row.attrs;
  if (fixed || !listed.includes("float32")) return listed;
  return [...new Set<DType>([...listed, "float16", "bfloat16"])];
}

function sampleTrials(op: KernelOp | ViewOp<unknown>, rows: readonly OpSample[]): Trial[] {
  return rows.flatMap((row, i) =>
    tried.slice(0, row.large ? 1 : 2).map((layout): Trial => {
      const label = `${op.name} row ${i} ${layout}`;
      // Not of the label: rows that come and go leave the draws of others as they are.
      const seed = seedOf(JSON.stringify([op.name, row, layout]));
      return {
        label,
        layout,
        dtypes: dtypesOfRow(op, row),
        slack: 4 * (row.slack ?? 1),
        large: row.large ?? false,
        comparable: op.kind === "view" || op.inputs.length > 0,
        make: (dtype, device, wide) => {
          const drawn = inputsOf(row, dtype, device, layout, seed);
          // Rows of halves alone have float32 beside them, which is wide where they are.
          const halves = row.dtypes?.every(isHalf) === true;
          const x = drawn.map((t, k) =>
            wide && t !== null && (row.inputs[k]!.dtype === undefined || halves && isFloat(t.dtype))
              ? t.to("float64")
              : t
          );
          const written = op.kind === "view" ? [] : op.mutates.map((m) => op.inputs.indexOf(m));
          return {
            free: leaves(op, row, x),
            forward: () => [...runSample(op, x, row, device), ...written.map((k) => x[k]!)],
          };
        },
      };
    })
  );
}

function trialsOf(op: Op): Trial[] {
  if (op.kind === "elementwise") return elementwiseTrials(op);
  return sampleTrials(op, samples[op.name as keyof typeof samples]);
}

/** Weights from a fixed stream, so that errors cannot cancel in a plain sum. */
function weights(like: readonly Tensor[], seed: number): Tensor[] {
  const random = seeded(seed);
  return like.map((y) =>
    ndl.tensor(Float64Array.from({ length: y.numel() }, () => 2 * random() - 1), {
      shape: y.shape,
      dtype: y.dtype,
      device: y.device,
    })
  );
}

/** Forward, gradients, and the gradients of those with respect to inputs and cotangents. */
function evaluate(trial: Trial, dtype: DType, device: Device, wide = false): Outcome {
  const { free, forward } = trial.make(dtype, device, wide), seed = seedOf(trial.label);
  for (const t of free) t.requiresGrad_();
  const outputs = forward();
  const ys = outputs.filter((y) => y.requiresGrad);
  if (ys.length === 0 || free.length === 0) return [outputs, null, null];
  // Cotangents that are wide carry the rounding of narrow ones.
  const round = (ts: Tensor[]): Tensor[] => ts.map((t) => t.to(dtype).to(t.dtype).detach());
  const cotangents = round(weights(ys, seed));
  if (!trial.large) { for (const t of cotangents) t.requiresGrad_(); }
  const first = ndl.grad(ys, free, {
    gradOutputs: cotangents,
    createGraph: !trial.large,
    allowUnused: true,
  });
  const again = first.filter((g): g is Tensor => g !== null && g.requiresGrad);
  if (again.length === 0) return [outputs, first, null];
  const second = ndl.grad(again, [...free, ...cotangents], {
    gradOutputs: round(weights(again, seed + 1)),
    allowUnused: true,
  });
  return [outputs, first, second];
}

function compareAll(
  got: readonly (Tensor | null)[] | null,
  want: readonly (Tensor | null)[] | null,
  dtype: DType,
  slack: number,
): void {
  if ((got === null) !== (want === null)) throw new Error("one of the two has no derivative");
  got?.forEach((a, i) => {
    const b = want![i]!;
    if (a === null && b === null) return;
    if (a === null || b === null) throw new Error(`one of the two has no result ${i}`);
    if (String(a.shape) !== String(b.shape)) throw new Error(`[${a.shape}] beside [${b.shape}]`);
    if (a.dtype !== b.dtype && !(isFloat(a.dtype) && b.dtype === "float64")) {
      throw new Error(`${a.dtype} beside ${b.dtype}`);
    }
    const expected = b.toTypedArray();
    let scale = 1;
    for (const v of expected) {
      if (Math.abs(Number(v)) < Infinity) scale = Math.max(scale, Math.abs(Number(v)));
    }
    const bound = tolerance(isFloat(a.dtype) ? dtype : a.dtype, slack);
    assertClose(a.toTypedArray(), expected, bound, `result ${i}`, scale);
  });
}

/** What is known of one op in one dtype on one device, stage by stage. */
class Cell {
  readonly marks: (string | null)[] = [null, null, null];

  set(stage: number, mark: string): void {
    if (this.marks[stage] !== marks.failed) this.marks[stage] = mark;
  }

  /** The three marks, reasons for the blanks in their place. */
  text(op: Op, dtype: DType): string {
    const [forward, gradient, second] = this.marks;
    if (forward === null || forward === undefined) {
      return op.kind === "elementwise" ? op.domain === "float" ? "p" : "r" : "f";
    }
    if (gradient === null || gradient === undefined) return forward + (isFloat(dtype) ? "n" : "i");
    return forward + gradient + (second ?? "n");
  }
}

/** The first failure of each op, device and stage. */
const failures = new Map<string, string>();

function fail(what: string, stage: string, error: unknown): void {
  const words = what.split(" "), key = `${words[0]} ${words.at(-1)} ${words.at(-2)} ${stage}`;
  if (!failures.has(key)) failures.set(key, `${what}, ${stage}: ${(error as Error).message}`);
}

/** Runs `check` and notes its outcome in a cell. */
function note(cell: Cell, stage: number, what: string, check: () => void): void {
  try {
    check();
    cell.set(stage, marks.passed);
  } catch (error) {
    cell.set(stage, marks.failed);
    fail(what, stages[stage]!, error);
  }
}

/** Compares the stages of `got` with those of `want`; each rounds on top of the one before. */
function noteOutcome(
  cell: Cell,
  what: string,
  got: Outcome,
  want: Outcome,
  dtype: DType,
  slack: number,
): void {
  for (let stage = 0; stage < 3; stage++) {
    if (got[stage] === null && want[stage] === null) continue;
    const bound = slack * 2 ** (stage + 1);
    note(cell, stage, what, () => compareAll(got[stage]!, want[stage]!, dtype, bound));
  }
}

/** The reference's own cell: float64 by finite differences, other floats by float64. */
function referenceCell(cell: Cell, trial: Trial, dtype: DType, outcome: Outcome): void {
  const device = ndl.reference(), what = `${trial.label} ${dtype} reference`;
  if (!isFloat(dtype) || !trial.comparable) return cell.set(0, marks.defined);
  if (dtype !== "float64") {
    // Halves overflow and meet kinks in large samples: there the other devices alone are compared.
    if (trial.large && isHalf(dtype)) return;
    const wide = evaluate(trial, dtype, device, true);
    return noteOutcome(cell, what, outcome, wide, dtype, trial.slack * (isHalf(dtype) ? 4 : 1));
  }
  cell.set(0, marks.defined);
  if (outcome[1] === null || trial.large || trial.layout !== "contiguous") return;
  const { free, forward } = trial.make(dtype, device, false);
  for (const t of free) t.requiresGrad_();
  const floats = (): Tensor[] => forward().filter((y) => isFloat(y.dtype));
  note(cell, 1, what, () => gradcheck(floats, free));
  if (outcome[2] !== null) {
    note(cell, 2, what, () => gradgradcheck(floats, free));
  }
}

/** All cells of an op: by device, then by dtype. */
function cellsOf(op: Op, devices: readonly Device[]): Map<Device, Map<DType, Cell>> {
  const cells = new Map(
    devices.map((d) => [d, new Map(dtypeNames.map((t) => [t, new Cell()]))] as const),
  );
  for (const trial of trialsOf(op)) {
    for (const dtype of trial.dtypes) {
      let want: Outcome | null = null;
      for (const device of devices) {
        const cell = cells.get(device)!.get(dtype)!, what = `${trial.label} ${dtype} ${device}`;
        try {
          const got = withGuards(() => evaluate(trial, dtype, device));
          if (device === ndl.reference()) referenceCell(cell, trial, dtype, want = got);
          else if (want !== null) {
            noteOutcome(cell, what, got, want, dtype, trial.slack * (isHalf(dtype) ? 2 : 1));
          }
        } catch (error) {
          cell.set(0, marks.failed);
          fail(what, stages[0], error);
        }
      }
    }
  }
  return cells;
}

const legend = `# Conformance

Every op in every dtype on every device: forward, gradient, second gradient. Written by \`deno task conformance\` from
the op table (\`lib/ops\`) and from runs of its samples (\`tests/samples\`) in two memory layouts.

- **✓** holds. On \`reference\`: float64 derivatives are those of finite differences, other floats agree with float64. On
  the other devices: agrees with \`reference\` in the same dtype. Tolerances: one table, in \`lib/dtype.ts\`.
- **=** defines: what \`reference\` computes in float64, in integers, and as random numbers is the op's meaning.
- **✗** fails; the failures are listed at the end.

Why the rest is blank:

- **n** the op has no derivative (results jump, are indices or masks, or it is itself a derivative that is differentiated
  through the formula of its op).
- **i** integers and bools have no derivative.
- **f** the method refuses the dtype, or converts it before the op runs to one whose column holds (integers that are
  summed become int64).
- **p** promoted: integers and bools become float32, and then that column holds.
- **r** refused with an error: arithmetic on bools.
`;

function section(device: Device, rows: readonly (readonly [Op, Map<DType, Cell>])[]): string {
  const lines = [
    `| op | ${dtypeNames.join(" | ")} |`,
    `| --- |${" --- |".repeat(dtypeNames.length)}`,
    ...rows.map(([op, cells]) =>
      `| ${op.name} | ${dtypeNames.map((t) => cells.get(t)!.text(op, t)).join(" | ")} |`
    ),
  ];
  return `\n## ${device}\n\n${lines.join("\n")}\n`;
}

if (import.meta.main) {
  const filter = Deno.args[0] === "--filter" ? Deno.args[1] : undefined;
  const devices = allDevices.filter((d) => d.available);
  const table = (Object.values(ops) as unknown as Op[]).filter((op) =>
    filter === undefined || op.name.includes(filter)
  );
  const rows = table.map((op) => [op, cellsOf(op, devices)] as const);
  const count = (device: Device, mark: string): number =>
    rows.reduce((n, [, cells]) => {
      const found = [...cells.get(device)!.values()].flatMap((c) => c.marks);
      return n + found.filter((m) => m === mark).length;
    }, 0);
  const summary = [
    "| device | holds | defines | fails |",
    "| --- | --- | --- | --- |",
    ...allDevices.map((d) =>
      d.available
        ? `| ${d} | ${Object.values(marks).map((m) => count(d, m)).join(" | ")} |`
        : `| ${d} | not available where this was written | | |`
    ),
  ];
  const sections = devices.map((d) => section(d, rows.map(([op, c]) => [op, c.get(d)!])));
  const failed = failures.size > 0
    ? `\n## Failures\n\n- ${[...failures.values()].join("\n- ")}\n`
    : "";
  const text = `${legend}\n${summary.join("\n")}\n${sections.join("")}${failed}`;
  if (filter === undefined) {
    const file = new URL("CONFORMANCE.md", import.meta.url);
    await Deno.writeTextFile(file, text);
    await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", file.pathname] }).output();
  } else console.log(sections.join(""));
  console.log(summary.join("\n") + failed);
  Deno.exit(failures.size > 0 ? 1 : 0);
}
