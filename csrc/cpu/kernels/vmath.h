// Mathematical functions over vectors of floats, right at infinities, NaN, zeros, subnormals and overflow.
// What is rare is left to a second way, taken where any lane needs it; a lane's value is the same on both.
// The bound at each function is the largest error over all floats, in units in the last place; in brackets
// the one without a fused multiply-add, where it differs. Functions of doubles, and the rarer ones, call the
// C library lane by lane. Included by ISA files only.
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

inline vf copysign(vf x, vf sign) { return from_bits(bits(x) | (bits(sign) & isplat(INT32_MIN))); }

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

// --- Exponentials: x = n ln 2 + r with |r| <= ln 2 / 2, and polynomials for exp(r) and exp(r) - 1 ---

constexpr float kRoundMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
constexpr float kExpLimit = 86.6f;          // up to here |n| <= 125

struct Reduced {
  vf r;
  vi n;  // in the low bits: shifted left by 23 nothing else is left of it
};

inline Reduced reduce_exp(vf x) {
  const vf shifted = fma(x, splat(1.44269504088896341f), splat(kRoundMagic));
  const vf n = shifted - kRoundMagic;
  const vf r = fma(n, splat(-0.693359375f), x);
  return {fma(n, splat(2.12194440e-4f), r), bits(shifted)};
}

// exp(r)
inline vf exp_tail(vf r) {
  vf p = fma(splat(0x1.6a524ep-10f), r, splat(0x1.12396ep-7f));
  p = fma(p, r, splat(0x1.5558aap-5f));
  p = fma(p, r, splat(0x1.555492p-3f));
  p = fma(p, r, splat(0x1.fffffcp-2f));
  p = fma(p, r, splat(1.0f));
  return fma(p, r, splat(1.0f));
}

// exp(r) - 1. Even and odd powers by themselves: half the latency.
inline vf expm1_tail(vf r) {
  const vf s = r * r;
  vf even = fma(splat(0x1.6d3a38p-10f), s, splat(0x1.5554f8p-5f));
  vf odd = fma(splat(0x1.9e69e6p-13f), s, splat(0x1.1112dcp-7f));
  even = fma(even, s, splat(0.5f));
  odd = fma(odd, s, splat(0x1.555554p-3f));
  return fma(fma(odd, r, even), s, r);
}

// 2^n for -126 <= n <= 127
inline vf power_of_two(vi n) { return from_bits((n + 127) << 23); }

// y 2^n where neither y nor the result is subnormal.
inline vf scale(vf y, vi n) { return from_bits(bits(y) + (n << 23)); }

// For |x| <= kExpLimit.
inline vf exp_bounded(vf x) {
  const Reduced e = reduce_exp(x);
  return scale(exp_tail(e.r), e.n);
}

// For every x: the same values where exp_bounded has them.
inline vf exp_unbounded(vf x) {
  x = at_least(at_most(x, 89.0f), -104.0f);
  const Reduced e = reduce_exp(x);
  // Two factors, so that overflow and subnormal results round once.
  const vi n = e.n - 0x4b400000, half = n >> 1;
  return exp_tail(e.r) * power_of_two(half) * power_of_two(n - half);
}

// 0.9 ulp (1.2 without a fused multiply-add)
inline vf exp(vf x) {
  if (__builtin_expect(all_within(x, kExpLimit), 1)) return exp_bounded(x);
  return exp_unbounded(x);
}

// For x in [-20, 89] or NaN.
inline vf expm1_bounded(vf x) {
  const Reduced e = reduce_exp(x);
  const vf q = expm1_tail(e.r);
  // 2^(n - 1), so that n = 128 is in range.
  const vf s = scale(splat(0.5f), e.n);
  const vf y = fma(s, q, s - 0.5f) * 2.0f;
  return s == 0.5f ? q : y;
}

