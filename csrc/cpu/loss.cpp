// Losses on class labels. A label that is no class is an error that names it; nothing is read out of bounds.
#include <math.h>
#include <algorithm>
#include <atomic>

#include "../common.h"
#include "labels.h"

namespace needle {
namespace {

// Sums the weights of the rows that count, in order.
template <typename T>
double total_weight(const Labels& labels, const T* weight) {
  double total = 0;
  for (int64_t row = 0; row < labels.rows; row++) {
    if (labels.counts(row)) total += weight ? double(weight[labels[row]]) : 1.0;
  }
  return total;
}

// Stores the losses of rows that stand in `loss` (null: already in y), reduced.
template <typename T>
void reduce_losses(const Labels& labels, const double* loss, double total, T* y) {
  if (labels.reduction == kNone) return;
  double sum = 0;
  for (int64_t row = 0; row < labels.rows; row++) sum += loss[row];
  *y = T(labels.reduction == kMean ? sum / total : sum);
}

// An exponential costs about 8 additions.
int64_t row_grain(int64_t classes) { return std::max<int64_t>(1, kGrain / (8 * (classes + 1))); }

template <typename T>
int32_t cross_entropy(const Labels& labels, const T* x, const T* weight, double smoothing, T* y, T* stats,
                      T* total) {
  const int32_t status = labels.check();
  if (status != kOk) return status;
  double* loss = static_cast<double*>(scratch(kScratchReduce, size_t(labels.rows) * sizeof(double)));
  if (!loss) return out_of_memory();
  const LossTable<T>& k = loss_table<T>();
  const int64_t classes = labels.classes;
  const double even = smoothing / double(classes);
  parallel_for(labels.rows, row_grain(classes), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      loss[row] = 0;
      if (labels.counts(row)) {
        const T* scores = x + row * classes;
        const int64_t label = labels[row];
        T largest;
        double sum;
        k.sums(scores, classes, &largest, &sum);
        stats[2 * row] = largest;
        stats[2 * row + 1] = T(sum);
        const double log_sum = double(largest) + log(sum);
        const double w = weight ? double(weight[label]) : 1.0;
        loss[row] = (1 - smoothing) * w * (log_sum - double(scores[label]));
        if (even > 0) {
          double rest = 0;
          for (int64_t c = 0; c < classes; c++) {
            rest += (weight ? double(weight[c]) : 1.0) * (log_sum - double(scores[c]));
          }
          loss[row] += even * rest;
        }
      }
      if (labels.reduction == kNone) y[row] = T(loss[row]);
    }
  });
  const double weights = total_weight(labels, weight);
  *total = T(weights);
  reduce_losses(labels, loss, weights, y);
  return kOk;
}

template <typename T>
int32_t cross_entropy_backward(const Labels& labels, const T* g, const T* x, const T* stats, const T* total,
                               const T* weight, double smoothing, T* dx) {
  const int32_t status = labels.check();
  if (status != kOk) return status;
  const CrossEntropyGradient<T> gradient(labels, g, x, stats, total, weight, smoothing);
  const int64_t classes = labels.classes;
  parallel_for(labels.rows, row_grain(classes), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) gradient.run(row, 0, classes, dx + row * classes);
  });
  return kOk;
}

template <typename T>
int32_t nll_loss(const Labels& labels, const T* x, const T* weight, T* y, T* total) {
  const int32_t status = labels.check();
  if (status != kOk) return status;
  double* loss = static_cast<double*>(scratch(kScratchReduce, size_t(labels.rows) * sizeof(double)));
  if (!loss) return out_of_memory();
  for (int64_t row = 0; row < labels.rows; row++) {
    loss[row] = 0;
    if (labels.counts(row)) {
      const int64_t label = labels[row];
      loss[row] = -(weight ? double(weight[label]) : 1.0) * double(x[row * labels.classes + label]);
    }
    if (labels.reduction == kNone) y[row] = T(loss[row]);
  }
  const double weights = total_weight(labels, weight);
  *total = T(weights);
  reduce_losses(labels, loss, weights, y);
  return kOk;
}

