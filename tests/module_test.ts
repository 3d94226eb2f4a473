// What modules do beside computing: registration and names, modes, conversion, state dicts, hooks, containers,
// printing, errors, and summary.

import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { nativeDevices } from "./harness.ts";

const { nn } = ndl;
type Tensor = ndl.Tensor;

const names = (m: ndl.nn.AnyModule): string[] => [...m.namedParameters()].map(([name]) => name);

class Net extends nn.Module {
  scale = new nn.Parameter(ndl.ones([2]));
  layers = [new nn.Linear(2, 3), new nn.Linear(3, 2, { bias: false })];
  heads = { b: new nn.Linear(2, 1), a: new nn.Linear(2, 2) };
  deep = { list: [new nn.ReLU(), [new nn.Parameter(ndl.zeros([1]))]] };
  nothing: ndl.nn.Linear | null = null;
  plain = ndl.zeros([7]);
  number = 3;
  constructor() {
    super();
    this.registerBuffer("running", ndl.zeros([2]));
    this.registerBuffer("scratch", ndl.ones([1]), { persistent: false });
  }
  override forward(x: Tensor): Tensor {
    const h = this.layers.reduce((t, layer) => layer.forward(t), x.mul(this.scale));
    return this.heads.a.forward(h);
  }
}

Deno.test("fields, arrays and records of parameters and modules register themselves in order", () => {
  const net = new Net();
  assertEquals(names(net), [
    "scale",
    "deep.list.1.0",
    "layers.0.weight",
    "layers.0.bias",
    "layers.1.weight",
    "heads.b.weight",
    "heads.b.bias",
    "heads.a.weight",
    "heads.a.bias",
  ]);
  assertEquals([...net.namedChildren()].map(([name]) => name), [
    "layers.0",
    "layers.1",
    "heads.b",
    "heads.a",
    "deep.list.0",
  ]);
  assertEquals([...net.namedModules()].map(([name]) => name)[0], "");
  assertEquals([...net.modules()].length, 6);
  assertEquals([...net.children()].length, 5);
  assertEquals([...net.buffers()].map((b) => b.shape), [[2], [1]]);
  assertEquals([...net.parameters()].length, 9);
  const state = net.stateDict();
  assert("running" in state && !("scratch" in state) && !("plain" in state));
  net.nothing = new nn.Linear(1, 1);
  assert(names(net).includes("nothing.weight"), "a module assigned later is registered");
});

Deno.test("a shared parameter or module is listed once; the state dict holds all names", () => {
  class Tied extends nn.Module {
    embed = new nn.Embedding(5, 3);
    out = new nn.Linear(3, 5, { bias: false });
    again = this.out;
    constructor() {
      super();
      this.out.weight = this.embed.weight;
    }
    override forward(x: Tensor): Tensor {
      return this.out.forward(this.embed.forward(x));
    }
  }
  const tied = new Tied();
  assertEquals(names(tied), ["embed.weight"]);
  // As in PyTorch, every name of a shared parameter stands in the state dict, and so does a shared module's.
  assertEquals(Object.keys(tied.stateDict()), ["embed.weight", "out.weight", "again.weight"]);
  const y = tied.forward(ndl.tensor([1n, 2n]));
  y.sum().backward();
  assertEquals(tied.embed.weight.grad?.shape, [5, 3]);
  const state = { ...new Tied().stateDict() };
  tied.loadStateDict(state);
  assertEquals(tied.out.weight.tolist(), state["out.weight"]!.tolist());
});

Deno.test("train, eval, requiresGrad_, zeroGrad and apply reach every module", () => {
  const net = new Net();
  assert(net.train(false) === net && [...net.modules()].every((m) => !m.training));
  net.train();
  assert([...net.modules()].every((m) => m.training));
  net.eval();
  assert([...net.modules()].every((m) => !m.training));
  net.forward(ndl.ones([4, 2])).sum().backward();
  assert(net.scale.grad !== null);
  net.zeroGrad();
  assert([...net.parameters()].every((p) => p.grad === null));
  net.requiresGrad_(false);
  assert(!net.forward(ndl.ones([4, 2])).requiresGrad);
  const order: string[] = [];
  assert(net.apply((m) => order.push(m.constructor.name)) === net);
  assertEquals(order, ["Linear", "Linear", "Linear", "Linear", "ReLU", "Net"]);
});

