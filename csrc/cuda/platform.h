// CUDA, or its emulation on the CPU: every file of this folder includes this one (through device.h). nvcc
// compiles it into libneedle_cuda and g++ into libneedle_cudaemu, whose kernels run as cooperative threads
// that check what they do.
//
// How to add the kernels of an op family (say norm):
//  1. Write norm.cu: kernels in an unnamed namespace inside `needle`, then the exported functions of
//     include/needle.h with NEEDLE_EXPORT and noexcept. CMake finds the file by itself. Tensors are device
//     memory (at<T>(x, x_off)); `desc` is host memory: the function reads it and passes what the kernel needs
//     by value (Dims and Divisor of device.h for strides, elementwise.h for maps over tensors).
//  2. In kernels write
//       NEEDLE_SHARED(float, tile, [32][33]);      instead of  __shared__ float tile[32][33];
//       NEEDLE_DYN_SHARED(float, row);             instead of  extern __shared__ float row[];
//     and launch with
//       NEEDLE_LAUNCH((kernel<T, 256>), grid, block, shared_bytes, stream(), arguments...);
//       return launched("starting a kernel");
//     Loops whose arrays must be in registers begin with NEEDLE_UNROLL.
//     A kernel that needs more than 48 KiB of dynamic shared memory says so before:
//       NEEDLE_ALLOW_SHARED((kernel<T, 256>), bytes);
//     An empty grid is refused: return kOk for n == 0 first.
//  3. Everything goes to stream() and nothing waits for it. Device scratch memory comes from scratch() of
//     common.h: valid until the next call with the same slot in the same driver, `return out_of_memory()`
//     where it is null (the caller then frees its cache and calls again).
//  4. What only a kernel can see to be wrong (an index out of range) it reports with raise(alarm, ...),
//  alarm()
//     being an argument of the kernel: TypeScript throws the text at the next read or synchronize.
//  5. Barriers are reached by every thread of the block (of the mask, for warps) on the same line; no thread
//     returns before one. The emulation refuses anything else, fills shared and fresh device memory with NaN,
//     and runs threads in the order that NEEDLE_EMULATE names: `up`, or `random:SEED`. Try both.
//  6. Functions of a file that are named like those of the C library (exp, floor) stand in a namespace that
//  no
//     `using` opens: nvcc includes its own headers after ours.
//  7. tests/cuda_ops_test.ts runs the op table on the emulation, derivatives included:
//       deno task build --cuda-emulated && deno test -A --no-check tests/cuda_ops_test.ts --filter norm
// Not emulated: tensor cores, inline PTX, cooperative groups, memory ordering. Put such code behind
// #ifndef NEEDLE_EMULATE beside a plain kernel that the emulation checks.
#pragma once

#ifdef NEEDLE_EMULATE
#include "emulate/api.h"
#define NEEDLE_UNROLL
#else
#include <cuda_runtime.h>

#define NEEDLE_UNROLL _Pragma("unroll")
#define NEEDLE_SHARED(T, name, dims) __shared__ T name dims
#define NEEDLE_DYN_SHARED(T, name)                       \
  extern __shared__ __align__(16) char needle_dynamic[]; \
  T* const name = reinterpret_cast<T*>(needle_dynamic)
#define NEEDLE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define NEEDLE_ALLOW_SHARED(kernel, bytes) \
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes))
#endif
