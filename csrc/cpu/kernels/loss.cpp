// Cross entropy over rows of scores. Rows are longer than the first-level cache: a block is read for its
// maximum and again, from there, for its exponentials, while the next block is on its way from memory. Sums
// run in float over blocks and in double across them. Compiled once per ISA level.
#include "loss.h"

#include "loops.h"

#define UNROLL _Pragma("GCC unroll 4")

namespace {

constexpr int64_t kBlock = 2048;  // bytes
constexpr int kChains = 4;        // independent vectors, to hide the latency of their operations

// exp(x) for x <= 0 or NaN; what would be subnormal is 0.
NEEDLE_INLINE vf exp_negative(vf x) {
  const vf y = exp_bounded(x < -87.0f ? splat(-87.0f) : x);
  return x < -87.0f ? vf{} : y;
}
NEEDLE_INLINE vd exp_negative(vd x) { return exp(x); }

template <typename T>
T infinity() {
  return T(__builtin_inf());
}

template <typename T>
NEEDLE_INLINE T largest_lane(typename Lanes<T>::type v) {
  T lane[Lanes<T>::count];
  store(lane, v);
  for (int h = Lanes<T>::count / 2; h > 0; h /= 2) {
    for (int j = 0; j < h; j++) {
      lane[j] = (lane[j + h] > lane[j]) | (lane[j + h] != lane[j + h]) ? lane[j + h] : lane[j];
    }
  }
  return lane[0];
}

template <typename T>
NEEDLE_INLINE double sum_lanes(typename Lanes<T>::type v) {
  T lane[Lanes<T>::count];
  store(lane, v);
  double sum[Lanes<T>::count];
  for (int j = 0; j < Lanes<T>::count; j++) sum[j] = double(lane[j]);
  for (int h = Lanes<T>::count / 2; h > 0; h /= 2) {
    for (int j = 0; j < h; j++) sum[j] += sum[j + h];
  }
  return sum[0];
}

template <typename T>
NEEDLE_INLINE T block_max(const T* x, int64_t n) {
  typedef typename Lanes<T>::type vec;
  constexpr int L = Lanes<T>::count;
  const T low = -infinity<T>();
  vec best[kChains];
  UNROLL for (int j = 0; j < kChains; j++) best[j] = splat(low);
  int64_t i = 0;
  for (; i + kChains * L <= n; i += kChains * L) {
    UNROLL for (int j = 0; j < kChains; j++) {
      const vec v = load(x + i + j * L);
      best[j] = (v > best[j]) | (v != v) ? v : best[j];
    }
  }
  for (; i < n; i += L) {
    const vec v = i + L <= n ? load(x + i) : load_first(x + i, n - i, low);
    best[0] = (v > best[0]) | (v != v) ? v : best[0];
  }
  UNROLL for (int j = 1; j < kChains; j++) {
    best[0] = (best[j] > best[0]) | (best[j] != best[j]) ? best[j] : best[0];
  }
  return largest_lane<T>(best[0]);
}

// The sum of exp(x - shift), fetching what follows at `next`.
template <typename T>
NEEDLE_INLINE double block_sum(const T* x, int64_t n, T shift, const T* next) {
  typedef typename Lanes<T>::type vec;
  constexpr int L = Lanes<T>::count;
  constexpr int64_t line = 64 / sizeof(T);
  const vec s = splat(shift);
  vec sum[kChains];
  UNROLL for (int j = 0; j < kChains; j++) sum[j] = vec{};
  int64_t i = 0;
  for (; i + kChains * L <= n; i += kChains * L) {
    for (int64_t at = 0; at < kChains * L; at += line) __builtin_prefetch(next + i + at);
    UNROLL for (int j = 0; j < kChains; j++) sum[j] += exp_negative(load(x + i + j * L) - s);
  }
  for (; i + L <= n; i += L) sum[0] += exp_negative(load(x + i) - s);
  // With an infinite shift the lanes that fill up are NaN, and so is the sum in any case.
  if (i < n) sum[0] += exp_negative(load_first(x + i, n - i, -infinity<T>()) - s);
  UNROLL for (int j = 1; j < kChains; j++) sum[0] += sum[j];
  return sum_lanes<T>(sum[0]);
}

template <typename T>
void sums(const T* x, int64_t n, T* largest, double* sum) {
  constexpr int64_t step = kBlock / sizeof(T);
  T best = -infinity<T>();
  double total = 0;
  for (int64_t i = 0; i < n; i += step) {
    const int64_t width = n - i < step ? n - i : step;
    const T here = block_max(x + i, width);
    if ((here > best) | (here != here)) {
      // Nothing was summed yet where the old maximum is -inf; its terms were NaN.
      total = best == -infinity<T>() ? 0 : total * __builtin_exp(double(best) - double(here));
      best = here;
    }
    total += block_sum(x + i, width, best, x + i + width);
  }
  *largest = best;
  *sum = total;
}

template <typename T>
void gradient(const T* x, int64_t n, T shift, T a, T b, const T* weight, const T* next, T* y) {
  typedef typename Lanes<T>::type vec;
  constexpr int L = Lanes<T>::count;
  const vec s = splat(shift), factor = splat(a), even = splat(b);
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    __builtin_prefetch(next + i);
    store(y + i, exp_negative(load(x + i) - s) * factor - even);
  }
  if (i < n) store_first(y + i, n - i, exp_negative(load_first(x + i, n - i, shift) - s) * factor - even);
  if (weight && b != 0) {
    for (i = 0; i < n; i++) y[i] += b - b * weight[i];
  }
}

template <typename T>
void add(const T* x, int64_t n, T* sum) {
  for (int64_t i = 0; i < n; i++) sum[i] += x[i];
}

}  // namespace

extern "C" const LossKernels NEEDLE_ISA_NAME(loss) = {{sums<float>, gradient<float>, add<float>},
                                                      {sums<double>, gradient<double>, add<double>}};
