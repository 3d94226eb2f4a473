// What a GPU reaches through Needle, beside what cuBLAS called directly and a plain copy reach on it: matrix products,
// elementwise ops and sums of many elements, and the host's time for a small op. Prints one JSON object a line, as
// peer.ts does; verify_cuda.ts makes a table of them.
//
// Usage: deno run -A bench/cuda_rates.ts [--device D] [--seconds S] [--sizes N,N] [--elements N]

import * as ndl from "../mod.ts";
import { parseArgs } from "node:util";
import { emit, medianMicroseconds } from "./peer_support.ts";

/** cuBLAS as NVIDIA's header declares it, with enums as i32 and handles as pointers. */
const cublasSymbols = {
  cublasCreate_v2: { parameters: ["buffer"], result: "i32" },
  cublasGemmStridedBatchedEx: {
    parameters: [
      ...["pointer", "i32", "i32", "i32", "i32", "i32", "buffer"],
      ...["pointer", "i32", "i32", "i64", "pointer", "i32", "i32", "i64", "buffer"],
      ...["pointer", "i32", "i32", "i64", "i32", "i32", "i32"],
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** Of library_types.h and cublas_api.h. */
const cublasTypes = { float32: 0, bfloat16: 14 } as const;
const sumInFloat32 = 68, defaultAlgorithm = -1;

type Measured = keyof typeof cublasTypes;

/** Where a tensor's first element is on its device. */
function pointerOf(t: ndl.Tensor): Deno.PointerValue {
  const bytes = t._start * (t.dtype === "float32" ? 4 : 2);
  return Deno.UnsafePointer.offset(t._memory as Deno.PointerObject, bytes);
}

/** The wait for all work of the process's GPU; none where there is no driver (on the emulation). */
function driverWait(): () => void {
  try {
    const { symbols } = Deno.dlopen("libcuda.so.1", {
      cuCtxSynchronize: { parameters: [], result: "i32" },
    });
    return () => void symbols.cuCtxSynchronize();
  } catch {
    return () => {};
  }
}

/** A function that puts a b into c by cuBLAS, all of them (n, n) row by row; null where the device uses no cuBLAS. */
function directProduct(
  device: ndl.Device,
): ((a: ndl.Tensor, b: ndl.Tensor, c: ndl.Tensor, n: number) => void) | null {
  const info = ndl.devices().find((d) => d.name === device.name)?.version ?? "";
  const path = /cuBLAS \S* ?from ([^,]+)/.exec(info)?.[1];
  if (path === undefined) return null;
  const { symbols } = Deno.dlopen(path, cublasSymbols);
  const slot = new BigUint64Array(1);
  const made = symbols.cublasCreate_v2(slot);
  if (made !== 0) throw new Error(`cublasCreate_v2 of ${path} answered ${made}`);
  const handle = Deno.UnsafePointer.create(slot[0]!);
  const one = new Float32Array([1]), zero = new Float32Array([0]);
  return (a, b, c, n) => {
    const type = cublasTypes[a.dtype as Measured], whole = BigInt(n) * BigInt(n);
    // Column by column, as cuBLAS reads them, these are the transposes: (a b)ᵀ = bᵀ aᵀ.
    const status = symbols.cublasGemmStridedBatchedEx(
      ...[handle, 0, 0, n, n, n, one] as const,
      ...[pointerOf(b), type, n, whole, pointerOf(a), type, n, whole, zero] as const,
      ...[pointerOf(c), type, n, whole, 1, sumInFloat32, defaultAlgorithm] as const,
    );
    if (status !== 0) throw new Error(`cublasGemmStridedBatchedEx answered ${status}`);
  };
}

function products(device: ndl.Device, seconds: number, n: number, dtype: Measured): void {
  const tflops = (us: number): number => 2 * n ** 3 / us / 1e6;
  const a = ndl.randn([n, n], { device }).to(dtype), b = ndl.randn([n, n], { device }).to(dtype);
  const us = medianMicroseconds(
    seconds,
    () => a.matmul(b).dispose(),
    () => ndl.synchronize(device),
  );
  const name = `matmul_${n}_${dtype}`;
  emit({ name, value: tflops(us), unit: "TFLOP/s", better: "high" });
  const direct = directProduct(device);
  if (direct === null) return;
  const c = ndl.zeros([n, n], { device, dtype });
  ndl.synchronize(device);
  const wait = driverWait();
  const directly = medianMicroseconds(seconds, () => direct(a, b, c, n), wait);
  const error = a.matmul(b).sub(c).abs().max().to("float32").item();
  const largest = c.abs().max().to("float32").item();
  if (!(Number(error) <= 0.02 * Number(largest))) {
    throw new Error(`cuBLAS called directly gives another product: off by ${error} of ${largest}`);
  }
  emit({ name: `${name}_cublas`, value: tflops(directly), unit: "TFLOP/s", better: "high" });
}

function bandwidths(device: ndl.Device, seconds: number, n: number): void {
  const x = ndl.randn([n], { device }), y = ndl.randn([n], { device });
  const works: Record<string, [bytes: number, f: () => ndl.Tensor]> = {
    copy: [8 * n, () => x.clone()],
    add: [12 * n, () => x.add(y)],
    exp: [8 * n, () => x.exp()],
    sum: [4 * n, () => x.sum()],
    sum_of_rows: [4 * n, () => x.reshape([n / 1024, 1024]).sum(1)],
  };
  for (const [name, [bytes, f]] of Object.entries(works)) {
    const run = (): void => {
      const result = f();
      ndl.evaluate(result);
      result.dispose();
    };
    const us = medianMicroseconds(seconds, run, () => ndl.synchronize(device));
    emit({ name: `${name}_${n}`, value: bytes / us / 1e3, unit: "GB/s", better: "high" });
  }
}

/** The host's time for an op whose work on the GPU is nothing: calls that are not waited for. */
function hostTime(device: ndl.Device): void {
  const x = ndl.randn([16], { device }), y = ndl.randn([16], { device }), calls = 500;
  const times: number[] = [];
  for (let round = 0; round < 20; round++) {
    ndl.synchronize(device);
    const start = performance.now();
    for (let i = 0; i < calls; i++) x.add(y).dispose();
    times.push((performance.now() - start) / calls * 1000);
  }
  times.sort((a, b) => a - b);
  emit({ name: "small_op_host_time", value: times[10]!, unit: "us", better: "low" });
}

function main(args: readonly string[]): number {
  const { values } = parseArgs({
    args: [...args],
    options: {
      device: { type: "string", default: "cuda" },
      seconds: { type: "string", default: "1" },
      sizes: { type: "string", default: "2048,4096,8192" },
      elements: { type: "string", default: String(2 ** 26) },
    },
  });
  const device = ndl.deviceByName(values.device), seconds = Number(values.seconds);
  const sizes = values.sizes.split(",").map(Number);
  using _ = ndl.noGrad();
  for (const n of sizes) products(device, seconds, n, "float32");
  products(device, seconds, sizes.at(-1)!, "bfloat16");
  bandwidths(device, seconds, Number(values.elements));
  hostTime(device);
  return 0;
}

if (import.meta.main) Deno.exit(main(Deno.args));
