// Recurrent layers: all steps of one direction of one layer as one op, from the input's part of the gates
// (one matrix product over all steps, made outside) to the hidden states. Backward ops give the gradient of
// every gate at every step, so that the weights' gradients are one product over all steps again.
// Shapes: T steps, B sequences, H hidden units, G gates; sequences run along dim 0.

import { isFloat } from "../dtype.ts";
import { show } from "../shape.ts";
import { call } from "../dispatch.ts";
import { stack } from "../tensor/join.ts";
import type { Tensor } from "../tensor/mod.ts";
import { declare, kernel, type OutputSpec, type RefTensor, type TypedKernelOp } from "./op.ts";
import { sigmoid } from "./scalar.ts";

/** Attributes of a recurrent layer. */
export interface RecurrentAttrs {
  /** Whether the steps are taken from the last to the first. */
  readonly reverse: boolean;
}

/** Attributes of a plain recurrent layer. */
export interface RnnAttrs extends RecurrentAttrs {
  /** Whether the nonlinearity is relu instead of tanh. */
  readonly relu: boolean;
}

/** Checks the tensors of a layer with `gates` gates and returns the shapes of sequences and states. */
function layerShapes(
  what: string,
  gates: number,
  xg: Tensor,
  w: Tensor,
  states: readonly Tensor[],
): { sequence: number[]; state: number[] } {
  const [steps, batch, wide] = xg.shape, hidden = w.shape[1];
  const expect = (name: string, t: Tensor, shape: readonly (number | undefined)[]): void => {
    if (t.dtype !== xg.dtype) {
      throw new TypeError(
        `Cannot run ${what} on ${xg.dtype} gates with ${t.dtype} ${name}: convert it with to("${xg.dtype}")`,
      );
    }
    if (t.ndim !== shape.length || shape.some((s, i) => s !== t.shape[i])) {
      throw new RangeError(
        `Cannot run ${what} on gates ${show(xg.shape)} with ${name} of shape ${
          show(t.shape)
        }: it must be ${show(shape as number[])}`,
      );
    }
  };
  if (xg.ndim !== 3 || steps === 0 || wide === 0 || wide! % gates !== 0 || !isFloat(xg.dtype)) {
    throw new RangeError(
      `Cannot run ${what} on ${xg.dtype} gates of shape ${
        show(xg.shape)
      }: it takes floating point ` +
        `(T, B, ${gates}H) with at least one step`,
    );
  }
  expect("recurrent weights", w, [wide, wide! / gates]);
  for (const t of states) expect("a state", t, [batch, hidden]);
  return { sequence: [steps!, batch!, hidden!], state: [batch!, hidden!] };
}

/** Calls `f` for each step in the order in which the layer takes them, with the step before (-1 at first). */
function eachStep(steps: number, reverse: boolean, f: (t: number, before: number) => void): void {
  for (let s = 0; s < steps; s++) {
    if (reverse) f(steps - 1 - s, s === 0 ? -1 : steps - s);
    else f(s, s - 1);
  }
}

/** The same from the last step taken to the first. */
function eachStepBack(
  steps: number,
  reverse: boolean,
  f: (t: number, before: number) => void,
): void {
  const order: [number, number][] = [];
  eachStep(steps, reverse, (t, before) => order.push([t, before]));
  for (const [t, before] of order.reverse()) f(t, before);
}

/** Σ_k w[row, k] h[at + k]. */
function recurrence(w: RefTensor, row: number, h: Float64Array, at: number): number {
  const hidden = w.shape[1]!;
  let sum = 0;
  for (let k = 0; k < hidden; k++) sum += w.f[row * hidden + k]! * h[at + k]!;
  return sum;
}

/** What a layer's state is before its first step: rows of `first`, later rows of `all`. */
function stateBefore(
  all: Float64Array,
  first: Float64Array,
  before: number,
  size: number,
): Float64Array {
  return before < 0 ? first : all.subarray(before * size, (before + 1) * size);
}

