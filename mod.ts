/**
 * Needle: deep learning in TypeScript. Tensors, reverse-mode automatic differentiation, modules, optimisers and data
 * under PyTorch's names in camelCase; native kernels where Deno can load them, plain TypeScript everywhere else.
 *
 * @example Fit a line
 * ```ts
 * import * as ndl from "./mod.ts";
 *
 * ndl.manualSeed(0);
 * const x = ndl.linspace(-1, 1, 32).reshape(32, 1);
 * const y = x.mul(3).add(0.5);
 * const model = new ndl.nn.Linear(1, 1);
 * const optimizer = new ndl.optim.SGD(model.parameters(), { lr: 0.3 });
 * const loss = new ndl.nn.MSELoss();
 * for (let step = 0; step < 100; step++) {
 *   optimizer.zeroGrad();
 *   loss.forward(model.forward(x), y).backward();
 *   optimizer.step();
 * }
 * console.log(model.weight.item().toFixed(2), model.bias!.item().toFixed(2)); // 3.00 0.50
 * ```
 *
 * @module
 */
export { type DType, type TypedArray } from "./lib/dtype.ts";
export { type Operand } from "./lib/backend.ts";
export {
  arange,
  type CreateOptions,
  empty,
  eye,
  full,
  fullLike,
  linspace,
  type NestedData,
  ones,
  onesLike,
  tensor,
  type TensorOptions,
  zeros,
  zerosLike,
} from "./lib/tensor/create.ts";
export * from "./lib/tensor/functions.ts";
export * from "./lib/tensor/layout_functions.ts";
export * from "./lib/tensor/reduce_functions.ts";
export { cat, stack } from "./lib/tensor/join.ts";
export { einsum } from "./lib/tensor/einsum.ts";
export { evaluate } from "./lib/tensor/evaluate.ts";
export { oneHot } from "./lib/tensor/lookup.ts";
export {
  bernoulli,
  getRngState,
  manualSeed,
  multinomial,
  rand,
  randint,
  randLike,
  randn,
  randnLike,
  randperm,
  setRngState,
} from "./lib/tensor/random.ts";
export { Tensor } from "./lib/tensor/mod.ts";
export { type ElementwiseTensor } from "./lib/tensor/elementwise.ts";
export {
  type Dims,
  type DTypeOptions,
  type NormOptions,
  type ReduceOptions,
  type ReduceTensor,
  type SortOptions,
  type SumOptions,
  type TopkOptions,
  type ValuesAndIndices,
  type VarOptions,
} from "./lib/tensor/reduce.ts";
export { type LinalgTensor } from "./lib/tensor/linalg.ts";
export {
  type DiagonalOptions,
  type LayoutTensor,
  type PadOptions,
  type Range,
} from "./lib/tensor/layout.ts";
export { type Index, type IndexTensor } from "./lib/tensor/index.ts";
export { type PadMode } from "./lib/ops/layout.ts";
export { type Shape } from "./lib/shape.ts";
export { type NestedList, type TensorBase } from "./lib/tensor/base.ts";
export { type BackwardOptions, grad, type GradOptions } from "./lib/autograd/engine.ts";
export { type GradHook, type Node } from "./lib/autograd/graph.ts";
export { detectAnomaly, enableGrad, noGrad } from "./lib/autograd/mode.ts";
export { gradcheck, type GradcheckOptions, gradgradcheck } from "./lib/autograd/gradcheck.ts";
export {
  checkpoint,
  type CustomFunction,
  customFunction,
  type FunctionContext,
} from "./lib/autograd/custom.ts";
export { tidy } from "./lib/tensor/tidy.ts";
export {
  cpu,
  cuda,
  defaultDevice,
  Device,
  deviceByName,
  type DeviceReport,
  devices,
  dnnl,
  reference,
  setDefaultDevice,
  setNumThreads,
  synchronize,
  wasm,
} from "./lib/device.ts";
export { type MemoryCounts } from "./lib/storage.ts";
export {
  type ChromeTrace,
  type KernelRecord,
  Profile,
  profile,
  type ProfileOptions,
  type ProfileRow,
  type TraceEvent,
} from "./lib/profiler.ts";
export { graphDot, graphText, memorySummary } from "./lib/debug.ts";
export {
  type AsyncProgress,
  type PostfixValue,
  ProgressBar,
  type ProgressOptions,
  type ProgressStream,
  type SyncProgress,
  tqdm,
  trange,
} from "./lib/progress.ts";
export {
  load,
  loadMetadata,
  loadNpy,
  loadNpz,
  type LoadOptions,
  loadTorch,
  save,
  saveNpy,
  saveNpz,
  type SaveNpzOptions,
  type SaveOptions,
} from "./lib/io/mod.ts";
export { type AnyModule, type ForwardHook, type Module, type StateDict } from "./lib/nn/module.ts";
export * as nn from "./lib/nn/mod.ts";
export { summary, type SummaryOptions } from "./lib/nn/summary.ts";
export * as optim from "./lib/optim/mod.ts";
export * as data from "./lib/data/mod.ts";
export {
  autocast,
  type AutocastOptions,
  GradScaler,
  type GradScalerOptions,
  type GradScalerState,
  type ScalableOptimizer,
} from "./lib/amp.ts";
