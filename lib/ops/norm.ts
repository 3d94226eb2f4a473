// Normalisation: batch and group norm here, layer and RMS norm in norm_rows.ts, as fused ops. Each has one backward op that gives all gradients;
// second derivatives go through the composition. Inputs are row-major; where the channels lie is an attribute, so
// that channels-last images are normalised as (N, H, W, C) without a copy. Statistics of halves are float32.

import { isSingle, numel, show } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";
import { call } from "../dispatch.ts";
import { pendingCall } from "../later.ts";
import { elementwiseOps } from "./elementwise.ts";
import { declare, kernel, type RefTensor, type TypedKernelOp } from "./op.ts";
import {
  checkInputs,
  finish,
  moments,
  normBackward,
  rowNorms,
  type Shaped,
  statsDType,
  widen,
} from "./norm_rows.ts";

/** Attributes of batch norm. */
export interface BatchNormAttrs {
  /** The dim of the channels. */
  readonly axis: number;
  /** Added to the variance. */
  readonly eps: number;
  /** Whether negative results become 0. */
  readonly relu: boolean;
}

/** Attributes of batch norm by given statistics. */
export interface GivenBatchNormAttrs extends BatchNormAttrs {
  /** Whether they are x's own, so that they change with it. */
  readonly own: boolean;
}

/** Attributes of group norm. */
export interface GroupNormAttrs {
  /** The dim of the channels: 1 or the last. */
  readonly axis: number;
  /** Into how many groups the channels fall. */
  readonly groups: number;
  /** Added to the variance. */
  readonly eps: number;
}

/** Attributes of the update of running statistics. */
export interface RunningStatsAttrs {
  /** Weight of the new statistics. */
  readonly momentum: number;
  /** Values per channel: makes the variance unbiased. */
  readonly count: number;
}

/** x as (outer, channels, inner). */
function split(x: Shaped, axis: number): { outer: number; channels: number; inner: number } {
  return {
    outer: numel(x.shape.slice(0, axis)),
    channels: x.shape[axis]!,
    inner: numel(x.shape.slice(axis + 1)),
  };
}

/** Descriptor of the batch norms: [outer, C, inner, eps, relu, whether g is one element for all]. */
function describeBatch(x: Tensor, a: BatchNormAttrs, g: Tensor | null = null): number[] {
  const { outer, channels, inner } = split(x, a.axis);
  const single = g !== null && isSingle(g.shape, g._strides);
  return [outer, channels, inner, a.eps, Number(a.relu), Number(single)];
}

/** Per channel, shaped so that it broadcasts against x. */
function along(x: Tensor, axis: number, t: Tensor): Tensor {
  return t.reshape(x.shape.map((s, i) => i === axis ? s : 1));
}

function othersThan(x: Tensor, axis: number): number[] {
  return x.shape.map((_, i) => i).filter((i) => i !== axis);
}

/** Calls `f` with each element's position and channel. */
function eachChannel(x: RefTensor, axis: number, f: (i: number, c: number) => void): void {
  const { channels, inner } = split(x, axis);
  for (let i = 0; i < x.f.length; i++) f(i, Math.floor(i / inner) % channels);
}

const batchNorm: TypedKernelOp<BatchNormAttrs> = kernel({
  doc:
    "x normalised by the statistics of each channel, times weight plus bias; gives the statistics too",
  inputs: ["x"],
  optional: ["weight", "bias"],
  outputs: ["y", "mean", "variance"],
  gpuHalves: ["x", "y"],
  infer: ({ x, weight, bias }, a: BatchNormAttrs) => {
    const shape = [x.shape[a.axis]!], dtype = statsDType(x.dtype);
    checkInputs("batchNorm", x, shape, { weight, bias });
    return [{ shape: x.shape, dtype: x.dtype }, { shape, dtype }, { shape, dtype }];
  },
  descriptor: ({ x }, _, a) => describeBatch(x, a),
  reference: ({ x, weight, bias }, { y, mean, variance }, a) => {
    const each = (f: (i: number, c: number) => void): void => eachChannel(x, a.axis, f);
    const m = moments(x, x.shape[a.axis]!, each);
    mean.f.set(m.mean);
    variance.f.set(m.variance);
    each((i, c) => {
      const normal = (x.f[i]! - m.mean[c]!) / Math.sqrt(m.variance[c]! + a.eps);
      const value = normal * (weight?.f[c] ?? 1) + (bias?.f[c] ?? 0);
      y.f[i] = a.relu && value < 0 ? 0 : value;
    });
  },
  saves: ["x", "weight", "bias", "mean", "variance"],
  vjp: ({ y: g, mean: gm, variance: gv }, { x, weight, bias, mean, variance }, a) => {
    const [dx, dw, db] = g === null
      ? [x._zeros(x.shape), null, null]
      : call(batchNormBackward, [g, x, mean, variance, weight, bias], a) as [
        Tensor,
        Tensor,
        Tensor,
      ];
    let sum = dx;
    const n = x.numel() / x.shape[a.axis]!;
    if (gm !== null) sum = sum.add(along(x, a.axis, gm.div(n)));
    if (gv !== null) {
      sum = sum.add(x.sub(along(x, a.axis, mean)).mul(along(x, a.axis, gv.mul(2 / n))));
    }
    return [sum, dw, db];
  },
  composition: ({ x: given, weight, bias }, a) => {
    const x = widen(given), n = x.numel() / x.shape[a.axis]!, dims = othersThan(x, a.axis);
    const per = (t: Tensor | null): Tensor | null => t === null ? null : along(x, a.axis, t);
    const mean = x.sum(dims).div(n);
    const centred = x.sub(along(x, a.axis, mean));
    const variance = centred.square().sum(dims).div(n);
    const normal = centred.mul(along(x, a.axis, variance.add(a.eps).rsqrt()));
    const y = finish(normal, per(weight), per(bias), given.dtype);
    return [a.relu ? y.relu() : y, mean, variance];
  },
});

