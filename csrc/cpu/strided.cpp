// Copies between strided memory and contiguous tiles: see strided.h.
#include "strided.h"

#include <limits>

#include "halves.h"

namespace needle {
namespace {

template <typename T>
T to_integer(double value, bool saturate) {
  using Limits = std::numeric_limits<T>;
  if (value != value) return 0;
  if (saturate && value >= double(Limits::max())) return Limits::max();
  if (saturate && value <= double(Limits::min())) return Limits::min();
  if (value >= 0x1p63) return T(std::numeric_limits<int64_t>::max());
  if (value <= -0x1p63) return T(std::numeric_limits<int64_t>::min());
  return T(int64_t(value));
}

template <typename T>
void put(T value, void* out) {
  memcpy(out, &value, sizeof value);
}

}  // namespace

void gather(const Sizes& shape, const Sizes& strides, int64_t bytes, const void* base, int64_t position,
            int64_t count, void* tile) {
  with_width(bytes, [&](auto zero) {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(base);
    T* y = static_cast<T*>(tile);
    const int64_t step = strides.back();
    for_rows<1>(shape, {&strides}, position, count, [&](const int64_t* offset, int64_t begin, int64_t n) {
      gather_row(x + offset[0], step, y + begin, n);
    });
  });
}

void scatter(const Sizes& shape, const Sizes& strides, int64_t bytes, const void* tile, void* base,
             int64_t position, int64_t count) {
  with_width(bytes, [&](auto zero) {
    using T = decltype(zero);
    const T* x = static_cast<const T*>(tile);
    T* y = static_cast<T*>(base);
    const int64_t step = strides.back();
    for_rows<1>(shape, {&strides}, position, count, [&](const int64_t* offset, int64_t begin, int64_t n) {
      scatter_row(x + begin, y + offset[0], step, n);
    });
  });
}

void store_number(double value, DType dtype, bool saturate, void* out) {
  switch (dtype) {
    case kFloat32:
      return put(float(value), out);
    case kFloat64:
      return put(value, out);
    case kFloat16:
      return put(to_float16(round_to_odd(value)), out);
    case kBfloat16:
      return put(to_bfloat16(round_to_odd(value)), out);
    case kInt32:
      return put(to_integer<int32_t>(value, saturate), out);
    case kInt64:
      return put(to_integer<int64_t>(value, saturate), out);
    case kUint8:
      return put(to_integer<uint8_t>(value, saturate), out);
    case kBool:
      return put(uint8_t(value != 0), out);
  }
}

void repeat(const void* element, int64_t bytes, void* out, int64_t count) {
  with_width(bytes, [&](auto zero) {
    using T = decltype(zero);
    T value;
    memcpy(&value, element, sizeof value);
    T* y = static_cast<T*>(out);
    for (int64_t i = 0; i < count; i++) y[i] = value;
  });
}

}  // namespace needle
