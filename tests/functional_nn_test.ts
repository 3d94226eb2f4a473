// Layers as functions: results and gradients against PyTorch (golden/functional_nn.json, made by
// golden/make_functional_nn.py), in both memory orders, and what they refuse.

import * as ndl from "../mod.ts";
import * as F from "../lib/functional/layers.ts";
import { allocate } from "../lib/tensor/base.ts";
import { channelsLastStrides, isChannelsLast } from "../lib/shape.ts";
import type { Device } from "../lib/device.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, nativeDevices } from "./harness.ts";

interface Values {
  readonly shape: number[];
  readonly values: number[];
}

interface Case {
  readonly name: string;
  readonly tensors: Values[];
  readonly args: unknown[];
  readonly options: Record<string, unknown>;
  readonly outputs: Values[];
  readonly grads: Values[];
  /** Tensors that are written in place, with what they hold afterwards. */
  readonly state: [number, Values][];
}

const cases: readonly Case[] = JSON.parse(
  Deno.readTextFileSync(new URL("golden/functional_nn.json", import.meta.url)),
);
const close = { rtol: 1e-8, atol: 1e-8 };

function place({ shape, values }: Values, device: Device, channelsLast: boolean): Tensor {
  const t = ndl.tensor(Float64Array.from(values), { shape, device });
  if (!channelsLast || shape.length < 3) return t;
  const y = allocate(shape, "float64", device, channelsLastStrides(shape), -1 as 0);
  y.copy_(t);
  return y;
}

function check(c: Case, device: Device, channelsLast: boolean): void {
  const what = `${c.name} ${JSON.stringify(c.args)} ${JSON.stringify(c.options)} on ${device}`;
  const tensors = c.tensors.map((t) => place(t, device, channelsLast));
  const state = c.state.map(([i]) => i);
  const leaves = tensors.filter((_, i) => !state.includes(i));
  for (const t of leaves) t.requiresGrad_();
  const fill = (v: unknown): unknown =>
    typeof v === "string" && v.startsWith("$") ? tensors[Number(v.slice(1))] : v;
  const args = c.args.map(fill);
  const options = Object.fromEntries(Object.entries(c.options).map(([k, v]) => [k, fill(v)]));
  const functions = F as unknown as Record<string, (...args: unknown[]) => Tensor | Tensor[]>;
  const result = c.name === "matmul"
    ? (args[0] as Tensor).matmul(args[1] as Tensor)
    : functions[c.name]!(...args, options);
  const outputs = Array.isArray(result) ? result : [result];
  const same = (got: Tensor, want: Values, which: string): void => {
    if (String(got.shape) !== String(want.shape)) {
      throw new Error(`${what} ${which}: shape [${got.shape}] instead of [${want.shape}]`);
    }
    assertClose(got.toTypedArray(), want.values, close, `${what} ${which}`);
  };
  c.outputs.forEach((want, i) => same(outputs[i]!, want, `output ${i}`));
  const y = outputs[0]!;
  const weights = Float64Array.from({ length: y.numel() }, (_, i) => Math.cos(1 + i));
  const gradOutputs = ndl.tensor(weights, { shape: [...y.shape], device });
  const grads = ndl.grad(y, leaves, { gradOutputs });
  c.grads.forEach((want, i) => same(grads[i]!, want, `gradient ${i}`));
  for (const [i, want] of c.state) same(tensors[i]!, want, `tensor ${i} afterwards`);
}

for (const device of [ndl.reference(), ...nativeDevices()]) {
  for (const channelsLast of [false, true]) {
    Deno.test(`functions agree with PyTorch on ${device}${channelsLast ? ", channels last" : ""}`, () => {
      for (const c of cases) check(c, device, channelsLast);
    });
  }
}

Deno.test("batch norm with ReLU is batch norm, then ReLU", async () => {
  const { batchNormRelu } = await import("../lib/functional/norm.ts");
  for (const device of [ndl.reference(), ...nativeDevices()]) {
    for (const training of [true, false]) {
      for (const channelsLast of [false, true]) {
        const make = (shape: number[], seed: number): Tensor => {
          const n = shape.reduce((a, b) => a * b, 1);
          const values = Array.from({ length: n }, (_, i) => Math.sin(seed + 7 * i));
          return place({ shape, values }, device, channelsLast).requiresGrad_();
        };
        const x = make([3, 4, 2, 5], 1), w = make([4], 2), b = make([4], 3);
        const mean = ndl.zeros([4], { dtype: "float64", device });
        const variance = ndl.ones([4], { dtype: "float64", device });
        const options = { weight: w, bias: b, training };
        const fused = batchNormRelu(x, mean.clone(), variance.clone(), options, true);
        const plain = F.batchNorm(x, mean, variance, options).relu();
        const g = make([3, 4, 2, 5], 4).detach();
        const mine = ndl.grad(fused, [x, w, b], { gradOutputs: g });
        const theirs = ndl.grad(plain, [x, w, b], { gradOutputs: g });
        assertClose(fused.toTypedArray(), plain.toTypedArray(), close, `${device} forward`);
        mine.forEach((t, i) =>
          assertClose(
            t!.toTypedArray(),
            theirs[i]!.toTypedArray(),
            close,
            `${device} gradient ${i}`,
          )
        );
      }
    }
  }
});

