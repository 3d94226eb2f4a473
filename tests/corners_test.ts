// Corners of functions that PyTorch's own test inputs and ONNX's node tests call: legal, unusual, easy to get wrong.
// The expected values are PyTorch's. Each case runs on the reference and on every native device.

import { assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { nativeDevices } from "./harness.ts";

const { functional } = ndl.nn;

/** The gradient of the sum of f(x). */
function slope(values: number[], f: (x: ndl.Tensor) => ndl.Tensor): unknown {
  const x = ndl.tensor(values, { requiresGrad: true });
  f(x).sum().backward();
  return x.grad!.tolist();
}

function int64(...values: number[]): ndl.Tensor {
  return ndl.tensor(values, { dtype: "int64" });
}

/** What is computed, and what PyTorch gives. */
const cases: Record<string, [() => unknown, unknown]> = {
  "arange counts integers from an integer": [
    () => ndl.arange(-0.9, 2.1, 2, { dtype: "int64" }).tolist(),
    [0, 2],
  ],
  "arange of integers takes the count of the numbers given": [
    () => ndl.arange(0, 5, 1.9, { dtype: "int32" }).tolist(),
    [0, 1, 2],
  ],
  "arange of uint8 wraps": [
    () => ndl.arange(2.1, -1.9, -1, { dtype: "uint8" }).tolist(),
    [2, 1, 0, 255],
  ],
  "linspace of integers joins integers": [
    () => ndl.linspace(4.3, -3, 4, { dtype: "int32" }).tolist(),
    [4, 1, 0, -3],
  ],
  "eye of bools": [
    () => ndl.eye(2, 3, { dtype: "bool" }).tolist(),
    [[true, false, false], [false, true, false]],
  ],
  "a number divided in integers": [
    () => ndl.div(8, int64(3, -3), { roundingMode: "trunc" }).tolist(),
    [2, -2],
  ],
  "a fraction divided and rounded down": [
    () => ndl.div(8.5, int64(3, -3), { roundingMode: "floor" }).tolist(),
    [2, -3],
  ],
  "nonzero of a 0-d tensor, as a tuple": [
    () => ndl.tensor(5).nonzero({ asTuple: true }).map((t) => t.tolist()),
    [[0]],
  ],
  "a 0-d mask reads": [
    () => [true, false].map((m) => ndl.tensor(5).get(ndl.tensor(m)).tolist()),
    [[5], []],
  ],
  "a 0-d mask writes": [
    () => [true, false].map((m) => ndl.tensor(5).set(ndl.tensor(m), 7).item()),
    [7, 5],
  ],
  "parts of nothing": [
    () => ndl.zeros([5, 0, 5]).unbind().map((t) => t.tolist()),
    [[], [], [], [], []],
  ],
  "linear of integers": [
    () => functional.linear(int64(1, 2), int64(3, 4), { bias: int64(5) }).tolist(),
    [16],
  ],
  "linear of integer matrices": [
    () =>
      functional.linear(int64(1, 2).reshape(1, 2), int64(3, 4, 5, 6).reshape(2, 2), {
        bias: int64(7, 8),
      }).tolist(),
    [[18, 25]],
  ],
  "conv2d of integers": [
    () =>
      functional.conv2d(
        ndl.arange(9).reshape(1, 1, 3, 3),
        ndl.ones([1, 1, 2, 2], { dtype: "int64" }),
        { bias: int64(1) },
      ).tolist(),
    [[[[9, 13], [21, 25]]]],
  ],
  "convTranspose1d of integers": [
    () =>
      functional.convTranspose1d(int64(1, 2).reshape(1, 2), ndl.ones([1, 1, 2], { dtype: "int64" }))
        .tolist(),
    [[1, 3, 2]],
  ],
  "maxPool2d of integers": [
    () => {
      const x = ndl.arange(16, { dtype: "uint8" }).reshape(1, 4, 4);
      const [y, at] = functional.maxPool2d(x, 2, { returnIndices: true });
      return [y.dtype, y.tolist(), at.tolist()];
    },
    ["uint8", [[[5, 7], [13, 15]]], [[[5, 7], [13, 15]]]],
  ],
  "batch norm of no samples leaves the statistics": [
    () => {
      const mean = ndl.zeros([2]), variance = ndl.ones([2]);
      functional.batchNorm(ndl.zeros([0, 2, 3]), mean, variance, { training: true });
      return [mean.tolist(), variance.tolist()];
    },
    [[0, 0], [1, 1]],
  ],
  "a negative zero prints its sign in every notation": [
    () => [[-0, 1], [-0, 0.5], [-0, 1e9]].map((v) => String(ndl.tensor(v))),
    ["tensor([-0., 1.])", "tensor([-0.0000, 0.5000])", "tensor([-0.0000e+00, 1.0000e+09])"],
  ],
  "sums and products of fractions in an integer dtype take their integers": [
    () => {
      const x = ndl.tensor([1.7, 2.6, -0.5]), dtype = "int32";
      return [x.sum(null, { dtype }), x.prod(0, { dtype }), x.cumsum(0, { dtype })].map((t) =>
        t.tolist()
      );
    },
    [3, 0, [1, 3, 3]],
  ],
  "the ends of integer dtypes": [
    () => [
      ndl.tensor([-1, 255], { dtype: "uint8" }).tolist(),
      ndl.tensor([-(2 ** 31), 2 ** 31 - 1], { dtype: "int32" }).tolist(),
      ndl.tensor([-(2n ** 63n), 2n ** 63n - 1n]).tolist(),
      ndl.tensor(Float32Array.of(-1, 256), { dtype: "uint8" }).tolist(),
    ],
    [[255, 255], [-(2 ** 31), 2 ** 31 - 1], [-(2n ** 63n), 2n ** 63n - 1n], [255, 0]],
  ],
  "attention of no features takes the mean of the values": [
    () => {
      const none = ndl.zeros([2, 2, 0]), v = ndl.tensor([[[1], [3]], [[5], [7]]]);
      return functional.scaledDotProductAttention(none, none, v).tolist();
    },
    [[[2], [2]], [[6], [6]]],
  ],
  "bounds beyond the dtype limit in place as they do otherwise": [
    () => ndl.tensor([3, 7], { dtype: "uint8" }).clamp_(int64(5, -5), int64(300, 6)).tolist(),
    [5, 6],
  ],
  "steps have no slope, wherever what follows is infinite": [
    () => slope([0.5, 1], (x) => x.floor().log()),
    [0, 0],
  ],
  "nor have quotients that are rounded down": [
    () => slope([-1, 0, 7], (x) => ndl.div(x, x.mul(0), { roundingMode: "floor" })),
    [0, 0, 0],
  ],
  "powers of 0 have none either": [() => slope([1], (x) => x.pow(0).sub(1).log()), [0]],
};

for (const device of [ndl.reference(), ...nativeDevices()]) {
  Deno.test(`corners agree with PyTorch on ${device}`, () => {
    const before = ndl.defaultDevice();
    ndl.setDefaultDevice(device);
    try {
      for (const [name, [run, expected]] of Object.entries(cases)) {
        assertEquals(run(), expected, name);
      }
    } finally {
      ndl.setDefaultDevice(before);
    }
  });

  Deno.test(`more than the machine can hold is refused on ${device}`, () => {
    const x = ndl.zeros([3, 4], { device });
    assertThrows(() => x.pad([2 ** 46, 0]), RangeError);
    assertThrows(() => ndl.zeros([2 ** 46], { device }), RangeError, "Cannot allocate");
    assertThrows(() => ndl.eye(1e9, { device }), RangeError, "Cannot allocate");
    assertThrows(() => ndl.arange(1e15, { device }), RangeError, "Cannot make arange of");
    assertThrows(() => ndl.linspace(0, 1, 1e15, { device }), RangeError, "Cannot make linspace of");
  });

  Deno.test(`integers without a quotient are an error that names the op on ${device}`, () => {
    const x = ndl.tensor([1, 2], { dtype: "int64", device }), zero = x.sub(x);
    assertThrows(() => x.remainder(zero), RangeError, "Cannot remainder: Integer division by zero");
    assertThrows(
      () => x.floorDivide(0),
      RangeError,
      "Cannot floorDivide: Integer division by zero",
    );
    assertThrows(() => x.pow(-1), RangeError, "Cannot pow: Integers to negative integer powers");
  });

  Deno.test(`copies come from any device, gradients from one's own, on ${device}`, () => {
    const other = ndl.tensor([1, 2], { device: ndl.reference() });
    const x = ndl.zeros([2, 2], { device });
    assertEquals(x.copy_(other).tolist(), [[1, 2], [1, 2]]);
    if (device === other.device) return;
    const leaf = ndl.ones([2], { device, requiresGrad: true });
    assertThrows(() => leaf.mul(2).backward(other), TypeError, "move it with to(device)");
    leaf.mul(2).copy_(other.requiresGrad_()).sum().backward();
    assertEquals(other.grad!.tolist(), [1, 1]);
    other.grad = null;
    other.requiresGrad_(false);
  });
}

Deno.test("what a dtype or an op cannot take is refused", () => {
  const x = ndl.zeros([2, 2]), mask = x.eq(0), wide = ndl.ones([1], { dtype: "float64" });
  const errors: [() => unknown, string][] = [
    [() => ndl.randint(0, 257, [3], { dtype: "uint8" }), "it holds those from 0 to 255"],
    [() => ndl.randint(-1, 2, [3], { dtype: "uint8" }), "it holds those from 0 to 255"],
    [() => ndl.randint(0, 3, [3], { dtype: "bool" }), "it holds those from 0 to 1"],
    [() => ndl.randint(0, 2 ** 40, [3], { dtype: "int32" }), "use another dtype"],
    [() => ndl.tensor([256], { dtype: "uint8" }), "the largest number that it holds is 255"],
    [() => ndl.tensor([2 ** 31], { dtype: "int32" }), "of dtype int32 from 2147483648"],
    [() => ndl.tensor([2n ** 63n]), "of dtype int64 from 9223372036854775808"],
    [() => ndl.tensor([1e30], { dtype: "int64" }), "of dtype int64 from 1e+30"],
    [() => ndl.tensor([x, x] as never), "from a Tensor: give numbers, bigints or booleans; stack"],
    [() => x.maskedFill(mask, ndl.ones([1])), "it must be 0-d"],
    [
      () => functional.convTranspose2d(x.reshape(1, 2, 2), ndl.ones([1, 1, 1, 1]), { bias: wide }),
      "Cannot convTranspose2d a float32 tensor with a float64 one",
    ],
    [() => functional.conv1d(x, ndl.ones([1, 3, 1])), "Cannot conv1d [1, 2, 2] with a weight of"],
    [() => functional.conv1d(x, ndl.ones([1, 2, 1]), { stride: 0 }), "with stride 0: it must be"],
    [() => functional.conv2d(x.reshape(1, 2, 2).to("int64"), ndl.ones([1, 1, 1, 1])), "one dtype"],
  ];
  for (const [run, message] of errors) assertThrows(run, Error, message);
});
