// float16 and bfloat16 in kernels that read and write them as they are: computed in float, rounded once.
#pragma once
#include "../cpu/halves.h"
#include "elementwise.h"

namespace needle {
namespace {

struct Float16 {
  uint16_t bits;
};
struct Bfloat16 {
  uint16_t bits;
};

// The type that elements of type S are computed in.
template <typename S>
struct Computed {
  typedef S type;
};
template <>
struct Computed<Float16> {
  typedef float type;
};
template <>
struct Computed<Bfloat16> {
  typedef float type;
};
template <typename S>
using ComputedType = typename Computed<S>::type;

template <typename T>
NEEDLE_DEVICE T value_of(T x) {
  return x;
}
NEEDLE_DEVICE float value_of(Float16 x) { return from_float16(x.bits); }
NEEDLE_DEVICE float value_of(Bfloat16 x) { return from_bfloat16(x.bits); }

template <typename T>
NEEDLE_DEVICE void round_to(double x, T* to) {
  *to = T(x);
}
NEEDLE_DEVICE void round_to(float x, float* to) { *to = x; }
NEEDLE_DEVICE void round_to(float x, Float16* to) { to->bits = to_float16(x); }
NEEDLE_DEVICE void round_to(float x, Bfloat16* to) { to->bits = to_bfloat16(x); }
NEEDLE_DEVICE void round_to(double x, Float16* to) { to->bits = to_float16(round_to_odd(x)); }
NEEDLE_DEVICE void round_to(double x, Bfloat16* to) { to->bits = to_bfloat16(round_to_odd(x)); }

// with_float, halves included.
template <typename F>
int32_t with_stored(DType dtype, const F& f) {
  if (dtype == kFloat16) return f(Float16{});
  if (dtype == kBfloat16) return f(Bfloat16{});
  return with_float(dtype, f);
}

}  // namespace
}  // namespace needle