// Descriptor: that of the batch norms.
const batchNormStats: TypedKernelOp<BatchNormAttrs> = kernel({
  doc: "mean and (biased) variance of each channel",
  inputs: ["x"],
  outputs: ["mean", "variance"],
  gpuHalves: ["x"],
  infer: ({ x }, a: BatchNormAttrs) => {
    const per = { shape: [x.shape[a.axis]!], dtype: statsDType(x.dtype) };
    checkInputs("batchNorm", x, per.shape, {});
    return [per, per];
  },
  descriptor: ({ x }, _, a) => describeBatch(x, a),
  reference: ({ x }, { mean, variance }, a) => {
    const m = moments(x, x.shape[a.axis]!, (f) => eachChannel(x, a.axis, f));
    mean.f.set(m.mean);
    variance.f.set(m.variance);
  },
  saves: [],
  vjp: "nondifferentiable",
});

/**
 * All gradients of x normalised by its own statistics. Where g is what a ReLU let through that the norm computed with
 * its result, g itself is not needed: backward sees again where it was.
 */
function ownGradients(
  g: Tensor,
  x: Tensor,
  mean: Tensor,
  variance: Tensor,
  weight: Tensor | null,
  bias: Tensor | null,
  a: BatchNormAttrs,
): Tensor[] {
  const masked = pendingCall(g, elementwiseOps.reluGrad);
  const whole = masked?.attrs === a ? masked.inputLike(0, g) : null;
  const attrs = whole === null ? a : { ...a, relu: true };
  const results = call(batchNormBackward, [whole ?? g, x, mean, variance, weight, bias], attrs);
  whole?.dispose();
  return results;
}

const batchNormBackward: TypedKernelOp<BatchNormAttrs> = kernel({
  doc: "all gradients of batchNorm; with relu, where its result was positive; g may be one element",
  inputs: ["g", "x", "mean", "variance"],
  optional: ["weight", "bias"],
  outputs: ["dx", "dweight", "dbias"],
  gpuHalves: ["g", "x", "dx"],
  single: ["g"],
  infer: ({ x }, a: BatchNormAttrs) => {
    const per = { shape: [x.shape[a.axis]!], dtype: statsDType(x.dtype) };
    return [{ shape: x.shape, dtype: x.dtype }, per, per];
  },
  descriptor: ({ g, x }, _, a) => describeBatch(x, a, g),
  reference: ({ g, x, mean, variance, weight, bias }, { dx, dweight, dbias }, a) => {
    const each = (f: (i: number, c: number) => void): void => eachChannel(x, a.axis, f);
    const rstd = variance.f.map((v) => 1 / Math.sqrt(v + a.eps));
    const h = new Float64Array(x.f.length);
    each((i, c) => {
      const normal = (x.f[i]! - mean.f[c]!) * rstd[c]!, scale = weight?.f[c] ?? 1;
      if (a.relu && normal * scale + (bias?.f[c] ?? 0) <= 0) return;
      h[i] = g.f[i]! * scale;
      dweight.f[c]! += g.f[i]! * normal;
      dbias.f[c]! += g.f[i]!;
    });
    normBackward(x, h, mean.f, rstd, each, dx.f);
  },
  saves: [],
  vjp: "nondifferentiable",
});

