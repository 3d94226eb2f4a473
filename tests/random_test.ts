// The random generator: the stream of the publication, the same on every device, its state, and the distributions.

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { philox } from "../lib/rng.ts";
import { nativeDevices } from "./harness.ts";

Deno.test("philox gives the known answers of Random123", () => {
  const all = 0xffffffff;
  const answers = [
    [[0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
    [[all, all, all, all], [all, all], "408f276d 41c83b0e a20bc7c6 6d5451fd"],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      "d16cfe09 94fdcceb 5001e420 24126ea1",
    ],
  ] as const;
  const out = new Uint32Array(4);
  for (const [counter, key, text] of answers) {
    philox(counter, key, out, 0);
    assertEquals(Array.from(out, (w) => w.toString(16).padStart(8, "0")).join(" "), text);
  }
});

const programs: Record<string, (device: ndl.Device) => Tensor> = {
  rand: (device) => ndl.rand([7, 11], { device }),
  "rand float64": (device) => ndl.rand([7, 11], { device, dtype: "float64" }),
  randint: (device) => ndl.randint(-5, 1000, [7, 11], { device }),
  randperm: (device) => ndl.randperm(101, { device }),
  bernoulli: (device) => ndl.bernoulli(ndl.full([7, 11], 0.3, { device })),
  dropout: (device) => ndl.nn.functional.dropout(ndl.ones([7, 11], { device }), 0.25),
  multinomial: (device) => ndl.tensor([[1, 0, 3], [2, 2, 2]], { device }).multinomial(2),
};

Deno.test("all devices draw the same numbers", () => {
  for (const device of nativeDevices()) {
    for (const [name, run] of Object.entries(programs)) {
      const draws = [ndl.reference(), device].map((d) => {
        ndl.manualSeed(5);
        return [run(d), run(d)].map((t) => t.tolist());
      });
      assertEquals(draws[1], draws[0], `${name} on ${device}`);
    }
    ndl.manualSeed(5);
    const mine = ndl.randn([1000], { device }).toTypedArray();
    ndl.manualSeed(5);
    const theirs = ndl.randn([1000], { device: ndl.reference() }).toTypedArray();
    mine.forEach((x: number | bigint, i: number) => {
      const off = Math.abs(Number(x) - Number(theirs[i]));
      if (!(off < 1e-5)) throw new Error(`randn on ${device} differs by ${off} at ${i}`);
    });
  }
});

Deno.test("the state of the generator can be kept and put back", () => {
  ndl.manualSeed(2 ** 53);
  ndl.rand(5);
  const state = ndl.getRngState();
  assertEquals([state.dtype, state.shape], ["uint8", [16]]);
  const first = [ndl.randn(5).tolist(), ndl.randint(10, [5]).tolist()];
  ndl.setRngState(state);
  assertEquals([ndl.randn(5).tolist(), ndl.randint(10, [5]).tolist()], first);
  assertThrows(() => ndl.setRngState(ndl.zeros(16)), TypeError, "getRngState");
  assertThrows(() => ndl.manualSeed(-1), RangeError, "0 to 2^53");
  assertThrows(() => ndl.manualSeed(0.5), RangeError, "0 to 2^53");
});

/** Throws unless `x` is within five standard errors of `mean`. */
function near(what: string, x: number, mean: number, error: number): void {
  if (!(Math.abs(x - mean) < 5 * error)) throw new Error(`${what} is ${x}, not about ${mean}`);
}

Deno.test("distributions have the right moments and ranges", () => {
  ndl.manualSeed(1);
  const n = 200_000,
    moments = (t: Tensor): [number, number, number[]] => {
      const x = Array.from(t.toTypedArray() as Iterable<number | bigint>, Number);
      const mean = x.reduce((a, b) => a + b, 0) / n;
      return [mean, x.reduce((a, b) => a + (b - mean) ** 2, 0) / n, x];
    };
  const check = (name: string, t: Tensor, mean: number, variance: number): number[] => {
    const [m, v, x] = moments(t);
    near(`mean of ${name}`, m, mean, Math.sqrt(variance / n));
    near(`variance of ${name}`, v / variance, 1, Math.sqrt(3 / n));
    return x;
  };
  const device = ndl.defaultDevice();
  for (const dtype of ["float32", "float64"] as const) {
    const u = check(`rand ${dtype}`, ndl.rand([n], { dtype, device }), 1 / 2, 1 / 12);
    assertEquals(u.every((x) => x >= 0 && x < 1), true);
    const z = check(`randn ${dtype}`, ndl.randn([n], { dtype, device }), 0, 1);
    for (const [bound, share] of [[1, 0.317311], [2, 0.0455], [3, 0.0027]] as const) {
      const beyond = z.filter((x) => Math.abs(x) > bound).length / n;
      near(`share beyond ${bound}`, beyond, share, Math.sqrt(share / n));
    }
  }
  const dice = check("randint", ndl.randint(1, 7, [n]), 3.5, 35 / 12);
  assertEquals([...new Set(dice)].sort(), [1, 2, 3, 4, 5, 6]);
  check("bernoulli", ndl.bernoulli([n], 0.3), 0.3, 0.21);
  check("dropout", ndl.nn.functional.dropout(ndl.ones([n]), 0.25), 1, 1 / 3);
  const drawn = ndl.tensor([1, 2, 0, 1]).multinomial(n, { replacement: true });
  check("multinomial", drawn, 5 / 4, (2 + 9) / 4 - 25 / 16);
});

Deno.test("permutations and draws without replacement take everything once", () => {
  assertEquals(ndl.randperm(100).tolist().toString() !== ndl.arange(100).tolist().toString(), true);
  const sorted = (t: Tensor): number[] => (t.tolist() as number[]).sort((a, b) => a - b);
  assertEquals(sorted(ndl.randperm(100)), ndl.arange(100).tolist());
  assertEquals(ndl.randperm(0).shape, [0]);
  assertEquals(sorted(ndl.tensor([3, 0, 1, 2]).multinomial(3)), [0, 2, 3]);
});

Deno.test("dropout passes the gradient where it passed the value", () => {
  const x = ndl.ones([1000], { requiresGrad: true });
  const y = ndl.nn.functional.dropout(x, 0.5);
  y.sum().backward();
  assertEquals(x.grad!.tolist(), y.tolist());
  assertEquals(ndl.nn.functional.dropout(x, 0.5, { training: false }), x);
  assertEquals(ndl.nn.functional.dropout(x, 1).sum().item(), 0);
});

Deno.test("uniform numbers of 16 bits stay below 1", () => {
  for (const dtype of ["float16", "bfloat16"] as const) {
    ndl.manualSeed(1);
    const x = ndl.rand([200_000], { dtype });
    assert(x.max().item() < 1 && x.max().item() > 0.99 && x.min().item() >= 0);
  }
});

Deno.test("mistakes are named", () => {
  const errors: [() => unknown, string][] = [
    [() => ndl.rand([2], { dtype: "int64" }), "randint"],
    [() => ndl.randint(3, 3, [2]), "low must be below high"],
    [() => ndl.bernoulli([2], 1.5), "between 0 and 1"],
    [() => ndl.bernoulli(ndl.tensor([0.5, 2])), "between 0 and 1"],
    [() => ndl.nn.functional.dropout(ndl.ones([2]), -0.1), "between 0 and 1"],
    [() => ndl.tensor([1, 0]).multinomial(2), "only 1 weights above 0"],
    [() => ndl.tensor([1, -1]).multinomial(1), "not negative"],
    [() => ndl.tensor([0, 0]).multinomial(1), "all 0"],
    [() => ndl.rand([-1]), "non-negative"],
    [() => ndl.rand([1], { size: 3 } as never), 'Unknown option "size"'],
  ];
  for (const [run, message] of errors) assertThrows(run, Error, message);
});
