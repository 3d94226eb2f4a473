// Recurrent modules: numbers of PyTorch (golden/rnn.json), second derivatives, state dicts, errors.

import * as ndl from "../mod.ts";
import { GRU, LSTM, RNN } from "../lib/nn/rnn.ts";
import { GRUCell, LSTMCell, RNNCell } from "../lib/nn/rnn_cell.ts";
import { gradcheck, gradgradcheck } from "../lib/autograd/gradcheck.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, nativeDevices } from "./harness.ts";
import { check, type Expected, fill, leaf, type Place } from "./waves.ts";
import golden from "./golden/rnn.json" with { type: "json" };

const places: Place[] = [
  { device: ndl.reference(), dtype: "float64" },
  ...nativeDevices().map((device) => ({ device, dtype: "float32" as const })),
];

/** Options of the golden file in camelCase. */
function camel(options: object): Record<string, never> {
  return Object.fromEntries(
    Object.entries(options).map(([k, v]) => [
      k.replace(/_(.)/g, (_, c: string) => c.toUpperCase()),
      v as never,
    ]),
  );
}

/** `[y, h]` or `[y, [h, c]]` or any nesting, as a list. */
function flat(value: unknown): Tensor[] {
  return Array.isArray(value) ? value.flatMap(flat) : [value as Tensor];
}

function throws(fn: () => unknown, type: ErrorConstructor, text: string): void {
  try {
    fn();
  } catch (error) {
    if (error instanceof type && error.message.includes(text)) return;
    throw error;
  }
  throw new Error(`nothing thrown; expected: ${text}`);
}

function equal(got: unknown, want: unknown): void {
  if (JSON.stringify(got) !== JSON.stringify(want)) {
    throw new Error(`${JSON.stringify(got)} instead of ${JSON.stringify(want)}`);
  }
}

for (const place of places) {
  Deno.test(`recurrent layers give PyTorch's numbers on ${place.device}`, () => {
    golden.recurrent.forEach((row, i) => {
      const what = `${row.kind} case ${i}`, options = { ...camel(row.options), ...place };
      const { numLayers = 1, bidirectional = false, batchFirst = false, projSize = 3 } = camel(
        row.options,
      );
      const x = leaf(row.x, 20, 1, place);
      const batch = row.x.length === 2 ? [] : [row.x[batchFirst ? 0 : 1]!];
      const shape = [numLayers * (bidirectional ? 2 : 1), ...batch];
      const sizes = [projSize, 3];
      const states = row.given
        ? sizes.map((size, k) => leaf([...shape, size], 30 + k, 0.5, place))
        : [];
      const run = (m: RNN | LSTM | GRU): unknown =>
        m instanceof LSTM
          ? m.forward(x, row.given ? [states[0]!, states[1]!] : null)
          : m.forward(x, states[0] ?? null);
      const module = row.kind === "LSTM"
        ? new LSTM(4, 3, options)
        : row.kind === "GRU"
        ? new GRU(4, 3, options)
        : new RNN(4, 3, options);
      fill(module, place);
      const used = row.given ? states.slice(0, row.kind === "LSTM" ? 2 : 1) : [];
      check(what, row as unknown as Expected, flat(run(module)), module, [x, ...used]);
    });
  });

  Deno.test(`recurrent cells give PyTorch's numbers on ${place.device}`, () => {
    golden.cells.forEach((row, i) => {
      const x = leaf(row.x, 20, 1, place), shape = [...row.x.slice(0, -1), 3];
      const states = row.given ? [0, 1].map((k) => leaf(shape, 30 + k, 0.5, place)) : [];
      const module = row.kind === "LSTMCell"
        ? new LSTMCell(4, 3, place)
        : row.kind === "GRUCell"
        ? new GRUCell(4, 3, place)
        : new RNNCell(4, 3, place);
      fill(module, place);
      const y: unknown = module instanceof LSTMCell
        ? module.forward(x, row.given ? [states[0]!, states[1]!] : null)
        : module.forward(x, states[0] ?? null);
      const used = row.given ? states.slice(0, row.kind === "LSTMCell" ? 2 : 1) : [];
      check(`${row.kind} case ${i}`, row as unknown as Expected, flat(y), module, [x, ...used]);
    });
  });
}

Deno.test("recurrent layers have second derivatives", () => {
  const place: Place = { device: ndl.reference(), dtype: "float64" };
  for (const kind of [RNN, LSTM, GRU]) {
    const module = new kind(2, 2, { numLayers: 2, bidirectional: true, ...place });
    fill(module, place);
    const x = leaf([2, 1, 2], 3, 1, place);
    const f = (): Tensor[] => flat(module.forward(x));
    const inputs = [x, ...[...module.parameters()].slice(0, 4)];
    gradcheck(f, inputs);
    gradgradcheck(f, inputs);
  }
});

