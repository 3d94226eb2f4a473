// Optimisers and learning rate schedules against PyTorch (tests/golden/optim.json, made by make_optim.py), their
// state dicts, errors and memory.

import { assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import type { Device } from "../lib/device.ts";
import type { DType } from "../lib/dtype.ts";
import type { LRScheduler, ScheduledOptimizer } from "../lib/optim/lr_scheduler.ts";
import type { OptimizerState } from "../lib/optim/mod.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, nativeDevices } from "./harness.ts";

/** The part of an optimiser that these tests use. */
interface Steps extends ScheduledOptimizer {
  step(): void;
  zeroGrad(): void;
  stateDict(): OptimizerState;
  loadStateDict(state: OptimizerState): void;
}
type Options = Record<string, unknown>;
type Nested = number | Nested[];

interface Golden {
  readonly metrics: number[];
  readonly optimizers: {
    optimizer: keyof typeof makers;
    options: Options;
    after: Record<string, Nested[]>;
  }[];
  readonly schedules: {
    optimizer: keyof typeof makers;
    lrs: number[];
    schedulers: [keyof typeof ndl.optim.lrScheduler, unknown[], Options][];
    milestones: number[] | null;
    rates: number[][];
    momenta?: number[][];
  }[];
}

const makers = {
  SGD: ndl.optim.SGD,
  Adam: ndl.optim.Adam,
  AdamW: ndl.optim.AdamW,
  RMSprop: ndl.optim.RMSprop,
  Adagrad: ndl.optim.Adagrad,
} as unknown as Record<
  "SGD" | "Adam" | "AdamW" | "RMSprop" | "Adagrad",
  new (params: unknown, options?: Options) => Steps
>;
const schedulerMakers = ndl.optim.lrScheduler as unknown as Record<
  string,
  new (optimizer: ScheduledOptimizer, ...args: unknown[]) => LRScheduler
>;

const golden = JSON.parse(
  await Deno.readTextFile(new URL("./golden/optim.json", import.meta.url)),
) as Golden;
const devices = [ndl.reference(), ...nativeDevices()];

/** Parameters, targets and scales of the problem in make_optim.py. */
function problem(dtype: DType, device: Device): { params: Tensor[]; loss: () => Tensor } {
  const make = (data: Nested): Tensor => ndl.tensor(data, { dtype, device });
  const params = [make([[0.5, -1, 2], [1.5, -0.25, 0]]), make([3, -2, 1, 0.125])];
  const targets = [make([[1, 1, -1], [0, 0.5, 2]]), make([-1, 0, 2, 0.25])];
  const scales = [make([[1, 0.5, 2], [0.1, 3, 1]]), make([0.7, 1, 0.01, 5])];
  for (const p of params) p.requiresGrad_();
  const loss = (): Tensor => {
    const parts = params.map((p, i) => p.sub(targets[i]!).square().mul(scales[i]!).sum());
    return parts[0]!.add(parts[1]!);
  };
  return { params, loss };
}

function train(optimizer: Steps, loss: () => Tensor, steps: number): void {
  for (let i = 0; i < steps; i++) {
    optimizer.zeroGrad();
    loss().backward();
    optimizer.step();
  }
}

function flat(values: Nested): number[] {
  return [values].flat(Infinity as 1) as number[];
}

const tolerances = {
  float64: { rtol: 1e-11, atol: 1e-12 },
  float32: { rtol: 2e-5, atol: 2e-6 },
} as const;

for (const device of devices) {
  for (const { optimizer: name, options, after } of golden.optimizers) {
    Deno.test(`${name} ${JSON.stringify(options)} on ${device} follows PyTorch`, () => {
      for (const dtype of ["float64", "float32"] as const) {
        const { params, loss } = problem(dtype, device);
        const optimizer = new makers[name](params, options);
        for (let step = 1; step <= 10; step++) {
          train(optimizer, loss, 1);
          const want = after[String(step)];
          if (want === undefined) continue;
          params.forEach((p, i) =>
            assertClose(
              p.toTypedArray() as Float64Array,
              flat(want[i]!),
              tolerances[dtype],
              `${dtype} step ${step} param ${i}`,
            )
          );
        }
      }
    });
  }

  Deno.test(`optimizers on ${device} take half precision parameters`, () => {
    for (const dtype of ["float16", "bfloat16"] as const) {
      for (const make of Object.values(makers)) {
        const { params, loss } = problem(dtype, device);
        const before = loss().item();
        train(new make(params, { lr: 0.02 }), loss, 5);
        assertEquals(params.map((p) => p.dtype), [dtype, dtype]);
        if (!(loss().item() < before)) throw new Error(`${make.name} does not descend in ${dtype}`);
      }
    }
  });

  Deno.test(`an optimizer on ${device} goes on from its state dict as if nothing happened`, () => {
    const all: [keyof typeof makers, Options][] = [
      ["SGD", { lr: 0.05, momentum: 0.9 }],
      ["Adam", { lr: 0.1, amsgrad: true }],
      ["AdamW", { lr: 0.1 }],
      ["RMSprop", { lr: 0.05, momentum: 0.5, centered: true }],
      ["Adagrad", { lr: 0.5, lrDecay: 0.1 }],
    ];
    for (const [name, options] of all) {
      const whole = problem("float32", device), halves = problem("float32", device);
      train(new makers[name](whole.params, options), whole.loss, 6);
      const first = new makers[name](halves.params, options);
      train(first, halves.loss, 3);
      const saved = first.stateDict();
      const second = new makers[name](halves.params);
      second.loadStateDict(saved);
      train(first, () => halves.loss().mul(0), 1); // the loaded tensors are copies
      const middle = problem("float32", device);
      train(new makers[name](middle.params, options), middle.loss, 3);
      ndl.noGrad(() => halves.params.forEach((p, i) => p.copy_(middle.params[i]!)));
      train(second, halves.loss, 3);
      halves.params.forEach((p, i) => assertEquals(p.tolist(), whole.params[i]!.tolist(), name));
    }
  });

  Deno.test(`optimizer steps on ${device} leave no memory behind`, () => {
    const live = (): number => device.allocator.counts().live;
    for (const make of Object.values(makers)) {
      const { params, loss } = problem("float32", device);
      const optimizer = new make(params, { lr: 0.01, weightDecay: 0.1 });
      train(optimizer, loss, 2);
      const before = live();
      for (let i = 0; i < 5; i++) optimizer.step();
      assertEquals(live(), before, make.name);
    }
  });
}

Deno.test("gradients in another memory order, views and frozen parameters are handled", () => {
  const w = ndl.tensor([[1, 2, 3], [4, 5, 6]], { requiresGrad: true });
  const frozen = ndl.tensor([1], { requiresGrad: true });
  const optimizer = new ndl.optim.SGD([w, frozen], { lr: 1, momentum: 0.5 });
  w.grad = ndl.tensor([[1, 2], [3, 4], [5, 6]]).transpose(0, 1);
  optimizer.step();
  assertEquals(w.tolist(), [[0, -1, -2], [2, 1, 0]]);
  assertEquals(frozen.tolist(), [1]);
  assertEquals(Object.keys(optimizer.stateDict().state), ["0"]);
  optimizer.zeroGrad();
  assertEquals(w.grad, null);
});

Deno.test("groups have options of their own, which can be assigned between steps", () => {
  const a = ndl.ones([2], { requiresGrad: true }), b = ndl.ones([2], { requiresGrad: true });
  const optimizer = new ndl.optim.SGD([{ params: [a], lr: 1 }, { params: b }], { lr: 0.5 });
  const c = ndl.ones([1], { requiresGrad: true });
  optimizer.addParamGroup({ params: [c], weightDecay: 1 });
  assertEquals(optimizer.paramGroups.map((g) => g.lr), [1, 0.5, 0.5]);
  assertEquals(optimizer.paramGroups.map((g) => g.weightDecay), [0, 0, 1]);
  optimizer.paramGroups[1]!.lr = 0.25;
  for (const p of [a, b, c]) p.grad = ndl.onesLike(p);
  optimizer.step();
  assertEquals([a, b, c].map((p) => p.tolist()), [[0, 0], [0.75, 0.75], [0]]);
});

Deno.test("a state dict has PyTorch's structure and survives saving", async () => {
  const { params, loss } = problem("float32", ndl.defaultDevice());
  const optimizer = new ndl.optim.Adam([{ params: [params[0]!] }, { params: [params[1]!], lr: 1 }]);
  train(optimizer, loss, 2);
  const state = optimizer.stateDict();
  assertEquals(state.paramGroups[1], {
    lr: 1,
    betas: [0.9, 0.999],
    eps: 1e-8,
    weightDecay: 0,
    amsgrad: false,
    maximize: false,
    params: [1],
  });
  assertEquals(Object.keys(state.state["0"]!), ["step", "expAvg", "expAvgSq"]);
  assertEquals(state.state["1"]!["step"], 2);
  const file = await Deno.makeTempFile();
  await ndl.save(file, state as unknown as Parameters<typeof ndl.save>[1]);
  const loaded = await ndl.load(file) as unknown as OptimizerState;
  await Deno.remove(file);
  const other = new ndl.optim.Adam([{ params: [params[0]!] }, { params: [params[1]!] }]);
  other.loadStateDict(loaded);
  assertEquals(other.paramGroups[1]!.lr, 1);
  const moment = other.stateDict().state["1"]!["expAvg"] as Tensor;
  assertEquals(moment.tolist(), (state.state["1"]!["expAvg"] as Tensor).tolist());
});

Deno.test("a state dict that does not fit changes nothing", () => {
  const { params, loss } = problem("float32", ndl.defaultDevice());
  const optimizer = new ndl.optim.Adam(params);
  train(optimizer, loss, 1);
  const load = (edit: (s: OptimizerState) => void): () => void => () => {
    const state = optimizer.stateDict();
    edit(state);
    optimizer.loadStateDict(state);
  };
  const moment = (): unknown => (optimizer.stateDict().state["0"]!["expAvg"] as Tensor).tolist();
  const before = moment();
  assertThrows(load((s) => s.paramGroups.pop()), Error, "0 param groups instead of 1");
  assertThrows(load((s) => s.paramGroups[0]!.params.pop()), Error, "1 params instead of 2");
  assertThrows(
    load((s) => {
      s.state["0"]!["expAvg"] = ndl.zeros([2, 3]);
      s.state["1"]!["expAvg"] = ndl.zeros([7]);
    }),
    Error,
    "the state of param 1 has expAvg of shape [7] instead of [4]",
  );
  assertThrows(load((s) => delete s.state["0"]!["expAvgSq"]), Error, "lacks expAvgSq");
  assertThrows(load((s) => s.state["0"]!["sum"] = 1), Error, "has sum, which Adam does not use");
  assertThrows(load((s) => s.state["0"]!["step"] = -1), Error, "not a count of steps");
  assertThrows(load((s) => s.state["5"] = {}), Error, "no group has param 5");
  assertThrows(load((s) => s.paramGroups[0]!["lr"] = NaN), RangeError, "lr = NaN");
  assertThrows(load((s) => s.paramGroups[0]!["momentum"] = 1), TypeError, '"momentum"');
  assertThrows(
    () => optimizer.loadStateDict({} as OptimizerState),
    TypeError,
    "{ state, paramGroups }",
  );
  assertEquals(moment(), before);
});

Deno.test("wrong parameters and options are errors that say what is wrong", () => {
  const { SGD, Adam, RMSprop, Adagrad } = ndl.optim;
  const w = ndl.ones([2], { requiresGrad: true });
  const p = [w];
  assertThrows(
    () => new SGD(p, { lr: -1 }),
    RangeError,
    "lr = -1: it must be a number of at least 0",
  );
  assertThrows(() => new SGD(p, { lr: NaN }), RangeError, "lr = NaN");
  assertThrows(() => new SGD(p, { momentum: -0.1 }), RangeError, "momentum = -0.1");
  assertThrows(() => new SGD(p, { nesterov: true }), RangeError, "nesterov needs a momentum");
  assertThrows(() => new Adam(p, { betas: [0.9, 1] }), RangeError, "betas = [0.9, 1]");
  assertThrows(() => new Adam(p, { eps: NaN }), RangeError, "eps = NaN");
  assertThrows(() => new RMSprop(p, { alpha: -1 }), RangeError, "alpha = -1");
  assertThrows(() => new Adagrad(p, { lrDecay: -1 }), RangeError, "lrDecay = -1");
  assertThrows(
    () => new SGD(p, { learningRate: 1 } as unknown as { lr: number }),
    TypeError,
    'Unknown option "learningRate" of SGD: it takes lr, momentum',
  );
  assertThrows(() => new SGD([{ params: p, beta: 1 } as { params: Tensor[] }]), TypeError, "beta");
  assertThrows(() => new SGD([]), Error, "without params");
  assertThrows(() => new SGD(w as unknown as Tensor[]), TypeError, "one tensor");
  assertThrows(() => new SGD([w, w]), Error, "params[1] appears twice");
  assertThrows(() => new SGD([{ params: w }, { params: w }]), Error, "appears twice");
  assertThrows(() => new SGD([w.mul(2)]), Error, "not a leaf");
  assertThrows(() => new SGD([ndl.tensor([1n])]), TypeError, "int64");
  assertThrows(() => new SGD([w, 1 as unknown as Tensor]), TypeError, "params[1] is a number");
  assertThrows(() => new SGD([["w", w]] as unknown as Tensor[]), TypeError, "an array");
  const adam = new Adam(p);
  w.grad = ndl.ones([2]);
  adam.step();
  const other = new SGD(p, { momentum: 0.9 });
  assertThrows(() => other.loadStateDict(adam.stateDict()), TypeError, "betas");
});

for (const { optimizer: name, lrs, schedulers, milestones, rates, momenta } of golden.schedules) {
  const title = schedulers.map(([s, args, o]) => `${s}(${JSON.stringify([...args, o])})`).join(
    ", ",
  );
  const make = (): { optimizer: Steps; scheduler: LRScheduler } => {
    const groups = lrs.map((lr) => ({ params: [ndl.zeros([1], { requiresGrad: true })], lr }));
    const optimizer = new makers[name](groups);
    const lambdas = [(e: number) => 0.95 ** e, (e: number) => 1 / (1 + e)];
    const made = schedulers.map(([s, args, options]) =>
      new schedulerMakers[s]!(optimizer, ...(s === "LambdaLR" ? [lambdas] : args), options)
    );
    const { SequentialLR } = ndl.optim.lrScheduler;
    return {
      optimizer,
      scheduler: milestones === null ? made[0]! : new SequentialLR(optimizer, made, milestones),
    };
  };
  const rate = (o: Steps): number[] => o.paramGroups.map((g) => g.lr);
  const momentum = (o: Steps): number[] => o.paramGroups.map((g) => g.betas?.[0] ?? g.momentum!);

  Deno.test(`${title} on ${name} follows PyTorch`, () => {
    const { optimizer, scheduler } = make();
    const exact = { rtol: 1e-12, atol: 1e-15 };
    rates.forEach((want, i) => {
      if (i > 0) scheduler.step(golden.metrics[i]!);
      assertClose(rate(optimizer), want, exact, `learning rates after ${i} steps`);
      assertEquals(scheduler.getLastLr(), rate(optimizer));
      if (momenta) assertClose(momentum(optimizer), momenta[i]!, exact, `momenta after ${i} steps`);
    });
  });

  Deno.test(`${title} on ${name} goes on from its state dict`, () => {
    const first = make(), second = make();
    for (let i = 1; i <= 12; i++) first.scheduler.step(golden.metrics[i]!);
    const saved = JSON.stringify(first.scheduler.stateDict(), (_, v) => v === Infinity ? "inf" : v);
    second.scheduler.loadStateDict(JSON.parse(saved, (_, v) => v === "inf" ? Infinity : v));
    second.optimizer.loadStateDict(first.optimizer.stateDict());
    assertEquals(second.scheduler.getLastLr(), rate(first.optimizer));
    for (let i = 13; i <= 40; i++) {
      first.scheduler.step(golden.metrics[i]!);
      second.scheduler.step(golden.metrics[i]!);
      assertEquals(rate(second.optimizer), rate(first.optimizer));
    }
  });
}

Deno.test("a schedule respects a learning rate assigned by hand, and resumes from lastEpoch", () => {
  const make = (lr: number): ndl.optim.SGD => new ndl.optim.SGD([ndl.zeros([1])], { lr });
  const { StepLR, ExponentialLR } = ndl.optim.lrScheduler;
  const optimizer = make(1), scheduler = new StepLR(optimizer, 2);
  optimizer.paramGroups[0]!.lr = 8;
  scheduler.step();
  assertEquals(scheduler.getLastLr(), [8]);
  scheduler.step();
  assertEquals(scheduler.getLastLr(), [0.8]);
  const resumed = make(0.25);
  assertThrows(() => new ExponentialLR(resumed, 0.5, { lastEpoch: 2 }), Error, "has no initialLr");
  resumed.paramGroups[0]!.initialLr = 1;
  const later = new ExponentialLR(resumed, 0.5, { lastEpoch: 2 });
  assertEquals([later.lastEpoch, ...later.getLastLr()], [3, 0.25]);
  later.step();
  assertEquals(later.getLastLr(), [0.125]);
});

Deno.test("wrong schedules are errors that say what is wrong", () => {
  const s = ndl.optim.lrScheduler;
  const optimizer = new ndl.optim.SGD([ndl.zeros([1])], { lr: 1 });
  const other = new ndl.optim.Adagrad([ndl.zeros([1])]);
  assertThrows(() => new s.StepLR({ paramGroups: [] }, 1), TypeError, "must be an optimizer");
  assertThrows(() => new s.StepLR(optimizer, 0), RangeError, "stepSize = 0");
  assertThrows(() => new s.ExponentialLR(optimizer, NaN), RangeError, "gamma = NaN");
  assertThrows(() => new s.LinearLR(optimizer, { startFactor: 0 }), RangeError, "startFactor = 0");
  assertThrows(() => new s.CosineAnnealingLR(optimizer, 0), RangeError, "tMax = 0");
  assertThrows(() => new s.OneCycleLR(optimizer, 1), TypeError, "give totalSteps, or epochs");
  assertThrows(() => new s.OneCycleLR(other, 1, { totalSteps: 5 }), Error, "neither momentum nor");
  assertThrows(() => new s.LambdaLR(optimizer, []), RangeError, "0 functions for 1 param groups");
  assertThrows(() => new s.ReduceLROnPlateau(optimizer, { factor: 1 }), RangeError, "factor = 1");
  assertThrows(() => new s.ReduceLROnPlateau(optimizer).step(), TypeError, "without a metric");
  assertThrows(
    () => new s.StepLR(optimizer, 1, { gama: 1 } as unknown as { gamma: number }),
    TypeError,
    '"gama"',
  );
  const step = new s.StepLR(optimizer, 1), foreign = new s.StepLR(other, 1);
  assertThrows(() => new s.SequentialLR(optimizer, [step], [1]), RangeError, "1 milestones for 1");
  assertThrows(() => new s.SequentialLR(optimizer, [foreign], []), TypeError, "another optimizer");
  assertThrows(() => step.loadStateDict({}), Error, "lacks");
  assertThrows(() => step.loadStateDict({ ...step.stateDict(), x: 1 }), Error, "it has x");
  assertThrows(() => step.loadStateDict({ ...step.stateDict(), gamma: "1" }), Error, "gamma");
  const short = new s.OneCycleLR(optimizer, 1, { totalSteps: 2 });
  short.step();
  short.step();
  assertThrows(() => short.step(), RangeError, "the cycle has 2 steps");
  optimizer.addParamGroup({ params: [ndl.zeros([1])] });
  assertThrows(() => step.step(), Error, "2 param groups, but had 1");
});
