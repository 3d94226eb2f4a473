// Softmax and its relatives. The largest element is subtracted first, so that no exponential overflows; sums
// of floats run in float over blocks and in double across them. Compiled once per ISA level.
#include "softmax.h"

#include "vmath.h"

namespace {

constexpr int64_t kBlock = 1024;
constexpr int64_t kTile = 128;  // columns at a time

template <typename T>
struct Vec;
template <>
struct Vec<float> {
  typedef vf type;
  static constexpr int lanes = W;
};
template <>
struct Vec<double> {
  typedef vd type;
  static constexpr int lanes = WD;
};

template <typename T>
double sum_lanes(typename Vec<T>::type v) {
  T lane[Vec<T>::lanes];
  store(lane, v);
  double sum = 0;
  for (int j = 0; j < Vec<T>::lanes; j++) sum += double(lane[j]);
  return sum;
}

template <typename T>
T row_max(const T* x, int64_t n) {
  typedef typename Vec<T>::type vec;
  constexpr int L = Vec<T>::lanes;
  const T low = T(-__builtin_inf());
  vec best[4] = {splat(low), splat(low), splat(low), splat(low)};
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    for (int j = 0; j < 4; j++) {
      const vec v = load(x + i + j * L);
      best[j] = (v > best[j]) | (v != v) ? v : best[j];
    }
  }
  for (; i < n; i += L) {
    const vec v = i + L <= n ? load(x + i) : load_first(x + i, n - i, low);
    best[0] = (v > best[0]) | (v != v) ? v : best[0];
  }
  for (int j = 1; j < 4; j++) best[0] = (best[j] > best[0]) | (best[j] != best[j]) ? best[j] : best[0];
  T lane[L];
  store(lane, best[0]);
  T out = lane[0];
  for (int j = 1; j < L; j++) out = (lane[j] > out) | (lane[j] != lane[j]) ? lane[j] : out;
  return out;
}

// The sum of exp(x - shift); each term is stored too where Store.
template <typename T, bool Store>
double exp_sum(const T* x, int64_t n, T shift, T* y) {
  typedef typename Vec<T>::type vec;
  constexpr int L = Vec<T>::lanes;
  const vec s = splat(shift);
  double total = 0;
  for (int64_t block = 0; block < n; block += kBlock) {
    const int64_t end = n - block < kBlock ? n : block + kBlock;
    vec sum = {};
    int64_t i = block;
    for (; i + L <= end; i += L) {
      const vec e = exp(load(x + i) - s);
      if (Store) store(y + i, e);
      sum += e;
    }
    if (i < end) {
      const vec e = exp(load_first(x + i, end - i, T(-__builtin_inf())) - s);
      if (Store) store_first(y + i, end - i, e);
      // With an infinite shift the lanes that fill up are NaN, and so is the sum in any case.
      sum += e;
    }
    total += sum_lanes<T>(sum);
  }
  return total;
}

template <typename T>
void sums(const T* x, int64_t n, T* largest, double* sum) {
  *largest = row_max(x, n);
  *sum = exp_sum<T, false>(x, n, *largest, nullptr);
}

template <typename T>
void softmax(const T* x, int64_t n, T* y, bool log) {
  const T largest = row_max(x, n);
  if (log) {
    const T log_sum = T(__builtin_log(exp_sum<T, false>(x, n, largest, nullptr)));
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] - largest) - log_sum;
  } else {
    const T scale = T(1 / exp_sum<T, true>(x, n, largest, y));
    for (int64_t i = 0; i < n; i++) y[i] *= scale;
  }
}

template <typename T>
void softmax_backward(const T* g, const T* y, int64_t n, T* dx) {
  typedef typename Vec<T>::type vec;
  constexpr int L = Vec<T>::lanes;
  double total = 0;
  for (int64_t block = 0; block < n; block += kBlock) {
    const int64_t end = n - block < kBlock ? n : block + kBlock;
    vec sum = {};
    int64_t i = block;
    for (; i + L <= end; i += L) sum = fma(load(g + i), load(y + i), sum);
    if (i < end) sum = fma(load_first(g + i, end - i, T(0)), load_first(y + i, end - i, T(0)), sum);
    total += sum_lanes<T>(sum);
  }
  const T s = T(total);
  for (int64_t i = 0; i < n; i++) dx[i] = y[i] * (g[i] - s);
}

template <typename T>
void log_softmax_backward(const T* g, const T* y, int64_t n, T* dx) {
  typedef typename Vec<T>::type vec;
  constexpr int L = Vec<T>::lanes;
  double total = 0;
  for (int64_t block = 0; block < n; block += kBlock) {
    const int64_t end = n - block < kBlock ? n : block + kBlock;
    vec sum = {};
    int64_t i = block;
    for (; i + L <= end; i += L) sum += load(g + i);
    if (i < end) sum += load_first(g + i, end - i, T(0));
    total += sum_lanes<T>(sum);
  }
  const vec s = splat(T(total));
  int64_t i = 0;
  for (; i + L <= n; i += L) store(dx + i, load(g + i) - exp(load(y + i)) * s);
  if (i < n) {
    store_first(dx + i, n - i, load_first(g + i, n - i, T(0)) - exp(load_first(y + i, n - i, T(0))) * s);
  }
}

// --- Columns: every step works on the n elements of a row, in tiles that stay in the first-level cache ---