const batchNormEval: TypedKernelOp<GivenBatchNormAttrs> = kernel({
  doc: "x normalised by given statistics of each channel, times weight plus bias",
  inputs: ["x", "mean", "variance"],
  optional: ["weight", "bias"],
  outputs: ["y"],
  gpuHalves: ["x", "y"],
  infer: ({ x, mean, variance, weight, bias }, a: GivenBatchNormAttrs) => {
    checkInputs("batchNorm", x, [x.shape[a.axis]!], { mean, variance, weight, bias });
    return [{ shape: x.shape, dtype: x.dtype }];
  },
  descriptor: ({ x }, _, a) => describeBatch(x, a),
  reference: ({ x, mean, variance, weight, bias }, { y }, a) =>
    eachChannel(x, a.axis, (i, c) => {
      const normal = (x.f[i]! - mean.f[c]!) / Math.sqrt(variance.f[c]! + a.eps);
      const value = normal * (weight?.f[c] ?? 1) + (bias?.f[c] ?? 0);
      y.f[i] = a.relu && value < 0 ? 0 : value;
    }),
  saves: ["x", "mean", "variance", "weight", "bias"],
  vjp: ({ y }, { x, mean, variance, weight, bias }, a) => {
    if (a.own) {
      const [dx, dw, db] = ownGradients(y!, x, mean, variance, weight, bias, a);
      return [dx!, null, null, dw!, db!];
    }
    const dims = othersThan(x, a.axis), per = (t: Tensor): Tensor => along(x, a.axis, t);
    const rstd = variance.add(a.eps).rsqrt();
    const scale = weight === null ? rstd : rstd.mul(weight);
    const centred = x.sub(per(mean));
    let g = y!;
    if (a.relu) {
      const z = centred.mul(per(scale));
      g = g.reluGrad(bias === null ? z : z.add(per(bias)));
    }
    const db = g.sum(dims), dot = g.mul(centred).sum(dims);
    return [
      g.mul(per(scale)),
      db.mul(scale).neg(),
      dot.mul(scale).mul(rstd.square()).mul(-0.5),
      dot.mul(rstd),
      db,
    ];
  },
  composition: ({ x: given, mean, variance, weight, bias }, a) => {
    if (a.own) return batchNorm.composition!([given, weight, bias], a as never).slice(0, 1);
    const x = widen(given), per = (t: Tensor): Tensor => along(x, a.axis, t);
    const normal = x.sub(per(mean)).mul(per(variance.add(a.eps).rsqrt()));
    const y = finish(normal, weight && per(weight), bias && per(bias), given.dtype);
    return [a.relu ? y.relu() : y];
  },
  absorbs: (elementwise, a) => elementwise === "relu" && !a.relu ? { ...a, relu: true } : null,
});

// Descriptor: [C, momentum, n / (n - 1)].
const updateRunningStats: TypedKernelOp<RunningStatsAttrs> = kernel({
  doc: "running statistics moved towards new ones by momentum; the variance made unbiased",
  inputs: ["runningMean", "runningVar", "mean", "variance"],
  outputs: [],
  mutates: ["runningMean", "runningVar"],
  infer: ({ runningMean, runningVar, mean }, _: RunningStatsAttrs) => {
    checkInputs("batchNorm", mean, mean.shape, {
      "running mean": widen(runningMean),
      "running variance": widen(runningVar),
    });
    return [];
  },
  descriptor: ({ mean }, _, { momentum, count }) => [mean.numel(), momentum, count / (count - 1)],
  reference: ({ runningMean, runningVar, mean, variance }, _, { momentum, count }) => {
    for (let c = 0; c < mean.f.length; c++) {
      const unbiased = variance.f[c]! * count / (count - 1);
      runningMean.f[c] = (1 - momentum) * runningMean.f[c]! + momentum * mean.f[c]!;
      runningVar.f[c] = (1 - momentum) * runningVar.f[c]! + momentum * unbiased;
    }
  },
  saves: [],
  vjp: "nondifferentiable",
});

/** Calls `f` with each element's position, its (sample, group) set and its channel. */
function eachGroup(
  x: RefTensor,
  a: GroupNormAttrs,
  f: (i: number, set: number, c: number) => void,
): void {
  const channels = x.shape[a.axis]!, perSample = x.f.length / x.shape[0]!;
  eachChannel(x, a.axis, (i, c) => {
    f(i, Math.floor(i / perSample) * a.groups + Math.floor(c * a.groups / channels), c);
  });
}

