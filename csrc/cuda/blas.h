// Matrix products by cuBLAS, where it is loaded (dynlib.h) and can express them.
#pragma once
#include "device.h"

namespace needle {

// c = a b, plus `bias` (n) in every row unless it is null: floats of one dtype, halves included, with the
// descriptor of matmul. kDeclined where our own kernels have to do it.
int32_t blas_multiply(DType dtype, const void* a, const void* b, const void* bias, void* c,
                      const double* desc);

}  // namespace needle
