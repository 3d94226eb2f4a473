// Kernels that put tensors into frames (pad) or cut matrices at a diagonal (triangle). Elements are moved as
// bits of their size. `fill` and the strided copies are in copy.cu.
#include <string.h>

#include "device.h"

namespace needle {
namespace {

enum PadMode : int { kConstant, kReflect, kReplicate, kCircular };

// Division of any position, for tensors too large for Divisor.
struct LongDivisor {
  int64_t divisor;
  void set(uint64_t d) { divisor = int64_t(d); }
  NEEDLE_DEVICE int64_t divide(int64_t n) const { return n / divisor; }
};

// Dims from outermost to innermost in the memory of y.
template <typename D>
struct Padding {
  int mode, ndim;
  D padded[kMaxDims];
  int64_t size[kMaxDims], before[kMaxDims], stride[kMaxDims];
};

// Where element i of a padded dim comes from, or -1.
NEEDLE_DEVICE int64_t source(int mode, int64_t i, int64_t size) {
  if (i >= 0 && i < size) return i;
  if (mode == kReplicate) return i < 0 ? 0 : size - 1;
  if (mode == kCircular) return i < 0 ? i + size : i - size;
  if (mode == kReflect) return i < 0 ? -i : 2 * (size - 1) - i;
  return -1;
}

template <typename T, typename D, typename I>
__global__ void pad(const T* x, T* y, I n, Padding<D> p, T value) {
  const I step = I(gridDim.x) * blockDim.x;
  for (I at = I(blockIdx.x) * blockDim.x + threadIdx.x; at < n; at += step) {
    I rest = at;
    int64_t from = 0;
    bool inside = true;
    for (int d = p.ndim - 1; d >= 0 && inside; d--) {
      const I above = I(p.padded[d].divide(rest));
      const int64_t i =
          source(p.mode, int64_t(rest - above * I(p.padded[d].divisor)) - p.before[d], p.size[d]);
      inside = i >= 0;
      from += i * p.stride[d];
      rest = above;
    }
    y[at] = inside ? x[from] : value;
  }
}

template <typename T, typename D, typename I>
void launch_pad(const T* x, T* y, int64_t n, const double* desc, T value) {
  Padding<D> p;
  p.mode = int(desc[0]);
  p.ndim = int(desc[2]);
  const double *size = desc + 3, *before = size + p.ndim, *after = before + p.ndim, *stride = after + p.ndim;
  for (int d = 0; d < p.ndim; d++) {
    p.padded[d].set(uint32_t(size[d] + before[d] + after[d]));
    p.size[d] = int64_t(size[d]);
    p.before[d] = int64_t(before[d]);
    p.stride[d] = int64_t(stride[d]);
  }
  NEEDLE_LAUNCH((pad<T, D, I>), grid_for(n), kThreads, 0, stream(), x, y, I(n), p, value);
}

// Pads elements of type T, moved as `Bits`. Integers wrap, by way of `Wide`.
template <typename Bits, typename T, typename Wide = T>
int32_t pad_as(const void* x, double x_off, void* y, double y_off, double n, const double* desc) {
  if (desc[2] > kMaxDims) return too_many_dims(int64_t(desc[2]));
  const T value = T(Wide(desc[1]));
  Bits bits;
  memcpy(&bits, &value, sizeof bits);
  if (n < 0x1p31) {
    launch_pad<Bits, Divisor, uint32_t>(at<Bits>(x, x_off), at<Bits>(y, y_off), int64_t(n), desc, bits);
  } else {
    launch_pad<Bits, LongDivisor, int64_t>(at<Bits>(x, x_off), at<Bits>(y, y_off), int64_t(n), desc, bits);
  }
  return launched("starting a kernel");
}

// A block per row, of all matrices one after the other.
template <typename T>
__global__ void triangle(const T* x, T* y, int64_t all_rows, int64_t rows, int64_t columns, int64_t diagonal,
                         bool upper) {
  for (int64_t row = blockIdx.x; row < all_rows; row += gridDim.x) {
    // Columns from here on are past the diagonal (upper: not before it).
    const int64_t cut = row % rows + diagonal + (upper ? 0 : 1);
    for (int64_t j = threadIdx.x; j < columns; j += blockDim.x) {
      const int64_t i = row * columns + j;
      y[i] = (j < cut) != upper ? x[i] : T(0);
    }
  }
}

template <typename T>
int32_t launch_triangle(const void* x, double x_off, void* y, double y_off, double n, const double* desc) {
  const int64_t columns = int64_t(desc[1]), all_rows = int64_t(n) / columns;
  const int block = columns >= kThreads ? kThreads : 32;
  NEEDLE_LAUNCH((triangle<T>), grid_for(all_rows * kThreads), block, 0, stream(), at<T>(x, x_off),
                at<T>(y, y_off), all_rows, int64_t(desc[0]), columns, int64_t(desc[2]), desc[3] != 0);
  return launched("starting a kernel");
}

int32_t no_kernel(DType dtype) { return fail(kInternal, "no kernel for %s", dtype_name(dtype)); }

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_pad(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double n,
                                 const double* desc) noexcept {
  if (n == 0) return kOk;
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return pad_as<uint32_t, float>(x, x_off, y, y_off, n, desc);
    case kFloat64:
      return pad_as<uint64_t, double>(x, x_off, y, y_off, n, desc);
    case kInt32:
      return pad_as<uint32_t, int32_t, int64_t>(x, x_off, y, y_off, n, desc);
    case kInt64:
      return pad_as<uint64_t, int64_t>(x, x_off, y, y_off, n, desc);
    case kUint8:
      return pad_as<uint8_t, uint8_t, int64_t>(x, x_off, y, y_off, n, desc);
    case kBool:
      return pad_as<uint8_t, bool>(x, x_off, y, y_off, n, desc);
    default:
      return no_kernel(main_dtype(dtypes));
  }
}

NEEDLE_EXPORT int32_t needle_triangle(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                      double n, const double* desc) noexcept {
  if (n == 0) return kOk;
  switch (dtype_bytes(main_dtype(dtypes))) {
    case 1:
      return launch_triangle<uint8_t>(x, x_off, y, y_off, n, desc);
    case 2:
      return launch_triangle<uint16_t>(x, x_off, y, y_off, n, desc);
    case 4:
      return launch_triangle<uint32_t>(x, x_off, y, y_off, n, desc);
    default:
      return launch_triangle<uint64_t>(x, x_off, y, y_off, n, desc);
  }
}
