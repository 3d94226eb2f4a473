// Shared by tests: devices to try, tensors from sample specs in many layouts, closeness with a full report.

import * as ndl from "../mod.ts";
import { type DType, dtypes, isFloat, isInt } from "../lib/dtype.ts";
import type { Device } from "../lib/device.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { allocate } from "../lib/tensor/base.ts";
import { numel, orderedStrides, type Shape } from "../lib/shape.ts";
import { env } from "../lib/env.ts";
import { layoutOps } from "../lib/ops/layout.ts";
import type { ViewOp } from "../lib/ops/op.ts";
import type { TensorSpec } from "./samples/sample.ts";

/** Those of `devices` that are there; those that NEEDLE_REQUIRE names must be. */
function there(devices: readonly Device[]): Device[] {
  const required = env("NEEDLE_REQUIRE") ?? [];
  return devices.filter((device) => {
    if (device.available) return true;
    if (required.includes(device.name)) {
      throw new Error(`NEEDLE_REQUIRE names ${device.name}, but: ${device.reason}`);
    }
    console.warn(`not tested on ${device.name}: ${device.reason}`);
    return false;
  });
}

/** Native devices. */
export function nativeDevices(): Device[] {
  return there([ndl.cpu(), ndl.dnnl()]);
}

/** Native devices and WebAssembly. */
export function kernelDevices(): Device[] {
  return there([ndl.cpu(), ndl.dnnl(), ndl.wasm()]);
}

/** A small repeatable generator (mulberry32), independent of the library's own. */
export function seeded(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A number from the characters of `text`: each test gets a stream of its own. */
export function seedOf(text: string): number {
  let h = 2166136261;
  for (const c of text) h = Math.imul(h ^ c.charCodeAt(0), 16777619);
  return h >>> 0;
}

/** Row-major values for a spec, as numbers that `dtype` holds exactly enough. */
export function valuesOf(spec: TensorSpec, dtype: DType, random: () => number): number[] {
  if (spec.values !== undefined) return [...spec.values];
  const [lo, hi] = spec.range ?? [-2, 2];
  return Array.from({ length: numel(spec.shape) }, () => {
    let x = lo + (hi - lo) * random();
    for (const kink of spec.avoid ?? []) {
      if (Math.abs(x - kink) < 0.05) x = kink + (x < kink ? -0.05 : 0.05);
    }
    if (dtype === "bool") return x > (lo + hi) / 2 ? 1 : 0;
    if (dtype === "uint8") return Math.abs(Math.round(x));
    if (isInt(dtype)) return Math.round(x);
    return dtype === "float64" ? x : Math.fround(x);
  });
}

/** How a tensor can lie in memory. */
export const layouts = ["contiguous", "transposed", "sliced", "channelsLast"] as const;
/** One of them. */
export type LayoutName = (typeof layouts)[number];

/** A tensor of given values in one of the layouts; garbage around it must not matter. */
export function place(
  values: readonly number[],
  shape: Shape,
  dtype: DType,
  device: Device,
  layout: LayoutName,
): Tensor {
  const flat = ndl.tensor(Float64Array.from(values), { shape: [...shape], dtype, device });
  const nd = shape.length;
  if (layout === "contiguous" || nd === 0) return flat;
  if (layout === "sliced") {
    const outer = shape.map((s, i) => i === nd - 1 ? 2 * s + 3 : s + 2);
    const big = ndl.full(outer, isFloat(dtype) ? NaN : 1, { dtype, device });
    const dims = shape.map((s, i) => ({
      start: i === nd - 1 ? 2 : 1,
      length: s,
      step: i === nd - 1 ? 2 : 1,
    }));
    const view = big._viewAs(windowOp, { dims });
    view.copy_(flat);
    return view;
  }
  const order = shape.map((_, i) => i);
  if (layout === "transposed") order.reverse();
  else if (nd >= 3) order.splice(0, nd, 0, ...order.slice(2), 1);
  const t = allocate([...shape], dtype, device, orderedStrides(shape, order), -1 as 0);
  t.copy_(flat);
  return t;
}

const windowOp = layoutOps.window as unknown as ViewOp<unknown>;

/** Bounds for comparing with a reference. */
export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
}

/** The table's tolerance of a dtype, `slack` times as wide. */
export function tolerance(dtype: DType, slack = 1): Tolerance {
  const { rtol, atol } = dtypes[dtype];
  return { rtol: rtol * slack, atol: atol * slack };
}

/**
 * Throws unless every element of `got` is within tolerance of `want`; NaN matches NaN alone, infinities must agree.
 *
 * @param scale what the relative part refers to: each element (default), or a given magnitude
 */
export function assertClose(
  got: ArrayLike<number | bigint>,
  want: ArrayLike<number | bigint>,
  { rtol, atol }: Tolerance,
  what: string,
  scale?: number,
): void {
  if (got.length !== want.length) {
    throw new Error(`${what}: ${got.length} elements instead of ${want.length}`);
  }
  let bad = 0, worst = -1, at = -1;
  for (let i = 0; i < got.length; i++) {
    const a = Number(got[i]), b = Number(want[i]);
    if (a === b || (a !== a && b !== b)) continue;
    const limit = atol + rtol * (scale ?? Math.abs(b));
    const d = Math.abs(a - b);
    if (d <= limit) continue;
    bad++;
    const excess = d === d ? d / limit : Infinity;
    if (excess > worst) worst = excess, at = i;
  }
  if (bad > 0) {
    throw new Error(
      `${what}: ${bad} of ${got.length} elements differ; worst at ${at}: ${got[at]} instead of ${
        want[at]
      } ` +
        `(${worst.toPrecision(3)} times the tolerance)`,
    );
  }
}
