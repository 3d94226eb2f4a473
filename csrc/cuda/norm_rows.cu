// Layer norm and RMS norm and their gradients: rows are normalised by themselves, each by a team that reads
// it once for its statistics and again, from the cache, to write the results.
#include "norm.h"

namespace needle {
namespace {

template <typename T>
struct Rows {
  int64_t rows, cols;
  Team team;
  const T *weight, *bias;

  NEEDLE_DEVICE T weight_at(int64_t k) const { return weight ? weight[k] : T(1); }
};

// Without `mean` rows are divided by the root of their mean square.
template <typename T>
__global__ void norm_rows(Rows<T> s, double eps, const T* x, T* y, T* mean, T* rstd) {
  const int64_t row = s.team.line(), cols = row < s.rows ? s.cols : 0;
  const int lane = s.team.lane(), lanes = s.team.lanes;
  const T* const from = x + (cols > 0 ? row * cols : 0);
  T* const to = y + (cols > 0 ? row * cols : 0);
  T centre = 0;
  double variance;
  if (mean) {
    RunningMoments<T> mine{0, 0, 0};
    each_run<kRun>(0, cols, lane, lanes, [&](int64_t at, int n) {
      T item[kRun] = {};
      for (int i = 0; i < kRun; i++) {
        if (i < n) item[i] = from[at + int64_t(i) * lanes];
      }
      mine.add(item, n);
    });
    const Moments all = combine(s.team, mine.total(), Merge());
    centre = T(all.mean);
    variance = all.count > 0 ? all.m2 / all.count : 0.0;
  } else {
    double squares = 0;
    each_run<kRun>(0, cols, lane, lanes, [&](int64_t at, int n) {
      for (int i = 0; i < kRun; i++) {
        const double v = i < n ? double(from[at + int64_t(i) * lanes]) : 0.0;
        squares += v * v;
      }
    });
    const double all = combine(s.team, squares, Plus());
    variance = cols > 0 ? all / double(cols) : 0.0;
  }
  const T r = T(1 / sqrt(variance + eps));
  if (row < s.rows && lane == 0) {
    if (mean) mean[row] = centre;
    rstd[row] = r;
  }
  for (int64_t k = lane; k < cols; k += lanes) {
    to[k] = (from[k] - centre) * r * s.weight_at(k) + (s.bias ? s.bias[k] : T(0));
  }
}

// dx = rstd (h - mean of h - normal * mean of h * normal), where h = g weight; the first mean is that of
// layer norm alone.
template <typename T>
__global__ void grad_rows(Rows<T> s, const T* g, const T* x, const T* mean, const T* rstd, T* dx) {
  const int64_t row = s.team.line(), cols = row < s.rows ? s.cols : 0;
  const int lane = s.team.lane(), lanes = s.team.lanes;
  const int64_t start = cols > 0 ? row * cols : 0;
  const T centre = mean && cols > 0 ? mean[row] : T(0), r = cols > 0 ? rstd[row] : T(0);
  Dots mine{0, 0};
  each_run<kRun>(0, cols, lane, lanes, [&](int64_t at, int n) {
    Pair<T> item[kRun] = {};
    for (int i = 0; i < kRun; i++) {
      const int64_t k = at + int64_t(i) * lanes;
      if (i < n) item[i] = {g[start + k] * s.weight_at(k), (x[start + k] - centre) * r};
    }
    add_pairs(mine, item, n);
  });
  const Dots all = combine(s.team, mine, AddDots());
  const T level = T(mean ? all.sum / double(cols) : 0.0), slope = T(all.dot / double(cols));
  for (int64_t k = lane; k < cols; k += lanes) {
    const T h = g[start + k] * s.weight_at(k), normal = (x[start + k] - centre) * r;
    dx[start + k] = r * (h - level - normal * slope);
  }
}

// Σ g and Σ g normal over the rows, for each column.
template <typename T>
struct ColumnDots {
  typedef Pair<T> Item;
  typedef Dots Part;
  typedef Dots Total;
  typedef NoSetting Setting;
  const T *g, *x, *mean, *rstd;
  T *dweight, *dbias;

