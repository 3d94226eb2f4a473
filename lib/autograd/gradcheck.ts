// gradcheck and gradgradcheck: analytic gradients against finite differences, entry by entry of the Jacobian.

import type { Tensor } from "../tensor/mod.ts";
import { tensor } from "../tensor/create.ts";
import { show } from "../shape.ts";
import { grad } from "./engine.ts";
import { enableGrad, noGrad } from "./mode.ts";
import { checkOptions, checkTensors, told } from "../options.ts";

/** Options of gradcheck, PyTorch's names. */
export interface GradcheckOptions {
  /** Step of the central difference. */
  readonly eps?: number;
  /** Absolute tolerance, times max(1, the largest entry of the Jacobian). */
  readonly atol?: number;
}

function outputsOf(y: Tensor | readonly Tensor[]): readonly Tensor[] {
  return Array.isArray(y) ? y : [y as Tensor];
}

/** The elements of all outputs, as float64. */
function flat(ys: readonly Tensor[]): Float64Array {
  return Float64Array.from(ys.flatMap((y) => Array.from(y.toTypedArray() as Float64Array)));
}

/** Writes one element of a row-major float64 tensor. */
function poke(t: Tensor, i: number, value: number): void {
  t.device.backend.write(
    t._memory,
    8 * (t._start + i),
    new Uint8Array(Float64Array.of(value).buffer),
  );
}

/**
 * Compares the gradients of `fn` with central differences: |analytic - numeric| ≤ atol · max(1, max |J|).
 *
 * @param fn a function of the inputs; it must compute the same for the same inputs
 * @param inputs one or several float64 leaves that require grad
 * @returns true
 * @throws Error that names the worst entry where they differ, TypeError for inputs that cannot be checked
 */
export function gradcheck(
  fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options: GradcheckOptions = {},
): true {
  checkOptions("gradcheck", options, ["eps", "atol"]);
  if (typeof fn !== "function") {
    throw new TypeError(`Cannot gradcheck ${told(fn)}: give a function`);
  }
  const { eps = 1e-6, atol = 1e-6 } = options;
  const xs = Array.isArray(inputs) ? inputs as readonly Tensor[] : [inputs as Tensor];
  for (const x of xs) {
    checkTensors("gradcheck", { input: x });
    if (x.dtype !== "float64" || !x.requiresGrad || !x.isLeaf || x._layout !== 0) {
      throw new TypeError(
        `Cannot gradcheck a ${x.dtype} input of shape ${
          show(x.shape)
        }: inputs must be row-major float64 leaves that require grad`,
      );
    }
  }
  const outputs = outputsOf(fn(...xs)).filter((y) => y.requiresGrad);
  const rows = outputs.reduce((n, y) => n + y.numel(), 0);
  // Analytic: one row of the Jacobian per output element.
  const analytic = xs.map((x) => new Float64Array(rows * x.numel()));
  let row = 0;
  for (const y of outputs) {
    for (let k = 0; k < y.numel(); k++, row++) {
      const unit = new Float64Array(y.numel());
      unit[k] = 1;
      const g = grad(y, xs, {
        gradOutputs: tensor(unit, { shape: y.shape, dtype: y.dtype, device: y.device }),
        retainGraph: true,
        allowUnused: true,
      });
      g.forEach((t, i) => {
        if (t !== null) analytic[i]!.set(t.toTypedArray() as Float64Array, row * xs[i]!.numel());
      });
    }
  }
  const recorded = outputsOf(fn(...xs)).map((y) => y.requiresGrad);
  const evaluate = (): Float64Array =>
    flat(outputsOf(fn(...xs)).filter((_, i) => recorded[i]).map((y) => y.detach()));
  noGrad(() => {
    xs.forEach((x, i) => {
      const n = x.numel(), values = x.toTypedArray() as Float64Array;
      const numeric = new Float64Array(rows * n);
      for (let j = 0; j < n; j++) {
        const at = values[j]!;
        poke(x, j, at + eps);
        const up = evaluated(evaluate);
        poke(x, j, at - eps);
        const down = evaluated(evaluate);
        poke(x, j, at);
        for (let r = 0; r < rows; r++) numeric[r * n + j] = (up[r]! - down[r]!) / (2 * eps);
      }
      let scale = 1;
      for (const v of numeric) scale = Math.max(scale, Math.abs(v));
      for (let k = 0; k < numeric.length; k++) {
        const a = analytic[i]![k]!, b = numeric[k]!;
        if (!(Math.abs(a - b) <= atol * scale)) {
          throw new Error(
            `Gradients differ for input ${i} of shape ${show(x.shape)}: d output[${
              Math.floor(k / n)
            }] / d input[${k % n}] is ${a} by backward and ${b} by finite differences`,
          );
        }
      }
    });
  });
  return true;
}

// Functions that differentiate inside themselves need recording on, also while we only evaluate.
function evaluated(f: () => Float64Array): Float64Array {
  return enableGrad(f);
}

/**
 * Checks second derivatives: gradcheck of the gradients of `fn`, weighted by fixed random-looking outputs gradients.
 *
 * @returns true
 * @throws Error where they differ from finite differences
 */
export function gradgradcheck(
  fn: (...inputs: Tensor[]) => Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options: GradcheckOptions = {},
): true {
  const xs = Array.isArray(inputs) ? inputs as readonly Tensor[] : [inputs as Tensor];
  return gradcheck(
    (...given) => {
      const ys = outputsOf(fn(...given)).filter((y) => y.requiresGrad);
      const weights = ys.map((y, k) =>
        tensor(Float64Array.from({ length: y.numel() }, (_, i) => Math.cos(1 + i + 3 * k)), {
          shape: y.shape,
          dtype: y.dtype,
          device: y.device,
        })
      );
      const g = grad(ys, given, { gradOutputs: weights, createGraph: true, allowUnused: true });
      return g.filter((t): t is Tensor => t !== null && t.requiresGrad);
    },
    xs,
    options,
  );
}
