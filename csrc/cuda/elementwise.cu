// The elementwise ops: one exported function per line of scalar_ops.h. Contiguous tensors are read 16 bytes
// at a time, all others through their coordinates. bool runs as uint8.
#include "device.h"

#include <type_traits>
#include <utility>

#include "../cpu/strided.h"

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

// Without a comparison that never holds for an unsigned type, which compilers warn of.
template <typename T>
NEEDLE_DEVICE bool is_negative(T x) {
  if constexpr (std::is_signed_v<T>) return x < 0;
  return false;
}

// Integer ops that have no value for every second operand.
template <typename Op>
struct Checked {
  Alarm* alarm;
  Fault fault;

  template <typename T>
  NEEDLE_DEVICE T operator()(T a, T b) const {
    if (fault == kZeroDivision ? b == T(0) : is_negative(b)) {
      raise(alarm, fault, 0, 0);
      return T(0);
    }
    return Op()(a, b);
  }
};

// --- Kernels ---

// An operand: a tensor, or a number where `p` is null.
template <typename T>
struct Argument {
  const T* p;
  T value;

  NEEDLE_DEVICE T at(int64_t i) const { return p ? p[i] : value; }

  template <int V>
  NEEDLE_DEVICE Vector<T, V> vector_at(int64_t i) const {
    if (p) return reinterpret_cast<const Vector<T, V>*>(p)[i];
    Vector<T, V> v;
    for (int lane = 0; lane < V; lane++) v.lane[lane] = value;
    return v;
  }
};

template <int V, typename R, typename Op, typename... T>
NEEDLE_DEVICE Vector<R, V> apply(const Op& op, const Vector<T, V>&... x) {
  Vector<R, V> y;
  for (int lane = 0; lane < V; lane++) y.lane[lane] = op(x.lane[lane]...);
  return y;
}

template <int V, typename R, typename Op, typename... T>
__global__ void flat(R* y, int64_t n, Op op, Argument<T>... in) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x,
                first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t whole = n / V;
  for (int64_t i = first; i < whole; i += step) {
    reinterpret_cast<Vector<R, V>*>(y)[i] = apply<V, R>(op, in.template vector_at<V>(i)...);
  }
  const int64_t i = whole * V + first;
  if (i < n) y[i] = op(in.at(i)...);
}

template <int N, size_t... I, typename R, typename Op, typename... T>
NEEDLE_DEVICE void apply_at(std::index_sequence<I...>, const int64_t (&at)[N], R* y, const Op& op,
                            const Argument<T>&... in) {
  y[at[N - 1]] = op(in.at(at[I])...);
}

template <typename R, typename Op, typename... T>
__global__ void strided(R* y, uint32_t n, Dims<sizeof...(T) + 1> dims, Op op, Argument<T>... in) {
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    int64_t at[sizeof...(T) + 1];
    dims.locate(i, at);
    apply_at(std::index_sequence_for<T...>(), at, y, op, in...);
  }
}

// --- Drivers ---

template <typename T>
Argument<T> argument(const void* base, double offset, DType dtype, bool saturate) {
  Argument<T> a{at<T>(base, offset), T(0)};
  if (!base) store_number(offset, dtype, saturate, &a.value);
  return a;
}

template <typename T>
Argument<T> moved(const Argument<T>& a, int64_t by) {
  return {a.p ? a.p + by : nullptr, a.value};
}

template <size_t... I, typename R, typename Op, typename... T>
void launch_strided(std::index_sequence<I...>, const Dims<sizeof...(T) + 1>& dims, uint32_t n,
                    const int64_t (&at)[sizeof...(T) + 1], R* y, const Op& op, const Argument<T>&... in) {
  NEEDLE_LAUNCH((strided<R, Op, T...>), grid_for(n), kThreads, 0, stream(), y + at[sizeof...(T)], n, dims, op,
                moved(in, at[I])...);
}

// The lanes that serve the widest of some types.
template <typename... T>
constexpr int lanes_for() {
  int lanes = 16;
  ((lanes = vector_lanes<T>() < lanes ? vector_lanes<T>() : lanes), ...);
  return lanes;
}

template <typename R, typename Op, typename... T>
int32_t run(R* y, double n, const double* desc, const Op& op, const Argument<T>&... in) {
  constexpr int N = sizeof...(T) + 1, V = lanes_for<T...>();
  const int64_t count = int64_t(n);
  if (count == 0) return kOk;
  const bool aligned = is_aligned(y, sizeof(R) * V) && (is_aligned(in.p, sizeof(T) * V) && ...);
  if ((!desc || desc[0] == 0) && aligned) {
    NEEDLE_LAUNCH((flat<V, R, Op, T...>), grid_for((count + V - 1) / V), kThreads, 0, stream(), y, count, op,
                  in...);
    return launched("starting a kernel");
  }
  const double flat_shape[1] = {n}, flat_strides[N] = {(in.p ? 1.0 : 0.0)..., 1.0};
  const bool plain = !desc || desc[0] == 0;
  const int64_t ndim = plain ? 1 : int64_t(desc[0]);
  const int32_t status =
      each_piece<N>(ndim, plain ? flat_shape : desc + 1, plain ? flat_strides : desc + 1 + ndim,
                    [&](const Dims<N>& dims, uint32_t m, const int64_t(&at)[N]) {
                      launch_strided(std::index_sequence_for<T...>(), dims, m, at, y, op, in...);
                    });
  return status == kOk ? launched("starting a kernel") : status;
}

int32_t no_kernel(DType dtype) { return fail(kInvalid, "no kernel for %s", dtype_name(dtype)); }

// Calls f with a zero of the element type of a dtype, among floats or among all.
template <typename F>
int32_t with_float(DType dtype, const F& f) {
  switch (dtype) {
    case kFloat32:
      return f(float(0));
    case kFloat64:
      return f(double(0));
    default:
      return no_kernel(dtype);
  }
}
template <typename F>
int32_t with_number(DType dtype, const F& f) {
  switch (dtype) {
    case kInt32:
      return f(int32_t(0));
    case kInt64:
      return f(int64_t(0));
    case kUint8:
    case kBool:
      return f(uint8_t(0));
    default:
      return with_float(dtype, f);
  }
}

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
