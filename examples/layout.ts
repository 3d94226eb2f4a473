// How the order of elements in memory changes speed: the same computations on row-major, transposed, strided,
// repeated and channels-last tensors, measured.
//
// Data: none. Time: about five seconds.
//
// Run: deno task layout

import * as ndl from "../mod.ts";
import {
  digits,
  measuringFlags,
  milliseconds,
  openDevice,
  perSecond,
  printTable,
  title,
} from "./measuring.ts";
import { readFlags } from "./program.ts";

const usual = 2048, slow = 64;
const flags = readFlags("How memory layout changes speed.", {
  size: {
    help: `rows and columns of the matrices (${usual}; reference: ${slow})`,
    value: null,
    least: 16,
  },
  batch: { help: "images in the convolutions (32; reference: 1)", value: null, least: 1 },
  ...measuringFlags,
}) as { size: number | null; batch: number | null; device: string | null; seconds: number };

const F = ndl.nn.functional;
const float = 4; // bytes of a float32

/** A computation, what it moves or computes, and what its layout means. */
interface Row {
  readonly name: string;
  readonly run: () => ndl.Tensor;
  /** Bytes read and written, or operations: as `unit` says. */
  readonly amount: number;
  readonly note: string;
}

/** Measures rows and sets them against the first. */
function section(heading: string, unit: "GB/s" | "GFLOP/s", rows: readonly Row[]): void {
  title(heading);
  let first = 0;
  const lines = rows.map(({ name, run, amount, note }) => {
    const ms = milliseconds(flags.seconds, run);
    if (first === 0) first = ms;
    return [
      name,
      digits(ms),
      amount === 0 ? "-" : perSecond(amount, ms),
      amount === 0 ? "-" : `${digits(ms / first)}x`,
      note,
    ];
  });
  printTable(["", "ms", unit, "time", ""], lines, true);
}

const n = openDevice(flags.device, flags.size, usual, slow);
using _ = ndl.noGrad();
ndl.manualSeed(0);

console.log(`
A tensor is a run of memory with a shape and strides: how far apart neighbours lie along each dim.
Row-major [${n}, ${n}] has strides [${n}, 1]. Processors fetch memory in lines of 64 bytes, and
are fastest where neighbours are used together. "time" is relative to the first row of a table;
GB/s counts the elements that are read and written, not the lines that have to be fetched for them.`);

const bytes = float * n * n;
const a = ndl.randn([n, n]), b = ndl.randn([n, n]);
const wide = ndl.randn([n, 2 * n]), everyOther = wide.slice(null, [null, null, 2]);

section(`1. Transposing [${n}, ${n}]`, "GB/s", [
  { name: "x.clone()", run: () => a.clone(), amount: 2 * bytes, note: "a plain copy" },
  { name: "x.T", run: () => a.T, amount: 0, note: "a view: new strides, same memory" },
  {
    name: "x.T.contiguous()",
    run: () => a.T.contiguous(),
    amount: 2 * bytes,
    note: "reads rows and writes columns, tile by tile",
  },
  {
    name: "every other column, contiguous()",
    run: () => everyOther.contiguous(),
    amount: 2 * bytes,
    note: "strides [2n, 2]: half of each line fetched is not used",
  },
]);

const row = ndl.randn([n]), column = ndl.randn([n, 1]);

section(`2. Elementwise: sums of two [${n}, ${n}]`, "GB/s", [
  { name: "x + y", run: () => a.add(b), amount: 3 * bytes, note: "both row-major: one long run" },
  {
    name: "x.T + y.T",
    run: () => a.T.add(b.T),
    amount: 3 * bytes,
    note: "the same order in both: still one run, the result keeps it",
  },
  {
    name: "x + y.T",
    run: () => a.add(b.T),
    amount: 3 * bytes,
    note: "two orders: one operand is read across its lines",
  },
  {
    name: "x + every other column of z",
    run: () => a.add(everyOther),
    amount: 3 * bytes,
    note: "holes between the elements of z",
  },
  {
    name: "x + row [n]",
    run: () => a.add(row),
    amount: 2 * bytes,
    note: "stride 0 along the rows: one row, always in cache",
  },
  {
    name: "x + column [n, 1]",
    run: () => a.add(column),
    amount: 2 * bytes,
    note: "stride 0 within a row: one number for n elements",
  },
]);