/** Copies the states before each step, and the state after the last one, out of `y`. */
function recordStates(
  y: RefTensor,
  h0: RefTensor,
  previous: RefTensor,
  hn: RefTensor,
  reverse: boolean,
): void {
  const [steps, batch, hidden] = y.shape as [number, number, number], size = batch * hidden;
  eachStep(steps, reverse, (t, before) => {
    previous.f.set(stateBefore(y.f, h0.f, before, size), t * size);
    hn.f.set(y.f.subarray(t * size, (t + 1) * size));
  });
}

/** dh[b, k] = Σ_j gates[b, j] w[j, k] (+ what dh holds). */
function backThrough(
  gates: Float64Array,
  at: number,
  w: RefTensor,
  dh: Float64Array,
  batch: number,
): void {
  const [wide, hidden] = w.shape as [number, number];
  for (let b = 0; b < batch; b++) {
    for (let k = 0; k < hidden; k++) {
      for (let j = 0; j < wide; j++) {
        dh[b * hidden + k]! += gates[at + b * wide + j]! * w.f[j * hidden + k]!;
      }
    }
  }
}

/** The gradient of the recurrent weights: one product over all steps. */
function weightGrad(gates: Tensor, previous: Tensor): Tensor {
  const [steps, batch, wide] = gates.shape as [number, number, number];
  const rows = steps * batch;
  return gates.reshape([rows, wide]).permute(1, 0).matmul(
    previous.reshape([rows, previous.shape[2]!]),
  );
}

/** The steps of a layer by differentiable ops: `step` maps the gates' input part and the state to the next state. */
function unrolled(
  xg: Tensor,
  initial: readonly Tensor[],
  reverse: boolean,
  step: (x: Tensor, state: readonly Tensor[]) => Tensor[],
): Tensor[] {
  const steps = xg.shape[0]!, ys = new Array<Tensor>(steps);
  let state = initial;
  eachStep(steps, reverse, (t) => {
    state = step(xg.select(0, t), state);
    ys[t] = state[0]!;
  });
  return [stack(ys), ...state];
}

/** Columns of gate `i`. */
function gate(x: Tensor, i: number, hidden: number): Tensor {
  return x.narrow(1, i * hidden, hidden);
}

// [T, B, H, reverse (0 or 1)], for the plain layer also relu (0 or 1).
function describe(shape: readonly number[], { reverse }: RecurrentAttrs): number[] {
  return [...shape, Number(reverse)];
}

/** Shapes of the gradients of the gates and of `states` initial states. */
function backwardSpecs(like: Tensor, wide: number, states: number): OutputSpec[] {
  const [steps, batch, hidden] = like.shape as [number, number, number], { dtype } = like;
  return [
    { shape: [steps, batch, wide], dtype },
    ...Array.from({ length: states }, () => ({ shape: [batch, hidden], dtype })),
  ];
}

const rnnLayerBackward: TypedKernelOp<RnnAttrs> = kernel({
  doc: "the gradients of rnnLayer's gates and initial state",
  inputs: ["y", "w"],
  optional: ["gy", "gh"],
  outputs: ["dx", "dh0"],
  infer: ({ y, w }, _: RnnAttrs) => backwardSpecs(y, w.shape[0]!, 1),
  descriptor: ({ y }, _, a) => [...describe(y.shape, a), Number(a.relu)],
  reference: ({ y, w, gy, gh }, { dx, dh0 }, a) => {
    const [steps, batch, hidden] = y.shape as [number, number, number], size = batch * hidden;
    if (gh !== null) dh0.f.set(gh.f);
    eachStepBack(steps, a.reverse, (t) => {
      for (let i = 0, at = t * size; i < size; i++, at++) {
        const dh = dh0.f[i]! + (gy === null ? 0 : gy.f[at]!), out = y.f[at]!;
        dx.f[at] = a.relu ? (out > 0 ? dh : 0) : dh * (1 - out * out);
      }
      dh0.f.fill(0);
      backThrough(dx.f, t * size, w, dh0.f, batch);
    });
  },
  saves: [],
  vjp: "nondifferentiable",
});