Deno.test("to converts floating point parameters and buffers in place", () => {
  const bn = new nn.BatchNorm2d(3);
  const { weight } = bn;
  const optimizer = new ndl.optim.SGD(bn.parameters(), { lr: 1 });
  assert(bn.to("float64") === bn);
  assertStrictEquals(bn.weight, weight, "the parameter stays the same object");
  assertEquals(bn.weight!.dtype, "float64");
  assertEquals(bn.running_var!.dtype, "float64");
  assertEquals(bn.num_batches_tracked!.dtype, "int64");
  assert(bn.weight!.requiresGrad && bn.weight!.isLeaf);
  bn.forward(ndl.randn([2, 3, 4, 4], { dtype: "float64" })).square().sum().backward();
  optimizer.step();
  assertThrows(() => bn.to("int64"), TypeError, "int64");
  for (const device of [ndl.reference(), ...nativeDevices()]) {
    bn.to(device, "float32");
    assertStrictEquals(bn.running_mean!.device, device);
    assertStrictEquals(bn.num_batches_tracked!.device, device);
    assertEquals(bn.forward(ndl.ones([2, 3, 4, 4], { device })).dtype, "float32");
  }
  const loss = new nn.CrossEntropyLoss({ weight: ndl.ones([3]) });
  const mine = ndl.ones([3], { device: ndl.reference() });
  const other = new nn.NLLLoss({ weight: mine }).to("float64");
  assertEquals(loss.to(ndl.reference()).weight!.device, ndl.reference());
  assertEquals([mine.dtype, other.weight!.dtype], ["float32", "float64"]);
});

Deno.test("a state dict shares storage with the model, and loading copies", () => {
  const net = new nn.Linear(2, 2), other = new nn.Linear(2, 2);
  const state = net.stateDict();
  assert(!state["weight"]!.requiresGrad);
  ndl.noGrad(() => net.weight.fill_(3));
  assertEquals(state["weight"]!.tolist(), [[3, 3], [3, 3]]);
  const { weight } = other;
  assertEquals(other.loadStateDict(state), { missingKeys: [], unexpectedKeys: [] });
  assertStrictEquals(other.weight, weight);
  ndl.noGrad(() => net.weight.fill_(4));
  assertEquals(other.weight.tolist(), [[3, 3], [3, 3]]);
  other.to("float64").loadStateDict(state);
  assertEquals(other.weight.dtype, "float64", "the model keeps its dtype");
});

Deno.test("loading what does not fit names everything and writes nothing", () => {
  const net = new nn.Sequential(new nn.Linear(2, 3), new nn.BatchNorm1d(3));
  const before = JSON.stringify(Object.values(net.stateDict()).map((t) => t.tolist()));
  const state: ndl.nn.StateDict = {
    "0.weight": ndl.ones([3, 2]),
    "0.bias": ndl.ones([4]),
    "1.weight": ndl.ones([3]),
    "1.bias": 5 as unknown as Tensor,
    "1.running_mean": ndl.ones([3]),
    "2.weight": ndl.ones([1]),
  };
  const error = assertThrows(() => net.loadStateDict(state), Error);
  for (
    const part of [
      "Sequential",
      "missing 1.running_var, 1.num_batches_tracked",
      "unexpected 2.weight",
      '"0.bias" has shape [4] instead of [3]',
      '"1.bias" is not a tensor',
    ]
  ) assert(error.message.includes(part), `"${error.message}" says ${part}`);
  // Shapes must fit even where names need not.
  assertThrows(() => net.loadStateDict(state, { strict: false }), Error, "[4] instead of [3]");
  assertEquals(JSON.stringify(Object.values(net.stateDict()).map((t) => t.tolist())), before);
  delete state["0.bias"];
  delete state["1.bias"];
  assertEquals(net.loadStateDict(state, { strict: false }), {
    missingKeys: ["0.bias", "1.bias", "1.running_var", "1.num_batches_tracked"],
    unexpectedKeys: ["2.weight"],
  });
  assertEquals((net.at(0) as ndl.nn.Linear).weight.sum().item(), 6);
  assertThrows(() => net.loadStateDict(state, { strickt: 1 } as object), TypeError, '"strickt"');
});

