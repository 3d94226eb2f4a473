// Losses on class labels, a team per row of scores, and binary cross entropy. What is wrong with labels or
// probabilities is raised; nothing is read out of bounds.
#include "labels.h"

#include "elementwise.h"
#include "reduce.h"

namespace needle {
namespace {

// The loss of a row and its weight.
struct RowLoss {
  double loss, weight;
};

NEEDLE_DEVICE RowLoss other_lane(RowLoss a, int by) {
  return {other_lane(a.loss, by), other_lane(a.weight, by)};
}

template <typename T>
__global__ void cross_entropy(Labels labels, Team team, const T* x, const T* weight, double smoothing,
                              RowLoss* losses, T* y, T* stats, Alarm* alarm) {
  const int64_t row = team.line(), n = labels.classes;
  const bool valid = row < labels.rows;
  const int64_t label = valid ? labels.of(row, alarm) : -1, size = label < 0 ? 0 : n;
  const T* const scores = x + (size > 0 ? row * n : 0);
  const Exponentials all = exponentials(team, scores, size, 1);
  const double log_sum = all.largest + functions::log(all.sum);
  double rest = 0;
  if (smoothing > 0) {
    double mine = 0;
    for (int64_t c = team.lane(); c < size; c += team.lanes) {
      mine += (weight ? double(weight[c]) : 1.0) * (log_sum - double(scores[c]));
    }
    rest = combine(team, mine, Plus());
  }
  if (!valid || team.lane() != 0) return;
  RowLoss own{0, 0};
  if (label >= 0) {
    own.weight = weight ? double(weight[label]) : 1.0;
    own.loss = (1 - smoothing) * own.weight * (log_sum - double(scores[label]));
    if (smoothing > 0) own.loss += smoothing / double(n) * rest;
    stats[2 * row] = T(all.largest);
    stats[2 * row + 1] = T(all.sum);
  }
  losses[row] = own;
  if (labels.reduction == kNone) y[row] = T(own.loss);
}

template <typename T>
__global__ void nll_loss(Labels labels, const T* x, const T* weight, RowLoss* losses, T* y, Alarm* alarm) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t row = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; row < labels.rows; row += step) {
    const int64_t label = labels.of(row, alarm);
    RowLoss own{0, 0};
    if (label >= 0) {
      own.weight = weight ? double(weight[label]) : 1.0;
      own.loss = -own.weight * double(x[row * labels.classes + label]);
    }
    losses[row] = own;
    if (labels.reduction == kNone) y[row] = T(own.loss);
  }
}

// Losses and weights of all rows (see reduce.h).
template <typename T>
struct Losses {
  typedef RowLoss Item;
  typedef RowLoss Part;
  typedef RowLoss Total;
  typedef NoSetting Setting;
  const RowLoss* losses;
  LossReduction reduction;
  T *y, *total_weight;

  NEEDLE_DEVICE NoSetting setting(int64_t) const { return {}; }
  NEEDLE_DEVICE RowLoss load(int64_t offset, int64_t, NoSetting) const { return losses[offset]; }
  NEEDLE_DEVICE RowLoss start() const { return {0, 0}; }
  NEEDLE_DEVICE void add(RowLoss& part, const RowLoss (&item)[kRun], int n) const {
    for (int i = 0; i < kRun; i++) part = i < n ? merge(part, item[i]) : part;
  }
  NEEDLE_DEVICE RowLoss total(RowLoss part) const { return part; }
  static NEEDLE_DEVICE RowLoss merge(const RowLoss& a, const RowLoss& b) {
    return {a.loss + b.loss, a.weight + b.weight};
  }
  NEEDLE_DEVICE void store(int64_t, const RowLoss& all) const {
    *total_weight = T(all.weight);
    if (reduction != kNone) *y = T(reduction == kMean ? all.loss / all.weight : all.loss);
  }
};

// The losses of rows to the result of the op.
template <typename T>
int32_t reduce_losses(const Labels& labels, const RowLoss* losses, T* y, T* total) {
  const double over_rows[] = {0, 1, double(labels.rows), 1};
  return reduce(Losses<T>{losses, labels.reduction, y, total}, over_rows);
}

RowLoss* losses_of(const Labels& labels) {
  return static_cast<RowLoss*>(scratch(kScratchNorm, size_t(labels.rows) * sizeof(RowLoss)));
}

// y = the gradient of each score.
template <typename T>
__global__ void cross_entropy_backward(CrossEntropyGradient<T> gradient, Team team, T* dx) {
  const int64_t r = team.line(), n = gradient.labels.classes;
  if (r >= gradient.labels.rows) return;
  const auto row = gradient.row(r);
  for (int64_t c = team.lane(); c < n; c += team.lanes) dx[r * n + c] = gradient.at(row, r, c);
}

template <typename T>
__global__ void nll_loss_backward(Labels labels, const T* g, const T* total, const T* weight, T* dx,
                                  Alarm* alarm) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x, n = labels.rows * labels.classes;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const int64_t row = i / labels.classes, c = i - row * labels.classes, label = labels.of(row, alarm);
    dx[i] = c == label ? T(-(weight ? double(weight[c]) : 1.0) * labels.scale(g, total, row)) : T(0);
  }
}

