// Softmax, its logarithm and log-sum-exp along the middle dim of [outer, size, inner], split over threads.
#include <math.h>
#include <algorithm>

#include "../common.h"
#include "kernels/softmax.h"

namespace needle {
namespace {

template <typename T>
const SoftmaxTable<T>& table();
template <>
const SoftmaxTable<float>& table<float>() {
  return select_kernels(softmax)->f32;
}
template <>
const SoftmaxTable<double>& table<double>() {
  return select_kernels(softmax)->f64;
}

constexpr int64_t kColumns = 128;

// Calls row(offset) for each row, or columns(offset, n) for pieces of rows where inner dims follow. An
// element costs about 8 additions.
template <typename Row, typename Columns>
void each_piece(const double* desc, const Row& row, const Columns& columns) {
  const int64_t outer = int64_t(desc[0]), size = int64_t(desc[1]), inner = int64_t(desc[2]);
  const int64_t width = std::min(inner, kColumns), tiles = inner == 0 ? 0 : (inner + width - 1) / width;
  const int64_t grain = std::max<int64_t>(1, kGrain / (8 * std::max<int64_t>(1, size * width)));
  parallel_for(outer * tiles, grain, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; piece++) {
      const int64_t o = piece / tiles, c = piece % tiles * width;
      if (inner == 1) row(o, o * size);
      else columns(o * inner + c, o * size * inner + c, std::min(width, inner - c));
    }
  });
}

template <typename T>
void run_softmax(const T* x, T* y, const double* desc, bool log) {
  const SoftmaxTable<T>& k = table<T>();
  const int64_t size = int64_t(desc[1]), inner = int64_t(desc[2]);
  if (size == 0) return;
  each_piece(
      desc, [&](int64_t, int64_t at) { k.softmax(x + at, size, y + at, log); },
      [&](int64_t, int64_t at, int64_t n) { k.softmax_columns(x + at, size, inner, n, y + at, log); });
}

template <typename T>
void run_log_sum_exp(const T* x, T* y, const double* desc) {
  const SoftmaxTable<T>& k = table<T>();
  const int64_t size = int64_t(desc[1]), inner = int64_t(desc[2]);
  each_piece(
      desc,
      [&](int64_t line, int64_t at) {
        T largest;
        double sum;
        k.sums(x + at, size, &largest, &sum);
        y[line] = isinf(largest) ? largest : T(double(largest) + log(sum));
      },
      [&](int64_t line, int64_t at, int64_t n) { k.log_sum_exp_columns(x + at, size, inner, n, y + line); });
}

template <typename T>
void run_backward(const T* g, const T* y, T* dx, const double* desc, bool log) {
  const SoftmaxTable<T>& k = table<T>();
  const auto rows = log ? k.log_softmax_backward : k.softmax_backward;
  const auto columns = log ? k.log_softmax_backward_columns : k.softmax_backward_columns;
  const int64_t size = int64_t(desc[1]), inner = int64_t(desc[2]);
  if (size == 0) return;
  each_piece(
      desc, [&](int64_t, int64_t at) { rows(g + at, y + at, size, dx + at); },
      [&](int64_t, int64_t at, int64_t n) { columns(g + at, y + at, size, inner, n, dx + at); });
}

int32_t no_kernel(int32_t dtypes) {
  return fail(kInvalid, "there is no kernel for %s", dtype_name(main_dtype(dtypes)));
}

int32_t forward(const void* x, double x_off, void* y, double y_off, int32_t dtypes, const double* desc,
                bool log) {
  switch (main_dtype(dtypes)) {
    case kFloat32:
      run_softmax(at<float>(x, x_off), at<float>(y, y_off), desc, log);
      return kOk;
    case kFloat64:
      run_softmax(at<double>(x, x_off), at<double>(y, y_off), desc, log);
      return kOk;
    default:
      return no_kernel(dtypes);
  }
}

int32_t backward(const void* g, double g_off, const void* y, double y_off, void* dx, double dx_off,
                 int32_t dtypes, const double* desc, bool log) {
  switch (main_dtype(dtypes)) {
    case kFloat32:
      run_backward(at<float>(g, g_off), at<float>(y, y_off), at<float>(dx, dx_off), desc, log);
      return kOk;
    case kFloat64:
      run_backward(at<double>(g, g_off), at<double>(y, y_off), at<double>(dx, dx_off), desc, log);
      return kOk;
    default:
      return no_kernel(dtypes);
  }
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
  switch (main_dtype(dtypes)) {
    case kFloat32:
      run_log_sum_exp(at<float>(x, x_off), at<float>(y, y_off), desc);
      return kOk;
    case kFloat64:
      run_log_sum_exp(at<double>(x, x_off), at<double>(y, y_off), desc);
      return kOk;
    default:
      return no_kernel(dtypes);
  }
}
