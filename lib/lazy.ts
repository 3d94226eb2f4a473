// Lazy evaluation of elementwise ops: results of large ones stay pending expressions until somebody reads their
// memory; then the whole expression runs in one pass, tile by tile in L1 cache (csrc/cpu/fused.cpp) or in the registers
// of a GPU (csrc/cuda/fused.cu), and only what others still need of it is written. Read lib/dispatch.ts
// first (who defers) and lib/storage.ts (who asks).
//
// The rules:
// - Pending is a property of the storage: handles and views on it are ordinary tensors, and reading the memory of any
//   of them (TensorBase._memory) evaluates it. Nothing else in the library knows.
// - An expression holds counted references to what it reads. A write in place to that first saves a copy for it.
// - Results that autograd saved, or that another pending expression reads too, are written along with the result
//   that was asked for. Others are not written; if they are used again after all, they are computed once more, and
//   written then: at most twice the work of eager evaluation, never more.
// - Only floating point ops are deferred, which cannot fail; so errors are raised where the op is called.

import type { ElementwiseOp } from "./ops/op.ts";
import type { Operand } from "./backend.ts";
import type { Tensor } from "./tensor/mod.ts";
import { type Deferred, type Memory, type Reading, Storage } from "./storage.ts";
import type { Device } from "./device.ts";
import { type DType, dtypes } from "./dtype.ts";
import type { Shape } from "./shape.ts";
import { type Layout, makeTensor } from "./tensor/base.ts";
import { opNumber } from "./abi.ts";
import { env } from "./env.ts";

/** Limits of a program; csrc/cpu/fused.cpp and csrc/cuda/fused.cu have the same. */
export const fusedInputs = 8, fusedOutputs = 4;
const largestSteps = 16;

// From this many elements on deferring pays: below, bookkeeping costs more than a pass over L1.
const usualThreshold = 4096;

let threshold: number | null = null;

/** The smallest number of elements that is deferred; Infinity where laziness is switched off. */
function lazyFrom(): number {
  return threshold ??= env("NEEDLE_EAGER") ? Infinity : env("NEEDLE_LAZY_FROM") ?? usualThreshold;
}

let paused = 0;

/** Runs every op at once until the returned function is called (profiles want to see single ops). */
export function pauseLazy(): () => void {
  paused++;
  return () => void paused--;
}

/** Whether an elementwise op on `n` elements of `dtype` is deferred on `device`. */
export function isLazy(device: Device, dtype: DType, n: number): boolean {
  return n >= lazyFrom() && paused === 0 && (dtype === "float32" || dtype === "float64") &&
    device.fused !== null;
}

/** A program for one evaluation, as `Backend.fused` takes it. */
export interface FusedProgram {
  /** Base pointers of the inputs, then null up to the limit. */
  readonly inputs: (Memory | null)[];
  /** Their first elements. */
  readonly inputStarts: number[];
  /** Base pointers of the outputs, then null. */
  readonly outputs: (Memory | null)[];
  /** Their first elements. */
  readonly outputStarts: number[];
  /** The program in the layout that csrc/cpu/fused.cpp documents. */
  readonly descriptor: Float64Array;
}

const program: FusedProgram = {
  inputs: new Array<Memory | null>(fusedInputs).fill(null),
  inputStarts: new Array<number>(fusedInputs).fill(0),
  outputs: new Array<Memory | null>(fusedOutputs).fill(null),
  outputStarts: new Array<number>(fusedOutputs).fill(0),
  descriptor: new Float64Array(5 + fusedInputs + 2 * 3 * largestSteps * 2 + 6 * largestSteps),
};

let passes = 0;

/** One pending elementwise op: what it computes, and from what. */
class Expression implements Deferred {
  readonly op: ElementwiseOp;
  readonly operands: readonly Operand[];
  /** Per operand where its elements are; null for numbers. */
  readonly readings: (Reading | null)[] = [];
  /** Code of the dtype it computes in. */
  readonly code: number;
  readonly n: number;
  /** Upper bounds of the steps and inputs of the whole expression. */
  readonly size: number;
  readonly leaves: number;
  storage!: Storage;
  result!: Tensor;
  wanted = false;
  /** It was computed on the way to another result, without being written. */
  passed = false;
  /** The collection that visited it last, how often it is read there, and its place. */
  mark = 0;
  uses = 0;
  place = 0;

