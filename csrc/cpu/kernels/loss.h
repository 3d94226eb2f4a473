// Cross entropy over rows of scores: the per-level table of the kernels in loss.cpp.
// Shared by the drivers (cpu/loss.cpp, cpu/loss_linear.cpp) and the ISA file, so it holds plain data only.
#pragma once
#include <stdint.h>

template <typename T>
struct LossTable {
  // The largest of n elements (NaN wins) and the sum of exp(x - largest), in one pass over memory.
  void (*sums)(const T* x, int64_t n, T* largest, double* sum);
  // y = a exp(x - shift) - b weight, the weights being 1 where null. As much is fetched from `next` on, where
  // the next call will read: too far away for the processor to guess.
  void (*gradient)(const T* x, int64_t n, T shift, T a, T b, const T* weight, const T* next, T* y);
  // sum += x
  void (*add)(const T* x, int64_t n, T* sum);
};

struct LossKernels {
  LossTable<float> f32;
  LossTable<double> f64;
};

extern "C" {
extern const LossKernels loss_v2, loss_v3, loss_v4, loss_generic;
}
