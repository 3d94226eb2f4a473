// Every elementwise op, one line each: X(name, cost, value). The same lines are compiled for vectors and for
// scalars, on the CPU (cpu/kernels) and by nvcc. The exported function is needle_<name>; the meaning stands
// in lib/ops/elementwise.ts.
//
// `value` is an expression over x (unary), a and b (binary) or a, b and c (ternary), all of the type T, which
// may be a vector: no &&, ||, if. K(number) is a constant of type T. `cost` is the time of one element, where
// adding two floats is 1; it decides from which size on threads pay.
//
// Whoever compiles the expressions defines NEEDLE_INLINE, constant<T>(double) and the maths functions over
// its types first (exp expm1 log log1p log2 sqrt sin cos tan asin acos atan sinh cosh tanh erf abs floor ceil
// rint trunc atan2), and afterwards power, floor_divide and floor_remainder from the templates at the end.
// Without NEEDLE_INLINE this file is only the list of names.
#pragma once

#define K(number) constant<T>(number)

// clang-format off
// Floating point only.
#define NEEDLE_UNARY_FLOAT(X)                                                                                \
  X(exp, 4, exp(x))                                                                                          \
  X(expm1, 6, expm1(x))                                                                                      \
  X(log, 5, log(x))                                                                                          \
  X(log1p, 8, log1p(x))                                                                                      \
  X(log2, 5, log2(x))                                                                                        \
  X(sqrt, 3, sqrt(x))                                                                                        \
  X(rsqrt, 5, K(1) / sqrt(x))                                                                                \
  X(reciprocal, 2, K(1) / x)                                                                                 \
  X(sin, 6, sin(x))                                                                                          \
  X(cos, 6, cos(x))                                                                                          \
  X(tan, 40, tan(x))                                                                                         \
  X(asin, 30, asin(x))                                                                                       \
  X(acos, 30, acos(x))                                                                                       \
  X(atan, 30, atan(x))                                                                                       \
  X(sinh, 40, sinh(x))                                                                                       \
  X(cosh, 40, cosh(x))                                                                                       \
  X(tanh, 8, tanh(x))                                                                                        \
  X(sigmoid, 6, sigmoid(x))                                                                                  \
  X(selu, 7,                                                                                                 \
    K(1.0507009873554804934193349852946) * (x > K(0) ? x : K(1.6732632423543772848170429916717) * expm1(x))) \
  X(gelu, 9, gelu(x))                                                                                        \
  X(gelu_tanh, 8, gelu_tanh(x))                                                                              \
  X(silu, 7, x * sigmoid(x))                                                                                   \
  X(mish, 7, mish(x))                                                                                        \
  X(erf, 8, erf(x))

// Floating point and integers, which wrap.
#define NEEDLE_UNARY_NUMBER(X)                          \
  X(neg, 1, -x)                                         \
  X(abs, 1, abs(x))                                     \
  X(sign, 1, x > K(0) ? K(1) : x < K(0) ? K(-1) : K(0)) \
  X(square, 1, x * x)                                    \
  X(relu, 1, x < K(0) ? K(0) : x)                       \
  X(floor, 1, floor(x))                                 \
  X(ceil, 1, ceil(x))                                   \
  X(round, 1, rint(x))                                  \
  X(trunc, 1, trunc(x))

// To bool, from every dtype; T is a scalar.
#define NEEDLE_UNARY_BOOL(X)  \
  X(isnan, 1, x != x)         \
  X(isinf, 1, is_infinite(x)) \
  X(logical_not, 1, x == K(0))

#define NEEDLE_BINARY_FLOAT(X)           \
  X(div, 2, a / b)                       \
  X(atan2, 40, atan2(a, b))              \
  X(leaky_relu, 1, a > K(0) ? a : a * b) \
  X(elu, 7, a > K(0) ? a : b * expm1(a)) \
  X(relu_grad, 1, b <= K(0) ? K(0) : a)  \
  X(sigmoid_grad, 1, a* b*(K(1) - b))    \
  X(tanh_grad, 1, a*(K(1) - b * b))      \
  X(gelu_grad, 16, a* gelu_slope(b))     \
  X(silu_grad, 8, a* silu_slope(b))

#define NEEDLE_BINARY_NUMBER(X)           \
  X(add, 1, a + b)                        \
  X(sub, 1, a - b)                        \
  X(mul, 1, a* b)                         \
  X(maximum, 1, larger(a, b))             \
  X(minimum, 1, smaller(a, b))            \
  X(pow, 20, power(a, b))                 \
  X(floor_divide, 30, floor_divide(a, b)) \
  X(remainder, 30, floor_remainder(a, b))

