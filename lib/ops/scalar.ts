// Scalar functions in float64 that JavaScript's Math lacks or computes too coarsely for a reference.

/** 1 / (1 + e⁻ˣ), without overflow. */
export function sigmoid(x: number): number {
  if (x >= 0) return 1 / (1 + Math.exp(-x));
  const e = Math.exp(x);
  return e / (1 + e);
}

/** x rounded to the nearest integer, ties to even. */
export function roundEven(x: number): number {
  const r = Math.round(x); // ties upwards
  const y = Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
  return y === 0 && (x < 0 || Object.is(x, -0)) ? -0 : y;
}

/**
 * The error function to about 1e-16 absolute: power series (Abramowitz & Stegun 7.1.6) up to |x| = 2.5, beyond it
 * 1 - erfc by its continued fraction (7.1.14), evaluated from the tail.
 */
export function erf(x: number): number {
  if (x !== x) return x;
  const z = Math.abs(x);
  if (z > 6) return Math.sign(x);
  if (z <= 2.5) {
    // erf x = 2/√π exp(-x²) Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1)): all terms positive, no cancellation
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
      term *= 2 * x * x / (2 * n + 1);
      sum += term;
    }
    return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
  }
  let f = z;
  for (let k = 60; k >= 1; k--) f = z + k / 2 / f;
  return Math.sign(x) * (1 - Math.exp(-z * z) / (f * Math.sqrt(Math.PI)));
}

/** x Φ(x), NaN at -∞ (-∞ · 0); the lower tail from erfc's continued fraction, so that it keeps relative accuracy. */
export function gelu(x: number): number {
  if (x === -Infinity) return NaN;
  if (x < -3.5) {
    const z = -x / Math.SQRT2;
    let f = z;
    for (let k = 60; k >= 1; k--) f = z + k / 2 / f;
    return x * 0.5 * Math.exp(-z * z) / (f * Math.sqrt(Math.PI));
  }
  return x * (1 + erf(x / Math.SQRT2)) / 2;
}

/** The tanh approximation of gelu; NaN at -∞ too. */
export function geluTanh(x: number): number {
  return x / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
}

/** ln(1 + exp(beta x)) / beta; linear above the threshold, as torch.nn.Softplus. */
export function softplus(x: number, beta: number, threshold: number): number {
  return beta * x > threshold ? x : Math.log1p(Math.exp(beta * x)) / beta;
}

/** x tanh(softplus(x)), NaN at -∞. */
export function mish(x: number): number {
  return x * Math.tanh(x > 20 ? x : Math.log1p(Math.exp(x)));
}
