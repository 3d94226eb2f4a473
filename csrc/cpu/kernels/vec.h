// One vector vocabulary for every ISA, written with GCC/Clang vector extensions; intrinsics stand only at the
// end, for the few instructions that compilers do not find. Included only by the ISA files of this folder,
// each of which is compiled once per level (v2, v3, v4, ...). Everything lives in an unnamed namespace:
// nothing compiled for one level may be shared with another.
#pragma once
#include <stdint.h>
#ifdef __SSE4_1__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define NEEDLE_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define NEEDLE_VECTOR_BYTES 32
#else
#define NEEDLE_VECTOR_BYTES 16
#endif

// Kernels are stamped once per level: NEEDLE_ISA_NAME(gemm) is gemm_v4 when ISA is v4.
#define NEEDLE_JOIN2(a, b) a##_##b
#define NEEDLE_JOIN(a, b) NEEDLE_JOIN2(a, b)
#define NEEDLE_ISA_NAME(family) NEEDLE_JOIN(family, ISA)

namespace {

constexpr int W = NEEDLE_VECTOR_BYTES / 4;   // float lanes
constexpr int WD = NEEDLE_VECTOR_BYTES / 8;  // double lanes

typedef float vf __attribute__((vector_size(NEEDLE_VECTOR_BYTES)));
typedef double vd __attribute__((vector_size(NEEDLE_VECTOR_BYTES)));
typedef int32_t vi __attribute__((vector_size(NEEDLE_VECTOR_BYTES)));
typedef int64_t vl __attribute__((vector_size(NEEDLE_VECTOR_BYTES)));
// The same types at element alignment, for loads and stores anywhere.
typedef float vf_any __attribute__((vector_size(NEEDLE_VECTOR_BYTES), aligned(4), may_alias));
typedef double vd_any __attribute__((vector_size(NEEDLE_VECTOR_BYTES), aligned(8), may_alias));

inline vf load(const float* p) { return *reinterpret_cast<const vf_any*>(p); }
inline vd load(const double* p) { return *reinterpret_cast<const vd_any*>(p); }
inline void store(float* p, vf v) { *reinterpret_cast<vf_any*>(p) = v; }
inline void store(double* p, vd v) { *reinterpret_cast<vd_any*>(p) = v; }
// x - 0 folds to x for every x; x + 0 would not (-0 + 0 is +0).
inline vf splat(float x) { return x - vf{}; }
inline vd splat(double x) { return x - vd{}; }
// Contracted to one fused multiply-add where the ISA has it (-ffp-contract=fast); clang does not contract to
// WebAssembly's, which may round once or twice as the machine likes.
#ifdef __wasm_relaxed_simd__
inline vf fma(vf a, vf b, vf c) { return __builtin_wasm_relaxed_madd_f32x4(a, b, c); }
inline vd fma(vd a, vd b, vd c) { return __builtin_wasm_relaxed_madd_f64x2(a, b, c); }
#else
inline vf fma(vf a, vf b, vf c) { return a * b + c; }
inline vd fma(vd a, vd b, vd c) { return a * b + c; }
#endif

inline vi bits(vf x) { return (vi)x; }
inline vf from_bits(vi x) { return (vf)x; }
inline vi isplat(int32_t x) { return x - vi{}; }
inline vf abs(vf x) { return from_bits(bits(x) & 0x7fffffff); }
inline vd abs(vd x) { return (vd)((vl)x & 0x7fffffffffffffff); }

// at_most, at_least: x, or the bound where it is beyond; NaN stays. all_within: every lane has |x| <= limit.
// all_normal: every lane is positive, and neither subnormal nor infinite.
#if defined(__AVX512F__)
// load_first, store_first: the first n lanes from and to memory; the others are `fill`, or stay unwritten.
inline vf load_first(const float* p, int64_t n, float fill) {
  return _mm512_mask_loadu_ps(splat(fill), __mmask16((1u << n) - 1), p);
}
inline vd load_first(const double* p, int64_t n, double fill) {
  return _mm512_mask_loadu_pd(splat(fill), __mmask8((1u << n) - 1), p);
}
inline void store_first(float* p, int64_t n, vf v) { _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), v); }
inline void store_first(double* p, int64_t n, vd v) { _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), v); }
// Masked with all lanes, because GCC 12 warns of what the plain intrinsics leave undefined.
inline vf at_most(vf x, float bound) { return _mm512_maskz_min_ps(0xffff, splat(bound), x); }
inline vf at_least(vf x, float bound) { return _mm512_maskz_max_ps(0xffff, splat(bound), x); }
inline bool all_within(vf x, float limit) {
  return _mm512_cmp_ps_mask(abs(x), splat(limit), _CMP_NLE_UQ) == 0;
}
inline bool all_normal(vf x) {
  const vi above = bits(x) - 0x00800000;
  return _mm512_cmpgt_epu32_mask((__m512i)above, (__m512i)isplat(0x7effffff)) == 0;
}
#else
template <typename V, typename T>
inline V load_lanes(const T* p, int64_t n, T fill) {
  alignas(V) T lane[sizeof(V) / sizeof(T)];
  for (T& x : lane) x = fill;
  for (int64_t j = 0; j < n; j++) lane[j] = p[j];
  return load(lane);
}
template <typename V, typename T>
inline void store_lanes(T* p, int64_t n, V v) {
  alignas(V) T lane[sizeof(V) / sizeof(T)];
  store(lane, v);
  for (int64_t j = 0; j < n; j++) p[j] = lane[j];
}
inline vf load_first(const float* p, int64_t n, float fill) { return load_lanes<vf>(p, n, fill); }
inline vd load_first(const double* p, int64_t n, double fill) { return load_lanes<vd>(p, n, fill); }
inline void store_first(float* p, int64_t n, vf v) { store_lanes(p, n, v); }
inline void store_first(double* p, int64_t n, vd v) { store_lanes(p, n, v); }
#if defined(__AVX2__)
inline vf at_most(vf x, float bound) { return _mm256_min_ps(splat(bound), x); }
inline vf at_least(vf x, float bound) { return _mm256_max_ps(splat(bound), x); }
inline bool all(vi mask) { return _mm256_movemask_ps((vf)mask) == 0xff; }
#elif defined(__SSE4_1__)
inline vf at_most(vf x, float bound) { return _mm_min_ps(splat(bound), x); }
inline vf at_least(vf x, float bound) { return _mm_max_ps(splat(bound), x); }
inline bool all(vi mask) { return _mm_movemask_ps((vf)mask) == 0xf; }
#else
inline vf at_most(vf x, float bound) { return x > bound ? splat(bound) : x; }
inline vf at_least(vf x, float bound) { return x < bound ? splat(bound) : x; }
inline bool all(vi mask) {
  typedef int64_t pair __attribute__((vector_size(16)));
  pair parts[sizeof(vi) / 16];
  __builtin_memcpy(parts, &mask, sizeof mask);
  pair both = parts[0];
  for (unsigned i = 1; i < sizeof(vi) / 16; i++) both &= parts[i];
  return (both[0] & both[1]) == -1;
}
#endif
inline bool all_within(vf x, float limit) { return all(abs(x) <= limit); }
inline bool all_normal(vf x) { return all((x >= 1.17549435e-38f) & (x <= 3.40282347e+38f)); }
#endif

}  // namespace
