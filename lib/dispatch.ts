// From a declared op to a result: checks devices and dtypes, allocates, runs the device's kernel, records.
// The one place where kernels are called and nodes are made. Read next: autograd/graph.ts, backends/native.ts.

import { type DType, dtypes, isFloat, promote, resultType, resultTypeWithNumber } from "./dtype.ts";
import {
  broadcast,
  channelsLastStrides,
  contiguousStrides,
  memoryOrder,
  numel,
  orderedStrides,
  same,
  type Shape,
  show,
} from "./shape.ts";
import { autocast } from "./amp_mode.ts";
import type { Device } from "./device.ts";
import type { ElementwiseKernel, Operand, OpKernel } from "./backend.ts";
import type { ElementwiseOp, KernelOp, OutputSpec, TypedKernelOp, ViewOp } from "./ops/op.ts";
import { elementwiseOps } from "./ops/elementwise.ts";
import { layoutOps } from "./ops/layout.ts";
import { defer, isLazy } from "./lazy.ts";
import { absorb, callLater, mayWait } from "./later.ts";
import { allocate, makeTensor, TensorBase } from "./tensor/base.ts";
import type { Tensor } from "./tensor/mod.ts";
import { needsGrad } from "./autograd/graph.ts";
import { gradEnabled } from "./autograd/mode.ts";
import {
  ConstantNode,
  ElementwiseNode,
  KernelNode,
  recordAssignment,
  ViewNode,
} from "./autograd/nodes.ts";

function isTensor(x: unknown): x is Tensor {
  return x instanceof TensorBase;
}

/** The kernel of `op` on `device`, opened at first use. */
function elementwiseKernel(op: ElementwiseOp, device: Device): ElementwiseKernel {
  return op.kernels[device.id] ??= device.backend.elementwise(op);
}

function opKernel(op: KernelOp, device: Device): OpKernel {
  return op.kernels[device.id] ??= device.backend.kernel(op);
}

/** The device that all tensors share. Throws where they differ. */
function commonDevice(name: string, tensors: readonly (Operand | null)[]): Device {
  let device: Device | null = null;
  for (const t of tensors) {
    if (t === null || !isTensor(t)) continue;
    const d = t.device;
    if (device === null) device = d;
    else if (device !== d) {
      throw new Error(
        `Cannot ${name} tensors on ${device} and ${d}: move one of them with to(device) first`,
      );
    }
  }
  return device!;
}

/** The dtype in which an elementwise op computes its (non-condition) operands. */
function computeDType(op: ElementwiseOp, operands: readonly Operand[]): DType {
  const tensors = operands.filter(isTensor);
  let dtype: DType = tensors.length > 0 ? resultType(tensors) : "float32";
  for (const x of operands) {
    if (!isTensor(x)) dtype = tensors.length > 0 ? resultTypeWithNumber(dtype, x) : dtype;
  }
  if (op.domain === "float" && !isFloat(dtype)) return "float32";
  if (op.domain === "number" && dtype === "bool") {
    throw new TypeError(
      `Cannot ${op.name} a bool tensor: convert it first, for example with to("int64")`,
    );
  }
  return dtype;
}

function checkOperand(op: ElementwiseOp, x: unknown): void {
  if (typeof x === "number" || isTensor(x)) return;
  throw new TypeError(
    `Cannot ${op.name} with ${x === null ? "null" : typeof x}: operands must be tensors or numbers`,
  );
}

/** Whether the tensors that differ in nothing but values can be read as one flat run of elements. */
function allDense(shape: Shape, operands: readonly Operand[]): Tensor | null {
  let model: Tensor | null = null;
  for (const t of operands) {
    if (!isTensor(t)) continue;
    if (t._layout === 2 || !same(t.shape, shape)) return null;
    if (model === null) model = t;
    else if (
      t._layout !== model._layout || (t._layout === 1 && !same(t._strides, model._strides))
    ) {
      return null;
    }
  }
  return model;
}