// 1.5 ulp (1.6)
inline vf expm1(vf x) { return x == 0.0f ? x : expm1_bounded(at_least(at_most(x, 89.0f), -20.0f)); }

// With h = (exp(2 |x|) - 1) / 2, tanh |x| = h / (h + 1) = h - h tanh |x|. The second form takes back what
// rounding lost in the first where h is small. 1.8 ulp
inline vf tanh(vf x) {
  const vf z = at_most(abs(x), 10.0f);
  const vf shifted = fma(z, splat(2.88539008177792681f), splat(kRoundMagic));
  const vf n = shifted - kRoundMagic;
  vf r = fma(n, splat(-0.3466796875f), z);
  r = fma(n, splat(1.06097220e-4f), r);
  // The polynomial of expm1_tail, for (exp(2 r) - 1) / 2
  const vf t = r * r;
  vf even = fma(splat(0x1.6d3a38p-5f), t, splat(0x1.5554f8p-2f));
  vf odd = fma(splat(0x1.9e69e6p-7f), t, splat(0x1.1112dcp-3f));
  even = fma(even, t, splat(1.0f));
  odd = fma(odd, t, splat(0x1.555554p-1f));
  const vf q = fma(fma(odd, r, even), t, r);
  const vf s = scale(splat(1.0f), bits(shifted));
  const vf h = fma(s, q, fma(s, splat(0.5f), splat(-0.5f))), y = h / (h + 1.0f);
  return copysign(h < 0.5f ? fma(-h, y, h) : y, x);
}

// 2.4 ulp
inline vf sigmoid(vf x) {
  if (__builtin_expect(all_within(x, kExpLimit), 1)) return 1.0f / (exp_bounded(-x) + 1.0f);
  return x < -kExpLimit ? exp_unbounded(x) : 1.0f / (exp_unbounded(-x) + 1.0f);
}

// --- The normal distribution: erfc(z / sqrt(2)) / 2 = 2^(z Q(z) - 1) for z >= 0, with a polynomial Q ---

constexpr float kNormalLimit = 10.0f;

// The upper tail of the distribution; 0 from kNormalLimit on, where it is below 1e-23.
inline vf normal_tail(vf z) {
  const vf s = z * z;
  vf even = fma(splat(0x1.dadac4p-38f), s, splat(0x1.b56f0ap-27f));
  vf odd = fma(splat(-0x1.e11a50p-32f), s, splat(-0x1.d7a124p-23f));
  even = fma(even, s, splat(0x1.4ee942p-19f));
  odd = fma(odd, s, splat(-0x1.470f7ep-16f));
  even = fma(even, s, splat(0x1.b45cf6p-14f));
  odd = fma(odd, s, splat(-0x1.5ea50ap-12f));
  even = fma(even, s, splat(0x1.099d8ep-14f));
  odd = fma(odd, s, splat(0x1.c4cf9ap-8f));
  even = fma(even, s, splat(-0x1.ad8a66p-5f));
  odd = fma(odd, s, splat(-0x1.d63d86p-2f));
  even = fma(even, s, splat(-0x1.26aeccp+0f));
  const vf q = fma(odd, z, even);
  const vf shifted = fma(q, z, splat(kRoundMagic));
  const vf r = fma(q, z, kRoundMagic - shifted);
  // 2^r / 2
  vf p = fma(splat(0x1.416b7ep-14f), r, splat(0x1.5f0838p-11f));
  p = fma(p, r, splat(0x1.3b2de0p-8f));
  p = fma(p, r, splat(0x1.c6af7cp-6f));
  p = fma(p, r, splat(0x1.ebfbdcp-4f));
  p = fma(p, r, splat(0x1.62e430p-2f));
  p = fma(p, r, splat(0.5f));
  return z < kNormalLimit ? scale(p, bits(shifted)) : splat(0.0f);
}

