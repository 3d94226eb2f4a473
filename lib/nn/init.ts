// Initialisation of parameters, PyTorch's torch.nn.init: every function fills its tensor in place, unrecorded,
// from the library's generator, and returns it.

import { noGrad } from "../autograd/mode.ts";
import { show } from "../shape.ts";
import { checkNumbers, checkOptions, checkTensors, told } from "../options.ts";
import { eye, tensor } from "../tensor/create.ts";
import { erf } from "../ops/scalar.ts";
import { fillNormal, fillUniform, randn } from "../tensor/random.ts";
import type { Tensor } from "../tensor/mod.ts";

/** Nonlinearities that gains are known for. */
export type Nonlinearity =
  | "linear"
  | "conv1d"
  | "conv2d"
  | "conv3d"
  | "convTranspose1d"
  | "convTranspose2d"
  | "convTranspose3d"
  | "sigmoid"
  | "tanh"
  | "relu"
  | "leakyRelu"
  | "selu";

/** The factor by which a nonlinearity shrinks the standard deviation; `param` is the slope of leakyRelu (0.01). */
export function calculateGain(nonlinearity: Nonlinearity, param?: number | null): number {
  const slope = param ?? 0.01;
  checkNumbers("calculateGain", { param: slope });
  switch (nonlinearity) {
    case "linear":
    case "conv1d":
    case "conv2d":
    case "conv3d":
    case "convTranspose1d":
    case "convTranspose2d":
    case "convTranspose3d":
    case "sigmoid":
      return 1;
    case "tanh":
      return 5 / 3;
    case "relu":
      return Math.SQRT2;
    case "leakyRelu":
      return Math.sqrt(2 / (1 + slope * slope));
    case "selu":
      return 3 / 4;
    default:
      throw new TypeError(`Unknown nonlinearity ${told(nonlinearity)}`);
  }
}

/** Inputs and outputs of one unit: sizes 1 and 0 of the weight times its receptive field. */
function fans(t: Tensor): { fanIn: number; fanOut: number } {
  checkTensors("this initialisation", { tensor: t });
  if (t.ndim < 2) {
    throw new RangeError(
      `Cannot compute fan in and fan out of shape ${show(t.shape)}: it needs two dims or more`,
    );
  }
  const field = t.shape.slice(2).reduce((a, b) => a * b, 1);
  return { fanIn: t.shape[1]! * field, fanOut: t.shape[0]! * field };
}

/** Uniform in [a, b). */
export function uniform_(t: Tensor, a = 0, b = 1): Tensor {
  checkTensors("uniform_", { tensor: t });
  checkNumbers("uniform_", { a, b });
  return fillUniform(t, a, b);
}

/** Normal with the given mean and standard deviation. */
export function normal_(t: Tensor, mean = 0, std = 1): Tensor {
  checkTensors("normal_", { tensor: t });
  checkNumbers("normal_", { mean, std });
  return fillNormal(t, mean, std);
}

/** Normal, redrawn outside [a, b]. */
export function truncNormal_(t: Tensor, mean = 0, std = 1, a = -2, b = 2): Tensor {
  checkTensors("truncNormal_", { tensor: t });
  checkNumbers("truncNormal_", { mean, std, a, b });
  return noGrad(() => {
    // By inversion of the distribution function, as torch: uniform between Φ(a) and Φ(b), then Φ⁻¹ by Newton steps.
    const phi = (x: number): number => 0.5 * (1 + erf(x / Math.SQRT2));
    const lo = phi((a - mean) / std), hi = phi((b - mean) / std);
    const u = fillUniform(t, lo, hi).toTypedArray() as Float32Array;
    const values = Float64Array.from(
      u,
      (p) => Math.min(b, Math.max(a, mean + std * inversePhi(p, phi))),
    );
    t.copy_(tensor(values, { shape: t.shape, device: t.device }));
    return t;
  });
}

/** Φ⁻¹(p) by bisection: robust, and exact to float64 rounding after 60 halvings. */
function inversePhi(p: number, phi: (x: number) => number): number {
  let lo = -9, hi = 9;
  for (let i = 0; i < 60; i++) {
    const mid = (lo + hi) / 2;
    if (phi(mid) < p) lo = mid;
    else hi = mid;
  }
  return (lo + hi) / 2;
}

/** Every element `value`. */
export function constant_(t: Tensor, value: number): Tensor {
  checkTensors("constant_", { tensor: t });
  checkNumbers("constant_", { value });
  return noGrad(() => t.fill_(value));
}

/** Ones. */
export function ones_(t: Tensor): Tensor {
  return constant_(t, 1);
}

/** Zeros. */
export function zeros_(t: Tensor): Tensor {
  return constant_(t, 0);
}

