// How the CPU drivers share a matrix product between threads: each runs its own serial product on a slice,
// no barriers. The split depends on sizes and the number of threads alone, so results are reproducible.
#pragma once
#include <algorithm>

#include "../common.h"
#include "kernels/gemm.h"

namespace needle {

template <typename T>
const GemmTable<T>& gemm_table();
template <>
inline const GemmTable<float>& gemm_table<float>() {
  return select_kernels(gemm)->f32;
}
template <>
inline const GemmTable<double>& gemm_table<double>() {
  return select_kernels(gemm)->f64;
}

// Multiply-adds below which one more thread does not pay.
constexpr double kGemmGrain = 131072;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t to) { return ceil_div(a, to) * to; }

// Threads worth using for this many multiply-adds.
inline int64_t gemm_threads(double work) {
  return std::max<int64_t>(1, std::min<int64_t>(thread_count(), int64_t(work / kGemmGrain)));
}

// A grid of slices over the rows and the columns of c.
struct GemmGrid {
  int64_t rows, cols;
};

// The grid for `threads` slices with the least work for the slowest thread. The packing of an element of b or
// a weighs as much as `b_cost` or `a_cost` multiply-adds.
inline GemmGrid gemm_grid(int64_t m, int64_t n, int64_t threads, int64_t nr, int64_t a_cost, int64_t b_cost) {
  GemmGrid best{1, 1};
  double least = 0;
  for (int64_t rows = 1; rows <= threads; rows++) {
    const int64_t cols = threads / rows;
    const double ms = double(ceil_div(m, rows));
    const double ns = double(std::min(n, ceil_div(ceil_div(n, nr), cols) * nr));
    const double cost = ms * ns + ns * double(b_cost) + ms * double(a_cost);
    if (rows == 1 || cost < least) {
      least = cost;
      best = {rows, cols};
    }
  }
  return best;
}

// Slice i of `parts` of n, on multiples of `unit`.
inline int64_t slice_start(int64_t n, int64_t unit, int64_t i, int64_t parts) {
  return std::min(n, ceil_div(n, unit) * i / parts * unit);
}

}  // namespace needle
