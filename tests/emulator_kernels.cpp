// Kernels right and wrong, for the test of the emulation (cuda_emulator_test.ts): prints, for the one that
// the first argument names, the sum of its results and what the emulation says about it.
#include <stdio.h>
#include <string.h>

#include "../csrc/cuda/platform.h"

namespace {

constexpr int kSize = 96;

// The sum of a block's elements, by halves in shared memory. Barriers may be left out.
template <bool First, bool Second>
__global__ void block_sum(const float* x, float* y) {
  NEEDLE_SHARED(float, part, [kSize]);
  part[threadIdx.x] = x[blockIdx.x * kSize + threadIdx.x];
  if (First) __syncthreads();
  for (unsigned half = kSize / 2; half > 2; half /= 2) {
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    if (Second) __syncthreads();
  }
  if (threadIdx.x == 0) y[blockIdx.x] = part[0] + part[1] + part[2];
}

__global__ void warp_sum(const float* x, float* y) {
  float sum = x[blockIdx.x * kSize + threadIdx.x];
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  NEEDLE_DYN_SHARED(float, part);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) y[blockIdx.x] = part[0] + part[1] + part[2];
}

// Through shared memory within a warp, with and without its barrier.
template <bool Barrier>
__global__ void warp_reverse(const float* x, float* y) {
  NEEDLE_SHARED(float, row, [kSize]);
  row[threadIdx.x] = x[blockIdx.x * kSize + threadIdx.x];
  if (Barrier) __syncwarp();
  const float other = row[threadIdx.x ^ 31];
  y[blockIdx.x * kSize + threadIdx.x] = other * float(threadIdx.x + 1);
}

__global__ void divergent_barrier(const float* x, float* y) {
  NEEDLE_SHARED(float, part, [kSize]);
  part[threadIdx.x] = x[threadIdx.x];
  if (threadIdx.x < 40) __syncthreads();
  y[threadIdx.x] = part[0];
}

__global__ void two_barriers(float* y) {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[threadIdx.x] = 1;
}

__global__ void divergent_shuffle(const float* x, float* y) {
  float v = x[threadIdx.x];
  if (threadIdx.x % 32 < 16) v += __shfl_down_sync(0xffffffffu, v, 8);
  y[threadIdx.x] = v;
}

__global__ void outside_mask(const float* x, float* y) {
  const float v = x[threadIdx.x];
  y[threadIdx.x] = threadIdx.x % 32 < 16 ? __shfl_sync(0x0000ffffu, v, 20) : v;
}

__global__ void past_shared(const float* x, float* y) {
  NEEDLE_SHARED(float, part, [kSize - 1]);
  part[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = part[threadIdx.x];
}

__global__ void past_global(const float* x, float* y, unsigned n) {
  if (threadIdx.x <= n) y[threadIdx.x] = x[threadIdx.x];
}

__global__ void counted(int* count) { atomicAdd(count, 1); }

}  // namespace

int main(int, char** argv) {
  const char* name = argv[1];
  constexpr int kBlocks = 3, kAll = kBlocks * kSize;
  void *x_memory = nullptr, *y_memory = nullptr;
  cudaMalloc(&x_memory, kAll * sizeof(float));
  cudaMalloc(&y_memory, kAll * sizeof(float));
  float *x = static_cast<float*>(x_memory), *y = static_cast<float*>(y_memory);
  for (int i = 0; i < kAll; i++) {
    x[i] = float(i % 7);
    y[i] = 0;
  }
  const dim3 grid(kBlocks);
  const cudaStream_t stream = nullptr;
  const auto is = [name](const char* other) { return strcmp(name, other) == 0; };
  if (is("blockSum")) NEEDLE_LAUNCH((block_sum<true, true>), grid, kSize, 0, stream, x, y);
  if (is("noFirstBarrier")) NEEDLE_LAUNCH((block_sum<false, true>), grid, kSize, 0, stream, x, y);
  if (is("noSecondBarrier")) NEEDLE_LAUNCH((block_sum<true, false>), grid, kSize, 0, stream, x, y);
  if (is("warpSum")) NEEDLE_LAUNCH(warp_sum, grid, kSize, 3 * sizeof(float), stream, x, y);
  if (is("warpReverse")) NEEDLE_LAUNCH((warp_reverse<true>), grid, kSize, 0, stream, x, y);
  if (is("noWarpBarrier")) NEEDLE_LAUNCH((warp_reverse<false>), grid, kSize, 0, stream, x, y);
  if (is("divergentBarrier")) NEEDLE_LAUNCH(divergent_barrier, 1, kSize, 0, stream, x, y);
  if (is("twoBarriers")) NEEDLE_LAUNCH(two_barriers, 1, kSize, 0, stream, y);
  if (is("divergentShuffle")) NEEDLE_LAUNCH(divergent_shuffle, 1, kSize, 0, stream, x, y);
  if (is("outsideMask")) NEEDLE_LAUNCH(outside_mask, 1, kSize, 0, stream, x, y);
  if (is("pastShared")) NEEDLE_LAUNCH(past_shared, 1, kSize, 0, stream, x, y);
  if (is("pastGlobal")) NEEDLE_LAUNCH(past_global, grid, 1024, 0, stream, x, y, unsigned(kAll));
  if (is("largeBlock")) NEEDLE_LAUNCH(counted, 1, dim3(32, 33), 0, stream, reinterpret_cast<int*>(y));
  if (is("largeShared")) NEEDLE_LAUNCH(warp_sum, grid, kSize, 50000, stream, x, y);
  if (is("allowedShared")) {
    NEEDLE_ALLOW_SHARED(warp_sum, 50000);
    NEEDLE_LAUNCH(warp_sum, grid, kSize, 50000, stream, x, y);
  }
  if (is("count")) {
    int* count = reinterpret_cast<int*>(y);
    NEEDLE_LAUNCH(counted, dim3(2, 3, 2), dim3(4, 4, 4), 0, stream, count);
    printf("%d\n", *count);
    return 0;
  }
  double sum = 0;
  for (int i = 0; i < kAll; i++) sum += double(y[i]);
  const cudaError_t error = cudaGetLastError();
  printf("%g %s\n", sum, error == cudaSuccess ? "fine" : cudaGetErrorString(error));
  // A fault sticks, a wrong launch does not.
  printf("%s\n", cudaGetLastError() == cudaSuccess ? "works on" : "is lost");
  return 0;
}
