// The public promise: every name of the contract is there and of the right kind, the C header and the libraries match
// the op table, variables are documented, an unknown option is an error that names it.

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { headerText, nativeOps } from "../lib/abi.ts";
import { symbolOf } from "../lib/ops/op.ts";
import { ops } from "../lib/ops/mod.ts";
import { VARIABLES } from "../lib/env.ts";
import { nativeDevices } from "./harness.ts";

function words(text: string): string[] {
  return text.trim().split(/\s+/);
}

/** Functions and classes by the object that holds them. */
const callables: Record<string, [holder: object, names: string]> = {
  ndl: [
    ndl,
    `reference wasm cpu dnnl cuda devices defaultDevice setDefaultDevice synchronize setNumThreads memorySummary Device
    tensor zeros ones full empty eye arange linspace rand randn randint randperm bernoulli zerosLike onesLike randnLike
    manualSeed getRngState setRngState Tensor
    add sub mul div pow floorDivide remainder maximum minimum eq ne lt le gt ge logicalAnd logicalOr logicalNot where
    maskedFill clamp lerp abs exp log sqrt sin cos tanh sigmoid relu sum mean max min matmul mm bmm dot outer softmax
    logSoftmax sort topk einsum cat stack oneHot evaluate
    noGrad enableGrad tidy detectAnomaly autocast grad customFunction gradcheck gradgradcheck checkpoint GradScaler
    summary tqdm trange save load loadNpy saveNpy loadNpz saveNpz loadTorch profile`,
  ],
  tensor: [
    ndl.zeros([2, 2], { device: ndl.reference() }),
    `size numel item toTypedArray tolist toString clone detach contiguous to requiresGrad_ backward registerHook
    retainGrad dispose
    add sub mul div pow floorDivide remainder maximum minimum eq ne lt le gt ge logicalAnd logicalOr logicalNot where
    maskedFill clamp lerp
    neg abs sign exp expm1 log log1p log2 sqrt rsqrt square reciprocal sin cos tan asin acos atan sinh cosh tanh sigmoid
    relu leakyRelu elu selu gelu silu mish softplus erf floor ceil round trunc isnan isinf
    sum mean prod max min amax amin argmax argmin var std norm any all logsumexp cumsum cumprod softmax logSoftmax sort
    topk matmul mm bmm dot outer
    reshape view flatten permute transpose squeeze unsqueeze expand broadcastTo slice select narrow split chunk flip
    roll repeat tile pad dilate undilate tril triu diagonal get set
    gather scatter scatterAdd indexSelect indexAdd take maskedSelect nonzero multinomial
    add_ sub_ mul_ div_ zero_ fill_ copy_ clamp_`,
  ],
  nn: [
    ndl.nn,
    `Module Parameter Sequential ModuleList Residual Identity Flatten Linear Bilinear Conv1d Conv2d ConvTranspose2d
    MaxPool2d AvgPool2d AdaptiveAvgPool2d BatchNorm1d BatchNorm2d LayerNorm GroupNorm RMSNorm Dropout Embedding RNNCell
    LSTMCell GRUCell RNN LSTM GRU MultiheadAttention TransformerEncoderLayer ReLU LeakyReLU ELU SELU GELU SiLU Mish
    Softplus Sigmoid Tanh Softmax LogSoftmax CrossEntropyLoss NLLLoss MSELoss L1Loss SmoothL1Loss HuberLoss BCELoss
    BCEWithLogitsLoss KLDivLoss`,
  ],
  module: [
    new ndl.nn.Identity(),
    `forward parameters namedParameters buffers modules children stateDict loadStateDict train eval to zeroGrad
    registerBuffer registerForwardHook apply`,
  ],
  "nn.functional": [
    ndl.nn.functional,
    `linear bilinear conv1d conv2d convTranspose2d maxPool2d avgPool2d adaptiveAvgPool2d batchNorm layerNorm groupNorm
    rmsNorm dropout embedding relu leakyRelu elu selu gelu silu mish softplus sigmoid tanh softmax logSoftmax
    crossEntropy nllLoss mseLoss l1Loss smoothL1Loss huberLoss binaryCrossEntropy binaryCrossEntropyWithLogits klDiv
    scaledDotProductAttention oneHot pad`,
  ],
  "nn.init": [
    ndl.nn.init,
    `uniform_ normal_ constant_ ones_ zeros_ eye_ xavierUniform_ xavierNormal_ kaimingUniform_ kaimingNormal_
    truncNormal_ orthogonal_ calculateGain`,
  ],
  "nn.utils": [ndl.nn.utils, `clipGradNorm_ clipGradValue_ parametersToVector`],
  optim: [ndl.optim, `SGD Adam AdamW RMSprop Adagrad`],
  optimizer: [
    new ndl.optim.SGD([ndl.zeros([1], { device: ndl.reference(), requiresGrad: true })], { lr: 1 }),
    `step zeroGrad stateDict loadStateDict addParamGroup`,
  ],
  "optim.lrScheduler": [
    ndl.optim.lrScheduler,
    `StepLR MultiStepLR ExponentialLR LinearLR CosineAnnealingLR CosineAnnealingWarmRestarts OneCycleLR LambdaLR
    ReduceLROnPlateau SequentialLR`,
  ],
  data: [
    ndl.data,
    `Dataset TensorDataset Subset randomSplit DataLoader CIFAR10 MNIST PTB RandomFlipHorizontal RandomCrop Normalize
    Cutout Compose`,
  ],
};