/** The identity matrix. */
export function eye_(t: Tensor): Tensor {
  checkTensors("eye_", { tensor: t });
  if (t.ndim !== 2) {
    throw new RangeError(`Cannot fill shape ${show(t.shape)} with an identity: it needs two dims`);
  }
  return noGrad(() => t.copy_(eye(t.shape[0]!, t.shape[1]!, { device: t.device })));
}

/** Uniform in ±gain √(6 / (fanIn + fanOut)), Glorot & Bengio 2010. */
export function xavierUniform_(t: Tensor, gain = 1): Tensor {
  const { fanIn, fanOut } = fans(t);
  checkNumbers("xavierUniform_", { gain });
  const bound = gain * Math.sqrt(6 / (fanIn + fanOut));
  return fillUniform(t, -bound, bound);
}

/** Normal with standard deviation gain √(2 / (fanIn + fanOut)), Glorot & Bengio 2010. */
export function xavierNormal_(t: Tensor, gain = 1): Tensor {
  const { fanIn, fanOut } = fans(t);
  checkNumbers("xavierNormal_", { gain });
  return fillNormal(t, 0, gain * Math.sqrt(2 / (fanIn + fanOut)));
}

/** Options of the Kaiming initialisations. */
export interface KaimingOptions {
  /** Slope of the leaky ReLU that follows (default 0). */
  readonly a?: number;
  /** Keep the variance forward or backward. */
  readonly mode?: "fanIn" | "fanOut";
  /** The nonlinearity that follows (default leakyRelu). */
  readonly nonlinearity?: Nonlinearity;
}

function kaimingStd(t: Tensor, options: KaimingOptions): number {
  checkOptions("kaiming initialisation", options, ["a", "mode", "nonlinearity"]);
  const { a = 0, mode = "fanIn", nonlinearity = "leakyRelu" } = options;
  if (mode !== "fanIn" && mode !== "fanOut") {
    throw new TypeError(`Unknown mode ${told(mode)} of initialisation: use "fanIn" or "fanOut"`);
  }
  return calculateGain(nonlinearity, a) / Math.sqrt(fans(t)[mode]);
}

/** Uniform with the variance gain² / fan, He et al. 2015. */
export function kaimingUniform_(t: Tensor, options: KaimingOptions = {}): Tensor {
  const bound = Math.sqrt(3) * kaimingStd(t, options);
  return fillUniform(t, -bound, bound);
}

/** Normal with the variance gain² / fan, He et al. 2015. */
export function kaimingNormal_(t: Tensor, options: KaimingOptions = {}): Tensor {
  return fillNormal(t, 0, kaimingStd(t, options));
}

/** Uniform in ±1/√fanIn: what PyTorch's layers do for biases. */
export function uniformBound_(t: Tensor, fanIn: number): Tensor {
  const bound = fanIn > 0 ? 1 / Math.sqrt(fanIn) : 0;
  return fillUniform(t, -bound, bound);
}

/** A random (semi-)orthogonal matrix times `gain`, Saxe et al. 2013: Gram–Schmidt on a normal matrix. */
export function orthogonal_(t: Tensor, gain = 1): Tensor {
  checkTensors("orthogonal_", { tensor: t });
  checkNumbers("orthogonal_", { gain });
  if (t.ndim < 2) {
    throw new RangeError(
      `Cannot make shape ${show(t.shape)} orthogonal: it needs two dims or more`,
    );
  }
  return noGrad(() => {
    const rows = t.shape[0]!, cols = t.numel() / Math.max(rows, 1);
    const [short, long] = rows < cols ? [rows, cols] : [cols, rows];
    const m = Float64Array.from(
      randn([short * long], { dtype: "float64", device: t.device }).toTypedArray() as Float64Array,
    );
    const row = (i: number): Float64Array => m.subarray(i * long, (i + 1) * long);
    for (let i = 0; i < short; i++) {
      const v = row(i);
      for (let pass = 0; pass < 2; pass++) { // twice is enough (Giraud et al. 2005)
        for (let j = 0; j < i; j++) {
          const u = row(j);
          let d = 0;
          for (let k = 0; k < long; k++) d += u[k]! * v[k]!;
          for (let k = 0; k < long; k++) v[k]! -= d * u[k]!;
        }
      }
      const norm = Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
      for (let k = 0; k < long; k++) v[k]! /= norm;
    }
    const values = new Float64Array(m.length);
    for (let i = 0; i < short; i++) {
      for (let k = 0; k < long; k++) {
        values[rows < cols ? i * cols + k : k * cols + i] = gain * m[i * long + k]!;
      }
    }
    t.copy_(tensor(values, { shape: t.shape, device: t.device }));
    return t;
  });
}
