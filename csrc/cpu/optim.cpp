// Optimiser steps in place on a parameter and its state, split over threads: float32 and float64.
#include <atomic>

#include "../common.h"
#include "kernels/optim.h"

namespace needle {
namespace {

const OptimKernels& kernels() {
  static const OptimKernels* const table = select_kernels(optim);
  return *table;
}

// A step moves 3 to 8 arrays and takes a root and divisions.
constexpr int64_t kStepGrain = kGrain / 4;

template <typename T>
SgdArgs<T> sgd_args(const double* desc, bool with_momentum) {
  SgdArgs<T> a{T(desc[0]), T(desc[1]), T(desc[2] != 0 ? -1 : 1), 0, 1, false, true};
  if (with_momentum) {
    a.momentum = T(desc[3]);
    a.undamped = T(1 - desc[4]);
    a.nesterov = desc[5] != 0;
    a.first = desc[6] != 0;
  }
  return a;
}

template <typename T>
AdamArgs<T> adam_args(const double* desc) {
  return {T(desc[0]), T(desc[1]), T(1 - desc[2]),          T(desc[3]), T(1 - desc[3]), T(desc[4]),
          T(desc[5]), T(desc[6]), T(desc[7] != 0 ? -1 : 1)};
}

int32_t wrong_dtype(int32_t dtypes) {
  return fail(kInvalid, "an optimizer step takes float32 and float64, not %s",
              dtype_name(main_dtype(dtypes)));
}

// Calls f(table, zero) with the kernels of the main dtype; the zero carries the type.
template <typename F>
int32_t with_table(int32_t dtypes, const F& f) {
  switch (main_dtype(dtypes)) {
    case kFloat32:
      f(kernels().f32, 0.0f);
      return kOk;
    case kFloat64:
      f(kernels().f64, 0.0);
      return kOk;
    default:
      return wrong_dtype(dtypes);
  }
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_sgd_step(void* param, double param_off, const void* grad, double grad_off,
                                      int32_t dtypes, double n, const double* desc) noexcept {
  return with_table(dtypes, [&](const auto& table, auto zero) {
    using T = decltype(zero);
    const SgdArgs<T> args = sgd_args<T>(desc, false);
    T* p = at<T>(param, param_off);
    const T* g = at<T>(grad, grad_off);
    parallel_for(int64_t(n), kStepGrain,
                 [&](int64_t begin, int64_t end) { table.sgd(end - begin, args, p + begin, g + begin); });
  });
}

NEEDLE_EXPORT int32_t needle_sgd_momentum_step(void* param, double param_off, const void* grad,
                                               double grad_off, void* momentum, double momentum_off,
                                               int32_t dtypes, double n, const double* desc) noexcept {
  return with_table(dtypes, [&](const auto& table, auto zero) {
    using T = decltype(zero);
    const SgdArgs<T> args = sgd_args<T>(desc, true);
    T *p = at<T>(param, param_off), *m = at<T>(momentum, momentum_off);
    const T* g = at<T>(grad, grad_off);
    parallel_for(int64_t(n), kStepGrain, [&](int64_t begin, int64_t end) {
      table.momentum(end - begin, args, p + begin, g + begin, m + begin);
    });
  });
}

NEEDLE_EXPORT int32_t needle_adam_step(void* param, double param_off, const void* grad, double grad_off,
                                       void* exp_avg, double exp_avg_off, void* exp_avg_sq,
                                       double exp_avg_sq_off, int32_t dtypes, double n,
                                       const double* desc) noexcept {
  return with_table(dtypes, [&](const auto& table, auto zero) {
    using T = decltype(zero);
    const AdamArgs<T> args = adam_args<T>(desc);
    T *p = at<T>(param, param_off), *m = at<T>(exp_avg, exp_avg_off), *v = at<T>(exp_avg_sq, exp_avg_sq_off);
    const T* g = at<T>(grad, grad_off);
    parallel_for(int64_t(n), kStepGrain, [&](int64_t begin, int64_t end) {
      table.adam(end - begin, args, p + begin, g + begin, m + begin, v + begin);
    });
  });
}

NEEDLE_EXPORT int32_t needle_amsgrad_step(void* param, double param_off, const void* grad, double grad_off,
                                          void* exp_avg, double exp_avg_off, void* exp_avg_sq,
                                          double exp_avg_sq_off, void* max_exp_avg_sq,
                                          double max_exp_avg_sq_off, int32_t dtypes, double n,
                                          const double* desc) noexcept {
  return with_table(dtypes, [&](const auto& table, auto zero) {
    using T = decltype(zero);
    const AdamArgs<T> args = adam_args<T>(desc);
    T *p = at<T>(param, param_off), *m = at<T>(exp_avg, exp_avg_off), *v = at<T>(exp_avg_sq, exp_avg_sq_off);
    T* largest = at<T>(max_exp_avg_sq, max_exp_avg_sq_off);
    const T* g = at<T>(grad, grad_off);
    parallel_for(int64_t(n), kStepGrain, [&](int64_t begin, int64_t end) {
      table.amsgrad(end - begin, args, p + begin, g + begin, m + begin, v + begin, largest + begin);
    });
  });
}

NEEDLE_EXPORT int32_t needle_unscale(void* grad, double grad_off, void* found, double found_off,
                                     int32_t dtypes, double n, const double* desc) noexcept {
  std::atomic<bool> bad{false};
  const int32_t status = with_table(dtypes, [&](const auto& table, auto zero) {
    using T = decltype(zero);
    T* g = at<T>(grad, grad_off);
    parallel_for(int64_t(n), kStepGrain, [&](int64_t begin, int64_t end) {
      if (table.unscale(end - begin, T(desc[0]), g + begin)) bad.store(true, std::memory_order_relaxed);
    });
  });
  if (status == kOk && bad.load()) *at<float>(found, found_off) = 1;
  return status;
}