  constructor(op: ElementwiseOp, operands: readonly Operand[], code: number, n: number) {
    this.op = op;
    this.operands = operands;
    this.code = code;
    this.n = n;
    for (;;) {
      let size = 1, leaves = 0;
      let largest: Expression | null = null;
      for (let i = 0; i < operands.length; i++) {
        const t = operands[i]!;
        if (typeof t === "number") continue;
        const e = pendingOf(t, n);
        if (e === null) {
          leaves++;
          continue;
        }
        size += e.size;
        leaves += e.leaves;
        if (largest === null || e.size > largest.size) largest = e;
      }
      this.size = size;
      this.leaves = leaves;
      if (largest === null || (size <= largestSteps && leaves <= fusedInputs)) break;
      largest.run();
    }
    for (let i = 0; i < operands.length; i++) {
      const t = operands[i]!;
      if (typeof t === "number") {
        this.readings.push(null);
        continue;
      }
      const storage = t._data, reading = storage.reading();
      reading.readers++;
      storage.refs++;
      this.readings.push(reading);
    }
  }

  /** The expression of operand `i` where that is still pending. */
  inner(i: number): Expression | null {
    const reading = this.readings[i]!;
    return reading === null ? null : reading.storage.deferred as Expression | null;
  }

  drop(): void {
    const { readings } = this;
    for (let i = 0; i < readings.length; i++) {
      const reading = readings[i]!;
      if (reading === null) continue;
      reading.readers--;
      reading.storage.release();
    }
    readings.length = 0;
  }

  run(): void {
    if (this.size === 1 || this.#ready()) this.#alone();
    else this.#fused();
  }

  /** Whether all operands have been computed since. */
  #ready(): boolean {
    for (let i = 0; i < this.operands.length; i++) if (this.inner(i) !== null) return false;
    return true;
  }

  /** Evaluates the expression with all that is pending in it. */
  #fused(): void {
    let steps = collect(this);
    let outputs = written(steps, this);
    while (outputs.length > fusedOutputs) {
      outputs[0]!.run();
      steps = collect(this);
      outputs = written(steps, this);
    }
    for (const e of outputs) e.storage.reserve();
    try {
      encode(steps, outputs);
      this.storage.device.fused!(program);
    } finally {
      program.inputs.fill(null);
      program.outputs.fill(null);
    }
    for (const e of steps) e.passed = true;
    for (const e of outputs) {
      e.storage.deferred = null;
      e.drop();
    }
  }

  /** A single op: its own kernel does it with less to prepare. */
  #alone(): void {
    const { op, storage, operands } = this;
    const { device } = storage;
    storage.reserve();
    storage.deferred = null; // so that the kernel finds memory to write
    const a = this.#handle(0), b = operands.length > 1 ? this.#handle(1) : 0;
    const c = operands.length > 2 ? this.#handle(2) : 0;
    const y = this.result._storage === storage ? this.result : handleOn(storage, this.result);
    let done = false;
    try {
      (op.kernels[device.id] ??= device.backend.elementwise(op))(a, b, c, y, true);
      done = true;
    } finally {
      if (!done) storage.deferred = this;
      if (a !== operands[0]) release(a);
      if (b !== operands[1]) release(b);
      if (c !== operands[2]) release(c);
      if (y !== this.result) y.dispose();
    }
    this.drop();
  }

  /** Operand `i`: the handle it came with, or another one where that was disposed or the contents moved. */
  #handle(i: number): Operand {
    const t = this.operands[i]!;
    if (typeof t === "number") return t;
    const { storage } = this.readings[i]!;
    return t._storage === storage ? t : handleOn(storage, t);
  }
}

function handleOn(storage: Storage, t: Tensor): Tensor {
  return makeTensor(storage, t.shape, t._strides, t._offset, t.dtype, t._layout);
}

function release(t: Operand): void {
  if (typeof t !== "number") t.dispose();
}

/**
 * The pending expression of `t`, if a program on `n` elements can compute it on the way; else null, and what is
 * pending of it is evaluated now.
 */
function pendingOf(t: Tensor, n: number): Expression | null {
  const e = t._data.deferred;
  if (e === null) return null;
  if (e instanceof Expression && !e.passed && e.n === n && t._start === 0) return e;
  e.run();
  return null;
}

/** The pending expressions that `root` needs, in an order in which they can be computed; root is the last. */
function collect(root: Expression): Expression[] {
  const pass = ++passes;
  const steps: Expression[] = [];
  const visit = (e: Expression): void => {
    e.mark = pass;
    e.uses = 0;
    for (let i = 0; i < e.readings.length; i++) {
      const inner = e.inner(i);
      if (inner === null) continue;
      if (inner.mark !== pass) visit(inner);
      inner.uses++;
    }
    e.place = steps.length;
    steps.push(e);
  };
  visit(root);
  return steps;
}

