// Batch norm and its gradients, with ReLU in the same pass where wanted. The backward pass computes again
// where the ReLU let values through: that is cheaper than reading a saved mask.
#include "norm_support.h"

namespace needle {
namespace {

// [outer, C, inner] with statistics per channel. With inner = 1 channels are columns, else runs of `inner`
// elements.
struct Batch {
  int64_t outer, c, inner;
  double eps;
  bool relu;
  bool single;  // the incoming gradient is one element for all
  explicit Batch(const double* desc)
      : outer(int64_t(desc[0])),
        c(int64_t(desc[1])),
        inner(int64_t(desc[2])),
        eps(desc[3]),
        relu(desc[4] != 0),
        single(desc[5] != 0) {}
  bool columns() const { return inner == 1; }
  int64_t row(const Columns& by) const { return columns() ? by.width : inner; }
  int64_t per_channel() const { return outer * inner; }
  int64_t elements() const { return outer * c * inner; }
  int64_t parts() const { return part_count(elements()); }
  // Whether each thread takes whole channels, one after the other: a channel may stay in the cache between
  // passes.
  bool by_channel() const { return !columns() && c >= parts(); }
  // The unit of work: a row of all channels, or a run of one.
  Range units(int64_t part, int64_t parts) const {
    return part_of(columns() ? outer : outer * c, part, parts);
  }
};

template <typename T>
struct BatchMemory {
  Parameters<T> parameters;
  ColumnWork<T>* work;
  Moments* moments;
  double *sum, *dot;
  T* row;  // for Incoming
  int64_t c;

  BatchMemory(const Batch& s, const Columns& by)
      : c(s.c), parts_(s.parts()), width_(s.columns() ? by.width : s.c), row_(s.single ? s.row(by) : 0) {}
  bool take() {
    return lay_out(kScratchNorm, [this](Arena& arena) {
      parameters.lay_out(arena, width_);
      work = arena.take<ColumnWork<T>>(parts_);
      moments = arena.take<Moments>(parts_ * c);
      sum = arena.take<double>(parts_ * c);
      dot = arena.take<double>(parts_ * c);
      row = arena.take<T>(row_);
      ColumnWork<T> unused;
      for (int64_t p = 0; p < parts_; p++) (work ? work[p] : unused).lay_out(arena, width_);
    });
  }