const lstmLayerBackward: TypedKernelOp<RecurrentAttrs> = kernel({
  doc: "the gradients of lstmLayer's gates and initial states",
  inputs: ["gates", "cells", "c0", "w"],
  optional: ["gy", "gh", "gc"],
  outputs: ["dx", "dh0", "dc0"],
  infer: ({ cells, w }, _: RecurrentAttrs) => backwardSpecs(cells, w.shape[0]!, 2),
  descriptor: ({ cells }, _, a) => describe(cells.shape, a),
  reference: ({ gates, cells, c0, w, gy, gh, gc }, { dx, dh0, dc0 }, a) => {
    const [steps, batch, hidden] = cells.shape as [number, number, number], size = batch * hidden;
    if (gh !== null) dh0.f.set(gh.f);
    if (gc !== null) dc0.f.set(gc.f);
    eachStepBack(steps, a.reverse, (t, before) => {
      const old = stateBefore(cells.f, c0.f, before, size);
      for (let b = 0; b < batch; b++) {
        for (let k = 0; k < hidden; k++) {
          const at = b * hidden + k, row = 4 * (t * size + b * hidden) + k;
          const [i, f, g, o] = [0, 1, 2, 3].map((n) => gates.f[row + n * hidden]!) as [
            number,
            number,
            number,
            number,
          ];
          const dh = dh0.f[at]! + (gy === null ? 0 : gy.f[t * size + at]!);
          const c = Math.tanh(cells.f[t * size + at]!), dc = dc0.f[at]! + dh * o * (1 - c * c);
          dx.f[row] = dc * g * i * (1 - i);
          dx.f[row + hidden] = dc * old[at]! * f * (1 - f);
          dx.f[row + 2 * hidden] = dc * i * (1 - g * g);
          dx.f[row + 3 * hidden] = dh * c * o * (1 - o);
          dc0.f[at] = dc * f;
        }
      }
      dh0.f.fill(0);
      backThrough(dx.f, 4 * t * size, w, dh0.f, batch);
    });
  },
  saves: [],
  vjp: "nondifferentiable",
});

const gruLayerBackward: TypedKernelOp<RecurrentAttrs> = kernel({
  doc: "the gradients of gruLayer's gates, of their recurrent parts, and of the initial state",
  inputs: ["gates", "previous", "w"],
  optional: ["gy", "gh"],
  outputs: ["dx", "dr", "dh0"],
  infer: ({ previous, w }, _: RecurrentAttrs) => {
    const [dx, dh0] = backwardSpecs(previous, w.shape[0]!, 1);
    return [dx!, dx!, dh0!];
  },
  descriptor: ({ previous }, _, a) => describe(previous.shape, a),
  reference: ({ gates, previous, w, gy, gh }, { dx, dr, dh0 }, a) => {
    const [steps, batch, hidden] = previous.shape as [number, number, number],
      size = batch * hidden;
    if (gh !== null) dh0.f.set(gh.f);
    eachStepBack(steps, a.reverse, (t) => {
      for (let b = 0; b < batch; b++) {
        for (let k = 0; k < hidden; k++) {
          const at = b * hidden + k, row = 3 * (t * size + b * hidden) + k;
          const [r, z, n, q] = [0, 1, 2, 3].map((g) =>
            gates.f[4 * (t * size + b * hidden) + g * hidden + k]!
          ) as [number, number, number, number];
          const dh = dh0.f[at]! + (gy === null ? 0 : gy.f[t * size + at]!);
          const dn = dh * (1 - z) * (1 - n * n);
          dx.f[row] = dr.f[row] = dn * q * r * (1 - r);
          dx.f[row + hidden] = dr.f[row + hidden] = dh * (previous.f[t * size + at]! - n) * z *
            (1 - z);
          dx.f[row + 2 * hidden] = dn;
          dr.f[row + 2 * hidden] = dn * r;
          dh0.f[at] = dh * z;
        }
      }
      backThrough(dr.f, 3 * t * size, w, dh0.f, batch);
    });
  },
  saves: [],
  vjp: "nondifferentiable",
});

