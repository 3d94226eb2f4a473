// Softmax, its logarithm and log-sum-exp along the middle dim of [outer, size, inner], with their gradients.
// A team reads a line once for its largest element and Σ exp(x - largest) together (Milakov & Gimelshein
// 2018), and again, from the cache, to write the results.
#include "elementwise.h"
#include "softmax.h"

namespace needle {
namespace {

// Element k of line i lies at start(i) + k * step.
struct Layout {
  int64_t lines, size, inner;

  explicit Layout(const double* desc)
      : lines(int64_t(desc[0]) * int64_t(desc[2])), size(int64_t(desc[1])), inner(int64_t(desc[2])) {}
  NEEDLE_DEVICE int64_t start(int64_t line) const {
    return inner == 1 ? line * size : line / inner * size * inner + line % inner;
  }
};

template <typename T>
__global__ void softmax(const T* x, T* y, Layout s, Team team, bool log) {
  const int64_t line = team.line(), size = line < s.lines ? s.size : 0;
  const int64_t start = size > 0 ? s.start(line) : 0;
  const T* const from = x + start;
  const Exponentials all = exponentials(team, from, size, s.inner);
  const T largest = T(all.largest), log_sum = T(functions::log(all.sum)), scale = T(1 / all.sum);
  for (int64_t k = team.lane(); k < size; k += team.lanes) {
    const T v = from[k * s.inner] - largest;
    y[start + k * s.inner] = log ? v - log_sum : functions::exp(v) * scale;
  }
}

template <typename T>
__global__ void log_sum_exp(const T* x, T* y, Layout s, Team team) {
  const int64_t line = team.line(), size = line < s.lines ? s.size : 0;
  const T* const from = x + (size > 0 ? s.start(line) : 0);
  const Exponentials all = exponentials(team, from, size, s.inner);
  if (line < s.lines && team.lane() == 0) {
    const bool infinite = all.largest == INFINITY || all.largest == -INFINITY;
    y[line] = T(infinite ? all.largest : all.largest + functions::log(all.sum));
  }
}

// dx = y (g - Σ g y), or g - exp(y) Σ g of the logarithm.
template <typename T>
__global__ void softmax_backward(const T* g, const T* y, T* dx, Layout s, Team team, bool log) {
  const int64_t line = team.line(), size = line < s.lines ? s.size : 0;
  const int64_t start = size > 0 ? s.start(line) : 0;
  double sum = 0;
  each_run<4>(0, size, team.lane(), team.lanes, [&](int64_t at, int n) {
    T some = 0;
    for (int i = 0; i < 4; i++) {
      const int64_t k = start + (at + int64_t(i) * team.lanes) * s.inner;
      if (i < n) some += log ? g[k] : g[k] * y[k];
    }
    sum += double(some);
  });
  const T all = T(combine(team, sum, Plus()));
  for (int64_t k = team.lane(); k < size; k += team.lanes) {
    const int64_t i = start + k * s.inner;
    dx[i] = log ? g[i] - functions::exp(y[i]) * all : y[i] * (g[i] - all);
  }
}

// Calls f(zero of T, layout, team, blocks) where there is something to do.
template <typename F>
int32_t each_line(int32_t dtypes, const double* desc, const F& f) {
  const Layout s(desc);
  if (s.lines == 0) return kOk;
  const Team team = team_for(s.lines, s.size, s.inner);
  const int64_t blocks = blocks_for(team, s.lines);
  if (blocks > kMaxBlocks) return too_many_blocks();
  return with_float(main_dtype(dtypes), [&](auto zero) {
    f(zero, s, team, unsigned(blocks));
    return launched("starting a kernel");
  });
}

int32_t forward(const void* x, double x_off, void* y, double y_off, int32_t dtypes, const double* desc,
                bool log) {
  return each_line(dtypes, desc, [&](auto zero, const Layout& s, const Team& team, unsigned blocks) {
    typedef decltype(zero) T;
    NEEDLE_LAUNCH((softmax<T>), blocks, kThreads, 0, stream(), at<T>(x, x_off), at<T>(y, y_off), s, team,
                  log);
  });
}

int32_t backward(const void* g, double g_off, const void* y, double y_off, void* dx, double dx_off,
                 int32_t dtypes, const double* desc, bool log) {
  return each_line(dtypes, desc, [&](auto zero, const Layout& s, const Team& team, unsigned blocks) {
    typedef decltype(zero) T;
    NEEDLE_LAUNCH((softmax_backward<T>), blocks, kThreads, 0, stream(), at<T>(g, g_off), at<T>(y, y_off),
                  at<T>(dx, dx_off), s, team, log);
  });
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_softmax(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                     double, const double* desc) noexcept {
  return forward(x, x_off, y, y_off, dtypes, desc, false);
}

NEEDLE_EXPORT int32_t needle_log_softmax(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                         double, const double* desc) noexcept {
  return forward(x, x_off, y, y_off, dtypes, desc, true);
}

NEEDLE_EXPORT int32_t needle_softmax_backward(const void* g, double g_off, const void* y, double y_off,
                                              void* dx, double dx_off, int32_t dtypes, double,
                                              const double* desc) noexcept {
  return backward(g, g_off, y, y_off, dx, dx_off, dtypes, desc, false);
}

NEEDLE_EXPORT int32_t needle_log_softmax_backward(const void* g, double g_off, const void* y, double y_off,
                                                  void* dx, double dx_off, int32_t dtypes, double,
                                                  const double* desc) noexcept {
  return backward(g, g_off, y, y_off, dx, dx_off, dtypes, desc, true);
}

NEEDLE_EXPORT int32_t needle_logsumexp(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                       double, const double* desc) noexcept {
  return each_line(dtypes, desc, [&](auto zero, const Layout& s, const Team& team, unsigned blocks) {
    typedef decltype(zero) T;
    NEEDLE_LAUNCH((log_sum_exp<T>), blocks, kThreads, 0, stream(), at<T>(x, x_off), at<T>(y, y_off), s, team);
  });
}