/** Descriptor of group norm and its backward: [N, C, L, groups, eps, channels last]; L: positions per sample. */
function describeGroups(x: Tensor, a: GroupNormAttrs): number[] {
  const n = x.shape[0]!, c = x.shape[a.axis]!;
  const length = numel(x.shape.filter((_, i) => i !== 0 && i !== a.axis));
  return [n, c, length, a.groups, a.eps, Number(a.axis !== 1)];
}

const groupNorm: TypedKernelOp<GroupNormAttrs> = kernel({
  doc:
    "x normalised by mean and variance of each sample's groups of channels, times weight plus bias per channel",
  inputs: ["x"],
  optional: ["weight", "bias"],
  outputs: ["y"],
  aux: ["mean", "rstd"],
  infer: ({ x, weight, bias }, a: GroupNormAttrs) => {
    const c = x.shape[a.axis]!;
    checkInputs("groupNorm", x, [c], { weight, bias });
    if (c % a.groups !== 0) {
      throw new RangeError(
        `Cannot groupNorm ${show(x.shape)}: ${c} channels do not divide into ${a.groups} groups`,
      );
    }
    const per = { shape: [x.shape[0]! * a.groups], dtype: statsDType(x.dtype) };
    return [{ shape: x.shape, dtype: x.dtype }, per, per];
  },
  descriptor: ({ x }, _, a) => describeGroups(x, a),
  reference: ({ x, weight, bias }, { y, mean, rstd }, a) => {
    const m = moments(x, mean.f.length, (f) => eachGroup(x, a, f));
    mean.f.set(m.mean);
    m.variance.forEach((v, set) => rstd.f[set] = 1 / Math.sqrt(v + a.eps));
    eachGroup(x, a, (i, set, c) => {
      const normal = (x.f[i]! - m.mean[set]!) * rstd.f[set]!;
      y.f[i] = normal * (weight?.f[c] ?? 1) + (bias?.f[c] ?? 0);
    });
  },
  saves: ["x", "weight", "mean", "rstd"],
  vjp: ({ y: g }, { x, weight, mean, rstd }, a) =>
    call(groupNormBackward, [g, x, mean, rstd, weight], a),
  composition: ({ x: given, weight, bias }, a) => {
    const x = widen(given), n = x.shape[0]!, c = x.shape[a.axis]!;
    // (N, ..., C) as (N, positions, groups, C / groups), (N, C, ...) as (N, groups, the rest).
    const [shape, dims] = a.axis === 1
      ? [[n, a.groups, x.numel() / Math.max(n * a.groups, 1)], [2]]
      : [[n, numel(x.shape.slice(1, -1)), a.groups, c / a.groups], [1, 3]];
    const t = x.reshape(shape), size = x.numel() / (n * a.groups);
    const centred = t.sub(t.sum(dims, { keepdim: true }).div(size));
    const variance = centred.square().sum(dims, { keepdim: true }).div(size);
    const normal = centred.mul(variance.add(a.eps).rsqrt()).reshape(x.shape);
    const per = (p: Tensor | null): Tensor | null => p === null ? null : along(x, a.axis, p);
    return [finish(normal, per(weight), per(bias), given.dtype)];
  },
});

const groupNormBackward: TypedKernelOp<GroupNormAttrs> = kernel({
  doc: "all gradients of groupNorm",
  inputs: ["g", "x", "mean", "rstd"],
  optional: ["weight"],
  outputs: ["dx", "dweight", "dbias"],
  infer: ({ x }, a: GroupNormAttrs) => {
    const per = { shape: [x.shape[a.axis]!], dtype: statsDType(x.dtype) };
    return [{ shape: x.shape, dtype: x.dtype }, per, per];
  },
  descriptor: ({ x }, _, a) => describeGroups(x, a),
  reference: ({ g, x, mean, rstd, weight }, { dx, dweight, dbias }, a) => {
    const h = new Float64Array(x.f.length);
    eachGroup(x, a, (i, set, c) => {
      h[i] = g.f[i]! * (weight?.f[c] ?? 1);
      dweight.f[c]! += g.f[i]! * (x.f[i]! - mean.f[set]!) * rstd.f[set]!;
      dbias.f[c]! += g.f[i]!;
    });
    normBackward(x, h, mean.f, rstd.f, (f) => eachGroup(x, a, f), dx.f);
  },
  saves: [],
  vjp: "nondifferentiable",
});

/** All normalisations. */
export const normOps = declare({
  batchNorm,
  batchNormStats,
  batchNormBackward,
  batchNormEval,
  updateRunningStats,
  groupNorm,
  groupNormBackward,
  ...rowNorms,
});
