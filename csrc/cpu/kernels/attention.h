// The parts of attention that work on one row of scores: the per-level table of the kernels in attention.cpp.
// Shared by the driver (cpu/attention.cpp) and the ISA file, so it holds plain data only.
#pragma once
#include <stdint.h>

template <typename T>
struct AttentionTable {
  // s = s * scale + bias (null: none); returns the largest, -inf for n = 0. NaN is passed over.
  T (*scores)(int64_t n, T scale, const T* bias, T* s);
  // s = exp(s - shift); returns the sum.
  T (*exponentials)(int64_t n, T shift, T* s);
  // y = y * factor
  void (*scale)(int64_t n, T factor, T* y);
  // d = p * (d - mean) * scale
  void (*gradient)(int64_t n, const T* p, T mean, T scale, T* d);
};

struct AttentionKernels {
  AttentionTable<float> f32;
  AttentionTable<double> f64;
};

extern "C" {
extern const AttentionKernels attention_v2, attention_v3, attention_v4, attention_generic;
}
