// What verify_cuda.ts finds out about a GPU, and the Markdown that shows it.

import type { Row } from "./peer_support.ts";

export type { Row };

/** An epoch of ResNet9. */
export interface Trained {
  readonly precision: string;
  /** The exit code of the example; the rest is missing where it failed. */
  readonly code: number;
  readonly trainLoss?: number;
  readonly testAcc?: number;
  readonly seconds?: number;
}

/** All results of one run; parts that were not run are empty. */
export interface Report {
  readonly date: string;
  readonly gpu: string;
  readonly driver: string;
  readonly commit: string;
  /** What the CUDA library says about itself and the libraries that it loaded. */
  readonly library: string;
  /** The op table. */
  readonly ops: { passed: number; failed: number; failures: readonly string[] } | null;
  readonly training: readonly Trained[];
  /** The rows of cuda_rates.ts, with cuBLAS and cuDNN where they were found, and without. */
  readonly rates: readonly Row[];
  readonly ownRates: readonly Row[];
  /** The table of seed_bench.ts. */
  readonly seed: readonly { work: string; device: string; ms: number }[];
  /** The rows of peer.ts and torch_peer.py. */
  readonly needle: readonly Row[];
  readonly torch: readonly Row[];
}

function number(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return "–";
  return Math.abs(value) >= 1000 ? value.toFixed(0) : value.toPrecision(3);
}

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = heads.map((_, i) => i === 0 ? "---" : "---:");
  return [line(heads), line(rule), ...rows.map(line)].join("\n");
}

function valueOf(rows: readonly Row[], name: string): number | undefined {
  return rows.find((row) => row.name === name)?.value;
}

/** How many times better `ours` is than `other`. */
function ratio(ours: Row, other: number | undefined): string {
  if (other === undefined) return "–";
  return (ours.better === "low" ? other / ours.value : ours.value / other).toFixed(2);
}

function rateTable({ rates, ownRates }: Report): string {
  const rows = rates.filter((row) => !row.name.endsWith("_cublas")).map((row) => {
    const direct = valueOf(rates, `${row.name}_cublas`), own = valueOf(ownRates, row.name);
    const cells = [row.value, own, direct].map(number);
    return [row.name, row.unit, ...cells, ratio(row, direct)];
  });
  return table(
    ["", "unit", "Needle", "own kernels", "cuBLAS directly", "Needle / cuBLAS"],
    rows,
  );
}

function seedTable({ seed }: Report): string {
  const devices = [...new Set(seed.map((s) => s.device))];
  const works = [...new Set(seed.map((s) => s.work))];
  const at = (work: string, device: string): number | undefined =>
    seed.find((s) => s.work === work && s.device === device)?.ms;
  return table(
    ["milliseconds", ...devices],
    works.map((work) => [work, ...devices.map((device) => number(at(work, device)))]),
  );
}

function peerTable({ needle, torch }: Report): string {
  const rows = needle.map((row) => {
    const other = valueOf(torch, row.name);
    return [row.name, row.unit, number(row.value), number(other), ratio(row, other)];
  });
  return table(["", "unit", "Needle", "PyTorch", "times better"], rows);
}

/** The report for people. */
export function markdown(report: Report): string {
  const { date, gpu, driver, commit, library, ops, training } = report;
  const pieces = [
    `# Needle on ${gpu}, ${date}`,
    `Driver ${driver}; commit ${commit}; ${library}. Made by \`deno task verify:cuda\`.`,
  ];
  if (ops !== null) {
    pieces.push(
      "## Op table",
      `${ops.passed} passed, ${ops.failed} failed, against the reference in TypeScript.`,
      ...ops.failures.map((name) => `- ${name}`),
    );
  }
  if (training.length > 0) {
    pieces.push(
      "## ResNet9, one epoch of CIFAR-10 (`examples/resnet9.ts`)",
      table(
        ["", "train loss", "test accuracy", "seconds", "exit code"],
        training.map((t) => [
          t.precision,
          ...[t.trainLoss, t.testAcc, t.seconds].map(number),
          String(t.code),
        ]),
      ),
    );
  }
  if (report.rates.length > 0) pieces.push("## Rates", rateTable(report));
  if (report.seed.length > 0) {
    pieces.push("## The table of the framework that Needle descends from", seedTable(report));
  }
  if (report.needle.length > 0) pieces.push("## Beside PyTorch on the same GPU", peerTable(report));
  return pieces.join("\n\n") + "\n";
}
