// Automatic mixed precision: autocast computes matrix products and convolutions in a 16-bit dtype and what needs
// range or precision in float32, by PyTorch's lists. Read next: grad_scaler.ts.

import { type Autocast, isCast, setAutocast } from "./amp_mode.ts";
import { edgeOf, Node } from "./autograd/graph.ts";
import { noGrad } from "./autograd/mode.ts";
import type { Operand } from "./backend.ts";
import type { Device } from "./device.ts";
import { castTo } from "./dispatch.ts";
import { type DType, isHalf, promote } from "./dtype.ts";
import type { OpName } from "./ops/mod.ts";
import type { AnyOp } from "./ops/op.ts";
import { checkOptions } from "./options.ts";
import { unscoped } from "./scope.ts";
import type { Storage } from "./storage.ts";
import { Tensor } from "./tensor/mod.ts";

export {
  GradScaler,
  type GradScalerOptions,
  type GradScalerState,
  type ScalableOptimizer,
} from "./grad_scaler.ts";

/** Ops that compute in the region's dtype: they are fast there and add up in float32 inside. */
const lowPrecision: readonly OpName[] = [
  "matmul",
  "linear",
  "conv2d",
  "conv2dInput",
  "conv2dWeight",
  "rnnLayer",
  "lstmLayer",
  "gruLayer",
  "attention",
];

/** Ops that compute in float32: 16 bits lack the range or the precision. */
const fullPrecision: readonly OpName[] = [
  "exp",
  "expm1",
  "log",
  "log1p",
  "log2",
  "pow",
  "reciprocal",
  "rsqrt",
  "sinh",
  "cosh",
  "tan",
  "asin",
  "acos",
  "softplus",
  "sum",
  "prod",
  "l2Norm",
  "cumsum",
  "cumprod",
  "softmax",
  "logSoftmax",
  "logsumexp",
  "layerNorm",
  "groupNorm",
  "rmsNorm",
  "crossEntropy",
  "nllLoss",
];

/** Ops that take a 16-bit input beside float32 statistics and weights as they are. */
const mixed: readonly OpName[] = ["batchNorm", "batchNormEval"];

/** How an op's inputs are converted: to the region's dtype, to float32, to their widest dtype, or not at all. */
type Policy = "low" | "float32" | "widest" | "none";

const policies: ReadonlyMap<string, Policy> = new Map<string, Policy>([
  ...lowPrecision.map((name) => [name, "low"] as const),
  ...fullPrecision.map((name) => [name, "float32"] as const),
  ...mixed.map((name) => [name, "none"] as const),
]);

function policyOf(op: AnyOp): Policy {
  const listed = policies.get(op.name);
  if (listed !== undefined) return listed;
  // Elementwise ops promote by themselves; what is written in place must not be a converted copy.
  return op.kind === "kernel" && op.mutates.length === 0 ? "widest" : "none";
}

/** A recorded conversion of a parameter. It saves nothing, so that it serves any number of graphs. */
class CastNode extends Node {
  readonly #dtype: DType;

  constructor(t: Tensor) {
    super([edgeOf(t)], [t._outputIndex]);
    this.#dtype = t.dtype;
  }

  get name(): string {
    return "cast";
  }

  backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
    return [castTo(grads[0]!, this.#dtype)];
  }

  free(): void {}
}

/** A converted parameter, valid while the parameter is the same memory and was not written. */
interface Converted {
  readonly tensor: Tensor;
  readonly storage: Storage;
  readonly version: number;
}

// Parameters are converted once per outermost region, not once per use.
const cache = new Map<Tensor, Converted>();
let depth = 0;

function convertParameter(t: Tensor, dtype: DType): Tensor {
  const known = cache.get(t);
  const storage = t._data;
  if (known !== undefined) {
    const { tensor, version } = known;
    if (known.storage === storage && version === storage.version && tensor.dtype === dtype) {
      return tensor;
    }
    tensor.dispose();
  }
  const tensor = unscoped(() => noGrad(() => castTo(t, dtype)));
  tensor._node = new CastNode(t);
  cache.set(t, { tensor, storage, version: storage.version });
  return tensor;
}

function leaveRegion(): void {
  if (--depth > 0) return;
  for (const { tensor } of cache.values()) tensor.dispose();
  cache.clear();
}

/** Whether the region converts `t`. */
function convertible(t: unknown, device: Device | null): t is Tensor {
  return t instanceof Tensor && isCast(t.dtype) && (device === null || t.device === device);
}

/** The dtype that an op's inputs are converted to, or null to leave them. */
function targetOf(
  op: AnyOp,
  inputs: readonly (Operand | null)[],
  low: DType,
  device: Device | null,
): DType | null {
  const policy = policyOf(op);
  if (policy === "low") return low;
  if (policy === "float32") return "float32";
  if (policy === "none") return null;
  let widest: DType | null = null;
  for (const t of inputs) {
    if (convertible(t, device)) widest = widest === null ? t.dtype : promote(widest, t.dtype);
  }
  return widest;
}

function hookOf(low: DType, device: Device | null): Autocast {
  const hook: Autocast = (op, inputs, run) => {
    const target = targetOf(op, inputs, low, device);
    if (target === null) return run(inputs);
    const temporary: Tensor[] = [];
    const converted = inputs.map((t) => {
      if (!convertible(t, device) || t.dtype === target) return t;
      const parameter = t._leafGrad && t._node === null && t._view === null && isHalf(target);
      const c = parameter ? convertParameter(t, target) : castTo(t, target);
      if (!parameter) temporary.push(c);
      return c as Tensor & typeof t;
    });
    const outer = setAutocast(null);
    try {
      return run(converted);
    } finally {
      setAutocast(outer);
      for (const t of temporary) t.dispose(); // the graph keeps what it saved
    }
  };
  return hook;
}

/** Options of `autocast`. */
export interface AutocastOptions {
  /** Convert tensors of this device only (default: of all devices). */
  readonly device?: Device;
  /** What fast ops compute in (default: float16 on cuda, bfloat16 elsewhere). */
  readonly dtype?: "float16" | "bfloat16";
  /** false switches an enclosing region off. */
  readonly enabled?: boolean;
}

/**
 * Mixed precision until the end of the block: `using _ = autocast({ dtype: "bfloat16" })`.
 *
 * Matrix products, convolutions and recurrent layers compute in `dtype`; exponentials, sums, norms, softmax and
 * losses in float32; other ops in the dtype of their inputs, the widest where they differ. float64 is left alone.
 * Run the forward pass and the loss in it, backward after it.
 *
 * @throws TypeError for a dtype that is not float16 or bfloat16
 */
export function autocast(options: AutocastOptions): Disposable;
/**
 * Runs `fn` in mixed precision and returns its result.
 *
 * @throws TypeError where the callback returns a promise
 *
 * @example
 * ```ts
 * import * as ndl from "../mod.ts";
 * const w = ndl.randn([8, 4], { requiresGrad: true }), x = ndl.randn([2, 8]);
 * const y = ndl.autocast({ dtype: "bfloat16" }, () => x.matmul(w));
 * console.log(y.dtype); // bfloat16
 * y.sum().backward();
 * console.log(w.grad!.dtype); // float32
 * ```
 */
export function autocast<T>(options: AutocastOptions, fn: () => T): T;
/** Both forms. */
export function autocast<T>(options: AutocastOptions, fn?: () => T): T | Disposable {
  checkOptions("autocast", options, ["device", "dtype", "enabled"]);
  const device = options.device ?? null;
  const dtype = options.dtype ?? (device?.name.startsWith("cuda") ? "float16" : "bfloat16");
  if (!isHalf(dtype)) {
    throw new TypeError(`Cannot autocast to ${dtype}: use float16 or bfloat16, or leave it out`);
  }
  const before = setAutocast(options.enabled ?? true ? hookOf(dtype, device) : null);
  depth++;
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    setAutocast(before);
    leaveRegion();
  };
  if (fn === undefined) return { [Symbol.dispose]: close };
  try {
    const result = fn();
    if (result instanceof Promise) {
      throw new TypeError(
        "Cannot run an async callback in autocast: the mode would end before it does; " +
          "write `using _ = autocast(...)` in the async function instead",
      );
    }
    return result;
  } finally {
    close();
  }
}
