// Functions beside methods: ndl.f(x, ...) and nn.functional.f(x, ...) are x.f(...). Then what only looks or moves: graphs
// as text, transfers between devices, scopes, and the checks of NEEDLE_CHECK.

import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import * as functions from "../lib/tensor/functions.ts";
import { checkedBackend } from "../lib/backends/checked.ts";
import { referenceBackend } from "../lib/backends/reference.ts";
import type { Backend } from "../lib/backend.ts";
import { elementwiseOps } from "../lib/ops/elementwise.ts";
import { matmulOps } from "../lib/ops/matmul.ts";
import type { OpKernel } from "../lib/backend.ts";
import { nativeDevices } from "./harness.ts";

const device = ndl.reference();
const x = ndl.tensor([[0.5, 0.1, 0.9], [0.4, 0.3, 0.7], [0.2, 0.8, 0.6]], { device });
const y = ndl.tensor([[0.3, 0.6, 0.2], [0.9, 0.3, 0.1], [0.5, 0.4, 0.8]], { device });
const row = ndl.tensor([0.2, 0.4, 0.6], { device });
const mask = x.gt(0.5);
const positions = ndl.tensor([[0, 2, 1]], { device, dtype: "int64" });

/** Arguments after the first, where one tensor is not enough; the first one where it is not x. */
const rest: Record<string, { first?: ndl.Tensor; args: unknown[] }> = {
  where: { first: mask, args: [x, y] },
  clamp: { args: [0.3, 0.6] },
  lerp: { args: [y, 0.25] },
  maskedFill: { args: [mask, -1] },
  any: { first: mask, args: [1] },
  all: { first: mask, args: [1, { keepdim: true }] },
  cumsum: { args: [0] },
  cumprod: { args: [1] },
  softmax: { args: [0] },
  logSoftmax: { args: [1] },
  topk: { args: [2, 0] },
  bmm: { first: x.unsqueeze(0), args: [y.unsqueeze(0)] },
  mv: { args: [row] },
  dot: { first: row, args: [row] },
  outer: { first: row, args: [row] },
  reshape: { args: [[9]] },
  permute: { args: [[1, 0]] },
  transpose: { args: [0, 1] },
  unsqueeze: { args: [1] },
  split: { args: [2, 1] },
  chunk: { args: [2] },
  flip: { args: [[0]] },
  gather: { args: [0, positions] },
  indexSelect: { args: [1, positions.reshape(3)] },
  maskedSelect: { args: [mask] },
};
const binary =
  "add sub mul div pow floorDivide remainder maximum minimum atan2 eq ne lt le gt ge logicalAnd logicalOr logicalXor matmul mm"
    .split(" ");

function values(result: unknown): unknown {
  if (result instanceof ndl.Tensor) return [result.dtype, result.shape, result.tolist()];
  if (Array.isArray(result)) return result.map(values);
  const { values: v, indices } = result as ndl.ValuesAndIndices;
  return [values(v), values(indices)];
}

for (const [name, f] of Object.entries(functions)) {
  Deno.test(`ndl.${name} is the method`, () => {
    const { first = x, args = binary.includes(name) ? [y] : [] } = rest[name] ?? {};
    const method = (first as unknown as Record<string, (...a: unknown[]) => unknown>)[name]!;
    const call = f as unknown as (...a: unknown[]) => unknown;
    assertEquals(values(call(first, ...args)), values(method.apply(first, args)));
    if (["max", "min", "sum", "mean", "argmax", "amax"].includes(name)) {
      const more = [1, { keepdim: true }];
      assertEquals(values(call(first, ...more)), values(method.apply(first, more)));
    }
  });
}

