// Every elementwise op on every native device against the reference: layouts, broadcasting, numbers, special values,
// integer types, in place; and the derivatives: finite differences in float64, kernels against the reference.

import { assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { inPlace } from "../lib/dispatch.ts";
import { elementwiseOps } from "../lib/ops/elementwise.ts";
import type { ElementwiseOp } from "../lib/ops/op.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { elementwiseSamples } from "./samples/elementwise.ts";
import type { ElementwiseSample } from "./samples/sample.ts";
import { assertClose, kernelDevices, layouts, place, seedOf, tolerance } from "./harness.ts";
import {
  agreesWithReference,
  gradientsAgree,
  operands,
  runElementwise,
} from "./elementwise_cases.ts";
import { gradcheck } from "../lib/autograd/gradcheck.ts";

const devices = kernelDevices();
const names = Object.keys(elementwiseOps) as (keyof typeof elementwiseOps)[];

for (const device of devices) {
  for (const name of names) {
    Deno.test(`${name} on ${device} agrees with the reference`, () => {
      agreesWithReference(name, device);
    });
  }

  Deno.test(`in-place ops on ${device} write through views and leave neighbours alone`, () => {
    for (const layout of layouts) {
      const base = place([1, 2, 3, 4, 5, 6], [2, 3], "float32", device, layout);
      const before = base._data.version;
      inPlace(elementwiseOps.mul, base, ndl.tensor([10, 100, 1000], { device }), 0);
      assertClose(
        base.toTypedArray(),
        [10, 200, 3000, 40, 500, 6000],
        tolerance("float32"),
        layout,
      );
      if (base._data.version !== before + 1) throw new Error("the version did not count the write");
    }
  });
}

for (const name of names) {
  const op: ElementwiseOp = elementwiseOps[name];
  if (op.grads === "nondifferentiable" || op.result !== "same") continue;
  Deno.test(`${name} has the derivatives that finite differences give`, () => {
    const sample: ElementwiseSample = elementwiseSamples[name];
    for (const shapes of [[[2, 3]], [[3], [2, 1]]]) {
      const x = operands(
        op,
        sample,
        shapes,
        "float64",
        ndl.reference(),
        "contiguous",
        seedOf(name),
      );
      const inputs = x.map((t, i) =>
        typeof t !== "number" && t.dtype === "float64" && op.grads[i] !== null
          ? t.requiresGrad_()
          : t
      );
      const free = inputs.filter((t): t is Tensor => typeof t !== "number" && t.requiresGrad);
      gradcheck(() => runElementwise(op, inputs), free);
      gradcheck(
        () => {
          const y = runElementwise(op, inputs);
          const g = ndl.grad(y, free, {
            gradOutputs: y._full(0.7),
            createGraph: true,
            allowUnused: true,
          });
          return g.filter((t): t is Tensor => t !== null && t.requiresGrad);
        },
        free,
      );
    }
  });
}

for (const device of devices) {
  Deno.test(`elementwise gradients on ${device} agree with the reference`, () => {
    for (const name of names) gradientsAgree(name, device);
  });
}

Deno.test("integer division by zero is an error on every device", () => {
  for (const device of [ndl.reference(), ...devices]) {
    const a = ndl.tensor([1, 2], { dtype: "int32", device });
    assertThrows(() => a.floorDivide(0), RangeError, "zero");
    assertThrows(
      () => a.remainder(ndl.tensor([1, 0], { dtype: "int32", device })),
      RangeError,
      "zero",
    );
    assertThrows(() => a.pow(-1), RangeError, "negative");
  }
});

Deno.test("NaN and infinities have no integer", () => {
  for (const device of [ndl.reference(), ...devices]) {
    for (const x of [NaN, Infinity, -Infinity, 1e300]) {
      const t = ndl.tensor([x], { dtype: "float64", device });
      assertThrows(() => t.to("int32"), RangeError);
      assertThrows(() => t.to("int64"), RangeError);
    }
  }
});

Deno.test("operands on two devices, of wrong kinds or shapes are named", () => {
  const a = ndl.zeros([2, 3], { device: ndl.reference() });
  assertThrows(
    () => a.add(ndl.zeros([4], { device: ndl.reference() })),
    RangeError,
    "[2, 3] and [4]",
  );
  assertThrows(() => a.add("1" as unknown as number), TypeError, "string");
  assertThrows(() => a.to("bool").neg(), TypeError, "bool");
  assertThrows(() => a.where(1, 0), TypeError, "condition");
  for (const device of devices) {
    assertThrows(() => a.add(ndl.zeros([3], { device })), Error, device.name);
  }
});
