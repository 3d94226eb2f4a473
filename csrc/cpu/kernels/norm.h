// Inner loops of the norms: the per-level table of the kernels in norm.cpp. "Columns" are `rows` rows of
// `width` elements with parameters per element of a row; "runs" are `count` runs of n contiguous elements,
// `stride` apart, with the same parameters.
#pragma once
#include <stdint.h>

// y = (x - mean) * scale + shift, and with relu 0 where that is negative.
template <typename T>
struct NormColumns {
  const T *mean, *scale, *shift;
};
template <typename T>
struct NormRun {
  T mean, scale, shift;
};

template <typename T>
struct NormTable {
  // sum[j] += x, then square[j] += (x - mean)^2.
  void (*sum_columns)(int64_t rows, int64_t width, const T* x, T* sum);
  void (*square_columns)(int64_t rows, int64_t width, const T* x, const T* mean, T* square);
  // Mean and sum of squared deviations of all elements.
  void (*moments_runs)(int64_t count, int64_t stride, int64_t n, const T* x, double* mean, double* m2);

  void (*scale_columns)(int64_t rows, int64_t width, const T* x, NormColumns<T> p, bool relu, T* y);
  void (*scale_runs)(int64_t count, int64_t stride, int64_t n, const T* x, NormRun<T> p, bool relu, T* y);

  // sum += g and dot += g * (x - mean); with relu not where y was 0. Rows or runs of g are g_step
  // apart.
  void (*dot_columns)(int64_t rows, int64_t width, const T* g, int64_t g_step, const T* x, NormColumns<T> p,
                      bool relu, T* sum, T* dot);
  void (*dot_runs)(int64_t count, int64_t stride, int64_t n, const T* g, int64_t g_step, const T* x,
                   NormRun<T> p, bool relu, double* sum, double* dot);

  // dx = scale * g + slope * (x - mean) + level; with relu g counts as 0 where y was.
  void (*grad_columns)(int64_t rows, int64_t width, const T* g, int64_t g_step, const T* x, NormColumns<T> p,
                       const T* slope, const T* level, bool relu, T* dx);
  void (*grad_runs)(int64_t count, int64_t stride, int64_t n, const T* g, int64_t g_step, const T* x,
                    NormRun<T> p, T slope, T level, bool relu, T* dx);

  // Rows normalised by themselves: layer norm, or (mean null) RMS norm.
  void (*norm_rows)(int64_t rows, int64_t cols, const T* x, const T* weight, const T* bias, double eps, T* y,
                    T* mean, T* rstd);
  // Their gradients; adds to dweight and dbias.
  void (*grad_rows)(int64_t rows, int64_t cols, const T* g, int64_t g_step, const T* x, const T* mean,
                    const T* rstd, const T* weight, T* dx, T* dweight, T* dbias);
};

struct NormKernels {
  NormTable<float> f32;
  NormTable<double> f64;
};

extern "C" {
extern const NormKernels norm_v2, norm_v3, norm_v4, norm_generic;
}
