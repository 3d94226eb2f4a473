// The row-major float32 product that matmul.cpp and conv.cpp share.
#pragma once

#include <cstdint>

namespace needle::onednn {

// c (m, n; contiguous) = op(a) op(b), or c += op(a) op(b) with `add`. lda and ldb are the distances between
// the rows of a and b as they lie in memory, that is, before they are transposed.
int32_t gemm(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, const float* a,
             int64_t lda, const float* b, int64_t ldb, bool add, float* c);

}  // namespace needle::onednn
