// Training whole networks: the same seed gives the same numbers twice on one device and close ones on others, and
// NEEDLE_CHECK=1 finds no op that disagrees with the reference while the examples train.

import { assert as stdAssert, assertEquals as stdEquals } from "@std/assert";
import * as ndl from "../mod.ts";
import { ResNet9 } from "../examples/resnet9.ts";
import { nativeDevices } from "./harness.ts";
import { answerOf, root } from "./process_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

/** Losses of a run, and every parameter's gradient in its first step. */
interface Run {
  readonly losses: number[];
  readonly grads: Map<string, Float64Array>;
}

const images = ndl.data.syntheticCIFAR10({ length: 32 });

/** Trains ResNet9 with the example's optimiser on two batches of 16, in turn. */
function train(device: ndl.Device, dtype: "float32" | "float64", steps: number): Run {
  const before = ndl.defaultDevice();
  ndl.setDefaultDevice(device);
  try {
    ndl.manualSeed(1);
    const model = ResNet9().to(dtype);
    const optimizer = new ndl.optim.Adam(model.parameters(), { lr: 1e-3, weightDecay: 1e-3 });
    const batches = [...new ndl.data.DataLoader(images, { batchSize: 16, shuffle: true, seed: 1 })];
    const losses: number[] = [];
    const grads = new Map<string, Float64Array>();
    for (let step = 0; step < steps; step++) {
      const [x, y] = batches[step % batches.length]!;
      optimizer.zeroGrad();
      const loss = ndl.nn.functional.crossEntropy(model.forward(x.to(dtype)), y);
      loss.backward();
      if (step === 0) {
        for (const [name, p] of model.namedParameters()) {
          grads.set(name, Float64Array.from(p.grad!.toTypedArray() as Float32Array));
        }
      }
      optimizer.step();
      losses.push(loss.item());
    }
    return { losses, grads };
  } finally {
    ndl.setDefaultDevice(before);
  }
}

function largest(values: Float64Array): number {
  return values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
}

/** The largest difference, as a part of the largest value. */
function relative(a: Float64Array, b: Float64Array, floor: number): number {
  const scale = Math.max(floor, largest(b));
  let worst = 0;
  for (let i = 0; i < b.length; i++) {
    const d = Math.abs(a[i]! - b[i]!);
    if (!(d <= worst)) worst = d; // NaN stays
  }
  return worst / scale;
}

function assertClose(got: Run, want: Run, limits: { first: number; grad: number; later: number }) {
  assertEquals(got.losses.length, want.losses.length);
  // Biases before a batch norm have no gradient but rounding: all gradients share one smallest scale.
  const floor = 0.01 * Math.max(...[...want.grads.values()].map(largest));
  for (const [name, g] of want.grads) {
    const d = relative(got.grads.get(name)!, g, floor);
    assert(d <= limits.grad, `gradient of ${name} differs by ${d} of its largest value`);
  }
  want.losses.forEach((loss, i) => {
    const d = Math.abs(got.losses[i]! - loss), limit = i === 0 ? limits.first : limits.later;
    assert(d <= limit, `loss ${i + 1} is ${got.losses[i]} instead of ${loss}`);
  });
}

const steps = 10;

Deno.test("ResNet9 in float32: one loss curve on every device, bit for bit on each", () => {
  const want = train(ndl.reference(), "float32", steps);
  assert(want.losses.at(-1)! < want.losses[0]!, `the loss does not fall: ${want.losses}`);
  for (const device of nativeDevices()) {
    const got = train(device, "float32", steps);
    assertClose(got, want, { first: 1e-5, grad: 1e-3, later: 3e-2 });
    assertEquals(train(device, "float32", steps), got, `${device} twice`);
  }
});

Deno.test("ResNet9 in float64: one loss curve on every device to 1e-9", () => {
  const want = train(ndl.reference(), "float64", steps);
  for (const device of nativeDevices()) {
    const got = train(device, "float64", steps);
    assertClose(got, want, { first: 1e-9, grad: 1e-9, later: 1e-9 });
    assertEquals(train(device, "float64", 2).losses, got.losses.slice(0, 2), `${device} twice`);
  }
});

const checked = [
  { example: "resnet9.ts", model: "ResNet9()", data: "syntheticCIFAR10", length: 32 },
  { example: "mlp_mnist.ts", model: "MLPResNet()", data: "syntheticMNIST", length: 256 },
];

for (const device of nativeDevices()) {
  for (const { example, model, data, length } of checked) {
    Deno.test(`NEEDLE_CHECK=1: ${example} agrees with the reference on ${device}`, async () => {
      const folder = await Deno.makeTempDir();
      try {
        const answer = await answerOf<{ loss: number }>(
          `
          import * as ndl from "${root}mod.ts";
          import { ${model.replace("()", "")} } from "${root}examples/${example}";
          import { parseFlags, prepare, trainClassifier } from "${root}examples/training.ts";
          const defaults = { epochs: 1, batchSize: ${length / 2}, lr: 1e-3, weightDecay: 1e-3,
            device: "${device}", dtype: "float32", amp: null, seed: 0, data: null, limit: null,
            resume: false, checkpoint: "${folder}/c.safetensors", json: null, augment: false,
            lrSchedule: "none" };
          const flags = parseFlags("", defaults, []);
          prepare(flags);
          const sets = { train: ndl.data.${data}({ length: ${length} }),
            test: ndl.data.${data}({ train: false, length: 16 }) };
          const { train } = await trainClassifier(${model}, sets, flags);
          console.log(JSON.stringify({ loss: train.loss }));
        `,
          { env: { NEEDLE_CHECK: "1" } },
        );
        assert(answer.loss > 0 && answer.loss < 10, `loss ${answer.loss}`);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    });
  }
}
