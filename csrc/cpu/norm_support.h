// What the norms share: parts of the data for threads, scratch memory, statistics. Statistics are taken block
// by block (mean, then squared deviations, while the block is in the cache) and merged in double; each thread
// owns a fixed part of the data and the parts are merged in order, so results depend on shapes and the number
// of threads only.
#pragma once
#include <math.h>
#include <algorithm>
#include <atomic>

#include "../common.h"
#include "kernels/norm.h"

namespace needle {

template <typename T>
const NormTable<T>& norm_table();
template <>
inline const NormTable<float>& norm_table<float>() {
  return select_kernels(norm)->f32;
}
template <>
inline const NormTable<double>& norm_table<double>() {
  return select_kernels(norm)->f64;
}

constexpr int64_t kBlock = 16384;  // elements that stay in the cache between two passes
constexpr int64_t kWidth = 256;    // narrow rows are taken several at a time, up to this many elements

struct Range {
  int64_t begin, end;
};
inline Range part_of(int64_t n, int64_t part, int64_t parts) {
  return {n / parts * part + n % parts * part / parts,
          n / parts * (part + 1) + n % parts * (part + 1) / parts};
}

inline int64_t part_count(int64_t elements) {
  return std::max<int64_t>(1, std::min<int64_t>(thread_count(), elements / kGrain));
}

// Calls f(part) for every part, each on its own thread.
template <typename F>
void each_part(int64_t parts, const F& f) {
  parallel_tasks(parts, parts, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; part++) f(part);
  });
}

