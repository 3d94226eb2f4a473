// Softmax and its relatives over rows and columns: the per-level table of the kernels in softmax.cpp.
#pragma once
#include <stdint.h>

// Rows have n contiguous elements. Columns: n of them side by side, in `rows` rows that lie `stride` apart.
template <typename T>
struct SoftmaxTable {
  // The largest element (NaN wins) and the sum of exp(x - largest).
  void (*sums)(const T* x, int64_t n, T* largest, double* sum);
  // softmax, or its logarithm where `log`.
  void (*softmax)(const T* x, int64_t n, T* y, bool log);
  void (*softmax_backward)(const T* g, const T* y, int64_t n, T* dx);
  void (*log_softmax_backward)(const T* g, const T* y, int64_t n, T* dx);

  void (*softmax_columns)(const T* x, int64_t rows, int64_t stride, int64_t n, T* y, bool log);
  void (*log_sum_exp_columns)(const T* x, int64_t rows, int64_t stride, int64_t n, T* y);
  void (*softmax_backward_columns)(const T* g, const T* y, int64_t rows, int64_t stride, int64_t n, T* dx);
  void (*log_softmax_backward_columns)(const T* g, const T* y, int64_t rows, int64_t stride, int64_t n,
                                       T* dx);
};

struct SoftmaxKernels {
  SoftmaxTable<float> f32;
  SoftmaxTable<double> f64;
};

extern "C" {
extern const SoftmaxKernels softmax_v2, softmax_v3, softmax_v4, softmax_generic;
}