/** Those of `steps` whose results are written: what others need, then the root. */
function written(steps: readonly Expression[], root: Expression): Expression[] {
  const outputs: Expression[] = [];
  for (const e of steps) {
    if (e !== root && (e.wanted || e.storage.reading().readers > e.uses)) outputs.push(e);
  }
  outputs.push(root);
  return outputs;
}

/** Writes the program of `steps` for the backend. */
function encode(steps: readonly Expression[], outputs: readonly Expression[]): void {
  const { inputs, inputStarts, descriptor } = program;
  const codes: number[] = [], constants: number[] = []; // constants: code, value
  for (const e of steps) {
    for (let i = 0; i < e.operands.length; i++) {
      const t = e.operands[i]!;
      if (typeof t === "number") {
        if (constantAt(constants, e.code, t) < 0) constants.push(e.code, t);
      } else if (e.inner(i) === null) {
        const { storage } = e.readings[i]!;
        if (inputAt(codes, storage, t) >= 0) continue;
        inputs[codes.length] = storage.memory;
        inputStarts[codes.length] = startIn(storage, t);
        codes.push(t._code);
      }
    }
  }
  const last = lastUses(steps);
  const firstResult = codes.length + constants.length / 2;
  let at = 5;
  for (const code of codes) descriptor[at++] = code;
  let tiles = 0;
  for (let k = 0; k < constants.length; k += 2) {
    descriptor[at++] = constants[k]!;
    descriptor[at++] = constants[k + 1]!;
    descriptor[at++] = tiles++;
  }
  const free: number[] = [], tileOf: number[] = [];
  steps.forEach((e, j) => {
    descriptor[at++] = opNumber(e.op);
    descriptor[at++] = e.code;
    for (let i = 0; i < 3; i++) {
      const t = e.operands[i];
      if (t === undefined) descriptor[at++] = -1;
      else if (typeof t === "number") {
        descriptor[at++] = codes.length + constantAt(constants, e.code, t);
      } else {
        const inner = e.inner(i);
        descriptor[at++] = inner === null
          ? inputAt(codes, e.readings[i]!.storage, t)
          : firstResult + inner.place;
      }
    }
    // A step may write the tile that it reads last: element i depends on element i alone. That holds for elements of
    // one width only, so the tiles of bool results take no part.
    for (let k = 0; k < j; k++) {
      if (last[k] === j && tileOf[k]! >= 0 && !toBool(steps[k]!)) free.push(tileOf[k]!);
    }
    const k = outputs.indexOf(e);
    tileOf[j] = k >= 0 ? -1 - k : (toBool(e) ? undefined : free.pop()) ?? tiles++;
    descriptor[at++] = tileOf[j]!;
  });
  outputs.forEach((e, k) => {
    program.outputs[k] = e.storage.memory;
    program.outputStarts[k] = startIn(e.storage, e.result);
  });
  descriptor[0] = steps[0]!.n;
  descriptor[1] = codes.length;
  descriptor[2] = constants.length / 2;
  descriptor[3] = steps.length;
  descriptor[4] = tiles;
}

function toBool(e: Expression): boolean {
  return e.op.result === "bool";
}

/** First element of operand t in the memory of `storage`, which may be a copy of its own. */
function startIn(storage: Storage, t: Tensor): number {
  return t._offset + storage.base / dtypes[t.dtype].bytes;
}

function constantAt(constants: readonly number[], code: number, value: number): number {
  for (let k = 0; k < constants.length; k += 2) {
    if (constants[k] === code && Object.is(constants[k + 1], value)) return k / 2;
  }
  return -1;
}

function inputAt(codes: readonly number[], storage: Storage, t: Tensor): number {
  const start = startIn(storage, t);
  for (let k = 0; k < codes.length; k++) {
    const same = program.inputs[k] === storage.memory && program.inputStarts[k] === start;
    if (same && codes[k] === t._code) return k;
  }
  return -1;
}

/** For each step the last step that reads its result. */
function lastUses(steps: readonly Expression[]): number[] {
  const last = new Array<number>(steps.length).fill(-1);
  steps.forEach((e, j) => {
    for (let i = 0; i < e.readings.length; i++) {
      const inner = e.inner(i);
      if (inner !== null) last[inner.place] = j;
    }
  });
  return last;
}

/** The pending result of `op`: operands are numbers or tensors of this many elements in this memory order. */
export function defer(
  op: ElementwiseOp,
  operands: readonly Operand[],
  computed: DType,
  shape: Shape,
  dtype: DType,
  device: Device,
  strides: Shape,
  layout: Layout,
  n: number,
): Tensor {
  const e = new Expression(op, operands, dtypes[computed].code, n);
  const storage = e.storage = new Storage(device, n * dtypes[dtype].bytes, e);
  return e.result = makeTensor(storage, shape, strides, 0, dtype, layout);
}