/** Strides of an elementwise result: the memory format of the first operand of full shape that has one. */
function resultStrides(shape: Shape, operands: readonly Operand[]): number[] {
  for (const t of operands) {
    if (isTensor(t) && t._layout === 1 && same(t.shape, shape)) {
      return orderedStrides(shape, memoryOrder(shape, t._strides));
    }
  }
  return contiguousStrides(shape);
}

/** Runs an elementwise op on `arity` operands (the others are 0). */
function elementwise(op: ElementwiseOp, a: Operand, b: Operand, c: Operand): Tensor {
  // The common case first: float operands of one dtype, device, shape and layout.
  if (isTensor(a) && op.result === "same" && !op.condition && isFloat(a.dtype)) {
    const plain = typeof b === "number" ||
      (isTensor(b) && b.dtype === a.dtype && b.shape.length === a.shape.length &&
        b._layout === a._layout &&
        b._data.device === a._data.device && same(b.shape, a.shape));
    if (plain && typeof c === "number" && a._layout < 2) {
      if (a._layout === 0 || typeof b === "number" || same(a._strides, b._strides)) {
        const device = a._data.device, n = numel(a.shape);
        let y: Tensor;
        if (isLazy(device, a.dtype, n)) {
          const operands = op.arity === 1 ? [a] : [a, b];
          y = (op.arity === 1 ? absorb(op, a) : null) ??
            defer(op, operands, a.dtype, a.shape, a.dtype, device, a._strides, a._layout, n);
        } else {
          y = allocate(a.shape, a.dtype, device, a._strides, a._layout);
          elementwiseKernel(op, device)(a, b, c, y, true);
        }
        if (gradEnabled() && op.grads !== "nondifferentiable") recordElementwise(op, a, b, c, y);
        return y;
      }
    }
  }
  return elementwiseGeneral(op, a, b, c);
}

/** Records `y = op(a, b, c)` where an operand requires grad and has a derivative. */
function recordElementwise(op: ElementwiseOp, a: Operand, b: Operand, c: Operand, y: Tensor): void {
  if (
    (isTensor(a) && needsGrad(a)) || (isTensor(b) && needsGrad(b)) || (isTensor(c) && needsGrad(c))
  ) {
    if (isFloat(y.dtype)) y._node = new ElementwiseNode(op, a, b, c, y);
  }
}

/** Converts the operands to the op's compute dtype (recorded). */
function convert(op: ElementwiseOp, operands: Operand[]): DType {
  const values = op.condition ? operands.slice(1) : operands;
  const dtype = computeDType(op, values);
  for (let i = 0; i < operands.length; i++) {
    const t = operands[i]!;
    const want = op.condition && i === 0 ? "bool" : dtype;
    if (isTensor(t) && t.dtype !== want) {
      if (want === "bool") {
        throw new TypeError(
          `Cannot ${op.name} with a ${t.dtype} condition: it must be bool, for example x.gt(0)`,
        );
      }
      operands[i] = castTo(t, want);
    }
  }
  return dtype;
}

function elementwiseGeneral(op: ElementwiseOp, a: Operand, b: Operand, c: Operand): Tensor {
  const operands = [a, b, c].slice(0, op.arity);
  for (const x of operands) checkOperand(op, x);
  const device = commonDevice(op.name, operands);
  const given = [...operands];
  const dtype = convert(op, operands);
  const tensors = operands.filter(isTensor);
  const shape = tensors.length === 1
    ? tensors[0]!.shape
    : broadcast(op.name, ...tensors.map((t) => t.shape));
  const model = allDense(shape, operands);
  const strides = model !== null ? model._strides : resultStrides(shape, operands);
  const out = op.result === "bool" ? "bool" : dtype;
  const n = numel(shape);
  let y: Tensor;
  if (model !== null && isLazy(device, dtype, n)) {
    y = defer(op, operands, dtype, shape, out, device, strides, model._layout, n);
  } else {
    y = makeOutput({ shape, dtype: out, strides }, device);
    elementwiseKernel(op, device)(
      operands[0]!,
      operands[1] ?? 0,
      operands[2] ?? 0,
      y,
      model !== null,
    );
  }
  if (gradEnabled() && op.grads !== "nondifferentiable") {
    recordElementwise(op, operands[0]!, operands[1] ?? 0, operands[2] ?? 0, y);
  }
  disposeConverted(given, operands);
  return y;
}

