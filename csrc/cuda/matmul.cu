// needle_matmul and needle_linear: strided and batched matrix products by cuBLAS where it is loaded, else by
// the tiles of gemm.h. Integers wrap: they run as the unsigned type of their width. Halves are cuBLAS's
// alone.
#include <algorithm>

#include "blas.h"
#include "elementwise.h"
#include "gemm.h"
#include "matmul.h"

namespace needle {
namespace {

template <typename T>
int32_t multiply_all(const Gemm<T>& g) {
  if constexpr (std::is_same_v<T, float>) {
    // Large tiles read less; small ones are more, and waste less at the edges.
    const int64_t large = ceil_div(g.m, 128) * ceil_div(g.n, 128) * g.count;
    if (g.m > 64 && g.n > 64 && 2 * large >= multiprocessors()) {
      return multiply_by<TileProduct<T, 128, 128, 8>>(g);
    }
  }
  constexpr int V = vector_lanes<T>();
  return multiply_by<TileProduct<T, 64, 64, 4 * V>>(g);
}

// The shape of one operand's reads, with `others` the strides from matrix to matrix.
template <typename T>
Operand<T> operand(const T* p, double row, double depth, int64_t ndim, const double* others) {
  constexpr int V = vector_lanes<T>();
  Operand<T> x{p, int64_t(row), int64_t(depth), row != 1 || depth == 1, false};
  bool even = is_aligned(p, V * sizeof(T)) &&
              (x.along_depth ? x.depth == 1 && x.row % V == 0 : x.row == 1 && x.depth % V == 0);
  for (int64_t d = 0; d < ndim; d++) even = even && int64_t(others[d]) % V == 0;
  x.vector = even;
  return x;
}

template <typename T>
int32_t product(const T* a, const T* b, const T* bias, T* c, const double* desc) {
  constexpr double kMost = double((int64_t(1) << 31) - 256);
  Gemm<T> g{};
  const int64_t ndim = int64_t(desc[7]);
  const double *shape = desc + 8, *strides = shape + ndim;
  double count = 1;
  for (int64_t d = 0; d < ndim; d++) count *= shape[d];
  if (desc[0] > kMost || desc[1] > kMost || desc[2] > kMost || count > kMost) {
    return fail(kInvalid, "matrices of more than 2^31 rows or columns have no kernel");
  }
  if (desc[0] * desc[1] * count == 0) return kOk;
  if (ndim > kMaxDims) return too_many_dims(ndim);
  g.m = int(desc[0]), g.n = int(desc[1]), g.k = int(desc[2]);
  g.a = operand(a, desc[3], desc[4], ndim, strides);
  g.b = operand(b, desc[6], desc[5], ndim, strides + ndim);
  g.c = c;
  g.bias = bias;
  g.count = int64_t(count);
  g.batch.ndim = int(ndim);
  for (int64_t d = 0; d < ndim; d++) {
    g.batch.size[d].set(uint32_t(shape[d]));
    for (int k = 0; k < 2; k++) g.batch.stride[k][d] = int64_t(strides[k * ndim + d]);
  }
  return multiply_all(g);
}

}  // namespace

int32_t multiply_matrices(DType dtype, const void* a, const void* b, const void* bias, void* c,
                          const double* desc) {
  const int32_t status = blas_multiply(dtype, a, b, bias, c, desc);
  if (status != kDeclined || is_half(dtype)) return status;
  const auto as = [&](auto zero) {
    typedef decltype(zero) T;
    return product<T>(static_cast<const T*>(a), static_cast<const T*>(b), static_cast<const T*>(bias),
                      static_cast<T*>(c), desc);
  };
  switch (dtype) {
    case kInt32:
      return as(uint32_t(0));
    case kInt64:
      return as(uint64_t(0));
    case kUint8:
      return as(uint8_t(0));
    default:
      return with_float(dtype, as);
  }
}

}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_matmul(const void* a, double a_off, const void* b, double b_off, void* out,
                                    double out_off, int32_t dtypes, double, const double* desc) noexcept {
  const DType dtype = main_dtype(dtypes);
  const double bytes = double(dtype_bytes(dtype));
  return multiply_matrices(dtype, at<char>(a, a_off * bytes), at<char>(b, b_off * bytes), nullptr,
                           at<char>(out, out_off * bytes), desc);
}

NEEDLE_EXPORT int32_t needle_linear(const void* x, double x_off, const void* w, double w_off,
                                    const void* bias, double bias_off, void* y, double y_off, int32_t dtypes,
                                    double, const double* desc) noexcept {
  const DType dtype = main_dtype(dtypes);
  const double bytes = double(dtype_bytes(dtype)), rows = desc[0], in = desc[1], out = desc[2];
  const double as_product[] = {rows, out, in, in, 1, 1, in, 0};
  return multiply_matrices(dtype, at<char>(x, x_off * bytes), at<char>(w, w_off * bytes),
                           at<char>(bias, bias_off * bytes), at<char>(y, y_off * bytes), as_product);
}
