// CUDA kernels on sizes where they take other ways than in the op table: reductions and scans in parts, sorting by
// radix, sums at many positions, every tile of a product, many parameters in one launch. On the emulation and on a real
// GPU, with guarded device memory; NEEDLE_EMULATE=random:SEED runs the threads of each block in another order, and the
// results are the same bits.

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { call } from "../lib/dispatch.ts";
import { attentionOps } from "../lib/ops/attention.ts";
import { convOps } from "../lib/ops/conv.ts";
import { gradOps } from "../lib/ops/grads.ts";
import { indexOps } from "../lib/ops/index.ts";
import { matmulOps } from "../lib/ops/matmul.ts";
import { lossOps } from "../lib/ops/loss.ts";
import { optimOps } from "../lib/ops/optim.ts";
import { scanOps } from "../lib/ops/scan.ts";
import { sortOps } from "../lib/ops/sort.ts";
import type { TypedKernelOp } from "../lib/ops/op.ts";
import type { DType } from "../lib/dtype.ts";
import { emulatedLaunches, testedGpus, withDeviceGuards } from "./cuda_support.ts";
import { assertClose, seeded, tolerance } from "./harness.ts";

/** An input: its shape, its elements by their position, and its dtype. */
interface Input {
  readonly shape: readonly number[];
  readonly at: (i: number) => number;
  readonly dtype?: DType;
}

function numbers({ shape, at, dtype = "float32" }: Input, device: ndl.Device): ndl.Tensor {
  const n = shape.reduce((a, b) => a * b, 1);
  return ndl.tensor(Float64Array.from({ length: n }, (_, i) => at(i)), { shape, dtype, device });
}

const random = seeded(7);
const noise = Float64Array.from({ length: 1 << 16 }, () => 2 * random() - 1);
const real = (i: number): number => noise[i % noise.length]!;
const whole = (below: number) => (i: number): number =>
  Math.floor((noise[i % noise.length]! + 1) / 2 * below);

/** The largest absolute value, at least 1. */
function largest(values: ArrayLike<number | bigint>): number {
  let m = 1;
  for (let i = 0; i < values.length; i++) {
    const v = Math.abs(Number(values[i]));
    if (v > m && v < Infinity) m = v;
  }
  return m;
}

/** Throws unless the op gives on `device` what it gives on the reference. */
function agreesOn<A>(
  device: ndl.Device,
  op: TypedKernelOp<A>,
  inputs: readonly (Input | null)[],
  attrs: A,
): void {
  const on = (d: ndl.Device): ndl.Tensor[] => {
    const given = inputs.map((input) => input === null ? null : numbers(input, d));
    const out = call(op, given, attrs, d);
    return [
      ...out,
      ...given.filter((_, i) => op.mutates.includes(op.inputs[i]!)) as ndl.Tensor[],
    ];
  };
  const want = on(ndl.reference());
  withDeviceGuards(device, () =>
    on(device).forEach((y, i) => {
      const expected = want[i]!.toTypedArray();
      assertEquals(y.shape, want[i]!.shape);
      const what = `${op.name} of ${inputs.map((x) => x?.shape)} output ${i}`;
      assertClose(y.toTypedArray(), expected, tolerance(y.dtype, 4), what, largest(expected));
    }));
}