/** Recurrent layers. `xg` (T, B, G H) is the input's part of the gates, both biases included where not stated. */
export const rnnOps = declare({
  // Descriptor: [T, B, H, reverse, relu].
  rnnLayer: kernel({
    doc: "h = tanh(xg + w h) at every step, or relu",
    inputs: ["xg", "h0", "w"],
    outputs: ["y", "hn"],
    aux: ["previous"],
    infer: ({ xg, h0, w }, _: RnnAttrs) => {
      const { sequence, state } = layerShapes("rnnLayer", 1, xg, w, [h0]);
      return [sequence, state, sequence].map((shape) => ({ shape, dtype: xg.dtype }));
    },
    descriptor: (_, { y }, a) => [...describe(y.shape, a), Number(a.relu)],
    reference: ({ xg, h0, w }, { y, hn, previous }, a) => {
      const [steps, batch, hidden] = y.shape as [number, number, number], size = batch * hidden;
      eachStep(steps, a.reverse, (t, before) => {
        const h = stateBefore(y.f, h0.f, before, size);
        for (let i = 0; i < size; i++) {
          const x = xg.f[t * size + i]! + recurrence(w, i % hidden, h, i - i % hidden);
          y.f[t * size + i] = a.relu ? (x > 0 || x !== x ? x : 0) : Math.tanh(x);
        }
      });
      recordStates(y, h0, previous, hn, a.reverse);
    },
    saves: ["y", "w", "previous"],
    vjp: ({ y: gy, hn: gh }, { y, w, previous }, a, needs) => {
      const [dx, dh0] = call(rnnLayerBackward, [y, w, gy, gh], a) as [Tensor, Tensor];
      return [dx, dh0, needs.w ? weightGrad(dx, previous) : null];
    },
    composition: ({ xg, h0, w }, a) =>
      unrolled(xg, [h0], a.reverse, (x, [h]) => {
        const sum = x.add(h!.matmul(w.permute(1, 0)));
        return [a.relu ? sum.relu() : sum.tanh()];
      }),
  }),
  rnnLayerBackward,

  // Gates in the order i, f, g, o. Descriptor: [T, B, H, reverse].
  lstmLayer: kernel({
    doc: "the LSTM of Hochreiter & Schmidhuber 1997 with forget gates at every step",
    inputs: ["xg", "h0", "c0", "w"],
    outputs: ["y", "hn", "cn"],
    aux: ["gates", "cells", "previous"],
    infer: ({ xg, h0, c0, w }, _: RecurrentAttrs) => {
      const { sequence, state } = layerShapes("lstmLayer", 4, xg, w, [h0, c0]);
      return [sequence, state, state, xg.shape, sequence, sequence].map((shape) => ({
        shape,
        dtype: xg.dtype,
      }));
    },
    descriptor: (_, { y }, a) => describe(y.shape, a),
    reference: ({ xg, h0, c0, w }, { y, hn, cn, gates, cells, previous }, a) => {
      const [steps, batch, hidden] = y.shape as [number, number, number], size = batch * hidden;
      eachStep(steps, a.reverse, (t, before) => {
        const h = stateBefore(y.f, h0.f, before, size),
          c = stateBefore(cells.f, c0.f, before, size);
        for (let b = 0; b < batch; b++) {
          const row = 4 * (t * size + b * hidden);
          for (let j = 0; j < 4 * hidden; j++) {
            const x = xg.f[row + j]! + recurrence(w, j, h, b * hidden);
            gates.f[row + j] = j >= 2 * hidden && j < 3 * hidden ? Math.tanh(x) : sigmoid(x);
          }
          for (let k = 0; k < hidden; k++) {
            const at = t * size + b * hidden + k;
            const [i, f, g, o] = [0, 1, 2, 3].map((n) => gates.f[row + n * hidden + k]!) as [
              number,
              number,
              number,
              number,
            ];
            cells.f[at] = f * c[b * hidden + k]! + i * g;
            y.f[at] = o * Math.tanh(cells.f[at]!);
          }
        }
        cn.f.set(cells.f.subarray(t * size, (t + 1) * size));
      });
      recordStates(y, h0, previous, hn, a.reverse);
    },
    saves: ["c0", "w", "gates", "cells", "previous"],
    vjp: ({ y: gy, hn: gh, cn: gc }, { c0, w, gates, cells, previous }, a, needs) => {
      const [dx, dh0, dc0] = call(lstmLayerBackward, [gates, cells, c0, w, gy, gh, gc], a) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      return [dx, dh0, dc0, needs.w ? weightGrad(dx, previous) : null];
    },
    composition: ({ xg, h0, c0, w }, a) => {
      const hidden = w.shape[1]!;
      return unrolled(xg, [h0, c0], a.reverse, (x, [h, c]) => {
        const sum = x.add(h!.matmul(w.permute(1, 0)));
        const [i, f, g, o] = [0, 1, 2, 3].map((n) => gate(sum, n, hidden)) as [
          Tensor,
          Tensor,
          Tensor,
          Tensor,
        ];
        const next = f.sigmoid().mul(c!).add(i.sigmoid().mul(g.tanh()));
        return [o.sigmoid().mul(next.tanh()), next];
      });
    },
  }),
  lstmLayerBackward,

  // Gates in the order r, z, n; `gates` also holds the recurrent part of n. Descriptor: [T, B, H, reverse].
  gruLayer: kernel({
    doc:
      "the GRU of Cho et al. 2014 at every step, with the reset gate after the recurrent product",
    inputs: ["xg", "h0", "w"],
    optional: ["bias"],
    outputs: ["y", "hn"],
    aux: ["gates", "previous"],
    infer: ({ xg, h0, w, bias }, _: RecurrentAttrs) => {
      const { sequence, state } = layerShapes("gruLayer", 3, xg, w, [h0]);
      if (
        bias !== null &&
        (bias.ndim !== 1 || bias.shape[0] !== w.shape[0] || bias.dtype !== xg.dtype)
      ) {
        throw new RangeError(
          `Cannot run gruLayer with a ${bias.dtype} bias of shape ${
            show(bias.shape)
          }: it must be ${xg.dtype} ${show([w.shape[0]!])}`,
        );
      }
      const saved = [sequence[0]!, sequence[1]!, 4 * sequence[2]!];
      return [sequence, state, saved, sequence].map((shape) => ({ shape, dtype: xg.dtype }));
    },
    descriptor: (_, { y }, a) => describe(y.shape, a),
    reference: ({ xg, h0, w, bias }, { y, hn, gates, previous }, a) => {
      const [steps, batch, hidden] = y.shape as [number, number, number], size = batch * hidden;
      eachStep(steps, a.reverse, (t, before) => {
        const h = stateBefore(y.f, h0.f, before, size);
        for (let b = 0; b < batch; b++) {
          for (let k = 0; k < hidden; k++) {
            const row = t * size + b * hidden;
            const [r, z, n] = [0, 1, 2].map((g) => xg.f[3 * row + g * hidden + k]!) as [
              number,
              number,
              number,
            ];
            const [hr, hz, q] = [0, 1, 2].map((g) =>
              recurrence(w, g * hidden + k, h, b * hidden) +
              (bias === null ? 0 : bias.f[g * hidden + k]!)
            ) as [number, number, number];
            const reset = sigmoid(r + hr),
              update = sigmoid(z + hz),
              candidate = Math.tanh(n + reset * q);
            [reset, update, candidate, q].forEach((v, g) => gates.f[4 * row + g * hidden + k] = v);
            y.f[row + k] = (1 - update) * candidate + update * h[b * hidden + k]!;
          }
        }
      });
      recordStates(y, h0, previous, hn, a.reverse);
    },
    saves: ["w", "gates", "previous"],
    vjp: ({ y: gy, hn: gh }, { w, gates, previous }, a, needs) => {
      const [dx, dr, dh0] = call(gruLayerBackward, [gates, previous, w, gy, gh], a) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      return [
        dx,
        dh0,
        needs.w ? weightGrad(dr, previous) : null,
        needs.bias ? dr.sum([0, 1]) : null,
      ];
    },
    composition: ({ xg, h0, w, bias }, a) => {
      const hidden = w.shape[1]!;
      return unrolled(xg, [h0], a.reverse, (x, [h]) => {
        const product = h!.matmul(w.permute(1, 0));
        const part = bias === null ? product : product.add(bias);
        const r = gate(x, 0, hidden).add(gate(part, 0, hidden)).sigmoid();
        const z = gate(x, 1, hidden).add(gate(part, 1, hidden)).sigmoid();
        const n = gate(x, 2, hidden).add(r.mul(gate(part, 2, hidden))).tanh();
        return [n.add(z.mul(h!.sub(n)))];
      });
    },
  }),
  gruLayerBackward,
});
