// What the ops on positions share: the geometry of lib/ops/index.ts (x is (outer, size, inner) around the
// indexed dims), indices that are checked where they are read, and elements as bits.
#pragma once
#include "arena.h"
#include "elementwise.h"

namespace needle {
namespace {

struct Geometry {
  int64_t outer, size, count, inner;

  explicit Geometry(const double* desc)
      : outer(int64_t(desc[0])), size(int64_t(desc[1])), count(int64_t(desc[2])), inner(int64_t(desc[3])) {}
  int64_t elements() const { return outer * size * inner; }
};

// Indices in [0, size). One out of range is reported and reads as -1: nothing is read or written there.
struct Indices {
  const int64_t* wide;  // or null
  const int32_t* narrow;
  int64_t size;
  Alarm* alarm;

  Indices(const void* index, double offset, DType dtype, int64_t size)
      : wide(dtype == kInt64 ? at<int64_t>(index, offset) : nullptr),
        narrow(wide ? nullptr : at<int32_t>(index, offset)),
        size(size),
        alarm(needle::alarm()) {}

  NEEDLE_DEVICE int64_t raw(int64_t i) const { return wide ? wide[i] : int64_t(narrow[i]); }
  NEEDLE_DEVICE int64_t operator[](int64_t i) const {
    const int64_t index = raw(i);
    if (index >= 0 && index < size) return index;
    raise(alarm, kIndexOutOfRange, double(index), double(size));
    return -1;
  }
};

// Positions of (outer, count, inner) taken apart.
struct Split {
  Divisor count, inner;
  int64_t long_count, long_inner;
  bool wide;

  Split(int64_t outer, int64_t count_, int64_t inner_)
      : long_count(count_), long_inner(inner_), wide(outer * count_ * inner_ >= int64_t(1) << 31) {
    count.set(wide ? 1 : uint32_t(count_));
    inner.set(wide ? 1 : uint32_t(inner_));
  }
  NEEDLE_DEVICE void operator()(int64_t e, int64_t* o, int64_t* k, int64_t* c) const {
    const int64_t row = wide ? e / long_inner : int64_t(inner.divide(uint32_t(e)));
    *o = wide ? row / long_count : int64_t(count.divide(uint32_t(row)));
    *k = row - *o * long_count;
    *c = e - row * long_inner;
  }
};

// Calls f with a zero of an unsigned type as wide as an element.
template <typename F>
int32_t with_element_bits(DType dtype, const F& f) {
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

// y = x, or zeros without x; nothing where they are the same memory.
inline int32_t copy_or_clear(const void* x, void* y, size_t bytes) {
  if (x == y || bytes == 0) return kOk;
  if (x) cudaMemcpyAsync(y, x, bytes, cudaMemcpyDeviceToDevice, stream());
  else cudaMemsetAsync(y, 0, bytes, stream());
  return launched("filling GPU memory");
}

}  // namespace
}  // namespace needle
