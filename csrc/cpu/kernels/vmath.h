// Mathematical functions over vectors of floats: straight-line code that is right at infinities, NaN, zeros,
// subnormals and overflow. The bound at each function is the largest error over all floats, in units in the
// last place. Functions of doubles, and the rarer ones, call
// the C library lane by lane. Included by ISA files only.
#pragma once
#include <math.h>
#include <stdint.h>

#include "vec.h"

#define NEEDLE_INLINE inline __attribute__((always_inline))

namespace {

template <typename T>
inline T constant(double value) {
  return T(value);
}
template <>
inline vf constant<vf>(double value) {
  return splat(float(value));
}
template <>
inline vd constant<vd>(double value) {
  return splat(value);
}

inline vi bits(vf x) { return (vi)x; }
inline vf from_bits(vi x) { return (vf)x; }
inline vi isplat(int32_t x) { return x - vi{}; }

inline vf abs(vf x) { return from_bits(bits(x) & 0x7fffffff); }
inline vd abs(vd x) { return (vd)((vl)x & 0x7fffffffffffffff); }
inline vf copysign(vf x, vf sign) { return from_bits(bits(x) | (bits(sign) & isplat(INT32_MIN))); }

// Whether any lane of a mask is set.
inline bool any(vi mask) {
  typedef int64_t pair __attribute__((vector_size(16)));
  pair parts[sizeof(vi) / 16];
  __builtin_memcpy(parts, &mask, sizeof mask);
  pair sum = parts[0];
  for (unsigned i = 1; i < sizeof(vi) / 16; i++) sum |= parts[i];
  return (sum[0] | sum[1]) != 0;
}

// --- Lane by lane ---

template <typename V, typename E, int L, E (*F)(E)>
inline V each(V x) {
  alignas(sizeof(V)) E lane[L];
  store(lane, x);
  for (int i = 0; i < L; i++) lane[i] = F(lane[i]);
  return load(lane);
}
template <typename V, typename E, int L, E (*F)(E, E)>
inline V each(V x, V y) {
  alignas(sizeof(V)) E lane[L], other[L];
  store(lane, x);
  store(other, y);
  for (int i = 0; i < L; i++) lane[i] = F(lane[i], other[i]);
  return load(lane);
}

#define NEEDLE_LANES(name, of_float, of_double)                    \
  inline vf name(vf x) { return each<vf, float, W, of_float>(x); } \
  inline vd name(vd x) { return each<vd, double, WD, of_double>(x); }
#define NEEDLE_DOUBLE_LANES(name, of_double) \
  inline vd name(vd x) { return each<vd, double, WD, of_double>(x); }
#define NEEDLE_LANES2(name, of_float, of_double)                            \
  inline vf name(vf x, vf y) { return each<vf, float, W, of_float>(x, y); } \
  inline vd name(vd x, vd y) { return each<vd, double, WD, of_double>(x, y); }

NEEDLE_LANES(tan, ::tanf, ::tan)
NEEDLE_LANES(asin, ::asinf, ::asin)
NEEDLE_LANES(acos, ::acosf, ::acos)
NEEDLE_LANES(atan, ::atanf, ::atan)
NEEDLE_LANES(sinh, ::sinhf, ::sinh)
NEEDLE_LANES(cosh, ::coshf, ::cosh)
NEEDLE_DOUBLE_LANES(exp, ::exp)
NEEDLE_DOUBLE_LANES(expm1, ::expm1)
NEEDLE_DOUBLE_LANES(log, ::log)
NEEDLE_DOUBLE_LANES(log1p, ::log1p)
NEEDLE_DOUBLE_LANES(log2, ::log2)
NEEDLE_DOUBLE_LANES(sin, ::sin)
NEEDLE_DOUBLE_LANES(cos, ::cos)
NEEDLE_DOUBLE_LANES(tanh, ::tanh)
NEEDLE_DOUBLE_LANES(erf, ::erf)
inline vd power(vd x, vd y) { return each<vd, double, WD, ::pow>(x, y); }
NEEDLE_LANES2(atan2, ::atan2f, ::atan2)

// Loops over builtins that every level has as one vector instruction.
#define NEEDLE_INSTRUCTION(name, of_float, of_double)          \
  inline vf name(vf x) {                                       \
    alignas(sizeof(vf)) float lane[W];                         \
    store(lane, x);                                            \
    for (int i = 0; i < W; i++) lane[i] = of_float(lane[i]);   \
    return load(lane);                                         \
  }                                                            \
  inline vd name(vd x) {                                       \
    alignas(sizeof(vd)) double lane[WD];                       \
    store(lane, x);                                            \
    for (int i = 0; i < WD; i++) lane[i] = of_double(lane[i]); \
    return load(lane);                                         \
  }
NEEDLE_INSTRUCTION(sqrt, __builtin_sqrtf, __builtin_sqrt)
NEEDLE_INSTRUCTION(floor, __builtin_floorf, __builtin_floor)
NEEDLE_INSTRUCTION(ceil, __builtin_ceilf, __builtin_ceil)
NEEDLE_INSTRUCTION(rint, __builtin_rintf, __builtin_rint)
NEEDLE_INSTRUCTION(trunc, __builtin_truncf, __builtin_trunc)

// --- Exponentials: x = n ln 2 + r with |r| <= ln 2 / 2, and a polynomial for exp(r) - 1 (Cephes) ---

constexpr float kRoundMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits

struct Reduced {
  vf q;  // exp(r) - 1
  vi n;
};

inline Reduced reduce_exp(vf x) {
  const vf shifted = fma(x, splat(1.44269504088896341f), splat(kRoundMagic));
  const vf n = shifted - kRoundMagic;
  vf r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  vf p = fma(splat(1.9875691500e-4f), r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  return {fma(p, r * r, r), bits(shifted) - 0x4b400000};
}

// 2^n for -126 <= n <= 127
inline vf power_of_two(vi n) { return from_bits((n + 127) << 23); }

// 1.0 ulp
inline vf exp(vf x) {
  x = x > 89.0f ? splat(89.0f) : x;
  x = x < -104.0f ? splat(-104.0f) : x;
  const Reduced e = reduce_exp(x);
  // Two factors, so that overflow and subnormal results round once.
  const vi half = e.n >> 1;
  return (e.q + 1.0f) * power_of_two(half) * power_of_two(e.n - half);
}

// For |x| <= 87.
inline vf exp_bounded(vf x) {
  const Reduced e = reduce_exp(x);
  return (e.q + 1.0f) * power_of_two(e.n);
}

// For x in [-20, 89] or NaN.
inline vf expm1_bounded(vf x) {
  const Reduced e = reduce_exp(x);
  // 2^(n - 1), so that n = 128 is in range.
  const vf s = power_of_two(e.n - 1);
  const vf y = fma(s, e.q, s - 0.5f) * 2.0f;
  return e.n == 0 ? e.q : y;
}

// 1.5 ulp
inline vf expm1(vf x) {
  vf z = x > 89.0f ? splat(89.0f) : x;
  z = z < -20.0f ? splat(-20.0f) : z;
  return x == 0.0f ? x : expm1_bounded(z);
}

// With e = exp(2 |x|) - 1, tanh |x| = e / (e + 2). 2.4 ulp
inline vf tanh(vf x) {
  vf z = abs(x);
  z = z > 10.0f ? splat(10.0f) : z;
  const vf e = expm1_bounded(z + z);
  return copysign(e / (e + 2.0f), x);
}

// --- Logarithms: x = m 2^e with m in [sqrt(1/2), sqrt(2)), and a polynomial for log(m) (Cephes) ---

struct Split {
  vf f;  // m - 1
  vf e;
};

// For x > 0, subnormals included.
inline Split split_log(vf x) {
  const vi tiny = x < 1.17549435e-38f;
  x = tiny ? x * 8388608.0f : x;
  const vi above = bits(x) - 0x3f3504f3;
  const vf m = from_bits((above & 0x7fffff) + 0x3f3504f3);
  const vi e = (above >> 23) - (tiny & 23);
  return {m - 1.0f, __builtin_convertvector(e, vf)};
}

// log(1 + f) - f + f²/2
inline vf log_tail(vf f) {
  vf p = fma(splat(7.0376836292e-2f), f, splat(-1.1514610310e-1f));
  p = fma(p, f, splat(1.1676998740e-1f));
  p = fma(p, f, splat(-1.2420140846e-1f));
  p = fma(p, f, splat(1.4249322787e-1f));
  p = fma(p, f, splat(-1.6668057665e-1f));
  p = fma(p, f, splat(2.0000714765e-1f));
  p = fma(p, f, splat(-2.4999993993e-1f));
  p = fma(p, f, splat(3.3333331174e-1f));
  return p * f * (f * f);
}

// What a logarithm is outside (0, infinity).
inline vf log_edges(vf x, vf y) {
  y = x == INFINITY ? x : y;
  y = x == 0.0f ? splat(-INFINITY) : y;
  return (x < 0.0f) | (x != x) ? splat(NAN) : y;
}

// 0.8 ulp
inline vf log(vf x) {
  const Split s = split_log(x);
  vf y = fma(s.e, splat(-2.12194440e-4f), log_tail(s.f));
  y = fma(splat(-0.5f), s.f * s.f, y);
  return log_edges(x, fma(s.e, splat(0.693359375f), s.f + y));
}

// 1.2 ulp
inline vf log2(vf x) {
  const Split s = split_log(x);
  const vf y = fma(splat(-0.5f), s.f * s.f, log_tail(s.f));
  // log2(e) = 1 + 0.4427
  const vf z = fma(s.f + y, splat(0.44269504088896341f), y);
  return log_edges(x, (z + s.f) + s.e);
}

// log of u = 1 + x rounded, corrected by what the rounding lost. 1.5 ulp
inline vf log1p(vf x) {
  const vf u = x + 1.0f;
  // Where |x| is large, 1 is what may be lost; where it is small, part of x.
  const vf lost = x > 1.0f ? 1.0f - (u - x) : x - (u - 1.0f);
  const vf y = log(u);
  return (u > 0.0f) & (u < INFINITY) & (x != 0.0f) ? y + lost / u : x == 0.0f ? x : y;
}

// --- The error function: a polynomial below 0.93, 1 - exp(polynomial) above (N. Juffa). 1.1 ulp ---

inline vf erf(vf x) {
  const vf z = abs(x);
  const vf t = z > 4.0f ? splat(4.0f) : z, s = t * t;
  vf r = fma(splat(-1.72853470e-5f), t, splat(3.83197126e-4f));
  const vf u = fma(splat(-3.88396438e-3f), t, splat(2.42546219e-2f));
  r = fma(r, s, u);
  r = fma(r, t, splat(-1.06777877e-1f));
  r = fma(r, t, splat(-6.34846687e-1f));
  r = fma(r, t, splat(-1.28717512e-1f));
  r = fma(r, t, -t);
  const vf high = copysign(1.0f - exp_bounded(r), x);
  vf p = fma(splat(-5.96761703e-4f), s, splat(4.99119423e-3f));
  p = fma(p, s, splat(-2.67681349e-2f));
  p = fma(p, s, splat(1.12819925e-1f));
  p = fma(p, s, splat(-3.76125336e-1f));
  p = fma(p, s, splat(1.28379166e-1f));
  const vf low = fma(p, x, x);
  return t > 0.927734375f ? high : low;
}

// --- Sine and cosine: x = n pi/2 + r, pi/2 in parts (Cody and Waite), then polynomials on |r| <= pi/4 ---

#ifdef __FMA__
constexpr float kTrigLimit = 71476.0f;
#else
constexpr float kTrigLimit = 8192.0f;
#endif

// sin(x + quarter pi/2) for |x| < kTrigLimit. 1.5 ulp (2.1 without a fused multiply-add)
inline vf sine_bounded(vf x, int32_t quarter) {
  const vf shifted = fma(x, splat(0.636619772f), splat(kRoundMagic));
  const vf n = shifted - kRoundMagic;
#ifdef __FMA__
  vf r = fma(n, splat(-1.57079601e+00f), x);
  r = fma(n, splat(-3.13916473e-07f), r);
  r = fma(n, splat(-5.39030253e-15f), r);
#else
  // Short parts, whose products with n are exact.
  vf r = fma(n, splat(-0x1.9200000000000p+0f), x);
  r = fma(n, splat(-0x1.fb40000000000p-12f), r);
  r = fma(n, splat(-0x1.4440000000000p-24f), r);
  r = fma(n, splat(-0x1.68c2340000000p-39f), r);
#endif
  const vf s = r * r;
  vf sine = fma(splat(2.86567956e-6f), s, splat(-1.98559923e-4f));
  sine = fma(sine, s, splat(8.33338592e-3f));
  sine = fma(sine, s, splat(-1.66666672e-1f));
  sine = fma(sine, r * s, r);
  vf cosine = fma(splat(2.44677067e-5f), s, splat(-1.38877297e-3f));
  cosine = fma(cosine, s, splat(4.16666567e-2f));
  cosine = fma(cosine, s, splat(-0.5f));
  cosine = fma(cosine, s, splat(1.0f));
  const vi k = bits(shifted) + quarter;
  const vf y = (k & 1) != 0 ? cosine : sine;
  return from_bits(bits(y) ^ ((k & 2) << 30));
}

inline vf sin(vf x) {
  if (__builtin_expect(any(~(abs(x) < kTrigLimit)), 0)) return each<vf, float, W, ::sinf>(x);
  return x == 0.0f ? x : sine_bounded(x, 0);
}

inline vf cos(vf x) {
  if (__builtin_expect(any(~(abs(x) < kTrigLimit)), 0)) return each<vf, float, W, ::cosf>(x);
  return sine_bounded(x, 1);
}

// --- Powers: 2^(b log2 a) in double precision, half a vector at a time ---

typedef float half_vf __attribute__((vector_size(NEEDLE_VECTOR_BYTES / 2)));

constexpr double kDoubleMagic = 6755399441055744.0;  // 1.5 * 2^52
constexpr int64_t kDoubleMagicBits = 0x4338000000000000;

// a^b for floats a >= 0 and b, NaN where log2(a) b has no value.
inline vd power_magnitude(vd a, vd b) {
  const vl above = (vl)a - 0x3fe6a09e667f3bcd;  // sqrt(1/2)
  const vd m = (vd)((above & 0xfffffffffffff) + 0x3fe6a09e667f3bcd);
  const vd e = (vd)((above >> 52) + kDoubleMagicBits) - kDoubleMagic;
  // log(m) = 2 artanh((m - 1) / (m + 1))
  const vd s = (m - 1.0) / (m + 1.0), z = s * s;
  vd p = fma(splat(1.0 / 13), z, splat(1.0 / 11));
  p = fma(p, z, splat(1.0 / 9));
  p = fma(p, z, splat(1.0 / 7));
  p = fma(p, z, splat(1.0 / 5));
  p = fma(p, z, splat(1.0 / 3));
  p = fma(p, z, splat(1.0));
  vd log2a = fma(s * 2.8853900817779268147, p, e);
  log2a = a == 0.0 ? splat(-__builtin_inf()) : log2a;
  log2a = a < __builtin_inf() ? log2a : a;  // infinity and NaN
  vd t = b * log2a;
  t = t > 200.0 ? splat(200.0) : t;
  t = t < -200.0 ? splat(-200.0) : t;
  const vd shifted = t + kDoubleMagic;
  const vd r = (t - (shifted - kDoubleMagic)) * 0.69314718055994530942;
  vd q = fma(splat(1.0 / 40320), r, splat(1.0 / 5040));
  q = fma(q, r, splat(1.0 / 720));
  q = fma(q, r, splat(1.0 / 120));
  q = fma(q, r, splat(1.0 / 24));
  q = fma(q, r, splat(1.0 / 6));
  q = fma(q, r, splat(0.5));
  q = fma(q, r, splat(1.0));
  q = fma(q, r, splat(1.0));
  return q * (vd)(((vl)shifted - kDoubleMagicBits + 1023) << 52);
}

// 0.6 ulp, with the special values of C's pow.
inline vf power(vf a, vf b) {
  const vf size = abs(a);
  half_vf sizes[2], exponents[2];
  __builtin_memcpy(sizes, &size, sizeof size);
  __builtin_memcpy(exponents, &b, sizeof b);
  for (int i = 0; i < 2; i++) {
    const vd y =
        power_magnitude(__builtin_convertvector(sizes[i], vd), __builtin_convertvector(exponents[i], vd));
    sizes[i] = __builtin_convertvector(y, half_vf);
  }
  vf y;
  __builtin_memcpy(&y, sizes, sizeof y);
  const vf half = b * 0.5f;
  const vi whole = rint(b) == b, odd = whole & (rint(half) != half);
  const vi negative = bits(a) < 0;
  y = odd & negative ? -y : y;
  y = (a < 0.0f) & (a > -INFINITY) & ~whole ? splat(NAN) : y;
  const vi endless = (size == 1.0f) & (abs(b) == INFINITY);
  return (b == 0.0f) | (a == 1.0f) | endless ? splat(1.0f) : y;
}

// --- Integers and scalars ---

// Integers have no fraction.
#define NEEDLE_INTEGER(T)           \
  inline T floor(T x) { return x; } \
  inline T ceil(T x) { return x; }  \
  inline T rint(T x) { return x; }  \
  inline T trunc(T x) { return x; } \
  inline bool is_infinite(T) { return false; }
NEEDLE_INTEGER(int32_t)
NEEDLE_INTEGER(int64_t)
NEEDLE_INTEGER(uint8_t)
inline int32_t abs(int32_t x) { return x < 0 ? -x : x; }
inline int64_t abs(int64_t x) { return x < 0 ? -x : x; }
inline uint8_t abs(uint8_t x) { return x; }
inline float floor(float x) { return __builtin_floorf(x); }
inline double floor(double x) { return __builtin_floor(x); }
inline bool is_infinite(float x) { return __builtin_fabsf(x) == __builtin_inff(); }
inline bool is_infinite(double x) { return __builtin_fabs(x) == __builtin_inf(); }

#undef NEEDLE_LANES
#undef NEEDLE_DOUBLE_LANES
#undef NEEDLE_LANES2
#undef NEEDLE_INSTRUCTION
#undef NEEDLE_INTEGER

}  // namespace
