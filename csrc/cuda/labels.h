// What the losses on class labels share: the labels, and the gradient of cross entropy at a score. A label
// that is no class is reported and its row skipped.
#pragma once
#include "reduce.h"
#include "softmax.h"

namespace needle {
namespace {

enum LossReduction : int { kNone, kMean, kSum };

struct Labels {
  const int64_t* wide;  // or null
  const int32_t* narrow;
  int64_t rows, classes;
  LossReduction reduction;
  double ignored;

  // desc: [N, C, reduction, ignoreIndex, ...]; second dtype: that of the labels.
  Labels(const void* target, double target_off, int32_t dtypes, const double* desc)
      : wide(second_dtype(dtypes) == kInt64 ? at<int64_t>(target, target_off) : nullptr),
        narrow(wide ? nullptr : at<int32_t>(target, target_off)),
        rows(int64_t(desc[0])),
        classes(int64_t(desc[1])),
        reduction(LossReduction(int(desc[2]))),
        ignored(desc[3]) {}

  // The class of a row, or -1 where it does not count.
  NEEDLE_DEVICE int64_t of(int64_t row, Alarm* alarm) const {
    const int64_t label = wide ? wide[row] : int64_t(narrow[row]);
    if (double(label) == ignored) return -1;
    if (label >= 0 && label < classes) return label;
    raise(alarm, kNoClass, double(label), double(classes));
    return -1;
  }

  // The factor of a row's gradient; g is that of the loss.
  template <typename T>
  NEEDLE_DEVICE double scale(const T* g, const T* total, int64_t row) const {
    if (reduction == kNone) return double(g[row]);
    return reduction == kSum ? double(*g) : double(*g) / double(*total);
  }
};

template <typename T>
struct CrossEntropyGradient {
  Labels labels;
  const T *g, *x, *stats, *total, *weight;
  const double* weights;  // the sum of all classes' weights; null without smoothing or weights
  double smoothing;
  Alarm* alarm;

  // What the scores of a row share; label -1: their gradients are 0.
  struct Row {
    int64_t label;
    T shift, factor, even, hard;
  };

  NEEDLE_DEVICE Row row(int64_t r) const {
    const int64_t label = labels.of(r, alarm);
    if (label < 0) return {-1, 0, 0, 0, 0};
    const double even = smoothing / double(labels.classes);
    const double all = weights ? *weights : double(labels.classes);
    const double w = (1 - smoothing) * (weight ? double(weight[label]) : 1.0);
    const double scale = labels.scale(g, total, r);
    return {label, stats[2 * r], T(scale * (w + even * all) / double(stats[2 * r + 1])), T(scale * even),
            T(scale * w)};
  }

  NEEDLE_DEVICE T at(const Row& s, int64_t r, int64_t c) const {
    if (s.label < 0) return T(0);
    const T soft = functions::exp(x[r * labels.classes + c] - s.shift) * s.factor;
    return soft - s.even * (weight ? weight[c] : T(1)) - (c == s.label ? s.hard : T(0));
  }
};

// The sum of all weights, in double (see reduce.h).
template <typename T>
struct WeightSum {
  typedef T Item;
  typedef double Part;
  typedef double Total;
  typedef NoSetting Setting;
  const T* weight;
  double* sum;

  NEEDLE_DEVICE NoSetting setting(int64_t) const { return {}; }
  NEEDLE_DEVICE T load(int64_t offset, int64_t, NoSetting) const { return weight[offset]; }
  NEEDLE_DEVICE double start() const { return 0; }
  NEEDLE_DEVICE void add(double& part, const T (&item)[kRun], int n) const {
    for (int i = 0; i < kRun; i++) part += i < n ? double(item[i]) : 0.0;
  }
  NEEDLE_DEVICE double total(double part) const { return part; }
  static NEEDLE_DEVICE double merge(double a, double b) { return a + b; }
  NEEDLE_DEVICE void store(int64_t, double all) const { *sum = all; }
};

// Fills in `weights` where it is needed.
template <typename T>
int32_t prepare(CrossEntropyGradient<T>& gradient) {
  if (!gradient.weight || gradient.smoothing == 0) return kOk;
  double* const sum = static_cast<double*>(scratch(kScratchNorm, sizeof(double)));
  if (!sum) return out_of_memory();
  gradient.weights = sum;
  const double over_classes[] = {0, 1, double(gradient.labels.classes), 1};
  return reduce(WeightSum<T>{gradient.weight, sum}, over_classes);
}

}  // namespace
}  // namespace needle
