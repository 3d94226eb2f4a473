// Pooling windows over channels-last rows, a vector of channels at a time with the taps innermost, so that a
// window's result stays in registers. Compiled once per ISA level.
#include "pool.h"

#include "vec.h"

#define UNROLL _Pragma("GCC unroll 4")

namespace {

template <typename T>
struct Vec;
template <>
struct Vec<float> {
  typedef vf type;
  typedef vi index;
  typedef int32_t integer;
  static constexpr int lanes = W;
};
template <>
struct Vec<double> {
  typedef vd type;
  typedef vl index;
  typedef int64_t integer;
  static constexpr int lanes = WD;
};

template <typename T>
void max(int64_t n, int64_t taps, const T* const* rows, const int32_t* index, T* y, int64_t* indices) {
  typedef typename Vec<T>::type vec;
  typedef typename Vec<T>::index ivec;
  typedef typename Vec<T>::integer integer;
  constexpr int L = Vec<T>::lanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    vec best = load(rows[0] + i);
    ivec at = ivec{} + integer(index[0]);
    for (int64_t t = 1; t < taps; t++) {
      const vec x = load(rows[t] + i);
      const ivec take = (x > best) | (x != x);
      best = take ? x : best;
      at = take ? ivec{} + integer(index[t]) : at;
    }
    store(y + i, best);
    UNROLL for (int l = 0; l < L; l++) indices[i + l] = at[l];
  }
  for (; i < n; i++) {
    T best = rows[0][i];
    int64_t at = index[0];
    for (int64_t t = 1; t < taps; t++) {
      const T x = rows[t][i];
      if (x > best || x != x) best = x, at = index[t];
    }
    y[i] = best;
    indices[i] = at;
  }
}

template <typename T>
void average(int64_t n, int64_t taps, const T* const* rows, T divisor, T* y) {
  typedef typename Vec<T>::type vec;
  constexpr int L = Vec<T>::lanes;
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    vec sum[4] = {};
    for (int64_t t = 0; t < taps; t++) {
      UNROLL for (int j = 0; j < 4; j++) sum[j] += load(rows[t] + i + j * L);
    }
    UNROLL for (int j = 0; j < 4; j++) store(y + i + j * L, sum[j] / splat(divisor));
  }
  for (; i + L <= n; i += L) {
    vec sum = {};
    for (int64_t t = 0; t < taps; t++) sum += load(rows[t] + i);
    store(y + i, sum / splat(divisor));
  }
  for (; i < n; i++) {
    T sum = 0;
    for (int64_t t = 0; t < taps; t++) sum += rows[t][i];
    y[i] = sum / divisor;
  }
}

template <typename T>
void spread(int64_t n, int64_t taps, const T* const* rows, const T* divisors, T* y) {
  typedef typename Vec<T>::type vec;
  constexpr int L = Vec<T>::lanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    vec sum = {};
    for (int64_t t = 0; t < taps; t++) sum += load(rows[t] + i) / splat(divisors[t]);
    store(y + i, sum);
  }
  for (; i < n; i++) {
    T sum = 0;
    for (int64_t t = 0; t < taps; t++) sum += rows[t][i] / divisors[t];
    y[i] = sum;
  }
}

}  // namespace

extern "C" const PoolKernels NEEDLE_ISA_NAME(pool) = {
    {max<float>, average<float>, spread<float>},
    {max<double>, average<double>, spread<double>},
};
