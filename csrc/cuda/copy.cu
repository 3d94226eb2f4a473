// Copies between layouts, conversions between dtypes, and fill. A copy between memory orders that differ in
// the innermost dim goes through tiles in shared memory, so that both sides are read and written in rows.
#include "elementwise.h"

#include "../cpu/halves.h"

namespace needle {
namespace {

// --- Conversions: each dtype is a struct of its stored type ---

struct Float32 {
  using type = float;
  static constexpr bool is_float = true, is_integer = false;
};
struct Float64 {
  using type = double;
  static constexpr bool is_float = true, is_integer = false;
};
struct Float16 {
  using type = uint16_t;
  static constexpr bool is_float = true, is_integer = false;
};
struct Bfloat16 {
  using type = uint16_t;
  static constexpr bool is_float = true, is_integer = false;
};
struct Int32 {
  using type = int32_t;
  static constexpr bool is_float = false, is_integer = true;
};
struct Int64 {
  using type = int64_t;
  static constexpr bool is_float = false, is_integer = true;
};
struct Uint8 {
  using type = uint8_t;
  static constexpr bool is_float = false, is_integer = true;
};
struct Bool {
  using type = uint8_t;
  static constexpr bool is_float = false, is_integer = false;
};

// The value of an element in the type that the conversion starts from.
template <typename D>
NEEDLE_DEVICE typename D::type value_of(D, typename D::type x) {
  return x;
}
NEEDLE_DEVICE float value_of(Float16, uint16_t x) { return from_float16(x); }
NEEDLE_DEVICE float value_of(Bfloat16, uint16_t x) { return from_bfloat16(x); }

// To float so that rounding on to a half rounds once.
NEEDLE_DEVICE float narrow(float x) { return x; }
NEEDLE_DEVICE float narrow(double x) { return round_to_odd(x); }
NEEDLE_DEVICE float narrow(int32_t x) { return round_to_odd(double(x)); }
NEEDLE_DEVICE float narrow(int64_t x) { return round_to_odd(integer_to_odd(x)); }
NEEDLE_DEVICE float narrow(uint8_t x) { return float(x); }

template <typename D, typename V>
NEEDLE_DEVICE typename D::type stored(D, V x) {
  return typename D::type(x);
}
template <typename V>
NEEDLE_DEVICE uint16_t stored(Float16, V x) {
  return to_float16(narrow(x));
}
template <typename V>
NEEDLE_DEVICE uint16_t stored(Bfloat16, V x) {
  return to_bfloat16(narrow(x));
}
template <typename V>
NEEDLE_DEVICE uint8_t stored(Bool, V x) {
  return x != 0;
}
// Towards zero, then modulo the width.
template <typename V>
NEEDLE_DEVICE int32_t stored(Int32, V x) {
  return int32_t(int64_t(x));
}
template <typename V>
NEEDLE_DEVICE uint8_t stored(Uint8, V x) {
  return uint8_t(int64_t(x));
}

template <typename S, typename D>
struct Convert {
  Alarm* alarm;
  int32_t code;  // of D, for the message

