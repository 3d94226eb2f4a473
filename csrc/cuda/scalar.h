// The lines of scalar_ops.h as function objects of device code: scalar::exp_op and so on. The maths functions
// that they call stand in a namespace of their own, since their names are those of the C library.
#pragma once
#include "device.h"

#define NEEDLE_INLINE NEEDLE_DEVICE

namespace needle {

namespace scalar {
namespace {

template <typename T>
NEEDLE_DEVICE T constant(double value) {
  return T(value);
}

#define FUNCTION(name)                                       \
  NEEDLE_DEVICE float name(float x) { return ::name##f(x); } \
  NEEDLE_DEVICE double name(double x) { return ::name(x); }
FUNCTION(exp)
FUNCTION(expm1)
FUNCTION(log)
FUNCTION(log1p)
FUNCTION(log2)
FUNCTION(sqrt)
FUNCTION(sin)
FUNCTION(cos)
FUNCTION(tan)
FUNCTION(asin)
FUNCTION(acos)
FUNCTION(atan)
FUNCTION(sinh)
FUNCTION(cosh)
FUNCTION(tanh)
FUNCTION(erf)
FUNCTION(floor)
FUNCTION(ceil)
FUNCTION(rint)
FUNCTION(trunc)
#undef FUNCTION
NEEDLE_DEVICE float abs(float x) { return ::fabsf(x); }
NEEDLE_DEVICE double abs(double x) { return ::fabs(x); }
#define FUNCTION(name, function)                                             \
  NEEDLE_DEVICE float name(float a, float b) { return ::function##f(a, b); } \
  NEEDLE_DEVICE double name(double a, double b) { return ::function(a, b); }
FUNCTION(atan2, atan2)
FUNCTION(fmod, fmod)
FUNCTION(power, pow)
#undef FUNCTION
NEEDLE_DEVICE bool is_infinite(float x) { return ::fabsf(x) == constant<float>(HUGE_VAL); }
NEEDLE_DEVICE bool is_infinite(double x) { return ::fabs(x) == HUGE_VAL; }

#define INTEGER(T)                         \
  NEEDLE_DEVICE T floor(T x) { return x; } \
  NEEDLE_DEVICE T ceil(T x) { return x; }  \
  NEEDLE_DEVICE T rint(T x) { return x; }  \
  NEEDLE_DEVICE T trunc(T x) { return x; } \
  NEEDLE_DEVICE bool is_infinite(T) { return false; }
INTEGER(int32_t)
INTEGER(int64_t)
INTEGER(uint8_t)
#undef INTEGER
NEEDLE_DEVICE int32_t abs(int32_t x) { return x < 0 ? -x : x; }
NEEDLE_DEVICE int64_t abs(int64_t x) { return x < 0 ? -x : x; }
NEEDLE_DEVICE uint8_t abs(uint8_t x) { return x; }

}  // namespace

#include "../scalar_ops.h"

namespace {

NEEDLE_DEVICE float floor_divide(float a, float b) { return float_floor_divide(a, b); }
NEEDLE_DEVICE double floor_divide(double a, double b) { return float_floor_divide(a, b); }
NEEDLE_DEVICE float floor_remainder(float a, float b) { return float_floor_remainder(a, b); }
NEEDLE_DEVICE double floor_remainder(double a, double b) { return float_floor_remainder(a, b); }
#define INTEGER(T)                                                                 \
  NEEDLE_DEVICE T power(T a, T b) { return integer_power<T>(a, b); }               \
  NEEDLE_DEVICE T floor_divide(T a, T b) { return integer_floor_divide<T>(a, b); } \
  NEEDLE_DEVICE T floor_remainder(T a, T b) { return integer_floor_remainder<T>(a, b); }
INTEGER(int32_t)
INTEGER(int64_t)
INTEGER(uint8_t)
#undef INTEGER

// --- The lines of scalar_ops.h as function objects ---

#define OP(name, cost, ...)                 \
  struct name##_op {                        \
    template <typename T>                   \
    NEEDLE_DEVICE T operator()(T x) const { \
      return T(__VA_ARGS__);                \
    }                                       \
  };
#define PREDICATE(name, cost, ...)                \
  struct name##_op {                              \
    template <typename T>                         \
    NEEDLE_DEVICE uint8_t operator()(T x) const { \
      return __VA_ARGS__;                         \
    }                                             \
  };
#define OP2(name, cost, ...)                     \
  struct name##_op {                             \
    template <typename T>                        \
    NEEDLE_DEVICE T operator()(T a, T b) const { \
      return T(__VA_ARGS__);                     \
    }                                            \
  };
#define PREDICATE2(name, cost, ...)                    \
  struct name##_op {                                   \
    template <typename T>                              \
    NEEDLE_DEVICE uint8_t operator()(T a, T b) const { \
      return __VA_ARGS__;                              \
    }                                                  \
  };
#define OP3(name, cost, ...)                          \
  struct name##_op {                                  \
    template <typename T>                             \
    NEEDLE_DEVICE T operator()(T a, T b, T c) const { \
      return T(__VA_ARGS__);                          \
    }                                                 \
  };
#define SELECT(name, cost, ...)                             \
  struct name##_op {                                        \
    template <typename T>                                   \
    NEEDLE_DEVICE T operator()(uint8_t c, T a, T b) const { \
      return __VA_ARGS__;                                   \
    }                                                       \
  };
NEEDLE_UNARY_FLOAT(OP)
NEEDLE_UNARY_NUMBER(OP)
NEEDLE_UNARY_BOOL(PREDICATE)
NEEDLE_BINARY_FLOAT(OP2)
NEEDLE_BINARY_NUMBER(OP2)
NEEDLE_BINARY_BOOL(PREDICATE2)
NEEDLE_TERNARY_FLOAT(OP3)
NEEDLE_TERNARY_NUMBER(OP3)
NEEDLE_TERNARY_SELECT(SELECT)
#undef OP
#undef PREDICATE
#undef OP2
#undef PREDICATE2
#undef OP3
#undef SELECT

}  // namespace
}  // namespace scalar
}  // namespace needle