Deno.test("activations in nn.functional are the methods", () => {
  const F = ndl.nn.functional;
  const pairs: [ndl.Tensor, ndl.Tensor][] = [
    [F.relu(x), x.relu()],
    [F.selu(x), x.selu()],
    [F.silu(x), x.silu()],
    [F.mish(x), x.mish()],
    [F.sigmoid(x), x.sigmoid()],
    [F.tanh(x), x.tanh()],
    [F.leakyRelu(x, 0.2), x.leakyRelu(0.2)],
    [F.elu(x, 0.5), x.elu(0.5)],
    [F.gelu(x, { approximate: "tanh" }), x.gelu({ approximate: "tanh" })],
    [F.softplus(x, 2), x.softplus(2)],
    [F.softmax(x, 1), x.softmax(1)],
    [F.logSoftmax(x, 0), x.logSoftmax(0)],
    [F.pad(x, [1, 0], { value: 2 }), x.pad([1, 0], { value: 2 })],
  ];
  for (const [got, want] of pairs) assertEquals(values(got), values(want));
});

Deno.test("a graph is told as text and in Graphviz's language", () => {
  const leaf = ndl.ones([2, 3], { device, requiresGrad: true });
  const out = leaf.exp().mul(leaf).sum();
  const text = ndl.graphText(out), dot = ndl.graphDot(out);
  for (const part of ["sum #0", "mul", "exp", "leaf [2, 3]", "(above)"]) {
    assertStringIncludes(text, part);
  }
  assertStringIncludes(dot, "digraph {");
  assertEquals(dot.split(" -> ").length - 1, 4);
  assertEquals(ndl.graphText(x), "(nothing recorded)");
  assertEquals(ndl.graphDot(x).includes("->"), false);
});

Deno.test("tensors move between devices, views and gradients too", () => {
  for (const target of nativeDevices()) {
    const leaf = x.clone().requiresGrad_();
    const moved = leaf.T.to(target);
    assertEquals([moved.device, moved.tolist()], [target, x.T.tolist()]);
    moved.mul(3).sum().backward();
    assertEquals([leaf.grad!.device, leaf.grad!.tolist()], [device, ndl.full([3, 3], 3).tolist()]);
    assertEquals(x.to({ device: target, dtype: "float64" }).dtype, "float64");
    assertEquals(x.to(device), x);
    ndl.evaluate(moved, x);
  }
});

Deno.test("tidy releases what is made in it and keeps what it returns", () => {
  let inner: ndl.Tensor | undefined;
  const kept = ndl.tidy(() => {
    inner = x.add(1);
    return { sum: inner.sum(), list: [inner.mean()] };
  });
  assertThrows(() => inner!.tolist(), Error, "disposed");
  assertEquals(kept.sum.item() > 0 && kept.list[0]!.item() > 0, true);
  {
    using _ = ndl.tidy();
    inner = x.mul(2);
  }
  assertThrows(() => inner!.tolist(), Error, "disposed");
});

Deno.test("checked kernels stop at the op that disagrees", () => {
  const { exp } = elementwiseOps, { matmul } = matmulOps;
  const attrs = undefined as never;
  const outputs = (): ndl.Tensor[] => [ndl.zeros([3, 3], { device })];
  const good = checkedBackend(referenceBackend);
  good.elementwise(exp)(x, 0, 0, outputs()[0]!, true);
  good.kernel(matmul)([x, y], outputs(), attrs);
  assertEquals(good.name, "reference");
  const bad: Backend = Object.assign(Object.create(referenceBackend) as Backend, {
    elementwise: () => referenceBackend.elementwise(elementwiseOps.neg),
    kernel: (): OpKernel => (_, [z]) => void z!.fill_(7),
  });
  const checked = checkedBackend(bad);
  assertThrows(
    () => checked.elementwise(exp)(x, 0, 0, outputs()[0]!, true),
    Error,
    "exp(float32[3, 3]) disagrees",
  );
  assertThrows(
    () => checked.kernel(matmul)([x, y], outputs(), attrs),
    Error,
    "matmul(float32[3, 3], float32[3, 3]) disagrees",
  );
});
