// What the losses on class labels share: the labels with their weights, and the kernels of rows of scores.
#pragma once
#include "../common.h"
#include "kernels/loss.h"

namespace needle {

template <typename T>
const LossTable<T>& loss_table();
template <>
inline const LossTable<float>& loss_table<float>() {
  return select_kernels(loss)->f32;
}
template <>
inline const LossTable<double>& loss_table<double>() {
  return select_kernels(loss)->f64;
}

enum Reduction { kNone, kMean, kSum };

struct Labels {
  const void* data;
  double offset;
  bool wide;  // int64
  int64_t rows, classes;
  Reduction reduction;
  double ignored;

  // desc: [N, C, reduction, ignoreIndex, ...]
  Labels(const void* target, double target_off, int32_t dtypes, const double* desc)
      : data(target),
        offset(target_off),
        wide(second_dtype(dtypes) == kInt64),
        rows(int64_t(desc[0])),
        classes(int64_t(desc[1])),
        reduction(Reduction(desc[2])),
        ignored(desc[3]) {}

  int64_t operator[](int64_t row) const {
    return wide ? at<int64_t>(data, offset)[row] : at<int32_t>(data, offset)[row];
  }
  bool counts(int64_t row) const { return double((*this)[row]) != ignored; }

  // Fails for a label that is no class.
  int32_t check() const {
    for (int64_t row = 0; row < rows; row++) {
      const int64_t label = (*this)[row];
      if ((label < 0 || label >= classes) && counts(row)) {
        return fail(
            kInvalid,
            "label %lld at position %lld is not in [0, %lld); labels are class indices, and ignoreIndex "
            "(%.0f) marks rows to skip",
            (long long)label, (long long)row, (long long)classes, ignored);
      }
    }
    return kOk;
  }

  // The factor of a row's gradient; g is that of the loss.
  template <typename T>
  double scale(const T* g, T total, int64_t row) const {
    if (reduction == kNone) return double(g[row]);
    return reduction == kSum ? double(*g) : double(*g) / double(total);
  }
};

// The gradient of cross entropy with respect to the scores, a run of columns of a row at a time.
template <typename T>
struct CrossEntropyGradient {
  const Labels& labels;
  const T *g, *x, *stats, *total, *weight;
  double smoothing, even, all;

  CrossEntropyGradient(const Labels& labels, const T* g, const T* x, const T* stats, const T* total,
                       const T* weight, double smoothing)
      : labels(labels),
        g(g),
        x(x),
        stats(stats),
        total(total),
        weight(weight),
        smoothing(smoothing),
        even(smoothing / double(labels.classes)),
        all(0) {
    if (even == 0) return;
    for (int64_t c = 0; c < labels.classes; c++) all += weight ? double(weight[c]) : 1.0;
  }

  // Writes that of the classes [first, first + n).
  void run(int64_t row, int64_t first, int64_t n, T* to) const {
    if (!labels.counts(row)) {
      for (int64_t c = 0; c < n; c++) to[c] = 0;
      return;
    }
    const int64_t label = labels[row] - first;
    const double w = (1 - smoothing) * (weight ? double(weight[label + first]) : 1.0);
    const double scale = labels.scale(g, *total, row);
    const double factor = scale * (w + even * all) / double(stats[2 * row + 1]);
    const T* const scores = x + row * labels.classes + first;
    loss_table<T>().gradient(scores, n, stats[2 * row], T(factor), T(scale * even),
                             weight ? weight + first : nullptr, scores + labels.classes, to);
    if (label >= 0 && label < n) to[label] -= T(scale * w);
  }
};

// Calls f with a zero of the main dtype's type.
template <typename F>
int32_t with_float_type(int32_t dtypes, const F& f) {
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return f(0.0f);
    case kFloat64:
      return f(0.0);
    default:
      return fail(kInvalid, "there is no kernel for %s", dtype_name(main_dtype(dtypes)));
  }
}

}  // namespace needle