Deno.test("recurrent layers are initialised and named as PyTorch's", () => {
  const lstm = new LSTM(5, 4, { bidirectional: true, numLayers: 2 });
  equal(
    [...lstm.namedParameters()].map(([name, p]) => [name, p.shape]),
    ["l0", "l0_reverse", "l1", "l1_reverse"].flatMap((suffix) => [
      [`weight_ih_${suffix}`, [16, suffix.startsWith("l0") ? 5 : 8]],
      [`weight_hh_${suffix}`, [16, 4]],
      [`bias_ih_${suffix}`, [16]],
      [`bias_hh_${suffix}`, [16]],
    ]),
  );
  for (const p of new GRU(3, 25).parameters()) {
    const values = p.toTypedArray() as Float32Array;
    if (!values.every((v) => Math.abs(v) <= 0.2) || !values.some((v) => Math.abs(v) > 0.1)) {
      throw new Error("not uniform in ±1/√25");
    }
  }
  const copy = new LSTM(5, 4, { bidirectional: true, numLayers: 2 });
  copy.loadStateDict(lstm.stateDict());
  const x = ndl.randn([3, 2, 5]);
  equal(copy.forward(x)[0].tolist(), lstm.forward(x)[0].tolist());
  equal(lstm.toString().startsWith("LSTM(5, 4, numLayers=2, bidirectional=true)"), true);
});

Deno.test("dropout between layers acts in training alone", () => {
  const rnn = new RNN(3, 64, { numLayers: 2, dropout: 0.5 }), x = ndl.randn([4, 2, 3]);
  const first = rnn.forward(x)[0].tolist();
  if (JSON.stringify(first) === JSON.stringify(rnn.forward(x)[0].tolist())) {
    throw new Error("two runs in training are equal");
  }
  rnn.eval();
  equal(rnn.forward(x)[0].tolist(), rnn.forward(x)[0].tolist());
});

Deno.test("a carried state continues a sequence", () => {
  for (const kind of [RNN, LSTM, GRU]) {
    const module = new kind(3, 5, { numLayers: 2, dtype: "float64" });
    const x = ndl.randn([6, 2, 3], { dtype: "float64" });
    const [whole] = module.forward(x);
    const [head, state] = module.forward(x.narrow(0, 0, 4));
    const [tail] = module.forward(x.narrow(0, 4, 2), state as never);
    const joined = ndl.cat([head, tail]).toTypedArray();
    assertClose(joined, whole.toTypedArray(), { rtol: 1e-12, atol: 1e-12 }, kind.name);
  }
});

Deno.test("half precision runs in float32 and rounds once", () => {
  for (const device of nativeDevices()) {
    const wide = new LSTM(4, 8, { device }), half = new LSTM(4, 8, { device, dtype: "bfloat16" });
    half.loadStateDict(
      Object.fromEntries(Object.entries(wide.stateDict()).map(([k, v]) => [k, v.to("bfloat16")])),
    );
    const x = ndl.randn([3, 2, 4], { device });
    const [y] = half.forward(x.to("bfloat16"));
    equal(y.dtype, "bfloat16");
    const want = wide.forward(x)[0].toTypedArray();
    assertClose(y.toTypedArray(), want, { rtol: 0.05, atol: 0.02 }, "bfloat16 LSTM");
  }
});

Deno.test("recurrent layers refuse what does not fit", () => {
  const lstm = new LSTM(10, 20), x = ndl.zeros([5, 3, 10]);
  throws(() => lstm.forward(ndl.zeros([5, 3, 9])), RangeError, "must hold 10 features");
  throws(() => lstm.forward(ndl.zeros([10])), RangeError, "(T, N, features)");
  throws(() => lstm.forward(ndl.zeros([0, 3, 10])), RangeError, "at least one step");
  const h = ndl.zeros([1, 3, 20]);
  throws(() => lstm.forward(x, [h, ndl.zeros([1, 2, 20])]), RangeError, "must be [1, 3, 20]");
  throws(() => lstm.forward(x, [h] as never), TypeError, "[h, c]");
  throws(() => lstm.forward(x, h as never), TypeError, "[h, c]");
  throws(() => new LSTM(0, 20), RangeError, "inputSize");
  throws(() => new LSTM(10, 20, { dropout: 1.5 }), RangeError, "dropout 1.5");
  throws(() => new LSTM(10, 20, { layers: 2 } as never), TypeError, '"layers"');
  throws(() => new LSTM(10, 20, { projSize: 20 }), RangeError, "projSize 20");
  throws(() => new GRU(10, 20, { projSize: 5 } as never), TypeError, '"projSize"');
  const projected = new LSTM(10, 20, { projSize: 5 });
  throws(() => projected.forward(x, [h, h]), RangeError, "must be [1, 3, 5]");
  throws(() => new RNN(10, 20, { nonlinearity: "gelu" as never }), TypeError, '"gelu"');
  throws(() => new GRUCell(10, 20).forward(ndl.zeros([3, 9])), RangeError, "(N, 10)");
  const cell = new LSTMCell(10, 20);
  throws(
    () => cell.forward(ndl.zeros([3, 10]), [ndl.zeros([3, 20]), ndl.zeros([20])]),
    RangeError,
    "[3, 20]",
  );
});