section(`3. Reductions of [${n}, ${n}]`, "GB/s", [
  { name: "x.sum()", run: () => a.sum(), amount: bytes, note: "one run" },
  { name: "x.sum(1)", run: () => a.sum(1), amount: bytes, note: "n runs, each to one number" },
  {
    name: "x.sum(0)",
    run: () => a.sum(0),
    amount: bytes,
    note: "down the columns: rows are added up, memory stays in order",
  },
  { name: "x.T.sum(1)", run: () => a.T.sum(1), amount: bytes, note: "sum(0) by another name" },
  {
    name: "every other column, sum(1)",
    run: () => everyOther.sum(1),
    amount: bytes,
    note: "holes again",
  },
]);

const m = Math.max(4, n >> 2), products = 2 * m ** 3;
const p = ndl.randn([m, m]), q = ndl.randn([m, m]);

section(`4. Matrix products of [${m}, ${m}]`, "GFLOP/s", [
  { name: "x y", run: () => p.matmul(q), amount: products, note: "both row-major" },
  {
    name: "x.T y",
    run: () => p.T.matmul(q),
    amount: products,
    note: "transposed views are read as they are: blocks are packed anyway",
  },
  {
    name: "x y.T",
    run: () => p.matmul(q.T),
    amount: products,
    note: "as Linear stores its weight",
  },
  {
    name: "x.T.contiguous() y",
    run: () => {
      using copy = p.T.contiguous();
      return copy.matmul(q);
    },
    amount: products,
    note: "a copy first: a small part of m³ work",
  },
]);

const batch = flags.batch ?? (ndl.defaultDevice() === ndl.reference() ? 1 : 32);
const channels = 32, side = Math.min(32, n >> 2), images = [batch, channels, side, side];
const rowMajor = ndl.randn(images);
/** The same elements, shape and meaning, with the channels of a pixel side by side. */
const channelsLast = rowMajor.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2);
const w = ndl.randn([channels, channels, 3, 3]);
const weight = ndl.ones([channels]), bias = ndl.zeros([channels]);
const work = 2 * batch * side ** 2 * channels ** 2 * 9;

/** A convolution, a norm and relu; `between` may change the order of the image after the convolution. */
function block(between: (t: ndl.Tensor) => ndl.Tensor): ndl.Tensor {
  using y = between(F.conv2d(channelsLast, w, { padding: 1 }));
  using z = F.batchNorm(y, null, null, { weight, bias, training: true });
  using r = z.relu();
  return F.conv2d(r, w, { padding: 1 });
}

section(`5. Convolutions of [${images.join(", ")}], 3x3`, "GFLOP/s", [
  {
    name: "channels-last",
    run: () => F.conv2d(channelsLast, w, { padding: 1 }),
    amount: work,
    note: "the channels of a pixel lie together: long runs for each tap",
  },
  {
    name: "row-major",
    run: () => F.conv2d(rowMajor, w, { padding: 1 }),
    amount: work,
    note: "native kernels copy the image into channels-last first",
  },
  {
    name: "conv, norm, relu, conv",
    run: () => block((t) => t),
    amount: 2 * work,
    note: "all in channels-last order, which layers keep by themselves",
  },
  {
    name: "conv, row-major norm, relu, conv",
    run: () =>
      block((t) => {
        using copied = t;
        return copied.contiguous();
      }),
    amount: 2 * work,
    note: "copied after the first convolution and before the second",
  },
]);