// Hands out pieces of one scratch block; with no block it only counts.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
  template <typename T>
  T* take(int64_t n) {
    T* piece = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (size_t(n) * sizeof(T) + 63) & ~size_t(63);
    return piece;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

// Lays out `memory` (a function of an Arena) in scratch memory of the given slot; false when memory is out.
template <typename F>
bool lay_out(ScratchSlot slot, const F& memory) {
  Arena counting(nullptr);
  memory(counting);
  void* base = scratch(slot, counting.used());
  if (!base) return false;
  Arena real(base);
  memory(real);
  return true;
}

// Mean and sum of squared deviations of a growing set, merged pairwise (Chan, Golub, LeVeque 1983).
struct Moments {
  double count, mean, m2;
  void merge(double n, double other_mean, double other_m2) {
    if (n == 0) return;
    const double all = count + n, delta = other_mean - mean;
    mean += delta * (n / all);
    m2 += other_m2 + delta * delta * (count * n / all);
    count = all;
  }
};

// Rows of c channels, regrouped into rows of `width` = c * fold elements: short rows would waste vector
// lanes.
struct Columns {
  int64_t c, fold, width;
  explicit Columns(int64_t channels) : c(channels) {
    fold = c > 0 && c < kWidth ? kWidth / c : 1;
    width = c * fold;
  }
  int64_t block() const { return std::max<int64_t>(32, kBlock / std::max<int64_t>(c, 1)) / fold * fold; }
  // Calls f(rows, width) for the whole rows, then for what is left of one.
  template <typename F>
  void apply(int64_t rows, const F& f) const {
    if (rows >= fold) f(int64_t(0), rows / fold, width);
    if (rows % fold) f(rows / fold * width, int64_t(1), rows % fold * c);
  }
  // The sum of column j over the folded columns.
  template <typename T>
  double sum(const T* columns, int64_t j) const {
    double s = 0;
    for (int64_t k = 0; k < fold; k++) s += double(columns[k * c + j]);
    return s;
  }
  // Repeats the first c elements.
  template <typename T>
  void tile(T* columns) const {
    for (int64_t k = 1; k < fold; k++) std::copy(columns, columns + c, columns + k * c);
  }
};

// What a channel's elements are multiplied with and shifted by, in the forward and the backward pass.
template <typename T>
struct Parameters {
  T *mean, *scale, *shift, *slope, *level;
  void lay_out(Arena& arena, int64_t n) {
    for (T** p : {&mean, &scale, &shift, &slope, &level}) *p = arena.take<T>(n);
  }
  NormColumns<T> columns() const { return {mean, scale, shift}; }
  NormRun<T> run(int64_t j) const { return {mean[j], scale[j], shift[j]}; }
  void tile(const Columns& by) const {
    for (T* p : {mean, scale, shift, slope, level}) by.tile(p);
  }
};

// The gradient that comes in: where x's elements have theirs, or one element for all, which then fills `row`.
template <typename T>
struct Incoming {
  const T* data;
  bool single;
  Incoming(const T* g, bool one, T* row, int64_t length) : data(one ? row : g), single(one) {
    if (one) std::fill(row, row + length, g[0]);
  }
  const T* at(int64_t i) const { return single ? data : data + i; }
  int64_t step(int64_t distance) const { return single ? 0 : distance; }
};

// What one thread needs for statistics of columns.
template <typename T>
struct ColumnWork {
  T *mean, *sum, *square;
  void lay_out(Arena& arena, int64_t width) {
    for (T** p : {&mean, &sum, &square}) *p = arena.take<T>(width);
  }
};

// Merges the moments of each channel of `rows` rows into `into`.
template <typename T>
void column_moments(const Columns& by, int64_t rows, const T* x, const ColumnWork<T>& work, Moments* into) {
  const NormTable<T>& table = norm_table<T>();
  const int64_t block = by.block();
  for (int64_t r = 0; r < rows; r += block, x += block * by.c) {
    const int64_t n = std::min(block, rows - r);
    std::fill(work.sum, work.sum + by.width, T(0));
    std::fill(work.square, work.square + by.width, T(0));
    by.apply(n, [&](int64_t at, int64_t count, int64_t width) {
      table.sum_columns(count, width, x + at, work.sum);
    });
    for (int64_t j = 0; j < by.c; j++) work.mean[j] = T(by.sum(work.sum, j) / double(n));
    by.tile(work.mean);
    by.apply(n, [&](int64_t at, int64_t count, int64_t width) {
      table.square_columns(count, width, x + at, work.mean, work.square);
    });
    for (int64_t j = 0; j < by.c; j++) into[j].merge(double(n), double(work.mean[j]), by.sum(work.square, j));
  }
}

// Adds each channel's sums of g and of g * (x - mean) over `rows` rows from row `first` on; parameters are
// tiled.
template <typename T>
void column_dots(const Columns& by, int64_t first, int64_t rows, const Incoming<T>& g, const T* x,
                 const Parameters<T>& p, bool relu, const ColumnWork<T>& work, double* sum, double* dot) {
  const NormTable<T>& table = norm_table<T>();
  const int64_t block = by.block();
  for (int64_t r = 0; r < rows; r += block) {
    const int64_t start = (first + r) * by.c;
    std::fill(work.sum, work.sum + by.width, T(0));
    std::fill(work.square, work.square + by.width, T(0));
    by.apply(std::min(block, rows - r), [&](int64_t at, int64_t count, int64_t width) {
      table.dot_columns(count, width, g.at(start + at), g.step(width), x + start + at, p.columns(), relu,
                        work.sum, work.square);
    });
    for (int64_t j = 0; j < by.c; j++) {
      sum[j] += by.sum(work.sum, j);
      dot[j] += by.sum(work.square, j);
    }
  }
}

// The moments of `count` runs of n elements, `stride` apart.
template <typename T>
Moments run_moments(int64_t count, int64_t stride, int64_t n, const T* x) {
  Moments all{};
  const int64_t runs = std::max<int64_t>(1, kBlock / std::max<int64_t>(n, 1));
  for (int64_t r = 0; r < count; r += runs) {
    for (int64_t i = 0; i < n; i += kBlock) {
      const int64_t some = std::min(runs, count - r), length = std::min(kBlock, n - i);
      double mean, m2;
      norm_table<T>().moments_runs(some, stride, length, x + r * stride + i, &mean, &m2);
      all.merge(double(some * length), mean, m2);
    }
  }
  return all;
}

// Calls f with a float or a double, as the dtype says.
template <typename F>
int32_t with_dtype(int32_t dtypes, const F& f) {
  return main_dtype(dtypes) == kFloat32 ? f(float()) : f(double());
}

}  // namespace needle
