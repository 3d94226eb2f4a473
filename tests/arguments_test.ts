// Arguments of the wrong kind: for every constructor and function, each argument in turn is replaced by values that it
// cannot be. All of them must be refused with a message of the library's own, never with one of the engine's.

import * as ndl from "../mod.ts";
import type { Tensor } from "../lib/tensor/mod.ts";

/** What an argument can be. */
type Kind =
  | "number"
  | "value"
  | "target"
  | "dim"
  | "sizes"
  | "shape"
  | "dims"
  | "tensor"
  | "operand"
  | "options";

const bad: Record<string, unknown> = {
  "a record": { bogus: 1 },
  "a string": "3",
  "null": null,
  "NaN": NaN,
  "a fraction": -1.5,
  "a list": [0.5, -2, 7],
  "true": true,
  "a function": () => 1,
  "a tensor": ndl.zeros([2, 2], { device: ndl.reference() }),
};

/** Values that are fine for a kind, or fine for some functions that take it. */
const allowed: Record<Kind, string[]> = {
  number: ["a fraction"],
  value: ["a fraction", "NaN"],
  target: ["a tensor"],
  dim: [],
  sizes: [],
  shape: [],
  dims: ["null"],
  tensor: ["a tensor"],
  operand: ["NaN", "a fraction", "a tensor", "null"],
  options: [],
};

const device = ndl.reference();
const x = ndl.ones([2, 3, 4, 4], { device }), rows = ndl.ones([2, 3], { device });
const index = ndl.tensor([0n, 1n], { device }), mask = rows.gt(0);
const filters = ndl.ones([2, 3, 2, 2], { device }), plane = ndl.ones([3, 3], { device });
const like = ndl.zeros([2, 3], { device, dtype: "int64" });
const { nn } = ndl, F = nn.functional;

/** A call: what it is called on, and each argument with its kind. */
type Row = [holder: object, name: string, ...args: [unknown, Kind?][]];

const options: [unknown, Kind] = [{}, "options"];
const number = (v: number): [unknown, Kind] => [v, "number"];
const sizes = (v: unknown): [unknown, Kind] => [v, "sizes"];
const tensor = (v: Tensor): [unknown, Kind] => [v, "tensor"];
const dim = (v: number): [unknown, Kind] => [v, "dim"];

const constructors: Row[] = [
  [nn, "Linear", sizes(3), sizes(4), options],
  [nn, "Bilinear", sizes(2), sizes(3), sizes(4), options],
  [nn, "Conv1d", sizes(2), sizes(4), sizes(3), options],
  [nn, "Conv2d", sizes(2), sizes(4), sizes(3), options],
  [nn, "ConvTranspose1d", sizes(2), sizes(4), sizes(3), options],
  [nn, "ConvTranspose2d", sizes(2), sizes(4), sizes(3), options],
  [nn, "MaxPool2d", sizes(2), options],
  [nn, "AvgPool2d", sizes(2), options],
  [nn, "BatchNorm1d", sizes(3), options],
  [nn, "BatchNorm2d", sizes(3), options],
  [nn, "LayerNorm", sizes(3), options],
  [nn, "RMSNorm", sizes(3), options],
  [nn, "GroupNorm", sizes(2), sizes(4), options],
  [nn, "Embedding", sizes(5), sizes(3), options],
  ...["RNNCell", "LSTMCell", "GRUCell", "RNN", "LSTM", "GRU"].map((name): Row => [
    nn,
    name,
    sizes(3),
    sizes(4),
    options,
  ]),
  [nn, "MultiheadAttention", sizes(4), sizes(2), options],
  [nn, "TransformerEncoderLayer", sizes(4), sizes(2), options],
  [nn, "LeakyReLU", number(0.1)],
  [nn, "ELU", number(1)],
  [nn, "Softplus", number(1), number(20)],
  [nn, "GELU", options],
  ...["CrossEntropyLoss", "NLLLoss", "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss"]
    .map((
      name,
    ): Row => [nn, name, options]),
  [nn, "BCEWithLogitsLoss", options],
  [nn, "KLDivLoss", options],
  [nn, "Parameter", tensor(plane)],
];

