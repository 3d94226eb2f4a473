// How accurate the vectorised functions are: over floats of every size, against the reference in float64, in units in
// the last place; and that an element's value does not depend on its neighbours, which may need a slower way.

import * as ndl from "../mod.ts";
import { elementwiseOps } from "../lib/ops/elementwise.ts";
import { nativeDevices } from "./harness.ts";
import { runElementwise } from "./elementwise_cases.ts";

type Name = keyof typeof elementwiseOps;

/** The largest error in units in the last place that csrc/cpu/kernels/vmath.h states (without fused multiply-add). */
const bounds: Partial<Record<Name, number>> = {
  exp: 1.2,
  expm1: 1.6,
  log: 0.9,
  log1p: 1.5,
  log2: 1.4,
  sin: 2.3,
  cos: 2.3,
  tanh: 2,
  sigmoid: 2.4,
  erf: 1.2,
  gelu: 2.7,
};

/** Where the bound holds; everywhere, where nothing is said. */
const from: Partial<Record<Name, number>> = { gelu: -1 };

/** Every 65537th float: all signs and exponents, NaN and both zeros among them. */
function floats(): Float32Array {
  return new Float32Array(Uint32Array.from({ length: 65536 }, (_, i) => i * 65537).buffer);
}

/** The distance between floats at the size of `x`. */
function unit(x: number): number {
  const exponent = Math.floor(Math.log2(Math.min(Math.abs(x), 3e38)));
  return 2 ** (Math.max(exponent, -126) - 23);
}

function apply(name: Name, x: ndl.Tensor): Float64Array | Float32Array {
  const y = runElementwise(elementwiseOps[name], [x]);
  return y.toTypedArray() as Float64Array | Float32Array;
}

for (const device of nativeDevices()) {
  for (const name of Object.keys(bounds) as Name[]) {
    Deno.test(`${name} on ${device} is within ${bounds[name]} units in the last place`, () => {
      const x = floats();
      const got = apply(name, ndl.tensor(x, { device }));
      const want = apply(name, ndl.tensor(Float64Array.from(x), { device: ndl.reference() }));
      for (let i = 0; i < x.length; i++) {
        const y = got[i]!, exact = want[i]!;
        if (x[i]! < (from[name] ?? -Infinity) || Object.is(y, exact)) continue;
        const error = Math.abs(y - exact) / unit(exact);
        const overflow = Math.abs(y) === Infinity && Math.fround(exact) === y;
        if (!(error <= bounds[name]!) && !overflow && !(y !== y && exact !== exact)) {
          throw new Error(`${name}(${x[i]}) is ${y} instead of ${exact}: ${error} units`);
        }
      }
    });
  }

  Deno.test(`an element's value on ${device} does not depend on its neighbours`, () => {
    const x = Float32Array.from({ length: 96 }, (_, i) => (i % 48 - 24) / 7);
    const mixed = x.slice();
    const special = [NaN, Infinity, -Infinity, 1e-40, -1e-40, 3e38, -3e38, 1e5, 0, -0, 100, -100];
    for (let i = 0; i < mixed.length; i += 3) mixed[i] = special[(i / 3) % special.length]!;
    for (const [key, op] of Object.entries(elementwiseOps)) {
      if (op.arity !== 1 || op.result !== "same") continue;
      const name = key as Name;
      const plain = apply(name, ndl.tensor(x, { device }));
      const among = apply(name, ndl.tensor(mixed, { device }));
      for (let i = 0; i < x.length; i++) {
        if (i % 3 === 0 || Object.is(plain[i], among[i])) continue;
        throw new Error(`${name}(${x[i]}) is ${plain[i]}, but ${among[i]} among special values`);
      }
    }
  });
}
