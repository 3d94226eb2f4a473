// Turns the lines of scalar_ops.h into loops over contiguous memory: whole vectors for floats (the last
// partial vector is padded with a harmless value, so that an element's result does not depend on where it
// stands), plain loops that the compiler vectorises for integers and for bool results. Included by ISA files
// only.
#pragma once
#include "vmath.h"

#include "../../scalar_ops.h"
#include "elementwise.h"

namespace {

template <typename E>
struct Lanes;
template <>
struct Lanes<float> {
  typedef vf type;
  static constexpr int count = W;
};
template <>
struct Lanes<double> {
  typedef vd type;
  static constexpr int count = WD;
};

inline vf floor_divide(vf a, vf b) { return each<vf, float, W, float_floor_divide<float>>(a, b); }
inline vd floor_divide(vd a, vd b) { return each<vd, double, WD, float_floor_divide<double>>(a, b); }
inline vf floor_remainder(vf a, vf b) { return each<vf, float, W, float_floor_remainder<float>>(a, b); }
inline vd floor_remainder(vd a, vd b) { return each<vd, double, WD, float_floor_remainder<double>>(a, b); }
#define NEEDLE_INTEGER(T)                                                   \
  inline T power(T a, T b) { return integer_power<T>(a, b); }               \
  inline T floor_divide(T a, T b) { return integer_floor_divide<T>(a, b); } \
  inline T floor_remainder(T a, T b) { return integer_floor_remainder<T>(a, b); }
NEEDLE_INTEGER(int32_t)
NEEDLE_INTEGER(int64_t)
NEEDLE_INTEGER(uint8_t)
#undef NEEDLE_INTEGER

template <typename Op, typename E>
void unary_vectors(const void* x, void* y, int64_t n) {
  constexpr int L = Lanes<E>::count;
  const E* p = static_cast<const E*>(x);
  E* out = static_cast<E*>(y);
  int64_t i = 0;
  for (; i + L <= n; i += L) store(out + i, Op::f(load(p + i)));
  if (i < n) store_first(out + i, n - i, Op::f(load_first(p + i, n - i, E(1))));
}

template <typename Op, typename E>
void binary_vectors(const void* a, const void* b, void* y, int64_t n) {
  constexpr int L = Lanes<E>::count;
  const E *p = static_cast<const E*>(a), *q = static_cast<const E*>(b);
  E* out = static_cast<E*>(y);
  int64_t i = 0;
  for (; i + L <= n; i += L) store(out + i, Op::f(load(p + i), load(q + i)));
  if (i < n)
    store_first(out + i, n - i, Op::f(load_first(p + i, n - i, E(1)), load_first(q + i, n - i, E(1))));
}

template <typename Op, typename E>
void ternary_vectors(const void* a, const void* b, const void* c, void* y, int64_t n) {
  constexpr int L = Lanes<E>::count;
  const E *p = static_cast<const E*>(a), *q = static_cast<const E*>(b), *r = static_cast<const E*>(c);
  E* out = static_cast<E*>(y);
  int64_t i = 0;
  for (; i + L <= n; i += L) store(out + i, Op::f(load(p + i), load(q + i), load(r + i)));
  if (i < n) {
    const int64_t m = n - i;
    store_first(out + i, m,
                Op::f(load_first(p + i, m, E(1)), load_first(q + i, m, E(1)), load_first(r + i, m, E(1))));
  }
}

// Elements of type E to elements of type R, one by one. The output may be an input: no other dependence.
template <typename Op, typename E, typename R>
void unary_plain(const void* x, void* y, int64_t n) {
  const E* p = static_cast<const E*>(x);
  R* out = static_cast<R*>(y);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; i++) out[i] = R(Op::f(p[i]));
}

template <typename Op, typename E, typename R>
void binary_plain(const void* a, const void* b, void* y, int64_t n) {
  const E *p = static_cast<const E*>(a), *q = static_cast<const E*>(b);
  R* out = static_cast<R*>(y);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; i++) out[i] = R(Op::f(p[i], q[i]));
}

// C is the type of the first operand.
template <typename Op, typename C, typename E>
void ternary_plain(const void* a, const void* b, const void* c, void* y, int64_t n) {
  const C* p = static_cast<const C*>(a);
  const E *q = static_cast<const E*>(b), *r = static_cast<const E*>(c);
  E* out = static_cast<E*>(y);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; i++) out[i] = E(Op::f(p[i], q[i], r[i]));
}

}  // namespace
