// Running sums and products along the middle dim of [outer, size, inner]; floats run in double.
#include <algorithm>

#include "../common.h"

namespace needle {
namespace {

constexpr int64_t kColumns = 256;

template <typename T>
struct Running {
  typedef double type;
};
template <>
struct Running<int64_t> {
  typedef int64_t type;
};

struct Sum {
  static constexpr int start = 0;
  template <typename A>
  static A next(A a, A b) {
    return a + b;
  }
};

struct Product {
  static constexpr int start = 1;
  template <typename A>
  static A next(A a, A b) {
    return a * b;
  }
};

// Calls f(offset, width) for lines side by side: a step costs about 2 additions.
template <typename F>
void each_piece(const double* desc, const F& f) {
  const int64_t outer = int64_t(desc[0]), size = int64_t(desc[1]), inner = int64_t(desc[2]);
  const int64_t width = std::min(inner, kColumns), tiles = inner == 0 ? 0 : (inner + width - 1) / width;
  const int64_t grain = std::max<int64_t>(1, kGrain / (2 * std::max<int64_t>(1, size * width)));
  parallel_for(outer * tiles, grain, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; piece++) {
      const int64_t c = piece % tiles * width;
      f(piece / tiles * size * inner + c, std::min(width, inner - c));
    }
  });
}

template <class Op, typename T>
void scan(const T* x, T* y, const double* desc, bool reverse) {
  typedef typename Running<T>::type A;
  const int64_t size = int64_t(desc[1]), inner = int64_t(desc[2]);
  const int64_t step = reverse ? -inner : inner;
  if (size == 0) return;
  each_piece(desc, [&](int64_t at, int64_t width) {
    if (reverse) at += (size - 1) * inner;
    if (width == 1) {
      A running = A(Op::start);
      for (int64_t k = 0; k < size; k++, at += step) {
        running = Op::next(running, A(x[at]));
        y[at] = T(running);
      }
      return;
    }
    A running[kColumns];
    std::fill(running, running + width, A(Op::start));
    for (int64_t k = 0; k < size; k++, at += step) {
      const T* from = x + at;
      T* to = y + at;
      for (int64_t j = 0; j < width; j++) {
        running[j] = Op::next(running[j], A(from[j]));
        to[j] = T(running[j]);
      }
    }
  });
}

template <class Op>
int32_t scan_any(const void* x, double x_off, void* y, double y_off, int32_t dtypes, const double* desc,
                 bool reverse) {
  switch (main_dtype(dtypes)) {
    case kFloat32:
      scan<Op>(at<float>(x, x_off), at<float>(y, y_off), desc, reverse);
      return kOk;
    case kFloat64:
      scan<Op>(at<double>(x, x_off), at<double>(y, y_off), desc, reverse);
      return kOk;
    case kInt64:
      scan<Op>(at<int64_t>(x, x_off), at<int64_t>(y, y_off), desc, reverse);
      return kOk;
    default:
      return fail(kInvalid, "there is no kernel for %s", dtype_name(main_dtype(dtypes)));
  }
}

// dx_k = (x_0 ... x_{k-1}) s_k, where s_k = g_k + x_{k+1} s_{k+1}.
template <typename T>
int32_t cumprod_backward(const T* g, const T* x, T* dx, const double* desc) {
  const int64_t size = int64_t(desc[1]), inner = int64_t(desc[2]);
  each_piece(desc, [&](int64_t first, int64_t width) {
    for (int64_t j = first; j < first + width; j++) {
      double s = 0, product = 1;
      for (int64_t k = size - 1; k >= 0; k--) {
        const int64_t i = j + k * inner;
        s = double(g[i]) + (k + 1 < size ? double(x[i + inner]) * s : 0);
        dx[i] = T(s);
      }
      for (int64_t k = 0; k < size; k++) {
        const int64_t i = j + k * inner;
        dx[i] = T(double(dx[i]) * product);
        product *= double(x[i]);
      }
    }
  });
  return kOk;
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_cumsum(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                    double, const double* desc) noexcept {
  return scan_any<Sum>(x, x_off, y, y_off, dtypes, desc, desc[3] != 0);
}

NEEDLE_EXPORT int32_t needle_cumprod(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                     double, const double* desc) noexcept {
  return scan_any<Product>(x, x_off, y, y_off, dtypes, desc, false);
}

NEEDLE_EXPORT int32_t needle_cumprod_backward(const void* g, double g_off, const void* x, double x_off,
                                              void* dx, double dx_off, int32_t dtypes, double,
                                              const double* desc) noexcept {
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return cumprod_backward(at<float>(g, g_off), at<float>(x, x_off), at<float>(dx, dx_off), desc);
    case kFloat64:
      return cumprod_backward(at<double>(g, g_off), at<double>(x, x_off), at<double>(dx, dx_off), desc);
    default:
      return fail(kInvalid, "there is no kernel for %s", dtype_name(main_dtype(dtypes)));
  }
}
