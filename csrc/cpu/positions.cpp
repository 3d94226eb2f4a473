// The extremes along the middle dim of [outer, size, inner] and their positions.
#include <algorithm>

#include "../common.h"
#include "kernels/reduce.h"

namespace needle {
namespace {

const ReduceKernels& kernels() {
  static const ReduceKernels* const table = select_kernels(reduce);
  return *table;
}

constexpr int64_t kColumns = 256;

ReduceType type_of(DType dtype) {
  switch (dtype) {
    case kFloat32:
      return kReduceFloat;
    case kFloat64:
      return kReduceDouble;
    case kInt64:
      return kReduceInt64;
    case kInt32:
      return kReduceInt32;
    case kUint8:
    case kBool:
      return kReduceUint8;
    default:
      return kReduceTypes;
  }
}

// Positions along the middle dim of [outer, size, inner], and the elements there where `values` is given.
int32_t positions(const PositionKernel* table, const void* x, double x_off, void* values, double values_off,
                  int64_t* indices, int32_t dtypes, const double* desc) {
  const DType dtype = main_dtype(dtypes);
  const ReduceType type = type_of(dtype);
  if (type == kReduceTypes) return fail(kInvalid, "there is no kernel for %s", dtype_name(dtype));
  const PositionKernel& kernel = table[type];
  const int64_t bytes = dtype_bytes(dtype);
  const int64_t outer = int64_t(desc[0]), size = int64_t(desc[1]), inner = int64_t(desc[2]);
  const char* from = static_cast<const char*>(x) + int64_t(x_off) * bytes;
  char* to = values ? static_cast<char*>(values) + int64_t(values_off) * bytes : nullptr;
  if (outer == 0 || inner == 0 || size == 0) return kOk;
  const int64_t width = inner < kColumns ? inner : kColumns, tiles = (inner + width - 1) / width;
  parallel_for(outer * tiles, std::max<int64_t>(1, kGrain / (size * width)), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t o = task / tiles, c = task % tiles * width, n = std::min(width, inner - c);
      const char* block = from + (o * size * inner + c) * bytes;
      int64_t* at = indices + o * inner + c;
      if (inner == 1) *at = kernel.row(block, size);
      else kernel.columns(block, size, inner, n, at);
      if (!to) continue;
      for (int64_t j = 0; j < n; j++) {
        const char* element = block + (at[j] * inner + j) * bytes;
        std::copy(element, element + bytes, to + (o * inner + c + j) * bytes);
      }
    }
  });
  return kOk;
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_max(const void* x, double x_off, void* values, double values_off, void* indices,
                                 double indices_off, int32_t dtypes, double, const double* desc) noexcept {
  return positions(kernels().argmax, x, x_off, values, values_off, at<int64_t>(indices, indices_off), dtypes,
                   desc);
}

NEEDLE_EXPORT int32_t needle_min(const void* x, double x_off, void* values, double values_off, void* indices,
                                 double indices_off, int32_t dtypes, double, const double* desc) noexcept {
  return positions(kernels().argmin, x, x_off, values, values_off, at<int64_t>(indices, indices_off), dtypes,
                   desc);
}

NEEDLE_EXPORT int32_t needle_argmax(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                    double, const double* desc) noexcept {
  return positions(kernels().argmax, x, x_off, nullptr, 0, at<int64_t>(y, y_off), dtypes, desc);
}

NEEDLE_EXPORT int32_t needle_argmin(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                    double, const double* desc) noexcept {
  return positions(kernels().argmin, x, x_off, nullptr, 0, at<int64_t>(y, y_off), dtypes, desc);
}
