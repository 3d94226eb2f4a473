// What the fakes of NVIDIA's libraries share: elements of any float type, read and written as double.
#pragma once
#include <stdint.h>

#include "../csrc/cpu/halves.h"

enum ValueType { kFloat32, kFloat64, kFloat16, kBfloat16 };

inline double load(const void* p, ValueType type, int64_t i) {
  switch (type) {
    case kFloat32:
      return static_cast<const float*>(p)[i];
    case kFloat64:
      return static_cast<const double*>(p)[i];
    case kFloat16:
      return from_float16(static_cast<const uint16_t*>(p)[i]);
    default:
      return from_bfloat16(static_cast<const uint16_t*>(p)[i]);
  }
}

inline void store(void* p, ValueType type, int64_t i, double x) {
  switch (type) {
    case kFloat32:
      static_cast<float*>(p)[i] = float(x);
      break;
    case kFloat64:
      static_cast<double*>(p)[i] = x;
      break;
    case kFloat16:
      static_cast<uint16_t*>(p)[i] = to_float16(round_to_odd(x));
      break;
    default:
      static_cast<uint16_t*>(p)[i] = to_bfloat16(round_to_odd(x));
  }
}