for (const device of testedGpus()) {
  const agrees = <A>(op: TypedKernelOp<A>, inputs: readonly (Input | null)[], attrs: A): void =>
    agreesOn(device, op, inputs, attrs);
  const methods = {
    sum: (x: ndl.Tensor, d: number[]) => x.sum(d),
    mean: (x: ndl.Tensor, d: number[]) => x.mean(d),
    var: (x: ndl.Tensor, d: number[]) => x.var(d),
    amax: (x: ndl.Tensor, d: number[]) => x.amax(d),
  };
  Deno.test(`reductions in parts on ${device}`, () => {
    const cases: [shape: number[], dims: number[]][] = [
      [[70_001], [0]],
      [[3, 20_011], [1]],
      [[20_011, 3], [0]],
      [[1201, 37], [0]],
      [[7, 5, 1201], [0, 2]],
    ];
    for (const [shape, dims] of cases) {
      for (const [name, f] of Object.entries(methods)) {
        // Far from zero: what cancels would show.
        const input: Input = { shape, at: (i) => 3 + real(i) };
        const want = f(numbers(input, ndl.reference()), dims).toTypedArray();
        withDeviceGuards(device, () => {
          const got = f(numbers(input, device), dims).toTypedArray();
          assertClose(got, want, tolerance("float32", 4), `${name} of ${shape} over ${dims}`);
        });
      }
    }
  });

  Deno.test(`convolutions in large tiles on ${device}`, () => {
    const cases: [x: number[], w: number[], stride: 1 | 2, groups: number][] = [
      [[3, 8, 13, 15], [80, 8, 3, 3], 1, 1],
      [[3, 7, 13, 15], [81, 7, 3, 2], 1, 1],
      [[3, 8, 13, 15], [20, 8, 3, 3], 1, 1],
      [[3, 9, 13, 15], [21, 9, 3, 3], 1, 1],
      [[2, 140, 9, 9], [24, 140, 3, 3], 2, 1],
      [[3, 32, 12, 13], [40, 16, 2, 3], 1, 2],
    ];
    for (const [x, w, stride, groups] of cases) {
      const [n, , h, wide] = x as [number, number, number, number];
      const [k, , r, s] = w as [number, number, number, number];
      const y = [
        n,
        k,
        Math.floor((h + 2 - r) / stride) + 1,
        Math.floor((wide + 2 - s) / stride) + 1,
      ];
      const attrs = {
        stride: [stride, stride],
        padding: [1, 1],
        dilation: [1, 1],
        groups,
      } as const;
      const input = (shape: readonly number[]): Input => ({ shape, at: real });
      agrees(convOps.conv2d, [input(x), input(w), input([k])], attrs);
      agrees(convOps.conv2dInput, [input(y), input(w)], { ...attrs, size: [h, wide] });
      agrees(convOps.conv2dWeight, [input(y), input(x)], { ...attrs, kernel: [r, s] });
    }
  });

  Deno.test(`attention with many features on ${device}`, () => {
    // Two tiles of columns to a block, and two blocks.
    for (const [e, f] of [[72, 100], [4, 140]] as const) {
      for (const causal of [false, true]) {
        const rows = (l: number, width: number): Input => ({ shape: [1, 2, l, width], at: real });
        const lse: Input = { shape: [1, 2, 70], at: () => 4 };
        const attrs = { scale: 0.2, causal };
        agrees(attentionOps.attention, [rows(70, e), rows(90, e), rows(90, f), null], attrs);
        agrees(attentionOps.attentionBackward, [
          rows(70, f),
          ...[rows(70, e), rows(90, e), rows(90, f), rows(70, f)],
          lse,
          null,
        ], attrs);
      }
    }
  });

  Deno.test(`gradients of scores are made for some rows at a time on ${device}`, () => {
    const [n, classes, size] = [300, 8000, 3]; // 9.6 MB, of which 8 MiB are made at a time
    agrees(lossOps.crossEntropyLinearBackward, [
      { shape: [], at: () => 1 },
      { shape: [n, classes], at: real },
      { shape: [n], at: whole(classes), dtype: "int64" },
      { shape: [n, 2], at: (i) => 3 + 5000 * (i % 2) },
      { shape: [], at: () => n },
      { shape: [n, size], at: real },
      { shape: [classes, size], at: real },
      null,
    ], { reduction: "mean", ignoreIndex: -100, labelSmoothing: 0 });
  });

  Deno.test(`scans in parts on ${device}`, () => {
    for (const [shape, dim] of [[[2, 20_000], 1], [[9001], 0], [[3001, 5], 0]] as const) {
      for (const reverse of [false, true]) {
        agrees(scanOps.cumsum, [{ shape, at: real, dtype: "float64" }], { dim, reverse });
        agrees(scanOps.cumsum, [{ shape, at: whole(9), dtype: "int64" }], { dim, reverse });
      }
      agrees(scanOps.cumprod, [{ shape, at: (i) => 1 + real(i) / 50 }], { dim });
    }
  });

  Deno.test(`long lines are sorted on ${device}, equal elements in their order`, () => {
    for (const dtype of ["float32", "float64", "int32", "int64", "uint8", "bool"] as const) {
      const at = dtype === "bool" ? whole(2) : whole(200); // many are equal
      for (const descending of [false, true]) {
        agrees(sortOps.sort, [{ shape: [2, 5001], at, dtype }], { dim: 1, descending });
      }
    }
    const odd = (i: number): number =>
      i % 97 === 0 ? NaN : i % 89 === 0 ? -0 : real(i) * 10 ** (i % 30);
    agrees(sortOps.sort, [{ shape: [300, 1, 3], at: odd, dtype: "float64" }], {
      dim: 0,
      descending: true,
    });
    agrees(sortOps.sort, [{ shape: [1500, 3], at: odd }], { dim: 0, descending: false });
    agrees(sortOps.topk, [{ shape: [3, 2100], at: odd }], {
      k: 7,
      dim: 1,
      largest: true,
      size: 2100,
    });
    // More tiles than are summed at once.
    agrees(sortOps.sort, [{ shape: [70_000], at: whole(1e6), dtype: "int32" }], {
      dim: 0,
      descending: false,
    });
  });

  Deno.test(`sums at many positions on ${device}`, () => {
    const index: Input = { shape: [900], at: whole(37), dtype: "int64" };
    const slices = { dim: 0, sizes: [37], skip: 5 };
    agrees(indexOps.indexAdd, [index, { shape: [900, 3], at: real }, null], slices);
    agrees(indexOps.indexAdd, [
      { ...index, dtype: "int32" },
      { shape: [2, 900, 2], at: real, dtype: "float64" },
      { shape: [2, 37, 2], at: real, dtype: "float64" },
    ], { dim: 1, sizes: [37], skip: -1 });
    const elements: Input = { shape: [2, 900, 3], at: whole(11), dtype: "int64" };
    for (const dtype of ["float32", "int64"] as const) {
      const src: Input = { shape: elements.shape, at: (i) => whole(50)(i) - 25, dtype };
      agrees(indexOps.scatterAdd, [elements, src, null], { dim: 1, size: 11 });
    }
    agrees(indexOps.scatter, [{ shape: [2, 11, 3], at: real }, elements, {
      shape: elements.shape,
      at: real,
    }], { dim: 1, size: 11, value: 0 });
    const rows: Input = { shape: [900, 3], at: real };
    agrees(gradOps.mergeRows, [rows, index], { skip: 5 });
    agrees(gradOps.addRows, [{ shape: [37, 3], at: real }, rows, index], { skip: 5, alpha: 0.5 });
  });

  Deno.test(`positions of what is not zero on ${device}`, () => {
    // The second has more tiles than are summed at once.
    for (const shape of [[5, 1021, 3], [2, 265_000]]) {
      const x: Input = { shape, at: (i) => real(i) > 0.3 ? 1 : 0, dtype: "uint8" };
      const [count] = call(indexOps.countNonzero, [numbers(x, ndl.reference())], undefined);
      agrees(indexOps.countNonzero, [x], undefined);
      agrees(indexOps.nonzero, [x], { count: Number(count!.item()) });
    }
  });

  Deno.test(`products of every tile on ${device}, any strides, k in parts`, () => {
    // m, n, k and the size of a batch: large tiles, small ones, splits of k.
    for (const [m, n, k, batch] of [[150, 260, 37, 1], [70, 68, 21, 2], [3, 68, 530, 1]] as const) {
      const a: Input = { shape: [batch, m, k], at: real };
      const b: Input = { shape: [batch, k, n], at: (i) => real(i + 99) };
      const across = (x: Input, d: ndl.Device): ndl.Tensor =>
        numbers({ ...x, shape: [x.shape[0]!, x.shape[2]!, x.shape[1]!] }, d).permute([0, 2, 1]);
      // A view with a gap after every element: no stride is 1.
      const gaps = (x: Input, d: ndl.Device): ndl.Tensor =>
        numbers({ ...x, shape: [...x.shape, 2] }, d).select(3, 1);
      for (const [left, right] of [[numbers, across], [across, numbers], [gaps, gaps]] as const) {
        const run = (d: ndl.Device): ndl.Tensor => left(a, d).matmul(right(b, d));
        const want = run(ndl.reference()).toTypedArray();
        withDeviceGuards(device, () => {
          assertClose(run(device).toTypedArray(), want, tolerance("float32", 8), `${[m, n, k]}`);
        });
      }
    }
    const x: Input = { shape: [2, 700], at: real };
    agrees(matmulOps.linear, [x, { ...x, shape: [5, 700] }, { ...x, shape: [5] }], {});
    agrees(matmulOps.matmul, [
      { shape: [3, 400], at: whole(256), dtype: "uint8" },
      { shape: [400, 9], at: whole(256), dtype: "uint8" },
    ], {});
  });

  Deno.test(`steps of many parameters share launches on ${device}, those that meet do not`, () => {
    const adam = { beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1, decoupled: true };
    const run = (on: ndl.Device): [number[][], number | null] => {
      // Sizes with tails, of several blocks, and views that no vector load can read.
      const sizes = Array.from({ length: 100 }, (_, i) => i === 40 ? 9001 : i % 7 * 31 + 1);
      const all = ["param", "grad", "expAvg", "expAvgSq"].map((_, k) =>
        sizes.map((n, j) =>
          numbers(
            { shape: [n + j % 2], at: (i) => k === 3 ? real(i) ** 2 : real(i + 9 * j + k) },
            on,
          )
            .narrow(0, j % 2, n)
        )
      ) as [ndl.Tensor[], ndl.Tensor[], ndl.Tensor[], ndl.Tensor[]];
      const [params, grads, firsts, seconds] = all;
      ndl.synchronize(on);
      const counted = on.name === "cudaEmulated", before = counted ? emulatedLaunches() : 0;
      ndl.noGrad(() => {
        for (let step = 1; step <= 2; step++) {
          const attrs = { ...adam, lr: 0.1, maximize: false, step };
          params.forEach((p, i) =>
            call(optimOps.adamStep, [p, grads[i]!, firsts[i]!, seconds[i]!], attrs)
          );
        }
        // The same parameter twice: one after the other.
        const sgd = { lr: 0.5, weightDecay: 0.5, maximize: false };
        call(optimOps.sgdStep, [params[40]!, grads[40]!], sgd);
        call(optimOps.sgdStep, [params[40]!, grads[40]!], sgd);
        const found = ndl.zeros([1], { device: on });
        for (const g of grads) call(optimOps.unscale, [g, found], { factor: 0.5 });
        all.push([found]);
      });
      ndl.synchronize(on);
      const launches = counted ? emulatedLaunches() - before : null;
      return [all.flat().map((t) => [...t.toTypedArray()].map(Number)), launches];
    };
    const [want] = run(ndl.reference());
    withDeviceGuards(device, () => {
      const [got, launches] = run(device);
      got.forEach((y, i) => assertClose(y, want[i]!, tolerance("float32", 4), `tensor ${i}`));
      // Twice two of Adam, two of SGD, one that fills the flag, two of unscaling.
      if (launches !== null) assertEquals(launches, 9);
    });
  });

  Deno.test(`norms, pooling and attention on ${device} read and write halves as they are`, () => {
    const window = { kernel: [2, 2], stride: [2, 2] } as const;
    const net = (dtype: DType): number => {
      const x = numbers({ shape: [2, 8, 6, 6], at: real, dtype }, device).requiresGrad_();
      const norm = new ndl.nn.BatchNorm2d(8).to(device);
      ndl.synchronize(device);
      const before = emulatedLaunches();
      const y = norm.forward(x);
      const pooled = [
        ndl.nn.functional.maxPool2d(y, window.kernel),
        ndl.nn.functional.avgPool2d(y, window.kernel),
      ];
      ndl.grad(pooled, [x], { gradOutputs: pooled.map((p) => p.detach()) });
      ndl.synchronize(device);
      return emulatedLaunches() - before;
    };
    const [whole, half] = [net("float32"), net("bfloat16")];
    // What is left: the two gradients are added in float32.
    assert(half - whole <= 3, `${half} launches instead of ${whole}`);
    const attend = (dtype: DType): number => {
      const rows: Input = { shape: [1, 2, 5, 8], at: real, dtype };
      const qkv = [rows, rows, rows].map((x) => numbers(x, device).requiresGrad_());
      ndl.synchronize(device);
      const before = emulatedLaunches();
      const [y] = call(attentionOps.attention, [...qkv, null], { scale: 0.5, causal: true });
      ndl.grad([y!], qkv, { gradOutputs: [y!.detach()] });
      ndl.synchronize(device);
      return emulatedLaunches() - before;
    };
    assertEquals(attend("float16"), attend("float32"));
  });

  Deno.test(`what only kernels of ${device} can see to be wrong is told at the next read`, () => {
    const x = ndl.zeros([3, 4], { device });
    const labels = ndl.tensor([0, 4, 1], { dtype: "int64", device });
    assertThrows(
      () => ndl.nn.functional.crossEntropy(x, labels).item(),
      RangeError,
      "label 4 is not in [0, 4)",
    );
    assertThrows(
      () => x.indexSelect(0, ndl.tensor([1, -3], { dtype: "int64", device })).toTypedArray(),
      RangeError,
      "Index -3 is out of range for size 3",
    );
    assertThrows(
      () => ndl.nn.functional.binaryCrossEntropy(x.add(2), x).item(),
      RangeError,
      "2 is no probability",
    );
    assertEquals(x.sum().item(), 0);
  });
}
