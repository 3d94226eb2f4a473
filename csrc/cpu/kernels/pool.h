// Pooling over one window of a channels-last tensor: the per-level table of the kernels in pool.cpp.
// A window is a list of taps, each a row of n contiguous channels.
#pragma once
#include <stdint.h>

template <typename T>
struct PoolTable {
  // y = the largest of the taps, NaN winning, the first on ties; indices[i] = index[tap] of the tap taken.
  void (*max)(int64_t n, int64_t taps, const T* const* rows, const int32_t* index, T* y, int64_t* indices);
  // y = the sum of the taps divided by divisor.
  void (*average)(int64_t n, int64_t taps, const T* const* rows, T divisor, T* y);
  // y = the sum over the taps of row / divisors[tap]; zero without taps.
  void (*spread)(int64_t n, int64_t taps, const T* const* rows, const T* divisors, T* y);
};

struct PoolKernels {
  PoolTable<float> f32;
  PoolTable<double> f64;
};

extern "C" {
extern const PoolKernels pool_v2, pool_v3, pool_v4, pool_generic;
}