const functions: Row[] = [
  [F, "linear", tensor(rows), tensor(ndl.ones([4, 3], { device })), options],
  [F, "bilinear", tensor(rows), tensor(rows), tensor(ndl.ones([2, 3, 3], { device })), options],
  [F, "conv2d", tensor(x), tensor(filters), options],
  [F, "conv1d", tensor(rows), tensor(ndl.ones([1, 2, 2], { device })), options],
  [F, "convTranspose2d", tensor(x), tensor(ndl.ones([3, 2, 2, 2], { device })), options],
  [F, "maxPool2d", tensor(x), sizes(2), options],
  [F, "avgPool2d", tensor(x), sizes(2), options],
  [F, "batchNorm", tensor(rows), [null], [null], [{ training: true }, "options"]],
  [F, "layerNorm", tensor(rows), sizes(3), options],
  [F, "rmsNorm", tensor(rows), sizes(3), options],
  [F, "groupNorm", tensor(rows), sizes(3), options],
  [F, "embedding", tensor(index), tensor(plane), options],
  ...["relu", "selu", "silu", "mish", "sigmoid", "tanh"].map((
    name,
  ): Row => [F, name, tensor(rows)]),
  [F, "leakyRelu", tensor(rows), number(0.1)],
  [F, "elu", tensor(rows), number(1)],
  [F, "gelu", tensor(rows), options],
  [F, "softplus", tensor(rows), number(1), number(20)],
  [F, "softmax", tensor(rows)],
  [F, "logSoftmax", tensor(rows)],
  ...["mseLoss", "l1Loss", "smoothL1Loss", "huberLoss", "klDiv", "binaryCrossEntropy"].map((
    name,
  ): Row => [F, name, tensor(rows), tensor(rows), options]),
  [F, "binaryCrossEntropyWithLogits", tensor(rows), tensor(rows), options],
  [F, "crossEntropy", tensor(rows), tensor(index), options],
  [F, "nllLoss", tensor(rows), tensor(index), options],
  [F, "scaledDotProductAttention", tensor(x), tensor(x), tensor(x), options],
  [F, "pad", tensor(x), [[1, 1]], options],
  [F, "dropout", tensor(rows), number(0)],
  [nn.init, "uniform_", tensor(plane), number(0), number(1)],
  [nn.init, "normal_", tensor(plane), number(0)],
  [nn.init, "truncNormal_", tensor(plane), number(0)],
  [nn.init, "constant_", tensor(plane), number(1)],
  [nn.init, "eye_", tensor(plane)],
  [nn.init, "xavierUniform_", tensor(plane)],
  [nn.init, "xavierNormal_", tensor(plane)],
  [nn.init, "kaimingUniform_", tensor(plane), options],
  [nn.init, "kaimingNormal_", tensor(plane), options],
  [nn.init, "orthogonal_", tensor(plane), number(1)],
  ...["zeros", "ones", "empty", "rand", "randn"].map((name): Row => [
    ndl,
    name,
    [[2], "shape"],
    options,
  ]),
  [ndl, "full", [[2], "shape"], [1, "value"], options],
  [ndl, "eye", [2, "shape"], options],
  [ndl, "arange", number(5), options],
  [ndl, "linspace", number(0), number(1), [3, "dim"], options],
  [ndl, "randperm", [3, "shape"], options],
  [ndl, "tensor", [[1, 2]], options],
  ...["zerosLike", "onesLike", "randLike", "randnLike"].map((name): Row => [
    ndl,
    name,
    tensor(rows),
    options,
  ]),
  [ndl, "where", tensor(mask), [rows, "operand"], [rows, "operand"]],
  [ndl, "einsum", ["ij->j"], tensor(rows)],
  [ndl, "oneHot", tensor(index)],
  [ndl, "summary", [new nn.Linear(3, 2)], [[1, 3], "shape"], options],
];

const methods: Row[] = [
  ...["add", "sub", "mul", "div", "pow", "maximum", "eq", "lt"].map((name): Row => [
    rows,
    name,
    [rows, "operand"],
  ]),
  ...["sum", "mean", "amax", "any", "logsumexp", "std", "norm"].map((name): Row => [
    rows,
    name,
    [0, "dims"],
    options,
  ]),
  ...["max", "softmax", "logSoftmax", "cumsum", "cumprod", "sort", "argsort"].map((name): Row => [
    rows,
    name,
    dim(0),
    options,
  ]),
  [rows, "topk", [1, "shape"], dim(0), options],
  [rows, "matmul", tensor(ndl.ones([3, 2], { device }))],
  [rows, "mm", tensor(ndl.ones([3, 2], { device }))],
  [rows, "reshape", [[3, 2], "shape"]],
  [rows, "view", [[3, 2], "shape"]],
  [rows, "expand", [[2, 3], "shape"]],
  [rows, "permute", [[1, 0], "shape"]],
  [rows, "repeat", [[1, 2], "shape"]],
  [rows, "flatten", dim(0), dim(1)],
  [rows, "transpose", dim(0), dim(1)],
  [rows, "unsqueeze", dim(0)],
  [rows, "select", dim(0), [0, "dim"]],
  [rows, "narrow", dim(0), [0, "dim"], [1, "shape"]],
  [rows, "split", [1, "shape"], dim(0)],
  [rows, "chunk", [1, "shape"], dim(0)],
  [rows, "tril", [0, "dim"]],
  [rows, "triu", [0, "dim"]],
  [rows, "gather", dim(0), tensor(like)],
  [rows, "scatter", dim(0), tensor(like), [rows, "operand"]],
  [rows, "scatterAdd", dim(0), tensor(like), tensor(rows)],
  [rows, "indexSelect", dim(0), tensor(index)],
  [rows, "indexAdd", dim(0), tensor(index), tensor(rows)],
  [rows, "take", tensor(index)],
  [rows, "maskedSelect", tensor(mask)],
  [rows, "leakyRelu", number(0.1)],
  [rows, "elu", number(1)],
  [rows, "gelu", options],
  [rows, "round", options],
  [rows, "to", [{ dtype: "float32" }, "target"]],
  [rows.clone(), "fill_", [1, "value"]],
];