Deno.test("convolutions, pools and norms keep channels-last memory, and view still works", () => {
  for (const device of nativeDevices()) {
    const x = ndl.ones([2, 3, 8, 8], { device }), w = ndl.ones([4, 3, 3, 3], { device });
    const y = F.conv2d(x, w, { padding: 1 });
    const z = F.groupNorm(F.batchNorm(F.maxPool2d(y, 2), null, null, { training: true }), 2);
    for (const t of [y, z, F.avgPool2d(y, 2), F.adaptiveAvgPool2d(y, 3)]) {
      if (!isChannelsLast(t.shape, t._strides)) {
        throw new Error(`strides [${t._strides}] on ${device}`);
      }
    }
    const flat = z.view(2, -1);
    if (flat.shape[1] !== 64) throw new Error(`shape [${flat.shape}]`);
    if (F.batchNorm(x, null, null, { training: true })._layout !== 0) {
      throw new Error("a row-major input must give a row-major result");
    }
  }
});

function refuses(f: () => unknown, type: ErrorConstructor, ...parts: string[]): void {
  try {
    f();
  } catch (error) {
    const { message } = error as Error;
    const missing = parts.filter((p) => !message.includes(p));
    if (error instanceof type && missing.length === 0) return;
    throw new Error(`"${message}" should be a ${type.name} that says ${missing.join(" and ")}`);
  }
  throw new Error(`nothing was thrown; expected ${parts.join(" and ")}`);
}

Deno.test("what does not fit is refused with shapes and a way out", () => {
  const z = (...shape: number[]): Tensor => ndl.zeros(shape);
  refuses(
    () => z(3, 4).matmul(z(5, 6)),
    RangeError,
    "Cannot matmul [3, 4] by [5, 6]: inner sizes 4 and 5 differ",
  );
  refuses(() => z(2, 3, 4).matmul(z(5, 4, 6)), RangeError, "batch sizes 2 and 5 of dim -3");
  refuses(
    () => z(2, 2).matmul(z(2, 2).to("float64")),
    TypeError,
    "float32",
    "float64",
    "to(dtype)",
  );
  refuses(() => z(2).matmul(ndl.tensor(1)), RangeError, "at least one dim");
  refuses(() => z(2, 2).to("bool").matmul(z(2, 2).to("bool")), TypeError, "bool");
  refuses(() => z(2).mm(z(2, 2)), RangeError, "Cannot mm [2] by [2, 2]");
  refuses(() => z(2, 3, 4).bmm(z(3, 4, 5)), RangeError, "batch sizes 2 and 3");
  refuses(() => z(2, 3).dot(z(3)), RangeError, "Cannot dot [2, 3] by [3]");
  refuses(() => F.linear(z(2, 3), z(4, 5)), RangeError, "[2, 3]", "[4, 5]", "3 and 5");
  refuses(() => F.linear(z(2, 3), z(4, 3), { bias: z(3) }), RangeError, "bias", "[4]");
  refuses(() => F.conv2d(z(1, 3, 8, 8), z(4, 2, 3, 3)), RangeError, "3 channels", "takes 2");
  refuses(
    () => F.conv2d(z(1, 4, 8, 8), z(3, 2, 3, 3), { groups: 2 }),
    RangeError,
    "3 output channels",
  );
  refuses(() => F.conv2d(z(1, 1, 2, 2), z(1, 1, 3, 3)), RangeError, "3 by 3", "2 by 2", "padding");
  refuses(
    () => F.conv2d(z(1, 1, 4, 4), z(1, 1, 3, 3), { padding: "same", stride: 2 }),
    RangeError,
    "same",
  );
  refuses(() => F.conv2d(z(1, 1, 4, 4), z(1, 1, 3, 3), { stride: 0 }), RangeError, "stride 0");
  refuses(() => F.conv2d(z(1, 1, 4, 4).to("int64"), z(1, 1, 3, 3)), TypeError, "int64");
  refuses(
    () => F.conv2d(z(1, 1, 4, 4), z(1, 1, 3, 3), { strid: 1 } as object),
    TypeError,
    '"strid"',
    "stride",
  );
  refuses(
    () => F.convTranspose2d(z(1, 1, 4, 4), z(1, 1, 3, 3), { outputPadding: 1 }),
    RangeError,
    "outputPadding",
  );
  refuses(() => F.maxPool2d(z(1, 1, 4, 4), 2, { padding: 2 }), RangeError, "padding 2", "half");
  refuses(() => F.maxPool2d(z(1, 1, 2, 2), 3), RangeError, "2 by 2", "no window fits");
  refuses(() => F.maxPool2d(z(4, 4), 2), RangeError, "3 or 4 dims");
  refuses(
    () => F.batchNorm(z(1, 3), null, null, { training: true }),
    RangeError,
    "Expected more than 1 value per channel when training",
  );
  refuses(() => F.batchNorm(z(2, 3), null, null), TypeError, "running statistics");
  refuses(() => F.batchNorm(z(2, 3), z(4), z(4)), RangeError, "[4]", "[3]");
  refuses(() => F.layerNorm(z(2, 3), [4]), RangeError, "Cannot layerNorm [2, 3] over [4]");
  refuses(() => F.groupNorm(z(2, 5), 2), RangeError, "5 channels", "2 groups");
});