  NEEDLE_DEVICE typename D::type operator()(typename S::type element) const {
    const auto x = value_of(S(), element);
    if constexpr (S::is_float && D::is_integer) {
      if (!(fabs(double(x)) < 0x1p63)) {
        raise(alarm, kNoIntegerValue, double(x), code);
        return typename D::type(0);
      }
    }
    return stored(D(), x);
  }
};

template <typename S, typename D>
int32_t convert(const void* a, double a_off, void* y, double y_off, int32_t code, double n,
                const double* desc) {
  const Argument<typename S::type> in{at<typename S::type>(a, a_off), 0};
  return run(at<typename D::type>(y, y_off), n, desc, Convert<S, D>{alarm(), code}, in);
}

template <typename S>
int32_t convert_from(const void* a, double a_off, void* y, double y_off, DType to, double n,
                     const double* desc) {
  switch (to) {
    case kFloat32:
      return convert<S, Float32>(a, a_off, y, y_off, to, n, desc);
    case kFloat64:
      return convert<S, Float64>(a, a_off, y, y_off, to, n, desc);
    case kFloat16:
      return convert<S, Float16>(a, a_off, y, y_off, to, n, desc);
    case kBfloat16:
      return convert<S, Bfloat16>(a, a_off, y, y_off, to, n, desc);
    case kInt32:
      return convert<S, Int32>(a, a_off, y, y_off, to, n, desc);
    case kInt64:
      return convert<S, Int64>(a, a_off, y, y_off, to, n, desc);
    case kUint8:
      return convert<S, Uint8>(a, a_off, y, y_off, to, n, desc);
    case kBool:
      return convert<S, Bool>(a, a_off, y, y_off, to, n, desc);
  }
  return no_kernel(to);
}

// --- Copies ---

struct Same {
  template <typename T>
  NEEDLE_DEVICE T operator()(T x) const {
    return x;
  }
};

constexpr int kTile = 32, kTileRows = 8;

// Matrices of `rows` by `cols`, rows contiguous in y and columns in x, at the offsets that `outer` gives.
template <typename T>
__global__ void transpose(const T* x, T* y, Dims<2> outer, uint32_t rows, uint32_t cols, int64_t x_step,
                          int64_t y_step, uint32_t across, uint32_t down) {
  NEEDLE_SHARED(T, tile, [kTile][kTile + 1]);
  const uint32_t j0 = blockIdx.x % across * kTile, i0 = blockIdx.x / across % down * kTile;
  int64_t base[2];
  outer.locate(blockIdx.x / across / down, base);
  for (uint32_t k = threadIdx.y; k < kTile; k += kTileRows) {
    const uint32_t i = i0 + threadIdx.x, j = j0 + k;
    if (i < rows && j < cols) tile[k][threadIdx.x] = x[base[0] + i + j * x_step];
  }
  __syncthreads();
  for (uint32_t k = threadIdx.y; k < kTile; k += kTileRows) {
    const uint32_t i = i0 + k, j = j0 + threadIdx.x;
    if (i < rows && j < cols) y[base[1] + i * y_step + j] = tile[threadIdx.x][k];
  }
}

// The dim in which x is contiguous, if it is another one than the last, in which y is; else -1.
int64_t transposed_dim(int64_t ndim, const double* shape, const double* x_strides, const double* y_strides) {
  const int64_t last = ndim - 1;
  if (y_strides[last] != 1 || x_strides[last] == 1 || x_strides[last] == 0) return -1;
  for (int64_t d = last - 1; d >= 0; d--) {
    if (x_strides[d] == 1 && shape[d] >= 8 && shape[last] >= 8) return d;
  }
  return -1;
}

template <typename T>
int32_t copy(const T* x, T* y, double n, const double* desc) {
  const int64_t ndim = desc ? int64_t(desc[0]) : 0;
  const double *shape = desc + 1, *x_strides = shape + ndim, *y_strides = x_strides + ndim;
  const int64_t row = ndim > 1 && ndim <= kMaxDims ? transposed_dim(ndim, shape, x_strides, y_strides) : -1;
  constexpr double kMost = 0x1p31;
  if (row < 0 || n >= kMost) return run(y, n, desc, Same(), Argument<T>{x, T(0)});
  const int64_t last = ndim - 1;
  Dims<2> outer;
  uint32_t matrices = 1;
  for (int64_t d = 0; d < last; d++) {
    if (d == row) continue;
    outer.size[outer.ndim].set(uint32_t(shape[d]));
    outer.stride[0][outer.ndim] = int64_t(x_strides[d]);
    outer.stride[1][outer.ndim++] = int64_t(y_strides[d]);
    matrices *= uint32_t(shape[d]);
  }
  const uint32_t rows = uint32_t(shape[row]), cols = uint32_t(shape[last]);
  const uint32_t across = (cols + kTile - 1) / kTile, down = (rows + kTile - 1) / kTile;
  NEEDLE_LAUNCH((transpose<T>), matrices * across * down, dim3(kTile, kTileRows), 0, stream(), x, y, outer,
                rows, cols, int64_t(x_strides[last]), int64_t(y_strides[row]), across, down);
  return launched("starting a kernel");
}

// Calls f with a zero of an unsigned type as wide as an element.
template <typename F>
int32_t with_bits(DType dtype, const F& f) {
  switch (dtype_bytes(dtype)) {
    case 1:
      return f(uint8_t(0));
    case 2:
      return f(uint16_t(0));
    case 4:
      return f(uint32_t(0));
    default:
      return f(uint64_t(0));
  }
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_copy(const void* a, double a_off, void* y, double y_off, int32_t dtypes,
                                  double n, const double* desc) noexcept {
  return with_bits(main_dtype(dtypes), [&](auto zero) {
    using T = decltype(zero);
    return copy(at<T>(a, a_off), at<T>(y, y_off), n, desc && desc[0] > 0 ? desc : nullptr);
  });
}

NEEDLE_EXPORT int32_t needle_cast(const void* a, double a_off, void* y, double y_off, int32_t dtypes,
                                  double n, const double* desc) noexcept {
  const DType from = main_dtype(dtypes), to = second_dtype(dtypes);
  if (from == to) return needle_copy(a, a_off, y, y_off, from, n, desc);
  switch (from) {
    case kFloat32:
      return convert_from<Float32>(a, a_off, y, y_off, to, n, desc);
    case kFloat64:
      return convert_from<Float64>(a, a_off, y, y_off, to, n, desc);
    case kFloat16:
      return convert_from<Float16>(a, a_off, y, y_off, to, n, desc);
    case kBfloat16:
      return convert_from<Bfloat16>(a, a_off, y, y_off, to, n, desc);
    case kInt32:
      return convert_from<Int32>(a, a_off, y, y_off, to, n, desc);
    case kInt64:
      return convert_from<Int64>(a, a_off, y, y_off, to, n, desc);
    case kUint8:
      return convert_from<Uint8>(a, a_off, y, y_off, to, n, desc);
    case kBool:
      return convert_from<Bool>(a, a_off, y, y_off, to, n, desc);
  }
  return no_kernel(from);
}

NEEDLE_EXPORT int32_t needle_fill(void* y, double y_off, int32_t dtypes, double n,
                                  const double* desc) noexcept {
  const DType dtype = main_dtype(dtypes);
  return with_bits(dtype, [&](auto zero) {
    using T = decltype(zero);
    Argument<T> value{nullptr, zero};
    store_number(desc[0], dtype, false, &value.value);
    // As a copy of a number: its strides are all zero.
    const int64_t ndim = int64_t(desc[1]);
    if (ndim == 0) return run(at<T>(y, y_off), n, nullptr, Same(), value);
    if (ndim > kMaxDims) return too_many_dims(ndim);
    double layout[1 + 3 * kMaxDims] = {double(ndim)};
    for (int64_t d = 0; d < ndim; d++) {
      layout[1 + d] = desc[2 + d];
      layout[1 + 2 * ndim + d] = desc[2 + ndim + d];
    }
    return run(at<T>(y, y_off), n, layout, Same(), value);
  });
}