const ours =
  /^(TypeError|RangeError|Error): (Unknown|Integer|Cannot (?!read |destructure |convert (undefined|null) |use 'in'|mix ))/;

/** What is wrong with how a call takes `value` in place of argument `i`; null: nothing. */
function problem(run: (args: unknown[]) => unknown, args: unknown[], i: number): string | null {
  try {
    run(args);
  } catch (error) {
    return ours.test(String(error)) ? null : String(error).split("\n")[0]!;
  }
  return i >= 0 ? "accepted" : null;
}

function check(
  rowsOf: Row[],
  run: (holder: object, name: string, args: unknown[]) => unknown,
): void {
  const problems: string[] = [];
  for (const [holder, name, ...given] of rowsOf) {
    const args = given.map(([value]) => value);
    const call = (list: unknown[]): unknown => run(holder, name, list);
    const fails = problem(call, args, -1);
    if (fails !== null) problems.push(`${name} refuses good arguments: ${fails}`);
    given.forEach(([, kind], i) => {
      if (kind === undefined) return;
      for (const [label, value] of Object.entries(bad)) {
        if (allowed[kind].includes(label)) continue;
        const wrong = problem(call, args.with(i, value), i);
        if (wrong !== null) problems.push(`${name}, argument ${i}, ${label}: ${wrong}`);
      }
    });
  }
  if (problems.length > 0) throw new Error(problems.join("\n"));
}

type Callable = Record<string, (...args: unknown[]) => unknown>;

Deno.test("modules refuse arguments of the wrong kind", () => {
  check(constructors, (holder, name, args) => {
    const Class = (holder as Record<string, new (...args: unknown[]) => unknown>)[name]!;
    return new Class(...args);
  });
});

Deno.test("functions refuse arguments of the wrong kind", () => {
  check(functions, (holder, name, args) => (holder as Callable)[name]!(...args));
});

Deno.test("methods of tensors refuse arguments of the wrong kind", () => {
  check(methods, (holder, name, args) => (holder as Callable)[name]!(...args));
});

Deno.test("optimisers and schedules refuse arguments of the wrong kind", () => {
  const params = (): Tensor[] => [ndl.zeros([2], { device, requiresGrad: true })];
  const { optim } = ndl, { lrScheduler } = optim;
  check(
    ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"].map((name): Row => [
      optim,
      name,
      [null],
      [{ lr: 0.1 }, "options"],
    ]),
    (holder, name, [, given]) =>
      new (holder as Record<string, new (p: Tensor[], o: unknown) => unknown>)[name]!(
        params(),
        given,
      ),
  );
  check([
    [lrScheduler, "StepLR", [3, "shape"], options],
    [lrScheduler, "MultiStepLR", [[1, 2], "shape"], options],
    [lrScheduler, "ExponentialLR", [0.9, "number"], options],
    [lrScheduler, "LinearLR", options],
    [lrScheduler, "CosineAnnealingLR", [5, "shape"], options],
    [lrScheduler, "CosineAnnealingWarmRestarts", [5, "shape"], options],
    [lrScheduler, "OneCycleLR", [0.1, "number"], [{ totalSteps: 9 }, "options"]],
    [lrScheduler, "LambdaLR", [(e: number) => e], options],
    [lrScheduler, "ReduceLROnPlateau", options],
  ], (holder, name, args) => {
    const Class = (holder as Record<string, new (...args: unknown[]) => unknown>)[name]!;
    return new Class(new optim.SGD(params(), { lr: 0.1 }), ...args);
  });
});