 private:
  int64_t parts_, width_, row_;
};

// Calls f(first element, rows, width) for pieces of the rows in `range`, the last block first: it is the one
// that the pass over the statistics left in the cache.
template <typename F>
void backwards(const Columns& by, Range range, const F& f) {
  const int64_t block = by.block();
  for (int64_t n = range.end - range.begin, left = (n + block - 1) / block; left > 0; left--) {
    const int64_t first = (left - 1) * block, start = (range.begin + first) * by.c;
    by.apply(std::min(block, n - first),
             [&](int64_t at, int64_t rows, int64_t width) { f(start + at, rows, width); });
  }
}

// y from x by parameters that are set (and tiled).
template <typename T>
void batch_apply(const Batch& s, const Columns& by, const Parameters<T>& p, const T* x, T* y) {
  const NormTable<T>& table = norm_table<T>();
  const int64_t parts = s.parts();
  each_part(parts, [&](int64_t part) {
    if (s.by_channel()) {  // what by_channel() read last may be in the cache of the thread that read it
      const Range range = part_of(s.c, part, parts);
      for (int64_t j = range.end - 1; j >= range.begin; j--) {
        const int64_t at = j * s.inner;
        table.scale_runs(s.outer, s.c * s.inner, s.inner, x + at, p.run(j), s.relu, y + at);
      }
      return;
    }
    const Range range = s.units(part, parts);
    if (s.columns()) {
      backwards(by, range, [&](int64_t at, int64_t rows, int64_t width) {
        table.scale_columns(rows, width, x + at, p.columns(), s.relu, y + at);
      });
      return;
    }
    for (int64_t i = range.end - 1; i >= range.begin; i--) {
      table.scale_runs(1, 0, s.inner, x + i * s.inner, p.run(i % s.c), s.relu, y + i * s.inner);
    }
  });
}

template <typename T>
NormRun<T> forward_run(const Batch& s, int64_t j, const T* mean, const T* variance, const T* weight,
                       const T* bias) {
  const double scale = (weight ? double(weight[j]) : 1) / sqrt(double(variance[j]) + s.eps);
  return {mean[j], T(scale), bias ? bias[j] : T(0)};
}

template <typename T>
void set_forward(const Batch& s, const Columns& by, const Parameters<T>& p, const T* mean, const T* variance,
                 const T* weight, const T* bias) {
  for (int64_t j = 0; j < s.c; j++) {
    const NormRun<T> run = forward_run(s, j, mean, variance, weight, bias);
    p.mean[j] = run.mean, p.scale[j] = run.scale, p.shift[j] = run.shift;
  }
  if (s.columns()) p.tile(by);
}

template <typename T>
void set_moments(int64_t j, const Moments& m, T* mean, T* variance) {
  mean[j] = T(m.mean);
  variance[j] = T(m.count > 0 ? m.m2 / m.count : 0);
}

// The terms of dx = scale * g + slope * (x - mean) + level that come from the sums over the channel.
template <typename T>
struct Backward {
  T slope, level, dweight, dbias;
  Backward(const Batch& s, int64_t j, double sum, double dot, const T* variance, const T* weight) {
    const double n = double(std::max<int64_t>(s.per_channel(), 1));
    const double rstd = 1 / sqrt(double(variance[j]) + s.eps),
                 scale = (weight ? double(weight[j]) : 1) * rstd;
    slope = T(-scale * rstd * rstd * dot / n);
    level = T(-scale * sum / n);
    dweight = T(dot * rstd);
    dbias = T(sum);
  }
};

// Both passes over one channel, then over the next; without y the statistics alone.
template <typename T>
int32_t by_channel(const Batch& s, const T* x, const T* weight, const T* bias, T* y, T* mean, T* variance) {
  const int64_t parts = s.parts(), step = s.c * s.inner;
  each_part(parts, [&](int64_t part) {
    const Range range = part_of(s.c, part, parts);
    for (int64_t j = range.begin; j < range.end; j++) {
      const int64_t at = j * s.inner;
      set_moments(j, run_moments(s.outer, step, s.inner, x + at), mean, variance);
      if (!y) continue;
      const NormRun<T> run = forward_run(s, j, mean, variance, weight, bias);
      norm_table<T>().scale_runs(s.outer, step, s.inner, x + at, run, s.relu, y + at);
    }
  });
  return kOk;
}

template <typename T>
int32_t backward_by_channel(const Batch& s, const T* g, const T* x, const T* mean, const T* variance,
                            const T* weight, const T* bias, T* dx, T* dweight, T* dbias) {
  const NormTable<T>& table = norm_table<T>();
  const int64_t parts = s.parts(), step = s.c * s.inner;
  T* row = nullptr;
  if (s.single && !lay_out(kScratchNorm, [&](Arena& arena) { row = arena.take<T>(s.inner); })) {
    return out_of_memory();
  }
  const Incoming<T> in(g, s.single, row, s.inner);
  each_part(parts, [&](int64_t part) {
    const Range range = part_of(s.c, part, parts);
    for (int64_t j = range.begin; j < range.end; j++) {
      const NormRun<T> run = forward_run(s, j, mean, variance, weight, bias);
      const int64_t at = j * s.inner;
      double sum = 0, dot = 0;
      table.dot_runs(s.outer, step, s.inner, in.at(at), in.step(step), x + at, run, s.relu, &sum, &dot);
      const Backward<T> b(s, j, sum, dot, variance, weight);
      dweight[j] = b.dweight, dbias[j] = b.dbias;
      table.grad_runs(s.outer, step, s.inner, in.at(at), in.step(step), x + at, run, b.slope, b.level, s.relu,
                      dx + at);
    }
  });
  return kOk;
}

// Without y the statistics alone.
template <typename T>
int32_t batch_norm(const double* desc, const T* x, const T* weight, const T* bias, T* y, T* mean,
                   T* variance) {
  const Batch s(desc);
  if (s.by_channel()) return by_channel(s, x, weight, bias, y, mean, variance);
  const Columns by(s.c);
  BatchMemory<T> memory(s, by);
  if (!memory.take()) return out_of_memory();
  const int64_t parts = s.parts();
  std::fill(memory.moments, memory.moments + parts * s.c, Moments{});
  each_part(parts, [&](int64_t part) {
    const Range range = s.units(part, parts);
    Moments* mine = memory.moments + part * s.c;
    if (s.columns()) {
      column_moments(by, range.end - range.begin, x + range.begin * s.c, memory.work[part], mine);
      return;
    }
    for (int64_t i = range.begin; i < range.end; i++) {
      const Moments m = run_moments(1, 0, s.inner, x + i * s.inner);
      mine[i % s.c].merge(m.count, m.mean, m.m2);
    }
  });
  for (int64_t j = 0; j < s.c; j++) {
    Moments all = memory.moments[j];
    for (int64_t part = 1; part < parts; part++) {
      const Moments& m = memory.moments[part * s.c + j];
      all.merge(m.count, m.mean, m.m2);
    }
    set_moments(j, all, mean, variance);
  }
  if (!y) return kOk;
  set_forward(s, by, memory.parameters, mean, variance, weight, bias);
  batch_apply(s, by, memory.parameters, x, y);
  return kOk;
}

template <typename T>
int32_t batch_norm_eval(const double* desc, const T* x, const T* mean, const T* variance, const T* weight,
                        const T* bias, T* y) {
  const Batch s(desc);
  const Columns by(s.c);
  BatchMemory<T> memory(s, by);
  if (!memory.take()) return out_of_memory();
  set_forward(s, by, memory.parameters, mean, variance, weight, bias);
  batch_apply(s, by, memory.parameters, x, y);
  return kOk;
}

template <typename T>
int32_t batch_norm_backward(const double* desc, const T* g, const T* x, const T* mean, const T* variance,
                            const T* weight, const T* bias, T* dx, T* dweight, T* dbias) {
  const Batch s(desc);
  if (s.by_channel()) return backward_by_channel(s, g, x, mean, variance, weight, bias, dx, dweight, dbias);
  const Columns by(s.c);
  const NormTable<T>& table = norm_table<T>();
  BatchMemory<T> memory(s, by);
  if (!memory.take()) return out_of_memory();
  const Parameters<T>& p = memory.parameters;
  const Incoming<T> in(g, s.single, memory.row, s.row(by));
  const int64_t parts = s.parts();
  set_forward(s, by, p, mean, variance, weight, bias);
  std::fill(memory.sum, memory.sum + parts * s.c, 0.0);
  std::fill(memory.dot, memory.dot + parts * s.c, 0.0);
  each_part(parts, [&](int64_t part) {
    const Range range = s.units(part, parts);
    double *sum = memory.sum + part * s.c, *dot = memory.dot + part * s.c;
    if (s.columns()) {
      column_dots(by, range.begin, range.end - range.begin, in, x, p, s.relu, memory.work[part], sum, dot);
      return;
    }
    for (int64_t i = range.begin; i < range.end; i++) {
      const int64_t j = i % s.c, at = i * s.inner;
      table.dot_runs(1, 0, s.inner, in.at(at), 0, x + at, p.run(j), s.relu, sum + j, dot + j);
    }
  });
  for (int64_t j = 0; j < s.c; j++) {
    double sum = 0, dot = 0;
    for (int64_t part = 0; part < parts; part++) {
      sum += memory.sum[part * s.c + j];
      dot += memory.dot[part * s.c + j];
    }
    const Backward<T> b(s, j, sum, dot, variance, weight);
    p.slope[j] = b.slope, p.level[j] = b.level, dweight[j] = b.dweight, dbias[j] = b.dbias;
  }
  if (s.columns()) p.tile(by);
  each_part(parts, [&](int64_t part) {
    const Range range = s.units(part, parts);
    if (s.columns()) {
      backwards(by, range, [&](int64_t at, int64_t rows, int64_t width) {
        table.grad_columns(rows, width, in.at(at), in.step(width), x + at, p.columns(), p.slope, p.level,
                           s.relu, dx + at);
      });
      return;
    }
    for (int64_t i = range.end - 1; i >= range.begin; i--) {
      const int64_t j = i % s.c, at = i * s.inner;
      table.grad_runs(1, 0, s.inner, in.at(at), 0, x + at, p.run(j), p.slope[j], p.level[j], s.relu, dx + at);
    }
  });
  return kOk;
}

template <typename T>
int32_t update_running_stats(const double* desc, T* running_mean, T* running_var, const T* mean,
                             const T* variance) {
  const int64_t c = int64_t(desc[0]);
  const double momentum = desc[1], unbiased = desc[2];
  for (int64_t j = 0; j < c; j++) {
    running_mean[j] = T((1 - momentum) * double(running_mean[j]) + momentum * double(mean[j]));
    running_var[j] = T((1 - momentum) * double(running_var[j]) + momentum * (double(variance[j]) * unbiased));
  }
  return kOk;
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_batch_norm(const void* x, double x_off, const void* weight, double weight_off,
                                        const void* bias, double bias_off, void* y, double y_off, void* mean,
                                        double mean_off, void* variance, double variance_off, int32_t dtypes,
                                        double, const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return batch_norm(desc, at<T>(x, x_off), at<T>(weight, weight_off), at<T>(bias, bias_off),
                      at<T>(y, y_off), at<T>(mean, mean_off), at<T>(variance, variance_off));
  });
}

NEEDLE_EXPORT int32_t needle_batch_norm_stats(const void* x, double x_off, void* mean, double mean_off,
                                              void* variance, double variance_off, int32_t dtypes, double,
                                              const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return batch_norm<T>(desc, at<T>(x, x_off), nullptr, nullptr, nullptr, at<T>(mean, mean_off),
                         at<T>(variance, variance_off));
  });
}