for (const [holder, [object, names]] of Object.entries(callables)) {
  Deno.test(`${holder} has every function and class of the contract`, () => {
    const missing = words(names).filter((name) =>
      typeof (object as Record<string, unknown>)[name] !== "function"
    );
    assertEquals(missing, []);
  });
}

Deno.test("tensors have every property of the contract", () => {
  const t = ndl.zeros([2, 3], { device: ndl.reference(), requiresGrad: true });
  const got = {
    shape: [...t.shape],
    dtype: t.dtype,
    device: t.device,
    ndim: t.ndim,
    requiresGrad: t.requiresGrad,
    grad: t.grad,
    isLeaf: t.isLeaf,
    gradFn: t.gradFn,
    transposed: [...t.T.shape],
  };
  assertEquals(got, {
    shape: [2, 3],
    dtype: "float32",
    device: ndl.reference(),
    ndim: 2,
    requiresGrad: true,
    grad: null,
    isLeaf: true,
    gradFn: null,
    transposed: [3, 2],
  });
  let kept: ndl.Tensor;
  {
    using inside = ndl.ones([2], { device: ndl.reference() });
    kept = inside;
  }
  assertThrows(() => kept.tolist(), Error, "disposed");
});

Deno.test("all dtypes exist and modes work as `using` scopes", () => {
  const device = ndl.reference();
  for (
    const dtype of words(
      "float32 float64 float16 bfloat16 int32 int64 uint8 bool",
    ) as ndl.DType[]
  ) assertEquals(ndl.ones([2], { dtype, device }).to("float32").tolist(), [1, 1]);
  const x = ndl.ones([2], { device, requiresGrad: true });
  {
    using _ = ndl.noGrad();
    assertEquals(x.add(1).requiresGrad, false);
  }
  assertEquals(x.add(1).requiresGrad, true);
  for (const mode of [ndl.noGrad, ndl.enableGrad, ndl.detectAnomaly, ndl.tidy]) {
    assertThrows(() => mode(() => Promise.resolve()), TypeError, "async");
  }
});

Deno.test("devices say what they are, or why they are not there", () => {
  assertEquals(ndl.devices().map((d) => d.name), ["reference", "cpu", "dnnl", "wasm", "cuda"]);
  for (const report of ndl.devices()) {
    assert(report.available ? report.threads! >= 1 : report.reason!.length > 0, report.name);
  }
  const device = ndl.cuda();
  if (!device.available) {
    assertThrows(() => ndl.zeros([1], { device }), Error, device.reason);
    assertThrows(() => ndl.setDefaultDevice(device), Error, device.reason);
  }
  assertThrows(() => ndl.cuda(-1), RangeError, "-1");
});

