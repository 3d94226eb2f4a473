// Layer norm and RMS norm and their gradients: rows are normalised by themselves.
#include "norm_support.h"

namespace needle {
namespace {

template <typename T>
struct Affine {
  const T *weight, *bias;
};

// Weight and bias, or ones and zeros in scratch memory where there are none; null when memory is out.
template <typename T>
Affine<T> affine_or_default(int64_t cols, const T* weight, const T* bias) {
  if (weight && bias) return {weight, bias};
  T *ones, *zeros;
  if (!lay_out(kScratchNorm,
               [&](Arena& arena) { ones = arena.take<T>(cols + 1), zeros = arena.take<T>(cols + 1); })) {
    return {nullptr, nullptr};
  }
  std::fill(ones, ones + cols, T(1));
  std::fill(zeros, zeros + cols, T(0));
  return {weight ? weight : ones, bias ? bias : zeros};
}

template <typename T>
int32_t norm_rows(const double* desc, const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd) {
  const int64_t rows = int64_t(desc[0]), cols = int64_t(desc[1]);
  const Affine<T> affine = affine_or_default(cols, weight, bias);
  if (!affine.weight) return out_of_memory();
  parallel_for(
      rows, std::max<int64_t>(1, kGrain / 2 / std::max<int64_t>(cols, 1)), [&](int64_t begin, int64_t end) {
        norm_table<T>().norm_rows(end - begin, cols, x + begin * cols, affine.weight, affine.bias, desc[2],
                                  y + begin * cols, mean ? mean + begin : nullptr, rstd + begin);
      });
  return kOk;
}

template <typename T>
int32_t grad_rows(const double* desc, const T* g, const T* x, const T* mean, const T* rstd, const T* weight,
                  T* dx, T* dweight, T* dbias) {
  constexpr int64_t kRows = 64;  // summed in T before they go into a double
  const int64_t rows = int64_t(desc[0]), cols = int64_t(desc[1]);
  const int64_t parts = std::min(part_count(2 * rows * cols), std::max<int64_t>(rows, 1));
  const bool single = desc[3] != 0;  // g is one element for all
  T *ones, *block, *row;
  double* totals;
  const bool room = lay_out(kScratchNorm, [&](Arena& arena) {
    ones = arena.take<T>(cols + 1);
    block = arena.take<T>(parts * 2 * cols + 1);
    totals = arena.take<double>(parts * 2 * cols + 1);
    row = arena.take<T>(single ? cols : 0);
  });
  if (!room) return out_of_memory();
  std::fill(ones, ones + cols, T(1));
  const Incoming<T> in(g, single, row, cols);
  each_part(parts, [&](int64_t part) {
    const Range range = part_of(rows, part, parts);
    T* mine = block + part * 2 * cols;
    double* total = totals + part * 2 * cols;
    std::fill(total, total + 2 * cols, 0.0);
    for (int64_t r = range.begin; r < range.end; r += kRows) {
      std::fill(mine, mine + 2 * cols, T(0));
      norm_table<T>().grad_rows(std::min(kRows, range.end - r), cols, in.at(r * cols), in.step(cols),
                                x + r * cols, mean ? mean + r : nullptr, rstd + r, weight ? weight : ones,
                                dx + r * cols, mine, mine + cols);
      for (int64_t j = 0; j < 2 * cols; j++) total[j] += double(mine[j]);
    }
  });
  for (int64_t j = 0; j < cols; j++) {
    double dw = 0, db = 0;
    for (int64_t part = 0; part < parts; part++) {
      dw += totals[part * 2 * cols + j];
      db += totals[part * 2 * cols + cols + j];
    }
    dweight[j] = T(dw);
    if (dbias) dbias[j] = T(db);
  }
  return kOk;
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_layer_norm(const void* x, double x_off, const void* weight, double weight_off,
                                        const void* bias, double bias_off, void* y, double y_off, void* mean,
                                        double mean_off, void* rstd, double rstd_off, int32_t dtypes, double,
                                        const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return norm_rows(desc, at<T>(x, x_off), at<T>(weight, weight_off), at<T>(bias, bias_off), at<T>(y, y_off),
                     at<T>(mean, mean_off), at<T>(rstd, rstd_off));
  });
}

NEEDLE_EXPORT int32_t needle_layer_norm_backward(const void* g, double g_off, const void* x, double x_off,
                                                 const void* mean, double mean_off, const void* rstd,
                                                 double rstd_off, const void* weight, double weight_off,
                                                 void* dx, double dx_off, void* dweight, double dweight_off,
                                                 void* dbias, double dbias_off, int32_t dtypes, double,
                                                 const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return grad_rows(desc, at<T>(g, g_off), at<T>(x, x_off), at<T>(mean, mean_off), at<T>(rstd, rstd_off),
                     at<T>(weight, weight_off), at<T>(dx, dx_off), at<T>(dweight, dweight_off),
                     at<T>(dbias, dbias_off));
  });
}

NEEDLE_EXPORT int32_t needle_rms_norm(const void* x, double x_off, const void* weight, double weight_off,
                                      void* y, double y_off, void* rstd, double rstd_off, int32_t dtypes,
                                      double, const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return norm_rows<T>(desc, at<T>(x, x_off), at<T>(weight, weight_off), nullptr, at<T>(y, y_off), nullptr,
                        at<T>(rstd, rstd_off));
  });
}

NEEDLE_EXPORT int32_t needle_rms_norm_backward(const void* g, double g_off, const void* x, double x_off,
                                               const void* rstd, double rstd_off, const void* weight,
                                               double weight_off, void* dx, double dx_off, void* dweight,
                                               double dweight_off, int32_t dtypes, double,
                                               const double* desc) noexcept {
  return with_dtype(dtypes, [&](auto t) {
    typedef decltype(t) T;
    return grad_rows<T>(desc, at<T>(g, g_off), at<T>(x, x_off), nullptr, at<T>(rstd, rstd_off),
                        at<T>(weight, weight_off), at<T>(dx, dx_off), at<T>(dweight, dweight_off), nullptr);
  });
}