template <typename T>
struct BinaryCrossEntropy {
  Alarm* alarm;

  NEEDLE_DEVICE T operator()(T p, T t) const {
    if (!(p >= 0 && p <= 1)) {
      raise(alarm, kNoProbability, double(p), 0);
      return T(NAN);
    }
    const T no = functions::log1p(-p), yes = functions::log(p), least = T(-100);
    return (t - 1) * (no < least ? least : no) - t * (yes < least ? least : yes);
  }
};

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_cross_entropy(const void* x, double x_off, const void* target, double target_off,
                                           const void* weight, double weight_off, void* y, double y_off,
                                           void* stats, double stats_off, void* total, double total_off,
                                           int32_t dtypes, double, const double* desc) noexcept {
  const Labels labels(target, target_off, dtypes, desc);
  RowLoss* const losses = losses_of(labels);
  if (!losses) return out_of_memory();
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    const Team team = team_for(labels.rows, labels.classes, 1);
    const int64_t blocks = blocks_for(team, labels.rows);
    if (blocks > kMaxBlocks) return too_many_blocks();
    if (blocks > 0) {
      NEEDLE_LAUNCH((cross_entropy<T>), unsigned(blocks), kThreads, 0, stream(), labels, team,
                    at<T>(x, x_off), at<T>(weight, weight_off), desc[4], losses, at<T>(y, y_off),
                    at<T>(stats, stats_off), alarm());
    }
    return reduce_losses(labels, losses, at<T>(y, y_off), at<T>(total, total_off));
  });
}

NEEDLE_EXPORT int32_t needle_cross_entropy_backward(const void* g, double g_off, const void* x, double x_off,
                                                    const void* target, double target_off, const void* stats,
                                                    double stats_off, const void* total, double total_off,
                                                    const void* weight, double weight_off, void* dx,
                                                    double dx_off, int32_t dtypes, double,
                                                    const double* desc) noexcept {
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    CrossEntropyGradient<T> gradient{Labels(target, target_off, dtypes, desc),
                                     at<T>(g, g_off),
                                     at<T>(x, x_off),
                                     at<T>(stats, stats_off),
                                     at<T>(total, total_off),
                                     at<T>(weight, weight_off),
                                     nullptr,
                                     desc[4],
                                     alarm()};
    const int32_t status = prepare(gradient);
    const int64_t rows = gradient.labels.rows, classes = gradient.labels.classes;
    if (status != kOk || rows == 0 || classes == 0) return status;
    const Team team = team_for(rows, classes, 1);
    const int64_t blocks = blocks_for(team, rows);
    if (blocks > kMaxBlocks) return too_many_blocks();
    NEEDLE_LAUNCH((cross_entropy_backward<T>), unsigned(blocks), kThreads, 0, stream(), gradient, team,
                  at<T>(dx, dx_off));
    return launched("starting a kernel");
  });
}

NEEDLE_EXPORT int32_t needle_nll_loss(const void* x, double x_off, const void* target, double target_off,
                                      const void* weight, double weight_off, void* y, double y_off,
                                      void* total, double total_off, int32_t dtypes, double,
                                      const double* desc) noexcept {
  const Labels labels(target, target_off, dtypes, desc);
  RowLoss* const losses = losses_of(labels);
  if (!losses) return out_of_memory();
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    if (labels.rows > 0) {
      NEEDLE_LAUNCH((nll_loss<T>), grid_for(labels.rows), kThreads, 0, stream(), labels, at<T>(x, x_off),
                    at<T>(weight, weight_off), losses, at<T>(y, y_off), alarm());
    }
    return reduce_losses(labels, losses, at<T>(y, y_off), at<T>(total, total_off));
  });
}

NEEDLE_EXPORT int32_t needle_nll_loss_backward(const void* g, double g_off, const void* target,
                                               double target_off, const void* total, double total_off,
                                               const void* weight, double weight_off, void* dx, double dx_off,
                                               int32_t dtypes, double, const double* desc) noexcept {
  const Labels labels(target, target_off, dtypes, desc);
  const int64_t n = labels.rows * labels.classes;
  if (n == 0) return kOk;
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    NEEDLE_LAUNCH((nll_loss_backward<T>), grid_for(n), kThreads, 0, stream(), labels, at<T>(g, g_off),
                  at<T>(total, total_off), at<T>(weight, weight_off), at<T>(dx, dx_off), alarm());
    return launched("starting a kernel");
  });
}

NEEDLE_EXPORT int32_t needle_binary_cross_entropy(const void* x, double x_off, const void* target,
                                                  double target_off, void* y, double y_off, int32_t dtypes,
                                                  double n, const double*) noexcept {
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return run(at<T>(y, y_off), n, nullptr, BinaryCrossEntropy<T>{alarm()},
               Argument<T>{at<T>(x, x_off), T(0)}, Argument<T>{at<T>(target, target_off), T(0)});
  });
}