/** Releases the conversions that `convert` made (backward keeps what it saved). */
function disposeConverted(given: readonly Operand[], used: readonly Operand[]): void {
  for (let i = 0; i < given.length; i++) {
    const t = used[i]!;
    if (t !== given[i] && isTensor(t)) t.dispose();
  }
}

/** `y = op(x)`. */
export function unary(op: ElementwiseOp, x: Tensor): Tensor {
  if (autocast !== null) return autocast(op, [x], ([a]) => elementwise(op, a!, 0, 0));
  return elementwise(op, x, 0, 0);
}

/** `y = op(a, b)`; one of the operands may be a number. */
export function binary(op: ElementwiseOp, a: Operand, b: Operand): Tensor {
  if (autocast !== null) return autocast(op, [a, b], ([x, y]) => elementwise(op, x!, y!, 0));
  return elementwise(op, a, b, 0);
}

/** `y = op(a, b, c)`; operands may be numbers where the op takes them. */
export function ternary(op: ElementwiseOp, a: Operand, b: Operand, c: Operand): Tensor {
  if (autocast !== null) {
    return autocast(op, [a, b, c], ([x, y, z]) => elementwiseGeneral(op, x!, y!, z!));
  }
  return elementwiseGeneral(op, a, b, c);
}

function makeOutput(spec: OutputSpec, device: Device): Tensor {
  const strides = spec.strides ?? contiguousStrides(spec.shape);
  return allocate(
    spec.shape,
    spec.dtype,
    device,
    strides,
    spec.strides === undefined ? 0 : layout(spec),
  );
}

function layout(spec: OutputSpec): 0 | 1 {
  return same(contiguousStrides(spec.shape), spec.strides!) ? 0 : 1;
}

/** `x` with another dtype (recorded); x itself where nothing changes. */
export function castTo(x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype) return x;
  const y = makeOutput({ shape: x.shape, dtype, strides: resultStrides(x.shape, [x]) }, x.device);
  elementwiseKernel(elementwiseOps.cast, x.device)(x, 0, 0, y, x._layout < 2);
  if (gradEnabled() && isFloat(dtype) && isFloat(x.dtype)) {
    recordElementwise(elementwiseOps.cast, x, 0, 0, y);
  }
  return y;
}

/** A copy of `x` with given dense strides, not recorded. */
export function rawCopy(x: Tensor, strides: readonly number[]): Tensor {
  const y = makeOutput({ shape: x.shape, dtype: x.dtype, strides }, x.device);
  const flat = x._layout === 0 ? y._layout === 0 : x._layout === 1 && same(x._strides, strides);
  elementwiseKernel(elementwiseOps.copy, x.device)(x, 0, 0, y, flat);
  return y;
}

/** `x` itself if it is row-major, else a row-major copy that the caller disposes; not recorded. */
export function rawContiguous(x: Tensor): Tensor {
  return x._layout === 0 ? x : rawCopy(x, contiguousStrides(x.shape));
}

/** Like rawContiguous, in channels-last order (N, spatial, C). */
export function rawChannelsLast(x: Tensor): Tensor {
  const strides = channelsLastStrides(x.shape);
  const already = x._layout < 2 &&
    x.shape.every((s, i) => s === 1 || x._strides[i] === strides[i]);
  return already ? x : rawCopy(x, strides);
}

/** A recorded copy: keeps a dense memory order, or becomes row-major. */
export function copy(x: Tensor, strides: readonly number[] | null = null): Tensor {
  const y = rawCopy(x, strides ?? resultStrides(x.shape, [x]));
  if (gradEnabled() && isFloat(x.dtype)) recordElementwise(elementwiseOps.copy, x, 0, 0, y);
  return y;
}