Deno.test("the header on disk and both libraries are those of the op table", async () => {
  const found = nativeDevices().map((d) => ndl.devices().find((r) => r.name === d.name)!.library!);
  if (found.length === 0) return;
  const header = new URL("../csrc/include/needle.h", import.meta.url);
  assertEquals(await Deno.readTextFile(header), headerText());
  for (const path of found) {
    const names = nativeOps().map((op) => symbolOf(op.name));
    const library = Deno.dlopen(
      path,
      Object.fromEntries(names.map((name) => [name, { type: "pointer" as const }])),
    );
    assertEquals(Object.keys(library.symbols), names);
  }
});

Deno.test("every op is in the conformance table, and none fails", async () => {
  const text = await Deno.readTextFile(new URL("CONFORMANCE.md", import.meta.url));
  const missing = Object.keys(ops).filter((name) => !new RegExp(`^\\| ${name} `, "m").test(text));
  assertEquals(missing, [], "run `deno task conformance`");
  assert(!/^\|.*✗/m.test(text) && !text.includes("## Failures"), "the table has failures");
});

Deno.test("the README documents every variable of Needle", async () => {
  const text = await Deno.readTextFile(new URL("../README.md", import.meta.url));
  const names = Object.keys(VARIABLES).filter((n) => n.startsWith("NEEDLE_"));
  assertEquals(names.filter((name) => !text.includes(`\`${name}\``)), []);
});