// To bool, from every dtype; T is a scalar.
#define NEEDLE_BINARY_BOOL(X)                  \
  X(eq, 1, a == b)                             \
  X(ne, 1, a != b)                             \
  X(lt, 1, a < b)                              \
  X(le, 1, a <= b)                             \
  X(gt, 1, a > b)                              \
  X(ge, 1, a >= b)                             \
  X(logical_and, 1, (a != K(0)) & (b != K(0))) \
  X(logical_or, 1, (a != K(0)) | (b != K(0)))  \
  X(logical_xor, 1, (a != K(0)) != (b != K(0)))

#define NEEDLE_TERNARY_FLOAT(X) \
  X(lerp, 2, lerp(a, b, c))     \
  X(softplus, 12, softplus(a, b, c))

#define NEEDLE_TERNARY_NUMBER(X) X(clamp, 1, smaller(larger(a, b), c))

// The first operand is bool; every dtype; T is a scalar.
#define NEEDLE_TERNARY_SELECT(X) X(where, 1, c ? a : b)
// clang-format on

#ifdef NEEDLE_INLINE
namespace {

// NaN wins in both.
template <typename T>
NEEDLE_INLINE T larger(T a, T b) {
  return (a > b) | (a != a) ? a : b;
}
template <typename T>
NEEDLE_INLINE T smaller(T a, T b) {
  return (a < b) | (a != a) ? a : b;
}

// exp only of what is not positive, so that it cannot overflow.
template <typename T>
NEEDLE_INLINE T sigmoid(T x) {
  const T e = exp(-abs(x));
  return (x < K(0) ? e : K(1)) / (K(1) + e);
}

// The next three are NaN at -infinity, as in PyTorch: -infinity times 0.
template <typename T>
NEEDLE_INLINE T gelu(T x) {
  return K(0.5) * x * (K(1) + erf(x * K(0.70710678118654752440)));
}

// (1 + tanh(u)) / 2 = sigmoid(2 u)
template <typename T>
NEEDLE_INLINE T gelu_tanh(T x) {
  return x * sigmoid(K(1.5957691216057307117) * (x + K(0.044715) * x * x * x));
}

// tanh(ln(1 + e)) = (e² + 2 e) / (e² + 2 e + 2)
template <typename T>
NEEDLE_INLINE T mish(T x) {
  const T e = exp(x), n = e * (e + K(2));
  return x > K(20) ? x : x * (n / (n + K(2)));
}

template <typename T>
NEEDLE_INLINE T gelu_slope(T x) {
  const T density = K(0.39894228040143267794) * exp(K(-0.5) * x * x);
  return K(0.5) * (K(1) + erf(x * K(0.70710678118654752440))) + x * density;
}

template <typename T>
NEEDLE_INLINE T silu_slope(T x) {
  const T s = sigmoid(x);
  return s * (K(1) + x * (K(1) - s));
}

// From the nearer end, so that weights 0 and 1 give a and b exactly.
template <typename T>
NEEDLE_INLINE T lerp(T a, T b, T weight) {
  const T d = b - a;
  return abs(weight) < K(0.5) ? a + weight * d : b - d * (K(1) - weight);
}

template <typename T>
NEEDLE_INLINE T softplus(T x, T beta, T threshold) {
  const T z = x * beta;
  return z > threshold ? x : log1p(exp(z)) / beta;
}

// Integers. The drivers refuse zero divisors and negative exponents beforehand.
template <typename T>
NEEDLE_INLINE T integer_power(T a, T b) {
  T y = 1;
  for (; b > 0; b = T(b >> 1)) {
    if (b & 1) y = T(y * a);
    a = T(a * a);
  }
  return y;
}

template <typename T>
NEEDLE_INLINE T integer_floor_divide(T a, T b) {
  constexpr bool is_signed = T(-1) < T(1);
  if (is_signed && b == T(-1)) return T(-a);  // the smallest integer divided by -1 would trap
  const T q = T(a / b);
  return is_signed && a % b != 0 && (a < T(0)) != (b < T(0)) ? T(q - 1) : q;
}

template <typename T>
NEEDLE_INLINE T integer_floor_remainder(T a, T b) {
  constexpr bool is_signed = T(-1) < T(1);
  if (is_signed && b == T(-1)) return 0;
  const T r = T(a % b);
  return is_signed && r != 0 && (r < T(0)) != (b < T(0)) ? T(r + b) : r;
}

// Python's floor division and remainder of scalars, as PyTorch computes them.
template <typename T>
NEEDLE_INLINE T float_floor_remainder(T a, T b) {
  const T r = fmod(a, b);
  return r != 0 && (b < 0) != (r < 0) ? r + b : r;
}

template <typename T>
NEEDLE_INLINE T float_floor_divide(T a, T b) {
  if (b == 0) return a / b;
  const T r = fmod(a, b);
  T q = (a - r) / b;
  if (r != 0 && (b < 0) != (r < 0)) q -= 1;
  if (q == 0) return (a < 0) != (b < 0) ? T(-0.0) : T(0);
  const T f = floor(q);
  return q - f > T(0.5) ? f + 1 : f;
}

}  // namespace
#endif
