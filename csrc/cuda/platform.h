// CUDA, or its emulation on the CPU: every file of this folder includes this one (through device.h) and is
// compiled by nvcc into libneedle_cuda and, as plain C++, into libneedle_cudaemu, whose kernels run as
// cooperative threads that check what they do.
//
// How to add the kernels of an op family (say norm):
//  1. Write norm.cu: kernels in an unnamed namespace inside `needle`, then the exported functions of
//     include/needle.h with NEEDLE_EXPORT and noexcept. CMake finds the file by itself. `desc` is host
//     memory: the function reads it and passes what the kernel needs by value (Dims of device.h for strides).
//  2. In kernels write
//       NEEDLE_SHARED(float, tile, [32][33]);      instead of  __shared__ float tile[32][33];
//       NEEDLE_DYN_SHARED(float, row);             instead of  extern __shared__ float row[];
//     and launch with
//       NEEDLE_LAUNCH((kernel<T, 256>), grid, block, shared_bytes, stream(), arguments...);
//       return launched("norm");
//     A kernel that needs more than 48 KiB of dynamic shared memory says so before:
//       NEEDLE_ALLOW_SHARED((kernel<T, 256>), bytes);
//  3. Everything goes to stream() and nothing waits for it. Device scratch memory comes from scratch() of
//     common.h; `return out_of_memory()` where it is null (the caller then frees its cache and calls again).
//  4. What only a kernel can see to be wrong (an index out of range) it reports with raise(): TypeScript
//  throws
//     the text at the next read or synchronize.
//  5. Barriers are reached by every thread of the block (of the mask, for warps) on the same line; no thread
//     returns before one. The emulation refuses anything else, fills shared and fresh device memory with NaN,
//     and runs threads in the order that NEEDLE_EMULATE names: `up`, or `random:SEED`. Try both.
//  6. tests/cuda_ops_test.ts runs the op table on the emulation, derivatives included.
// Not emulated: tensor cores, inline PTX, cooperative groups, memory ordering. Put such code behind
// #ifndef NEEDLE_EMULATE beside a plain kernel that the emulation checks.
#pragma once

#ifdef NEEDLE_EMULATE
#include "emulate/api.h"
#else
#include <cuda_runtime.h>

#define NEEDLE_SHARED(T, name, dims) __shared__ T name dims
#define NEEDLE_DYN_SHARED(T, name)                       \
  extern __shared__ __align__(16) char needle_dynamic[]; \
  T* const name = reinterpret_cast<T*>(needle_dynamic)
#define NEEDLE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define NEEDLE_ALLOW_SHARED(kernel, bytes) \
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes))
#endif