Deno.test("forward hooks see and replace outputs, nest, and leave no trace once removed", () => {
  const layer = new nn.Linear(2, 2);
  const net = new nn.Sequential(layer, new nn.ReLU());
  const x = ndl.ones([1, 2]);
  const plain = net.forward(x).tolist();
  const seen: string[] = [];
  const first = layer.registerForwardHook((m, [input], y) => {
    assert(m === layer && input === x);
    seen.push(`first ${y.shape}`);
  });
  const second = layer.registerForwardHook((_, __, y) => {
    seen.push("second");
    return y.mul(0).add(7);
  });
  assertEquals(net.forward(x).tolist(), [[7, 7]]);
  assertEquals(seen, ["first 1,2", "second"]);
  second();
  assertEquals(net.forward(x).tolist(), plain);
  first();
  assert(!Object.hasOwn(layer, "forward"), "the prototype's forward is back");
  assertEquals(seen.length, 3);
  // In the order in which they were installed too.
  const a = layer.registerForwardHook(() => void seen.push("a"));
  const b = layer.registerForwardHook(() => void seen.push("b"));
  a();
  net.forward(x);
  assertEquals(seen.slice(3), ["b"], "removing the first keeps the second");
  b();
  assertEquals(net.forward(x).tolist(), plain);
  assert(!Object.hasOwn(layer, "forward"));
});

Deno.test("ModuleList and Sequential are lists named by position", () => {
  const list = new nn.ModuleList([new nn.Linear(1, 2), new nn.Linear(2, 3)]);
  assertEquals(list.length, 2);
  const third = new nn.Linear(3, 4);
  assert(list.push(third) === list && list.at(-1) === third && list.at(2) === third);
  assertEquals([...list].map((m) => m.weight.shape[0]), [2, 3, 4]);
  assertEquals(names(list).slice(0, 3), ["0.weight", "0.bias", "1.weight"]);
  assertThrows(() => list.at(3), RangeError, "module 3 of 3");
  assertThrows(() => list.push(null as unknown as ndl.nn.Linear), TypeError, "null");
  assertThrows(() => list.forward(), Error, "ModuleList");
  const net = new nn.Sequential(...list);
  assertEquals(net.forward(ndl.ones([5, 1])).shape, [5, 4]);
  assertEquals(net.length, 3);
  const empty = new nn.Sequential(), x = ndl.ones([2]);
  assertStrictEquals(empty.forward(x), x);
  const residual = new nn.Residual(new nn.Sequential(new nn.Linear(2, 2), new nn.ReLU()));
  assertEquals(names(residual), ["fn.0.weight", "fn.0.bias"]);
  const y = residual.fn.forward(ndl.ones([1, 2]));
  assertEquals(residual.forward(ndl.ones([1, 2])).tolist(), y.add(1).tolist());
  assertStrictEquals(x.sum().item(), 2, "the input is never released");
});

Deno.test("Sequential with a hook or a user's layer keeps activations readable", () => {
  const kept: Tensor[] = [];
  class Keep extends nn.Module {
    override forward(x: Tensor): Tensor {
      kept.push(x);
      return x;
    }
  }
  const first = new nn.Linear(2, 2);
  const net = new nn.Sequential(first, new Keep(), new nn.Linear(2, 2), new nn.ReLU());
  const remove = first.registerForwardHook((_, __, y) => void kept.push(y));
  net.forward(ndl.ones([1, 2])).sum().backward();
  assertEquals(kept.map((t) => t.tolist().toString()).length, 2);
  remove();
});

