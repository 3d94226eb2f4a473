// Group norm and its gradients: a sample at a time, each with the loops of batch norm.
#include "norm_support.h"

namespace needle {
namespace {

// Samples of c channels at `length` positions; channels last, or each channel a run. Groups are `size`
// channels.
struct Groups {
  int64_t n, c, length, groups, size;
  double eps;
  bool columns;
  explicit Groups(const double* desc)
      : n(int64_t(desc[0])),
        c(int64_t(desc[1])),
        length(int64_t(desc[2])),
        groups(int64_t(desc[3])),
        size(c / groups),
        eps(desc[4]),
        columns(desc[5] != 0 || length == 1) {}
  int64_t sample() const { return c * length; }
  double count() const { return double(size * length); }
};

// What the thread that works on a sample needs.
template <typename T>
struct SampleMemory {
  Parameters<T> parameters;
  ColumnWork<T> work;
  Moments* moments;
  bool take(const Groups& s, const Columns& by) {
    return lay_out(kScratchTask, [&](Arena& arena) {
      parameters.lay_out(arena, s.columns ? by.width : s.c);
      work.lay_out(arena, s.columns ? by.width : 0);
      moments = arena.take<Moments>(s.c);
    });
  }
};

// Calls f(sample, memory) for all samples; false when memory is out.
template <typename T, typename F>
bool each_sample(const Groups& s, const Columns& by, const F& f) {
  std::atomic<bool> failed{false};
  parallel_for(s.n, std::max<int64_t>(1, kGrain / std::max<int64_t>(s.sample(), 1)),
               [&](int64_t begin, int64_t end) {
                 SampleMemory<T> memory;
                 if (!memory.take(s, by)) {
                   failed = true;
                   return;
                 }
                 for (int64_t i = begin; i < end; i++) f(i, memory);
               });
  return !failed;
}

template <typename T>
int32_t group_norm(const double* desc, const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd) {
  const Groups s(desc);
  const Columns by(s.c);
  const NormTable<T>& table = norm_table<T>();
  const bool done = each_sample<T>(s, by, [&](int64_t i, const SampleMemory<T>& memory) {
    const Parameters<T>& p = memory.parameters;
    const T* from = x + i * s.sample();
    T* to = y + i * s.sample();
    if (s.columns) {
      std::fill(memory.moments, memory.moments + s.c, Moments{});
      column_moments(by, s.length, from, memory.work, memory.moments);
    }
    for (int64_t k = 0; k < s.groups; k++) {
      Moments all{};
      if (s.columns) {
        for (int64_t j = k * s.size; j < (k + 1) * s.size; j++) {
          all.merge(memory.moments[j].count, memory.moments[j].mean, memory.moments[j].m2);
        }
      } else {
        all = run_moments(1, 0, s.size * s.length, from + k * s.size * s.length);
      }
      const double r = 1 / sqrt((all.count > 0 ? all.m2 / all.count : 0) + s.eps);
      mean[i * s.groups + k] = T(all.mean);
      rstd[i * s.groups + k] = T(r);
      for (int64_t j = k * s.size; j < (k + 1) * s.size; j++) {
        p.mean[j] = T(all.mean);
        p.scale[j] = T((weight ? double(weight[j]) : 1) * r);
        p.shift[j] = bias ? bias[j] : T(0);
        if (!s.columns)
          table.scale_runs(1, 0, s.length, from + j * s.length, p.run(j), false, to + j * s.length);
      }
    }
    if (!s.columns) return;
    p.tile(by);
    by.apply(s.length, [&](int64_t at, int64_t rows, int64_t width) {
      table.scale_columns(rows, width, from + at, p.columns(), false, to + at);
    });
  });
  return done ? kOk : out_of_memory();
}

template <typename T>
int32_t group_norm_backward(const double* desc, const T* g, const T* x, const T* mean, const T* rstd,
                            const T* weight, T* dx, T* dweight, T* dbias) {
  const Groups s(desc);
  const Columns by(s.c);
  const NormTable<T>& table = norm_table<T>();
  double *sums, *dots;  // per sample and channel
  const bool room = lay_out(kScratchNorm, [&](Arena& arena) {
    sums = arena.take<double>(s.n * s.c + 1);
    dots = arena.take<double>(s.n * s.c + 1);
  });
  if (!room) return out_of_memory();
  std::fill(sums, sums + s.n * s.c, 0.0);
  std::fill(dots, dots + s.n * s.c, 0.0);
  const bool done = each_sample<T>(s, by, [&](int64_t i, const SampleMemory<T>& memory) {
    const Parameters<T>& p = memory.parameters;
    const int64_t start = i * s.sample();
    double *sum = sums + i * s.c, *dot = dots + i * s.c;
    for (int64_t j = 0; j < s.c; j++) {
      const int64_t set = i * s.groups + j / s.size;
      p.mean[j] = mean[set];
      p.scale[j] = T((weight ? double(weight[j]) : 1) * double(rstd[set]));
      p.shift[j] = 0;
    }
    if (s.columns) {
      p.tile(by);
      column_dots(by, i * s.length, s.length, Incoming<T>(g, false, nullptr, 0), x, p, false, memory.work,
                  sum, dot);
    } else {
      for (int64_t j = 0; j < s.c; j++) {
        const int64_t at = start + j * s.length;
        table.dot_runs(1, 0, s.length, g + at, 0, x + at, p.run(j), false, sum + j, dot + j);
      }
    }
    for (int64_t k = 0; k < s.groups; k++) {
      const double r = double(rstd[i * s.groups + k]);
      double all = 0, along = 0;
      for (int64_t j = k * s.size; j < (k + 1) * s.size; j++) {
        all += double(p.scale[j]) * sum[j];
        along += double(p.scale[j]) * dot[j];
      }
      for (int64_t j = k * s.size; j < (k + 1) * s.size; j++) {
        p.slope[j] = T(-r * r * along / s.count());
        p.level[j] = T(-all / s.count());
        if (s.columns) continue;
        const int64_t at = start + j * s.length;
        table.grad_runs(1, 0, s.length, g + at, 0, x + at, p.run(j), p.slope[j], p.level[j], false, dx + at);
      }
    }
    if (!s.columns) return;
    p.tile(by);
    by.apply(s.length, [&](int64_t at, int64_t rows, int64_t width) {
      const int64_t i = start + at;
      table.grad_columns(rows, width, g + i, width, x + i, p.columns(), p.slope, p.level, false, dx + i);
    });
  });
  for (int64_t j = 0; j < s.c; j++) {
    double sum = 0, dot = 0;
    for (int64_t i = 0; i < s.n; i++) {
      sum += sums[i * s.c + j];
      dot += dots[i * s.c + j] * double(rstd[i * s.groups + j / s.size]);
    }
    dweight[j] = T(dot);
    dbias[j] = T(sum);
  }
  return done ? kOk : out_of_memory();
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_group_norm(const void* x, double x_off, const void* weight, double weight_off,
                                        const void* bias, double bias_off, void* y, double y_off, void* mean,
                                        double mean_off, void* rstd, double rstd_off, int32_t dtypes, double,
                                        const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return group_norm(desc, at<T>(x, x_off), at<T>(weight, weight_off), at<T>(bias, bias_off),
                      at<T>(y, y_off), at<T>(mean, mean_off), at<T>(rstd, rstd_off));
  });
}

NEEDLE_EXPORT int32_t needle_group_norm_backward(const void* g, double g_off, const void* x, double x_off,
                                                 const void* mean, double mean_off, const void* rstd,
                                                 double rstd_off, const void* weight, double weight_off,
                                                 void* dx, double dx_off, void* dweight, double dweight_off,
                                                 void* dbias, double dbias_off, int32_t dtypes, double,
                                                 const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return group_norm_backward(desc, at<T>(g, g_off), at<T>(x, x_off), at<T>(mean, mean_off),
                               at<T>(rstd, rstd_off), at<T>(weight, weight_off), at<T>(dx, dx_off),
                               at<T>(dweight, dweight_off), at<T>(dbias, dbias_off));
  });
}
