// Matrix products for the drivers that are made of them.
#pragma once
#include "device.h"

namespace needle {

// c = a b, plus `bias` in every row unless it is null, with the descriptor of matmul: by cuBLAS where it is
// loaded, else by our own kernels, which decline halves. a, b and c may lie in scratch memory, but not in
// kScratchGemm.
int32_t multiply_matrices(DType dtype, const void* a, const void* b, const void* bias, void* c,
                          const double* desc);

}  // namespace needle