// x Phi(x) = max(x, 0) - |x| Phi(-|x|). 1.4 ulp (1.6) for x > 0, 2.1 (2.7) for x > -1; then the relative
// error grows with x², to 14 ulp (20) at -4 and 1e-3 at -10.
inline vf gelu(vf x) {
  const vf z = abs(x), tail = normal_tail(z);
  return at_least(x, 0.0f) - (x < kNormalLimit ? z : 0.0f) * tail;  // at -infinity infinity times 0: NaN
}

// Phi(x) + x phi(x)
inline vf gelu_slope(vf x) {
  const vf z = abs(x), tail = normal_tail(z);
  vf density = exp_bounded(x * x * -0.5f) * 0.39894228040143267794f;
  density = z < 13.0f ? density : splat(0.0f);
  return fma(x, density, x < 0.0f ? tail : 1.0f - tail);
}

// --- Logarithms: x = m 2^e with m in [sqrt(1/2), sqrt(2)), and a polynomial for log(m) (Cephes) ---

struct Split {
  vf f;  // m - 1
  vf e;
};

// For normal x > 0.
inline Split split_normal(vf x) {
  const vi above = bits(x) - 0x3f3504f3;
  const vf m = from_bits((above & 0x7fffff) + 0x3f3504f3);
  return {m - 1.0f, __builtin_convertvector(above >> 23, vf)};
}

// For x > 0, subnormals included.
inline Split split_log(vf x) {
  const vi tiny = x < 1.17549435e-38f;
  const Split s = split_normal(tiny ? x * 8388608.0f : x);
  return {s.f, tiny ? s.e - 23.0f : s.e};
}

// log(1 + f) - f + f²/2
inline vf log_tail(vf f) {
  const vf s = f * f;
  vf even = fma(splat(7.0376836292e-2f), s, splat(1.1676998740e-1f));
  vf odd = fma(splat(-1.1514610310e-1f), s, splat(-1.2420140846e-1f));
  even = fma(even, s, splat(1.4249322787e-1f));
  odd = fma(odd, s, splat(-1.6668057665e-1f));
  even = fma(even, s, splat(2.0000714765e-1f));
  odd = fma(odd, s, splat(-2.4999993993e-1f));
  even = fma(even, s, splat(3.3333331174e-1f));
  return fma(odd, f, even) * f * s;
}

// What a logarithm is outside (0, infinity).
inline vf log_edges(vf x, vf y) {
  y = x == INFINITY ? x : y;
  y = x == 0.0f ? splat(-INFINITY) : y;
  return (x < 0.0f) | (x != x) ? splat(NAN) : y;
}

inline vf log_of(Split s) {
  vf y = fma(s.e, splat(-2.12194440e-4f), log_tail(s.f));
  y = fma(splat(-0.5f), s.f * s.f, y);
  return fma(s.e, splat(0.693359375f), s.f + y);
}

// 0.9 ulp
inline vf log(vf x) {
  if (__builtin_expect(all_normal(x), 1)) return log_of(split_normal(x));
  return log_edges(x, log_of(split_log(x)));
}

// 1.3 ulp (1.4)
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

// --- The error function: a polynomial below 0.93, 1 - exp(polynomial) above (N. Juffa). 1.0 ulp (1.2) ---

inline vf erf(vf x) {
  const vf z = abs(x);
  const vf t = at_most(z, 4.0f), s = t * t;
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

// sin(x + quarter pi/2) for |x| <= kTrigLimit. 1.5 ulp (2.3)
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
  const vf y = x == 0.0f ? x : sine_bounded(x, 0);
  if (__builtin_expect(all_within(x, kTrigLimit), 1)) return y;
  return abs(x) <= kTrigLimit ? y : each<vf, float, W, ::sinf>(x);
}

inline vf cos(vf x) {
  const vf y = sine_bounded(x, 1);
  if (__builtin_expect(all_within(x, kTrigLimit), 1)) return y;
  return abs(x) <= kTrigLimit ? y : each<vf, float, W, ::cosf>(x);
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
