// Optimiser steps as plain loops that the compiler vectorises: they move 3 to 8 arrays and are bound by
// memory. Compiled once per ISA level.
#include "optim.h"

#include "vec.h"

namespace {

inline float root_of(float x) { return __builtin_sqrtf(x); }
inline double root_of(double x) { return __builtin_sqrt(x); }
inline bool finite(float x) { return __builtin_fabsf(x) <= __FLT_MAX__; }
inline bool finite(double x) { return __builtin_fabs(x) <= __DBL_MAX__; }

// What a step stores: subnormal numbers become 0. Weight decay drives unused weights there, and arithmetic on
// subnormal weights is ten times slower in every convolution that follows.
inline float normal(float x) { return __builtin_fabsf(x) < __FLT_MIN__ ? 0.0f : x; }
inline double normal(double x) { return __builtin_fabs(x) < __DBL_MIN__ ? 0.0 : x; }

template <typename T>
void sgd(int64_t n, const SgdArgs<T>& args, T* __restrict param, const T* __restrict grad) {
  const SgdArgs<T> a = args;
  for (int64_t i = 0; i < n; i++) {
    T d = a.sign * grad[i];
    if (a.weight_decay != 0) d += a.weight_decay * param[i];
    param[i] = normal(param[i] - a.lr * d);
  }
}

template <typename T>
void momentum(int64_t n, const SgdArgs<T>& args, T* __restrict param, const T* __restrict grad,
              T* __restrict buffer) {
  const SgdArgs<T> a = args;
  for (int64_t i = 0; i < n; i++) {
    T d = a.sign * grad[i];
    if (a.weight_decay != 0) d += a.weight_decay * param[i];
    const T m = a.first ? d : a.momentum * buffer[i] + a.undamped * d;
    buffer[i] = normal(m);
    param[i] = normal(param[i] - a.lr * (a.nesterov ? d + a.momentum * m : m));
  }
}

template <typename T>
void adam(int64_t n, const AdamArgs<T>& args, T* __restrict param, const T* __restrict grad,
          T* __restrict exp_avg, T* __restrict exp_avg_sq) {
  const AdamArgs<T> a = args;
  for (int64_t i = 0; i < n; i++) {
    T d = a.sign * grad[i];
    if (a.weight_decay != 0) d += a.weight_decay * param[i];
    const T m = exp_avg[i] + a.weight1 * (d - exp_avg[i]);
    const T v = a.beta2 * exp_avg_sq[i] + a.weight2 * d * d;
    exp_avg[i] = normal(m);
    exp_avg_sq[i] = normal(v);
    param[i] = normal(a.shrink * param[i] - a.step_size * (m / (root_of(v) / a.root + a.eps)));
  }
}

template <typename T>
void amsgrad(int64_t n, const AdamArgs<T>& args, T* __restrict param, const T* __restrict grad,
             T* __restrict exp_avg, T* __restrict exp_avg_sq, T* __restrict largest) {
  const AdamArgs<T> a = args;
  for (int64_t i = 0; i < n; i++) {
    T d = a.sign * grad[i];
    if (a.weight_decay != 0) d += a.weight_decay * param[i];
    const T m = exp_avg[i] + a.weight1 * (d - exp_avg[i]);
    const T v = a.beta2 * exp_avg_sq[i] + a.weight2 * d * d;
    const T before = largest[i];
    const T most = v > before || v != v ? v : before;
    exp_avg[i] = normal(m);
    exp_avg_sq[i] = normal(v);
    largest[i] = most;
    param[i] = normal(a.shrink * param[i] - a.step_size * (m / (root_of(most) / a.root + a.eps)));
  }
}

template <typename T>
bool unscale(int64_t n, T factor, T* __restrict grad) {
  int bad = 0;
  for (int64_t i = 0; i < n; i++) {
    bad |= !finite(grad[i]);
    grad[i] *= factor;
  }
  return bad != 0;
}

template <typename T>
constexpr OptimTable<T> table() {
  return {sgd<T>, momentum<T>, adam<T>, amsgrad<T>, unscale<T>};
}

}  // namespace

extern "C" const OptimKernels NEEDLE_ISA_NAME(optim) = {table<float>(), table<double>()};