/**
 * Runs a kernel op: checks, allocates its outputs, runs, records.
 *
 * @param inputs in the order of the declaration, null for optional ones left out
 * @param device needed only where there are no inputs
 * @returns the outputs (aux outputs stay hidden)
 */
export function call<A>(
  op: TypedKernelOp<A>,
  inputs: readonly (Tensor | null)[],
  attrs: A,
  device?: Device,
): Tensor[] {
  if (autocast !== null) {
    return autocast(op, inputs, (converted) => runRecorded(op, converted, attrs, device));
  }
  return runRecorded(op, inputs, attrs, device);
}

function runRecorded<A>(
  op: TypedKernelOp<A>,
  inputs: readonly (Tensor | null)[],
  attrs: A,
  device: Device | undefined,
): Tensor[] {
  const on = device ?? commonDevice(op.name, inputs);
  const specs = op.infer(inputs, attrs as never);
  const waits = op.absorbs !== null && mayWait(on, specs[0]!.dtype, numel(specs[0]!.shape));
  const results: Tensor[] = [];
  if (waits) results.push(callLater(op, inputs, attrs, false));
  else for (const spec of specs) results.push(makeOutput(spec, on));
  if (op.mutates.length > 0) {
    beginWrites(
      inputs,
      op.mutates.map((x) => inputs[op.inputs.indexOf(x)]!),
    );
  }
  if (!waits) opKernel(op, on)(inputs, results, attrs as never);
  const visible = op.outputs.length;
  if (gradEnabled() && op.vjp !== "nondifferentiable") {
    if (anyNeedsGrad(inputs)) {
      const node = new KernelNode(op, inputs, results, attrs);
      for (let i = 0; i < visible; i++) {
        if (!isFloat(results[i]!.dtype)) continue;
        results[i]!._node = node;
        results[i]!._outputIndex = i;
      }
    }
  }
  for (let i = visible; i < results.length; i++) results[i]!.dispose();
  return results.length === visible ? results : results.slice(0, visible);
}

function anyNeedsGrad(tensors: readonly (Tensor | null)[]): boolean {
  for (const t of tensors) if (t !== null && needsGrad(t)) return true;
  return false;
}

/** Before a kernel that writes `written`: pending work among its inputs is done, other such work keeps what it reads. */
function beginWrites(inputs: readonly (Operand | null)[], written: readonly Tensor[]): void {
  for (const t of inputs) if (t !== null && isTensor(t)) void t._memory;
  for (const t of written) t._data.beginWrite();
}

/** A view: another handle on the storage of `t`, recorded. */
export function makeView<A>(op: ViewOp<A>, t: Tensor, attrs: A): Tensor {
  const w = op.window(t.shape, t._strides, attrs);
  const y = makeTensor(t._data, w.shape, w.strides, t._offset + w.offset, t.dtype, -1);
  const erased = op as unknown as ViewOp<unknown>;
  if (gradEnabled() && needsGrad(t)) y._node = new ViewNode(erased, t, attrs);
  y._view = { parent: t, op: erased, attrs, epoch: t._data.epoch };
  return y;
}

function overlaps(t: Tensor): boolean {
  return t._layout === 2 && t.shape.some((s, i) => s > 1 && t._strides[i] === 0);
}

/** Throws where PyTorch forbids writing `t` in place. */
export function checkInPlace(name: string, t: Tensor): void {
  if (overlaps(t)) {
    throw new Error(
      `Cannot ${name} in place on an expanded tensor of shape ${
        show(t.shape)
      }: several elements share memory; clone() it first`,
    );
  }
  if (!gradEnabled()) return;
  for (let p: Tensor | null = t; p !== null; p = p._view?.parent ?? null) {
    if (p._leafGrad && p._node === null) {
      throw new Error(
        `Cannot ${name} in place on a leaf tensor that requires grad${
          p === t ? "" : " (through a view of it)"
        }: do it inside noGrad, or on a clone()`,
      );
    }
  }
}