template <typename T>
int32_t nll_loss_backward(const Labels& labels, const T* g, const T* total, const T* weight, T* dx) {
  const int32_t status = labels.check();
  if (status != kOk) return status;
  const int64_t classes = labels.classes;
  parallel_for(labels.rows, std::max<int64_t>(1, 2 * kGrain / (classes + 1)),
               [&](int64_t begin, int64_t end) {
                 std::fill(dx + begin * classes, dx + end * classes, T(0));
                 for (int64_t row = begin; row < end; row++) {
                   if (!labels.counts(row)) continue;
                   const int64_t label = labels[row];
                   const double w = weight ? double(weight[label]) : 1.0;
                   dx[row * classes + label] = T(-w * labels.scale(g, *total, row));
                 }
               });
  return kOk;
}

template <typename T>
int32_t binary_cross_entropy(const T* x, const T* target, T* y, int64_t n) {
  std::atomic<int64_t> wrong{n};
  parallel_for(n, kGrain / 32, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const T p = x[i], t = target[i];
      if (!(p >= 0 && p <= 1)) {
        int64_t first = wrong.load();
        while (i < first && !wrong.compare_exchange_weak(first, i)) continue;
        return;
      }
      y[i] = (t - 1) * std::max(T(log1p(-p)), T(-100)) - t * std::max(T(log(p)), T(-100));
    }
  });
  const int64_t i = wrong;
  if (i == n) return kOk;
  return fail(kInvalid,
              "element %lld is %g, and probabilities lie in [0, 1]; apply sigmoid first, or use "
              "binaryCrossEntropyWithLogits",
              (long long)i, double(x[i]));
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_cross_entropy(const void* x, double x_off, const void* target, double target_off,
                                           const void* weight, double weight_off, void* y, double y_off,
                                           void* stats, double stats_off, void* total, double total_off,
                                           int32_t dtypes, double, const double* desc) noexcept {
  return with_float_type(dtypes, [&](auto zero) {
    using T = decltype(zero);
    return cross_entropy(Labels(target, target_off, dtypes, desc), at<T>(x, x_off), at<T>(weight, weight_off),
                         desc[4], at<T>(y, y_off), at<T>(stats, stats_off), at<T>(total, total_off));
  });
}

NEEDLE_EXPORT int32_t needle_cross_entropy_backward(const void* g, double g_off, const void* x, double x_off,
                                                    const void* target, double target_off, const void* stats,
                                                    double stats_off, const void* total, double total_off,
                                                    const void* weight, double weight_off, void* dx,
                                                    double dx_off, int32_t dtypes, double,
                                                    const double* desc) noexcept {
  return with_float_type(dtypes, [&](auto zero) {
    using T = decltype(zero);
    return cross_entropy_backward(Labels(target, target_off, dtypes, desc), at<T>(g, g_off), at<T>(x, x_off),
                                  at<T>(stats, stats_off), at<T>(total, total_off), at<T>(weight, weight_off),
                                  desc[4], at<T>(dx, dx_off));
  });
}

NEEDLE_EXPORT int32_t needle_nll_loss(const void* x, double x_off, const void* target, double target_off,
                                      const void* weight, double weight_off, void* y, double y_off,
                                      void* total, double total_off, int32_t dtypes, double,
                                      const double* desc) noexcept {
  return with_float_type(dtypes, [&](auto zero) {
    using T = decltype(zero);
    return nll_loss(Labels(target, target_off, dtypes, desc), at<T>(x, x_off), at<T>(weight, weight_off),
                    at<T>(y, y_off), at<T>(total, total_off));
  });
}

NEEDLE_EXPORT int32_t needle_nll_loss_backward(const void* g, double g_off, const void* target,
                                               double target_off, const void* total, double total_off,
                                               const void* weight, double weight_off, void* dx, double dx_off,
                                               int32_t dtypes, double, const double* desc) noexcept {
  return with_float_type(dtypes, [&](auto zero) {
    using T = decltype(zero);
    return nll_loss_backward(Labels(target, target_off, dtypes, desc), at<T>(g, g_off),
                             at<T>(total, total_off), at<T>(weight, weight_off), at<T>(dx, dx_off));
  });
}

NEEDLE_EXPORT int32_t needle_binary_cross_entropy(const void* x, double x_off, const void* target,
                                                  double target_off, void* y, double y_off, int32_t dtypes,
                                                  double n, const double*) noexcept {
  return with_float_type(dtypes, [&](auto zero) {
    using T = decltype(zero);
    return binary_cross_entropy(at<T>(x, x_off), at<T>(target, target_off), at<T>(y, y_off), int64_t(n));
  });
}
