// How fusion changes speed: elementwise ops computed one by one, each a pass over memory, beside the same ops fused
// into one pass (lazy evaluation), and compositions beside the ops that have a kernel of their own; measured.
//
// Data: none. Time: about five seconds.
//
// Run: deno task fusion

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

const usual = 1 << 20, slow = 1 << 12;
const flags = readFlags("How fusion changes speed.", {
  size: { help: `elements of the vectors (${usual}; reference: ${slow})`, value: null, least: 64 },
  ...measuringFlags,
}) as { size: number | null; device: string | null; seconds: number };

const F = ndl.nn.functional;
const float = 4; // bytes of a float32

/** Handed each result of a chain: computes it at once, or leaves it pending. */
type Between = (t: ndl.Tensor) => ndl.Tensor;

const atOnce: Between = (t) => {
  ndl.evaluate(t);
  return t;
};
const pending: Between = (t) => t;

/** `count` cheap ops, each on the result of the one before, which nobody needs afterwards. */
function chain(x: ndl.Tensor, count: number, between: Between): ndl.Tensor {
  let y = x;
  for (let i = 0; i < count; i++) {
    const next = between(i % 2 === 0 ? y.mul(1.01) : y.add(0.1));
    if (y !== x) y.dispose();
    y = next;
  }
  return y;
}

function time(f: () => ndl.Tensor): number {
  return milliseconds(flags.seconds, f);
}

function ratio(slow: number, fast: number): string {
  return `${digits(slow / fast)}x`;
}

const n = openDevice(flags.device, flags.size, usual, slow);
ndl.manualSeed(0);

console.log(`
An elementwise op on native devices does not compute: its result stays pending until somebody reads
it, and then everything that is pending is computed in one pass, tile by tile in the innermost cache.
"one by one" forces every step with ndl.evaluate. (NEEDLE_EAGER=1 switches pending results off; the
reference device has none, nor have tensors of fewer than 4096 elements: there both columns agree.)`);

const x = ndl.randn([n]);

title(`1. Chains of ops on ${n.toLocaleString("en")} numbers`);
const chains = [1, 2, 4, 8, 16].map((count) => {
  const each = time(() => chain(x, count, atOnce)), fast = time(() => chain(x, count, pending));
  return [
    String(count),
    digits(each),
    perSecond(2 * count * float * n, each),
    digits(fast),
    perSecond(2 * float * n, fast),
    ratio(each, fast),
  ];
});
printTable(
  ["ops", "one by one, ms", "GB/s", "fused, ms", "GB/s", "faster"],
  chains,
  false,
);
console.log(
  "One by one, k ops read and write the vector k times; fused, once. GB/s counts these passes: where it\n" +
    "falls among the fused ones, arithmetic costs more than memory.",
);

title("2. Five ops on vectors of other sizes");
const sizes = [...new Set([64, 16, 4, 1].map((k) => Math.max(1, Math.floor(n / k))))];
const bySize = [...sizes, 4 * n].map((size) => {
  using v = ndl.randn([size]);
  const each = time(() => chain(v, 5, atOnce)), fast = time(() => chain(v, 5, pending));
  return [
    size.toLocaleString("en"),
    `${digits(float * size / 2 ** 20)} MiB`,
    digits(each),
    digits(fast),
    ratio(each, fast),
  ];
});
printTable(["numbers", "memory", "one by one, ms", "fused, ms", "faster"], bySize, false);
console.log(
  "Fusion saves passes over memory: the slower the memory that holds the vector, the more it saves.",
);

title("3. Forward and backward of (x w + b).sigmoid() x, summed");
const leaves = [ndl.randn([n]), ndl.randn([n])].map((t) => t.requiresGrad_());
/** The gradient of w; with `between` also the gradients on the way are computed where they appear. */
function gradient(between: Between): ndl.Tensor {
  const [w, b] = leaves as [ndl.Tensor, ndl.Tensor];
  const steps: ndl.Tensor[] = [];
  const step = (t: ndl.Tensor): ndl.Tensor => {
    if (between === atOnce) t.registerHook((g) => ndl.evaluate(g));
    steps.push(t);
    return between(t);
  };
  const y = step(step(step(step(x.mul(w)).add(b)).sigmoid()).mul(x)).sum();
  y.backward();
  for (const t of [...steps, y]) t.dispose();
  const { grad } = w;
  w.grad = null;
  ndl.evaluate(b.grad!);
  b.grad!.dispose();
  b.grad = null;
  return grad!;
}
const each = time(() => gradient(atOnce)), fast = time(() => gradient(pending));
printTable(["", "one by one, ms", "fused, ms", "faster"], [
  ["gradients of w and b", digits(each), digits(fast), ratio(each, fast)],
], false);
console.log(
  "Forward writes only what backward reads again (the sigmoid); the sum reads the fused expression's result.",
);

title("4. Compositions beside ops with a kernel of their own");
using _ = ndl.noGrad();
const rows = Math.max(1, Math.floor(n / 512)), table = ndl.randn([rows, 512]);
const target = ndl.randint(0, 512, [rows]), pick = ndl.oneHot(target, 512).to("float32");
const normalized = (t: ndl.Tensor): ndl.Tensor => {
  const centred = t.sub(t.mean(1, { keepdim: true }));
  return centred.div(centred.square().mean(1, { keepdim: true }).add(1e-5).sqrt());
};
const softmax = (t: ndl.Tensor): ndl.Tensor => {
  const e = t.sub(t.amax(1, { keepdim: true })).exp();
  return e.div(e.sum(1, { keepdim: true }));
};
const pairs: [name: string, composed: () => ndl.Tensor, own: () => ndl.Tensor][] = [
  ["gelu", () => table.mul(table.mul(Math.SQRT1_2).erf().add(1)).mul(0.5), () => table.gelu()],
  ["softmax", () => softmax(table), () => table.softmax(1)],
  ["layer norm", () => normalized(table), () => F.layerNorm(table, [512])],
  [
    "cross entropy",
    () => table.logsumexp(1).sub(table.mul(pick).sum(1)).mean(),
    () => F.crossEntropy(table, target),
  ],
];
printTable(
  [`on [${rows}, 512]`, "composed, ms", "own kernel, ms", "faster"],
  pairs.map(([name, composed, own]) => {
    const a = time(() => ndl.tidy(composed)), b = time(own);
    return [name, digits(a), digits(b), ratio(a, b)];
  }),
  false,
);
console.log(
  "Reductions end a fused expression: what is between two of them goes through memory. A kernel that knows\n" +
    "the whole row keeps it in cache instead, and its gradient is one kernel, too.",
);