/**
 * `t = op(t, b, c)` in the memory of `t` (with `replace`: `t = op(b)`, a unary op).
 *
 * @throws Error where PyTorch forbids it; RangeError where the operands do not broadcast to t's shape
 */
export function inPlace(
  op: ElementwiseOp,
  t: Tensor,
  b: Operand,
  c: Operand,
  replace = false,
): Tensor {
  const name = op.name + "_";
  checkInPlace(name, t);
  const given = replace ? [b] : [t, b, c].slice(0, op.arity);
  for (const x of given) checkOperand(op, x);
  const device = commonDevice(name, [t, ...given]);
  const tensors = given.filter(isTensor);
  if (!same(broadcast(name, t.shape, ...tensors.map((x) => x.shape)), t.shape)) {
    throw new RangeError(
      `Cannot ${name} ${
        tensors.map((x) => show(x.shape)).join(" and ")
      }: the result does not fit into ${show(t.shape)}`,
    );
  }
  const dtype = replace ? t.dtype : computeDType(op, given);
  if (
    dtype !== t.dtype && promote(dtype, t.dtype) !== t.dtype &&
    dtypes[dtype].kind !== dtypes[t.dtype].kind
  ) {
    throw new TypeError(`Cannot ${name}: a ${dtype} result does not fit into a ${t.dtype} tensor`);
  }
  // Operands that share memory with t in another arrangement would be overwritten while they are read.
  const operands = given.map((x) => {
    if (!isTensor(x) || x === t) return x;
    const cast = castTo(x, t.dtype);
    const clash = cast._data === t._data &&
      !(same(cast._strides, t._strides) && cast._offset === t._offset);
    return clash ? copy(cast) : cast;
  });
  const recorded = gradEnabled() && op.grads !== "nondifferentiable" &&
    (needsGrad(t) || tensors.some(needsGrad)) && isFloat(t.dtype);
  let source = operands;
  if (recorded && !replace && readsFirst(op)) source = operands.map((x) => x === t ? copy(t) : x);
  const dense = allDense(t.shape, operands) !== null && t._layout < 2 &&
    operands.every((x) => !isTensor(x) || x._layout === t._layout && same(x._strides, t._strides));
  beginWrites(operands, [t]);
  elementwiseKernel(op, device)(operands[0]!, operands[1] ?? 0, operands[2] ?? 0, t, dense);
  if (recorded) {
    recordAssignment(t, new ElementwiseNode(op, source[0]!, source[1] ?? 0, source[2] ?? 0, t));
  }
  return t;
}

/** Whether a derivative of `op` reads its first operand, which an in-place op overwrites. */
function readsFirst(op: ElementwiseOp): boolean {
  return op.grads !== "nondifferentiable" &&
    op.grads.some((g) => g !== null && g.saves.includes("a"));
}

/** Runs a kernel op on outputs that exist (fills, random numbers in place); not recorded. */
export function runInto<A>(
  op: TypedKernelOp<A>,
  inputs: readonly (Tensor | null)[],
  outputs: readonly Tensor[],
  attrs: A,
): void {
  beginWrites(inputs, outputs);
  opKernel(op, outputs[0]!.device)(inputs, outputs, attrs as never);
}

/** Sets every element of `t` to `value`, in place and recorded. */
export function fillInPlace(t: Tensor, value: number): Tensor {
  checkInPlace("fill_", t);
  if (!isFloat(t.dtype) && t.dtype !== "bool" && !Number.isFinite(value)) {
    throw new RangeError(
      `Cannot fill_ a ${t.dtype} tensor with ${value}: it has no ${t.dtype} value`,
    );
  }
  runInto(layoutOps.fill, [], [t], { value, shape: t.shape, dtype: t.dtype });
  if (gradEnabled() && needsGrad(t)) recordAssignment(t, new ConstantNode());
  return t;
}
