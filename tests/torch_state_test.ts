// State dicts of PyTorch's optimisers and schedules: golden/io/training.pt holds them after three steps (make_io.py wrote
// it), with what the further steps give there. Loaded here, the same steps must give the same.

import { assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose } from "./harness.ts";

interface Run {
  readonly optimizer: Record<string, unknown>;
  readonly scheduler?: Record<string, unknown>;
  readonly before: Tensor[];
  readonly after: Tensor[];
  readonly rates: number[];
}

const device = ndl.reference();
const file = new URL("golden/io/training.pt", import.meta.url);
const runs = await ndl.loadTorch<Record<string, Run>>(file, { device });
const { optim } = ndl, s = optim.lrScheduler;

/** What all optimisers do alike. */
interface Stepper {
  loadStateDict(dict: Record<string, unknown>): void;
  step(): void;
}

const optimizers: Record<string, (params: Tensor[]) => Stepper> = {
  SGD: (params) => new optim.SGD(params, { lr: 1 }),
  Adam: (params) => new optim.Adam(params),
  AdamW: (params) => new optim.AdamW(params),
  Adagrad: (params) => new optim.Adagrad(params),
  RMSprop: (params) => new optim.RMSprop(params),
};

const schedules: Record<string, (o: ndl.optim.SGD) => ndl.optim.lrScheduler.LRScheduler> = {
  StepLR: (o) => new s.StepLR(o, 2),
  MultiStepLR: (o) => new s.MultiStepLR(o, [1]),
  ExponentialLR: (o) => new s.ExponentialLR(o, 0.5),
  LinearLR: (o) => new s.LinearLR(o),
  CosineAnnealingLR: (o) => new s.CosineAnnealingLR(o, 7),
  CosineAnnealingWarmRestarts: (o) => new s.CosineAnnealingWarmRestarts(o, 5),
  OneCycleLR: (o) => new s.OneCycleLR(o, 0.5, { totalSteps: 10 }),
  LambdaLR: (o) => new s.LambdaLR(o, (e) => 0.9 ** e),
  ReduceLROnPlateau: (o) => new s.ReduceLROnPlateau(o),
  SequentialLR: (o) => new s.SequentialLR(o, [new s.LinearLR(o), new s.ExponentialLR(o, 0.5)], [3]),
};

Deno.test("optimisers go on from PyTorch's state dicts", () => {
  const tried = new Set<string>();
  for (const [name, run] of Object.entries(runs)) {
    const kind = name.split(" ")[0]!, make = optimizers[kind];
    if (make === undefined) continue;
    tried.add(kind);
    const params = run.before.map((t) => t.clone().requiresGrad_());
    const optimizer = make(params);
    optimizer.loadStateDict(run.optimizer);
    params.forEach((p, k) => p.grad = ndl.fullLike(p, 3.5 - k));
    optimizer.step();
    params.forEach((p, k) => {
      const close = { rtol: 1e-6, atol: 1e-7 };
      assertClose(p.toTypedArray(), run.after[k]!.toTypedArray(), close, `${name}, param ${k}`);
    });
  }
  assertEquals(tried.size, 5);
});

Deno.test("schedules go on from PyTorch's state dicts", () => {
  for (const [name, make] of Object.entries(schedules)) {
    const run = runs[name]!;
    const optimizer = new optim.SGD([ndl.zeros([1], { device })], { lr: 0.1, momentum: 0.9 });
    const scheduler = make(optimizer);
    optimizer.loadStateDict(run.optimizer);
    scheduler.loadStateDict(run.scheduler!);
    const rates = run.rates.map(() => {
      scheduler.step(1);
      return optimizer.paramGroups[0]!.lr;
    });
    assertClose(rates, run.rates, { rtol: 1e-12, atol: 0 }, name);
  }
});

Deno.test("a state dict of another optimiser of PyTorch is refused", () => {
  const params = runs["SGD 0"]!.before.map((t) => t.clone());
  assertThrows(
    () => new optim.SGD(params, { lr: 1 }).loadStateDict(runs["Adam 2"]!.optimizer),
    TypeError,
    "betas",
  );
  assertThrows(
    () => new optim.Adam(params.slice(1)).loadStateDict(runs["Adam 2"]!.optimizer),
    Error,
    "2 params instead of 1",
  );
});