template <typename T>
void exp_all(T* x, int64_t n) {
  constexpr int L = Vec<T>::lanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(x + i, exp(load(x + i)));
  if (i < n) store_first(x + i, n - i, exp(load_first(x + i, n - i, T(0))));
}

template <typename T>
void column_max(const T* x, int64_t rows, int64_t stride, int64_t n, T* best) {
  for (int64_t j = 0; j < n; j++) best[j] = T(-__builtin_inf());
  for (int64_t r = 0; r < rows; r++) {
    const T* v = x + r * stride;
    for (int64_t j = 0; j < n; j++) best[j] = (v[j] > best[j]) | (v[j] != v[j]) ? v[j] : best[j];
  }
}

// sum = the sums of exp(x - shift), whose terms are stored where y is given.
template <typename T>
void column_exp_sum(const T* x, int64_t rows, int64_t stride, int64_t n, const T* shift, T* y, double* sum) {
  T e[kTile];
  for (int64_t j = 0; j < n; j++) sum[j] = 0;
  for (int64_t r = 0; r < rows; r++) {
    const T* v = x + r * stride;
    for (int64_t j = 0; j < n; j++) e[j] = v[j] - shift[j];
    exp_all(e, n);
    for (int64_t j = 0; j < n; j++) sum[j] += double(e[j]);
    if (!y) continue;
    for (int64_t j = 0; j < n; j++) y[r * stride + j] = e[j];
  }
}

template <typename T>
void softmax_columns(const T* x, int64_t rows, int64_t stride, int64_t n, T* y, bool log) {
  for (int64_t c = 0; c < n; c += kTile, x += kTile, y += kTile) {
    const int64_t width = n - c < kTile ? n - c : kTile;
    T best[kTile], by[kTile];
    double sum[kTile];
    column_max(x, rows, stride, width, best);
    column_exp_sum(x, rows, stride, width, best, log ? static_cast<T*>(nullptr) : y, sum);
    for (int64_t j = 0; j < width; j++) by[j] = T(log ? __builtin_log(sum[j]) : 1 / sum[j]);
    for (int64_t r = 0; r < rows; r++) {
      const T* from = x + r * stride;
      T* to = y + r * stride;
      if (log) {
        for (int64_t j = 0; j < width; j++) to[j] = (from[j] - best[j]) - by[j];
      } else {
        for (int64_t j = 0; j < width; j++) to[j] *= by[j];
      }
    }
  }
}

template <typename T>
void log_sum_exp_columns(const T* x, int64_t rows, int64_t stride, int64_t n, T* y) {
  for (int64_t c = 0; c < n; c += kTile, x += kTile, y += kTile) {
    const int64_t width = n - c < kTile ? n - c : kTile;
    T best[kTile];
    double sum[kTile];
    column_max(x, rows, stride, width, best);
    column_exp_sum(x, rows, stride, width, best, static_cast<T*>(nullptr), sum);
    for (int64_t j = 0; j < width; j++) {
      const bool infinite = __builtin_isinf(best[j]);
      y[j] = infinite ? best[j] : T(double(best[j]) + __builtin_log(sum[j]));
    }
  }
}

template <typename T>
void softmax_backward_columns(const T* g, const T* y, int64_t rows, int64_t stride, int64_t n, T* dx) {
  for (int64_t c = 0; c < n; c += kTile, g += kTile, y += kTile, dx += kTile) {
    const int64_t width = n - c < kTile ? n - c : kTile;
    double sum[kTile] = {};
    for (int64_t r = 0; r < rows; r++) {
      const T *a = g + r * stride, *b = y + r * stride;
      for (int64_t j = 0; j < width; j++) sum[j] += double(a[j]) * double(b[j]);
    }
    for (int64_t r = 0; r < rows; r++) {
      const T *a = g + r * stride, *b = y + r * stride;
      T* to = dx + r * stride;
      for (int64_t j = 0; j < width; j++) to[j] = b[j] * (a[j] - T(sum[j]));
    }
  }
}

template <typename T>
void log_softmax_backward_columns(const T* g, const T* y, int64_t rows, int64_t stride, int64_t n, T* dx) {
  for (int64_t c = 0; c < n; c += kTile, g += kTile, y += kTile, dx += kTile) {
    const int64_t width = n - c < kTile ? n - c : kTile;
    double sum[kTile] = {};
    T e[kTile];
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t j = 0; j < width; j++) sum[j] += double(g[r * stride + j]);
    }
    for (int64_t r = 0; r < rows; r++) {
      const T *a = g + r * stride, *b = y + r * stride;
      T* to = dx + r * stride;
      for (int64_t j = 0; j < width; j++) e[j] = b[j];
      exp_all(e, width);
      for (int64_t j = 0; j < width; j++) to[j] = a[j] - e[j] * T(sum[j]);
    }
  }
}

template <typename T>
constexpr SoftmaxTable<T> table() {
  return {sums<T>,
          softmax<T>,
          softmax_backward<T>,
          log_softmax_backward<T>,
          softmax_columns<T>,
          log_sum_exp_columns<T>,
          softmax_backward_columns<T>,
          log_softmax_backward_columns<T>};
}

}  // namespace

extern "C" const SoftmaxKernels NEEDLE_ISA_NAME(softmax) = {table<float>(), table<double>()};