  NEEDLE_DEVICE NoSetting setting(int64_t) const { return {}; }
  NEEDLE_DEVICE Pair<T> load(int64_t offset, int64_t row, NoSetting) const {
    return {g[offset], (x[offset] - (mean ? mean[row] : T(0))) * rstd[row]};
  }
  NEEDLE_DEVICE Dots start() const { return {0, 0}; }
  NEEDLE_DEVICE void add(Dots& part, const Pair<T> (&item)[kRun], int n) const { add_pairs(part, item, n); }
  NEEDLE_DEVICE Dots total(Dots part) const { return part; }
  static NEEDLE_DEVICE Dots merge(const Dots& a, const Dots& b) { return AddDots()(a, b); }
  NEEDLE_DEVICE void store(int64_t j, const Dots& d) const {
    dweight[j] = T(d.dot);
    if (dbias) dbias[j] = T(d.sum);
  }
};

template <typename T>
int32_t forward(const double* desc, const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd) {
  const int64_t rows = int64_t(desc[0]), cols = int64_t(desc[1]);
  if (rows == 0) return kOk;
  const Rows<T> s{rows, cols, team_for(rows, cols, 1), weight, bias};
  const int64_t blocks = blocks_for(s.team, rows);
  if (blocks > kMaxBlocks) return too_many_blocks();
  NEEDLE_LAUNCH((norm_rows<T>), unsigned(blocks), kThreads, 0, stream(), s, desc[2], x, y, mean, rstd);
  return launched("starting a kernel");
}

template <typename T>
int32_t backward(const double* desc, const T* g, const T* x, const T* mean, const T* rstd, const T* weight,
                 T* dx, T* dweight, T* dbias) {
  const int64_t rows = int64_t(desc[0]), cols = int64_t(desc[1]);
  if (rows > 0) {
    const Rows<T> s{rows, cols, team_for(rows, cols, 1), weight, nullptr};
    const int64_t blocks = blocks_for(s.team, rows);
    if (blocks > kMaxBlocks) return too_many_blocks();
    NEEDLE_LAUNCH((grad_rows<T>), unsigned(blocks), kThreads, 0, stream(), s, g, x, mean, rstd, dx);
  }
  const double over_rows[] = {1, 1, desc[1], 1, desc[0], desc[1]};
  const int32_t status = reduce(ColumnDots<T>{g, x, mean, rstd, dweight, dbias}, over_rows);
  return status == kOk ? launched("starting a kernel") : status;
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_layer_norm(const void* x, double x_off, const void* weight, double weight_off,
                                        const void* bias, double bias_off, void* y, double y_off, void* mean,
                                        double mean_off, void* rstd, double rstd_off, int32_t dtypes, double,
                                        const double* desc) noexcept {
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return forward(desc, at<T>(x, x_off), at<T>(weight, weight_off), at<T>(bias, bias_off), at<T>(y, y_off),
                   at<T>(mean, mean_off), at<T>(rstd, rstd_off));
  });
}

NEEDLE_EXPORT int32_t needle_layer_norm_backward(const void* g, double g_off, const void* x, double x_off,
                                                 const void* mean, double mean_off, const void* rstd,
                                                 double rstd_off, const void* weight, double weight_off,
                                                 void* dx, double dx_off, void* dweight, double dweight_off,
                                                 void* dbias, double dbias_off, int32_t dtypes, double,
                                                 const double* desc) noexcept {
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return backward(desc, at<T>(g, g_off), at<T>(x, x_off), at<T>(mean, mean_off), at<T>(rstd, rstd_off),
                    at<T>(weight, weight_off), at<T>(dx, dx_off), at<T>(dweight, dweight_off),
                    at<T>(dbias, dbias_off));
  });
}

NEEDLE_EXPORT int32_t needle_rms_norm(const void* x, double x_off, const void* weight, double weight_off,
                                      void* y, double y_off, void* rstd, double rstd_off, int32_t dtypes,
                                      double, const double* desc) noexcept {
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return forward<T>(desc, at<T>(x, x_off), at<T>(weight, weight_off), nullptr, at<T>(y, y_off), nullptr,
                      at<T>(rstd, rstd_off));
  });
}

NEEDLE_EXPORT int32_t needle_rms_norm_backward(const void* g, double g_off, const void* x, double x_off,
                                               const void* rstd, double rstd_off, const void* weight,
                                               double weight_off, void* dx, double dx_off, void* dweight,
                                               double dweight_off, int32_t dtypes, double,
                                               const double* desc) noexcept {
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return backward<T>(desc, at<T>(g, g_off), at<T>(x, x_off), nullptr, at<T>(rstd, rstd_off),
                       at<T>(weight, weight_off), at<T>(dx, dx_off), at<T>(dweight, dweight_off), nullptr);
  });
}
