// One vector vocabulary for every ISA, written with GCC/Clang vector extensions: no intrinsics.
// Included only by the ISA files of this folder, each of which is compiled once per level (v2, v3, v4, ...).
// Everything lives in an unnamed namespace: nothing compiled for one level may be shared with another.
#pragma once
#include <stdint.h>

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
// Contracted to one fused multiply-add where the ISA has it (-ffp-contract=fast).
inline vf fma(vf a, vf b, vf c) { return a * b + c; }
inline vd fma(vd a, vd b, vd c) { return a * b + c; }

}  // namespace
