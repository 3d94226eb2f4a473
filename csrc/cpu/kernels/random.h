// Random numbers on n contiguous elements: the per-level table of the kernels in random.cpp.
// Shared by the driver (cpu/random.cpp) and the ISA file, so it holds plain data only.
#pragma once
#include <stdint.h>

// Words of Philox4x32-10 from block `first` on, four per block (lib/rng.ts defines the stream).
struct PhiloxStream {
  uint64_t seed;
  uint64_t first;
};

struct RandomKernels {
  // The first n words of the stream.
  void (*words)(PhiloxStream stream, int64_t n, uint32_t* y);
  // y = low + u range with 24-bit u; a word per element.
  void (*uniform)(PhiloxStream stream, int64_t n, double low, float range, float* y);
  // y = mean + std z; a word per element, pairs of words making pairs of z.
  void (*normal)(PhiloxStream stream, int64_t n, float mean, float std, float* y);
  // mask = word < threshold; y = x mask scale. The threshold is up to 2^32.
  void (*dropout)(PhiloxStream stream, int64_t n, uint64_t threshold, float scale, const float* x, float* y,
                  uint8_t* mask);
  // y = x mask scale.
  void (*scale_f32)(int64_t n, float scale, const float* x, const uint8_t* mask, float* y);
  void (*scale_f64)(int64_t n, double scale, const double* x, const uint8_t* mask, double* y);
};

extern "C" {
extern const RandomKernels random_v2, random_v3, random_v4, random_generic;
}
