// Rows of attention scores: scaling and masking with their maximum, exponentials with their sum, and the
// gradient of a softmax. Compiled once per ISA level.
#include "attention.h"

#include "loops.h"

namespace {

template <typename T>
T scores(int64_t n, T scale, const T* bias, T* s) {
  typedef typename Lanes<T>::type vec;
  constexpr int L = Lanes<T>::count;
  const vec factor = splat(scale);
  vec top = splat(T(-INFINITY));
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    const vec x = bias ? fma(load(s + i), factor, load(bias + i)) : load(s + i) * factor;
    store(s + i, x);
    top = x > top ? x : top;
  }
  T lane[L];
  store(lane, top);
  T max = lane[0];
  for (int l = 1; l < L; l++) max = lane[l] > max ? lane[l] : max;
  for (; i < n; i++) {
    s[i] = bias ? s[i] * scale + bias[i] : s[i] * scale;
    max = s[i] > max ? s[i] : max;
  }
  return max;
}

template <typename T>
T exponentials(int64_t n, T shift, T* s) {
  typedef typename Lanes<T>::type vec;
  constexpr int L = Lanes<T>::count;
  const vec offset = splat(shift);
  vec sum{};
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    const vec x = exp(load(s + i) - offset);
    store(s + i, x);
    sum += x;
  }
  if (i < n) {
    const vec x = exp(load_first(s + i, n - i, T(-INFINITY)) - offset);
    store_first(s + i, n - i, x);
    sum += x;  // with an infinite shift the lanes that fill up are NaN, and so is the sum in any case
  }
  T lane[L];
  store(lane, sum);
  for (int h = L / 2; h > 0; h /= 2) {
    for (int l = 0; l < h; l++) lane[l] += lane[l + h];
  }
  return lane[0];
}

template <typename T>
void scale(int64_t n, T factor, T* y) {
  constexpr int L = Lanes<T>::count;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(y + i, load(y + i) * splat(factor));
  for (; i < n; i++) y[i] *= factor;
}

template <typename T>
void gradient(int64_t n, const T* p, T mean, T scale, T* d) {
  constexpr int L = Lanes<T>::count;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(d + i, load(p + i) * (load(d + i) - splat(mean)) * splat(scale));
  for (; i < n; i++) d[i] = p[i] * (d[i] - mean) * scale;
}

}  // namespace

extern "C" const AttentionKernels NEEDLE_ISA_NAME(attention) = {
    {scores<float>, exponentials<float>, scale<float>, gradient<float>},
    {scores<double>, exponentials<double>, scale<double>, gradient<double>},
};
