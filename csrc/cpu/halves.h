// float16 and bfloat16 as bit patterns: conversions that compilers turn into vector code, rounding to
// nearest, ties to even. Only builtins, so that ISA files may include it; internal to whoever does.
#pragma once
#include <stdint.h>

#ifdef __CUDACC__
#define NEEDLE_HALVES __host__ __device__ inline
#else
#define NEEDLE_HALVES inline
#endif

namespace {

NEEDLE_HALVES uint32_t bits_of(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  return u;
}
NEEDLE_HALVES float float_of(uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, sizeof x);
  return x;
}

NEEDLE_HALVES float from_bfloat16(uint16_t h) { return float_of(uint32_t(h) << 16); }

NEEDLE_HALVES uint16_t to_bfloat16(float x) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
  const uint32_t nan = u >> 16 | 0x40;
  return uint16_t(x != x ? nan : rounded);
}

NEEDLE_HALVES float from_float16(uint16_t h) {
  const uint32_t magnitude = uint32_t(h & 0x7fff) << 13;
  // The exponent's bias differs by 112; as a product, so that subnormals come out right.
  const uint32_t finite = bits_of(float_of(magnitude) * 0x1p112f);
  const uint32_t special = magnitude | 0x7f800000;
  return float_of((magnitude >= 0x0f800000 ? special : finite) | uint32_t(h & 0x8000) << 16);
}

NEEDLE_HALVES uint16_t to_float16(float x) {
  const uint32_t u = bits_of(x), magnitude = u & 0x7fffffff;
  const uint32_t normal = (magnitude + 0xc8000fff + (magnitude >> 13 & 1)) >> 13;
  // Below 2^-14: adding 0.5 puts the last bit of a subnormal half at the last bit of the sum.
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000;
  const uint32_t special = magnitude > 0x7f800000 ? 0x7e00u : 0x7c00u;
  uint32_t h = magnitude < 0x38800000 ? subnormal : normal;
  h = magnitude >= 0x47800000 ? special : h;
  return uint16_t(h | (u >> 16 & 0x8000));
}

// To float with the last bit set where anything was lost, so that rounding on to a half rounds once.
NEEDLE_HALVES float round_to_odd(double x) {
  const float f = float(x);
  const double back = f;
  const uint32_t u = bits_of(f);
  const uint32_t towards_zero = u - (__builtin_fabs(back) > __builtin_fabs(x) ? 1 : 0);
  return back == x || x != x ? f : float_of(towards_zero | 1);
}

// The same from 64-bit integers: what 53 bits cannot hold goes into the last of them.
NEEDLE_HALVES double integer_to_odd(int64_t x) {
  const int64_t lost = x & 2047;
  const bool large = x >= (int64_t(1) << 53) || x <= -(int64_t(1) << 53);
  return double(large && lost ? (x & ~int64_t(2047)) | 2048 : x);
}

}  // namespace
#undef NEEDLE_HALVES
