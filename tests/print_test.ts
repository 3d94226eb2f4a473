// Printing against PyTorch: golden/make_print.py wrote its texts into golden/print.json. And what has no equal there.

import { assertEquals } from "@std/assert";
import * as ndl from "../mod.ts";
import type { DType } from "../lib/dtype.ts";

interface Case {
  readonly dtype: DType;
  readonly shape: number[];
  readonly grad: boolean;
  readonly values?: (number | string)[];
  /** Without values: the elements are (37 i mod 1009 - 500) / divisor. */
  readonly divisor?: number;
  readonly text: string;
}

const golden: Case[] = JSON.parse(
  Deno.readTextFileSync(new URL("golden/print.json", import.meta.url)),
);
const device = ndl.reference();

Deno.test("tensors print as PyTorch's", () => {
  for (const { dtype, shape, grad, values, divisor = 1, text } of golden) {
    const length = shape.reduce((n, s) => n * s, 1);
    const data = Float64Array.from(
      { length },
      (_, i) => values ? Number(values[i]) : (i * 37 % 1009 - 500) / divisor,
    );
    const t = ndl.tensor(data, { shape, dtype, device });
    assertEquals(String(grad ? t.requiresGrad_() : t), text);
  }
});

Deno.test("the tail tells how a tensor was made", () => {
  const x = ndl.ones([2], { device, requiresGrad: true });
  assertEquals(String(x.add(1)), "tensor([2., 2.], gradFn=<AddBackward>)");
  const parameter = new ndl.nn.Parameter(ndl.zeros([2, 1], { device }));
  const text = "Parameter containing:\ntensor([[0.],\n        [0.]], requiresGrad=true)";
  assertEquals(String(parameter), text);
  assertEquals(Deno.inspect(parameter), text);
  const gone = ndl.zeros([1], { device });
  gone.dispose();
  assertEquals(Deno.inspect(gone), "tensor(<disposed>)");
});