Deno.test("modules print as trees with parameter counts", () => {
  const net = new nn.Sequential(
    new nn.Linear(2, 3),
    new nn.Residual(new nn.Sequential(new nn.ReLU())),
    new nn.Dropout(0.1),
  );
  assertEquals(
    String(net),
    `Sequential(
  (0): Linear(inFeatures=2, outFeatures=3, bias=true)  # 9 parameters
  (1): Residual(
    (fn): Sequential(
      (0): ReLU()
    )  # 0 parameters
  )  # 0 parameters
  (2): Dropout(p=0.1)
)  # 9 parameters`,
  );
  assertEquals(Deno.inspect(net), String(net));
});

Deno.test("constructors and forward refuse what does not fit", () => {
  const bad: [() => unknown, ErrorConstructor, string][] = [
    [() => new nn.Linear(0, 2), RangeError, "inFeatures"],
    [() => new nn.Linear(2, 2, { bais: true } as object), TypeError, '"bais"'],
    [() => new nn.Conv2d(3, 4, 3, { groups: 2 }), RangeError, "groups"],
    [() => new nn.Conv2d(3, 4, 0), RangeError, "kernelSize"],
    [() => new nn.MaxPool2d(2, { strid: 1 } as object), TypeError, '"strid"'],
    [() => new nn.AvgPool2d(2, { dilation: 1 } as object), TypeError, '"dilation"'],
    [() => new nn.MSELoss({ size: 1 } as object), TypeError, '"size"'],
    [() => new nn.GELU({ approx: "tanh" } as object), TypeError, '"approx"'],
    [() => new nn.Dropout(1.5), RangeError, "1.5"],
    [() => new nn.Embedding(3, 2, { paddingIdx: 3 }), RangeError, "row 3 of 3"],
    [() => new nn.GroupNorm(3, 4), RangeError, "4 channels into 3 groups"],
    [() => new nn.Linear(3, 2).forward(ndl.ones([2, 4])), RangeError, "[2, 4]"],
    [() => new nn.BatchNorm2d(3).forward(ndl.ones([2, 3])), RangeError, "BatchNorm2d(3)"],
    [() => new nn.BatchNorm1d(3).forward(ndl.ones([1, 3])), RangeError, "more than 1 value"],
    [() => new nn.Embedding(3, 2).forward(ndl.tensor([0.5])), TypeError, "int64"],
    [() => new nn.Embedding(3, 2).forward(ndl.tensor([3n])), RangeError, "3"],
    [
      () => new nn.CrossEntropyLoss().forward(ndl.ones([2, 3]), ndl.ones([2])),
      TypeError,
      'dtype: "int64"',
    ],
    [
      () => new nn.CrossEntropyLoss().forward(ndl.ones([2, 3]), ndl.tensor([0n, 3n])),
      RangeError,
      "3",
    ],
  ];
  for (const [run, type, part] of bad) assertThrows(run, type, part);
});

Deno.test("dropout drops with its probability, rescales, and masks the gradient alike", () => {
  for (const device of [ndl.reference(), ...nativeDevices()]) {
    ndl.manualSeed(3);
    const layer = new nn.Dropout(0.3), x = ndl.ones([200, 100], { device, requiresGrad: true });
    const y = layer.forward(x), values = y.toTypedArray() as Float32Array;
    const zeros = values.filter((v) => v === 0).length / values.length;
    assert(Math.abs(zeros - 0.3) < 6 * Math.sqrt(0.21 / values.length), `${zeros} on ${device}`);
    assert(values.every((v) => v === 0 || Math.abs(v - 1 / 0.7) < 1e-6));
    y.sum().backward();
    assertEquals(x.grad!.tolist(), y.tolist());
    assert(layer.forward(x).sub(y).abs().sum().item() !== 0, "each call draws a new mask");
    assertStrictEquals(layer.eval().forward(x), x);
  }
});

Deno.test("momentum null keeps the plain mean of all batches", () => {
  const bn = new nn.BatchNorm1d(1, { momentum: null });
  for (const v of [1, 2, 6]) bn.forward(ndl.tensor([[v], [v], [v]]));
  assertEquals(bn.running_mean!.item(), 3);
  assertEquals(bn.num_batches_tracked!.item(), 3);
  bn.eval().forward(ndl.ones([1, 1]));
  assertEquals(bn.num_batches_tracked!.item(), 3);
});

