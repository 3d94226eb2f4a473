// Reductions of runs of elements: the per-level table of the kernels in reduce.cpp.
#pragma once
#include <stdint.h>

// Accumulators are double for floating point and int64 for integers and bool.
struct ReduceKernel {
  // Takes n elements, `stride` apart, into one accumulator. `shift` (deviations only) is what is subtracted.
  void (*row)(const void* x, int64_t n, int64_t stride, const double* shift, void* accumulator);
  // Takes n elements, `stride` apart, of each of `rows` rows into an accumulator per row.
  void (*rows)(const void* x, int64_t rows, int64_t row_stride, int64_t n, int64_t stride,
               const double* shift, void* accumulators);
  // Takes `rows` rows of n contiguous elements, `stride` apart, into n accumulators.
  void (*columns)(const void* x, int64_t rows, int64_t stride, int64_t n, const double* shift,
                  void* accumulators);
};

struct PositionKernel {
  // The first position of the extreme of n contiguous elements; NaN wins.
  int64_t (*row)(const void* x, int64_t n);
  // The same for each of n columns of `rows` rows that lie `stride` apart.
  void (*columns)(const void* x, int64_t rows, int64_t stride, int64_t n, int64_t* positions);
};

// Indices of the element types in the tables.
enum ReduceType { kReduceFloat, kReduceDouble, kReduceInt64, kReduceInt32, kReduceUint8, kReduceTypes };

struct ReduceKernels {
  ReduceKernel sum[3], prod[3], squares[2], deviations[2];
  ReduceKernel max[kReduceTypes], min[kReduceTypes];
  PositionKernel argmax[kReduceTypes], argmin[kReduceTypes];
};

extern "C" {
extern const ReduceKernels reduce_v2, reduce_v3, reduce_v4, reduce_generic;
}