NEEDLE_EXPORT int32_t needle_batch_norm_backward(const void* g, double g_off, const void* x, double x_off,
                                                 const void* mean, double mean_off, const void* variance,
                                                 double variance_off, const void* weight, double weight_off,
                                                 const void* bias, double bias_off, void* dx, double dx_off,
                                                 void* dweight, double dweight_off, void* dbias,
                                                 double dbias_off, int32_t dtypes, double,
                                                 const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return batch_norm_backward(desc, at<T>(g, g_off), at<T>(x, x_off), at<T>(mean, mean_off),
                               at<T>(variance, variance_off), at<T>(weight, weight_off),
                               at<T>(bias, bias_off), at<T>(dx, dx_off), at<T>(dweight, dweight_off),
                               at<T>(dbias, dbias_off));
  });
}

NEEDLE_EXPORT int32_t needle_batch_norm_eval(const void* x, double x_off, const void* mean, double mean_off,
                                             const void* variance, double variance_off, const void* weight,
                                             double weight_off, const void* bias, double bias_off, void* y,
                                             double y_off, int32_t dtypes, double,
                                             const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return batch_norm_eval(desc, at<T>(x, x_off), at<T>(mean, mean_off), at<T>(variance, variance_off),
                           at<T>(weight, weight_off), at<T>(bias, bias_off), at<T>(y, y_off));
  });
}

NEEDLE_EXPORT int32_t needle_update_running_stats(void* running_mean, double running_mean_off,
                                                  void* running_var, double running_var_off, const void* mean,
                                                  double mean_off, const void* variance, double variance_off,
                                                  int32_t dtypes, double, const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return update_running_stats(desc, at<T>(running_mean, running_mean_off),
                                at<T>(running_var, running_var_off), at<T>(mean, mean_off),
                                at<T>(variance, variance_off));
  });
}