Deno.test("an unknown option is an error that names it", async () => {
  const device = ndl.reference();
  const bad = { device, typo: 1 } as { device: ndl.Device };
  const wrong = { typo: 1 } as object;
  const x = ndl.ones([2, 2], { device, requiresGrad: true });
  const labels = ndl.zeros([2], { device, dtype: "int64" });
  const F = ndl.nn.functional, lrs = ndl.optim.lrScheduler;
  const sgd = (): ndl.optim.SGD => new ndl.optim.SGD([x], { lr: 1 });
  const image = ndl.ones([1, 1, 4, 4], { device });
  const calls: (() => unknown)[] = [
    () => ndl.tensor([1], bad),
    () => ndl.zeros([2], bad),
    () => ndl.arange(0, 3, 1, bad),
    () => ndl.linspace(0, 1, 3, bad),
    () => ndl.eye(2, bad),
    () => ndl.rand([2], bad),
    () => ndl.randn([2], bad),
    () => ndl.randint(0, 2, [2], bad),
    () => ndl.randperm(2, bad),
    () => x.sum(0, wrong),
    () => x.mean(0, wrong),
    () => x.var(0, wrong),
    () => x.norm(0, wrong),
    () => x.max(0, wrong),
    () => x.argmax(0, wrong),
    () => x.sort(0, wrong),
    () => x.topk(1, 0, wrong),
    () => x.pad([1, 1], wrong),
    () => x.gelu(wrong),
    () => x.multinomial(1, wrong),
    () => x.sum().backward(null, wrong),
    () => ndl.grad(x.sum(), x, wrong),
    () => ndl.gradcheck(() => x, [x], wrong),
    () => ndl.profile(() => 0, wrong),
    () => ndl.trange(1, wrong),
    () => F.conv2d(image, image, wrong),
    () => F.maxPool2d(image, 2, wrong),
    () => F.crossEntropy(x, labels, wrong),
    () => F.mseLoss(x, x, wrong),
    () => F.dropout(x, 0.5, wrong),
    () => F.scaledDotProductAttention(x, x, x, wrong),
    () => new ndl.nn.Linear(2, 2, wrong),
    () => new ndl.nn.Conv2d(2, 2, 3, wrong),
    () => new ndl.nn.BatchNorm2d(2, wrong),
    () => new ndl.nn.LSTM(2, 2, wrong),
    () => new ndl.nn.MultiheadAttention(2, 1, wrong),
    () => new ndl.nn.CrossEntropyLoss(wrong),
    () => new ndl.optim.SGD([x], { lr: 1, ...wrong }),
    () => new ndl.optim.AdamW([x], wrong),
    () => new lrs.StepLR(sgd(), 1, wrong),
    () => new ndl.GradScaler(wrong),
    () => x.indexAdd(0, labels, x, wrong),
    () => x.nonzero(wrong as { asTuple: true }),
    () => x.diagonal(wrong),
    () => ndl.zerosLike(x, bad),
    () => ndl.randnLike(x, bad),
    () => ndl.autocast(wrong, () => 0),
    () => ndl.summary(new ndl.nn.Linear(2, 2, { device }), [1, 2], wrong),
    () => ndl.gradgradcheck(() => x, [x], wrong),
    () => ndl.tqdm([1], wrong),
    () => F.huberLoss(x, x, wrong),
    () => F.smoothL1Loss(x, x, wrong),
    () => F.binaryCrossEntropyWithLogits(x, x, wrong),
    () => F.klDiv(x, x, wrong),
    () => F.nllLoss(x, labels, wrong),
    () => F.layerNorm(x, [2], wrong),
    () => F.groupNorm(image, 1, wrong),
    () => F.batchNorm(image, null, null, wrong),
    () => F.avgPool2d(image, 2, wrong),
    () => F.embedding(labels, x, wrong),
    () => F.linear(x, x, wrong),
    () => ndl.nn.init.kaimingUniform_(x, wrong),
    () => new ndl.nn.ConvTranspose2d(2, 2, 3, wrong),
    () => new ndl.nn.MaxPool2d(2, wrong),
    () => new ndl.nn.LayerNorm([2], wrong),
    () => new ndl.nn.GroupNorm(1, 2, wrong),
    () => new ndl.nn.RMSNorm([2], wrong),
    () => new ndl.nn.Embedding(2, 2, wrong),
    () => new ndl.nn.GELU(wrong),
    () => new ndl.nn.GRU(2, 2, wrong),
    () => new ndl.nn.RNN(2, 2, wrong),
    () => new ndl.nn.GRUCell(2, 2, wrong),
    () => new ndl.nn.RNNCell(2, 2, wrong),
    () => new ndl.nn.TransformerEncoderLayer(2, 1, wrong),
    () => new ndl.nn.KLDivLoss(wrong),
    () => new ndl.nn.HuberLoss(wrong),
    () => new ndl.nn.BCEWithLogitsLoss(wrong),
    () => ndl.nn.utils.clipGradNorm_([x], 1, wrong),
    () => new ndl.nn.Identity().loadStateDict({}, wrong),
    () => new ndl.optim.RMSprop([x], wrong),
    () => new ndl.optim.Adagrad([x], wrong),
    () => new ndl.optim.SGD([{ params: [x], ...wrong }], { lr: 1 }),
    () => new lrs.OneCycleLR(sgd(), 1, { totalSteps: 2, ...wrong }),
    () => new lrs.ReduceLROnPlateau(sgd(), wrong),
    () => new lrs.CosineAnnealingLR(sgd(), 1, wrong),
    () => new lrs.LinearLR(sgd(), wrong),
    () => new lrs.SequentialLR(sgd(), [], [], wrong),
    () => new ndl.data.RandomCrop(2, wrong),
    () => ndl.data.syntheticMNIST(wrong),
    () => ndl.data.syntheticCIFAR10(wrong),
    () => new ndl.data.DataLoader(new ndl.data.TensorDataset(x), wrong),
  ];
  for (const call of calls) {
    assertThrows(call, TypeError, "typo", String(call));
  }
  const later: (() => Promise<unknown>)[] = [
    () => ndl.load("none", wrong),
    () => ndl.save("none", {}, wrong),
    () => ndl.loadTorch("none", wrong),
    () => ndl.data.MNIST(wrong),
  ];
  for (const call of later) {
    await assertRejects(async () => await call(), TypeError, "typo", String(call));
  }
});