Deno.test("summary tells shapes and parameters and changes nothing", () => {
  const net = new nn.Sequential(
    new nn.Conv2d(3, 8, 3, { padding: 1, bias: false }),
    new nn.BatchNorm2d(8),
    new nn.Residual(new nn.Sequential(new nn.Conv2d(8, 8, 3, { padding: 1 }), new nn.ReLU())),
    new nn.Flatten(),
    new nn.Dropout(),
    new nn.Linear(128, 1000),
  );
  net.at(4).training = false;
  (net.at(0) as ndl.nn.Conv2d).weight.requiresGrad_(false);
  const rng = ndl.getRngState().tolist();
  assertEquals(
    ndl.summary(net, [2, 3, 4, 4]),
    `\
===============================================
Layer                  Output shape  Parameters
===============================================
Sequential             [2, 1000]             --
  Conv2d (0)           [2, 8, 4, 4]         216
  BatchNorm2d (1)      [2, 8, 4, 4]          16
  Residual (2)         [2, 8, 4, 4]          --
    Sequential (2.fn)  [2, 8, 4, 4]          --
      Conv2d (2.fn.0)  [2, 8, 4, 4]         584
      ReLU (2.fn.1)    [2, 8, 4, 4]          --
  Flatten (3)          [2, 128]              --
  Dropout (4)          [2, 128]              --
  Linear (5)           [2, 1000]        129,000
===============================================
Parameters: 129,816
Trainable: 129,600
Not trainable: 216
-----------------------------------------------
Input (MiB): 0.00
Outputs of layers (MiB): 0.01
Parameters (MiB): 0.50
===============================================`,
  );
  assertEquals(ndl.getRngState().tolist(), rng);
  assertEquals([...net].map((m) => m.training), [true, true, true, true, false, true]);
  assert([...net.modules()].every((m) => !Object.hasOwn(m, "forward")));
  assertEquals((net.at(1) as ndl.nn.BatchNorm2d).num_batches_tracked!.item(), 0);
});

Deno.test("summary takes several inputs, integers, modules that give several tensors, and shared layers", () => {
  const rows = (text: string): string[] => text.split("\n").slice(3, -9);
  const total = (text: string): string => text.split("\n").at(-8) ?? "";
  assertEquals(rows(ndl.summary(new nn.Bilinear(5, 3, 2), [[2, 5], [2, 3]])), [
    "Bilinear  [2, 2]                32",
  ]);
  assertEquals(rows(ndl.summary(new nn.Embedding(5, 3), [2, 4], { dtype: "int64" })), [
    "Embedding  [2, 4, 3]             15",
  ]);
  assertEquals(rows(ndl.summary(new nn.LSTM(5, 3), [2, 4, 5])), [
    "LSTM   [2, 4, 3], [1, 4, 3], [1, 4, 3]         120",
  ]);
  const shared = new nn.Linear(3, 3);
  assertEquals(total(ndl.summary(new nn.Sequential(shared, shared), [1, 3])), "Parameters: 12");
  const wrong = new nn.Sequential(shared);
  assertThrows(() => ndl.summary(wrong, [1, 4]), RangeError, "[1, 4]");
  assert(!Object.hasOwn(shared, "forward") && wrong.training, "an error changes nothing either");
});

Deno.test("gradients go along when a module is moved", () => {
  const layer = new ndl.nn.Linear(2, 1);
  layer.forward(ndl.ones([1, 2])).sum().backward();
  const { grad } = layer.weight;
  layer.to(layer.weight.device).to("float32");
  assertEquals(layer.weight.grad, grad);
  layer.to("float64").to(ndl.reference());
  assertEquals(layer.weight.grad!.dtype, "float64");
  assertEquals(layer.weight.grad!.device, ndl.reference());
  assertEquals(layer.weight.grad!.tolist(), [[1, 1]]);
});
