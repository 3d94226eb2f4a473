// The elementwise ops: one exported function per line of scalar_ops.h. Contiguous tensors are read 16 bytes
// at a time, all others through their coordinates. bool runs as uint8.
#include "elementwise.h"

#include <type_traits>

#define NEEDLE_INLINE NEEDLE_DEVICE

namespace needle {

// Functions and ops of scalar_ops.h: apart, since their names are those of the C library.
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

}  // namespace
}  // namespace scalar

namespace {

// Whether an integer cannot be the second operand.
template <typename T>
NEEDLE_ANYWHERE bool is_refused(Fault fault, T b) {
  if (fault == kZeroDivision) return b == 0;
  if constexpr (std::is_signed_v<T>) return b < 0;
  return false;
}

// Integer ops that have no value for every second operand.
template <typename Op>
struct Checked {
  Alarm* alarm;
  Fault fault;

  template <typename T>
  NEEDLE_DEVICE T operator()(T a, T b) const {
    if (is_refused(fault, b)) {
      raise(alarm, fault, 0, 0);
      return T(0);
    }
    return Op()(a, b);
  }
};

template <typename Op>
constexpr Fault integer_fault() {
  if (std::is_same_v<Op, scalar::pow_op>) return kNegativePower;
  return std::is_same_v<Op, scalar::floor_divide_op> || std::is_same_v<Op, scalar::remainder_op>
             ? kZeroDivision
             : kNoFault;
}

// Result type R, except where it is that of the operands (void).
template <typename R, typename T>
using Result = std::conditional_t<std::is_void_v<R>, T, R>;

template <typename Op, typename R, typename T>
int32_t unary(const void* a, double a_off, void* y, double y_off, DType dtype, double n, const double* desc) {
  return run(at<Result<R, T>>(y, y_off), n, desc, Op(), argument<T>(a, a_off, dtype, false));
}

template <typename Op, typename R, typename T>
int32_t binary(const void* a, double a_off, const void* b, double b_off, void* y, double y_off, DType dtype,
               double n, const double* desc) {
  constexpr bool is_extreme =
      std::is_same_v<Op, scalar::maximum_op> || std::is_same_v<Op, scalar::minimum_op>;
  constexpr bool saturate = !std::is_void_v<R> || is_extreme;
  Result<R, T>* const to = at<Result<R, T>>(y, y_off);
  const Argument<T> first = argument<T>(a, a_off, dtype, saturate),
                    second = argument<T>(b, b_off, dtype, saturate);
  if constexpr (std::is_integral_v<T> && integer_fault<Op>() != kNoFault) {
    if (!b && is_refused(integer_fault<Op>(), second.value)) return fail_for(integer_fault<Op>());
    return run(to, n, desc, Checked<Op>{alarm(), integer_fault<Op>()}, first, second);
  } else if constexpr (std::is_same_v<Op, scalar::pow_op>) {
    // A small number as exponent: a cheaper op of the same meaning. (A descriptor has strides for b too.)
    if (!b && !desc && b_off == 2) return run(to, n, desc, scalar::square_op(), first);
    if (!b && !desc && b_off == -1) return run(to, n, desc, scalar::reciprocal_op(), first);
  } else if constexpr (std::is_same_v<Op, scalar::add_op> && std::is_same_v<T, uint8_t>) {
    if (dtype == kBool) return run(to, n, desc, scalar::maximum_op(), first, second);
  }
  return run(to, n, desc, Op(), first, second);
}

template <typename Op, typename C, typename T>
int32_t ternary(const void* a, double a_off, const void* b, double b_off, const void* c, double c_off,
                void* y, double y_off, DType dtype, double n, const double* desc) {
  constexpr bool is_select = std::is_same_v<Op, scalar::where_op>,
                 saturate = std::is_same_v<Op, scalar::clamp_op>;
  using First = Result<C, T>;
  return run(at<T>(y, y_off), n, desc, Op(), argument<First>(a, a_off, is_select ? kBool : dtype, saturate),
             argument<T>(b, b_off, dtype, saturate), argument<T>(c, c_off, dtype, saturate));
}

}  // namespace
}  // namespace needle

using namespace needle;

#define UNARY(name, with, R)                                                                              \
  NEEDLE_EXPORT int32_t needle_##name(const void* a, double a_off, void* y, double y_off, int32_t dtypes, \
                                      double n, const double* desc) noexcept {                            \
    const DType dtype = main_dtype(dtypes);                                                               \
    return with(dtype, [&](auto zero) {                                                                   \
      return unary<scalar::name##_op, R, decltype(zero)>(a, a_off, y, y_off, dtype, n, desc);             \
    });                                                                                                   \
  }
#define FLOAT(name, ...) UNARY(name, with_float, void)
#define NUMBER(name, ...) UNARY(name, with_number, void)
#define BOOL(name, ...) UNARY(name, with_number, uint8_t)
NEEDLE_UNARY_FLOAT(FLOAT)
NEEDLE_UNARY_NUMBER(NUMBER)
NEEDLE_UNARY_BOOL(BOOL)

#define BINARY(name, with, R)                                                                                \
  NEEDLE_EXPORT int32_t needle_##name(const void* a, double a_off, const void* b, double b_off, void* y,     \
                                      double y_off, int32_t dtypes, double n, const double* desc) noexcept { \
    const DType dtype = main_dtype(dtypes);                                                                  \
    return with(dtype, [&](auto zero) {                                                                      \
      return binary<scalar::name##_op, R, decltype(zero)>(a, a_off, b, b_off, y, y_off, dtype, n, desc);     \
    });                                                                                                      \
  }
#define FLOAT2(name, ...) BINARY(name, with_float, void)
#define NUMBER2(name, ...) BINARY(name, with_number, void)
#define BOOL2(name, ...) BINARY(name, with_number, uint8_t)
NEEDLE_BINARY_FLOAT(FLOAT2)
NEEDLE_BINARY_NUMBER(NUMBER2)
NEEDLE_BINARY_BOOL(BOOL2)

// C is the type of the first operand.
#define TERNARY(name, with, C)                                                                               \
  NEEDLE_EXPORT int32_t needle_##name(const void* a, double a_off, const void* b, double b_off,              \
                                      const void* c, double c_off, void* y, double y_off, int32_t dtypes,    \
                                      double n, const double* desc) noexcept {                               \
    const DType dtype = main_dtype(dtypes);                                                                  \
    return with(dtype, [&](auto zero) {                                                                      \
      return ternary<scalar::name##_op, C, decltype(zero)>(a, a_off, b, b_off, c, c_off, y, y_off, dtype, n, \
                                                           desc);                                            \
    });                                                                                                      \
  }
#define FLOAT3(name, ...) TERNARY(name, with_float, void)
#define NUMBER3(name, ...) TERNARY(name, with_number, void)
#define SELECT3(name, ...) TERNARY(name, with_number, uint8_t)
NEEDLE_TERNARY_FLOAT(FLOAT3)
NEEDLE_TERNARY_NUMBER(NUMBER3)
NEEDLE_TERNARY_SELECT(SELECT3)
