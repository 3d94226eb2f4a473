// The elementwise ops: one exported function per line of scalar_ops.h. Contiguous tensors are read 16 bytes
// at a time, all others through their coordinates. bool runs as uint8.
#include "elementwise.h"

#include <type_traits>

#include "scalar.h"

namespace needle {
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
