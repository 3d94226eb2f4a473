// The per-level table of the loops of copy.cpp: conversions between dtypes and transposes of tiles.
// Shared by the driver and the ISA file, so it holds plain data only.
#pragma once
#include <stdint.h>

// y = x converted, contiguous. Not 0: some x was NaN, infinite or beyond 64 bits, and y an integer.
typedef int32_t (*CastLoop)(const void* x, void* y, int64_t n);

// y[i * y_step + j] = x[j * x_step + i] for i < rows, j < cols; steps in elements.
typedef void (*TransposeTile)(const void* x, int64_t x_step, void* y, int64_t y_step, int64_t rows,
                              int64_t cols);

struct CopyKernels {
  // By dtype code, source first.
  CastLoop cast[8][8];
  // By log2 of the bytes of an element.
  TransposeTile transpose[4];
};

extern "C" {
extern const CopyKernels copy_v2, copy_v3, copy_v4, copy_generic;
}
