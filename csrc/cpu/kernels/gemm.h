// The matrix product one thread runs: the arguments and the per-level table of the kernels in gemm.cpp.
// Shared by the drivers (matmul.cpp, conv.cpp) and the ISA file, so it holds plain data only.
#pragma once
#include <stdint.h>

// c (m, n; unit column stride) = a (m, k) times b (k, n), plus bias or plus what c held.
template <typename T>
struct GemmArgs {
  int64_t m, n, k;
  const T* a;
  int64_t a_rs, a_cs;  // strides of a in elements, any
  const T* b;
  int64_t b_rs, b_cs;  // strides of b in elements, any; unused when b is packed
  T* c;
  int64_t ldc;
  const T* bias;  // (n), added to every row when c is overwritten; may be null
  bool add;       // add to c instead of overwriting it
  // b already in panels (see GemmTable), null when b is plain: `packed_n` padded columns in all, of which
  // this product takes those from `packed_j` on (a multiple of `nr`).
  const T* packed;
  int64_t packed_n, packed_j;
  // When not null, the rows of a come from here instead: writes rows [row, row + rows) of the columns
  // [k0, k0 + kc) to out, row-major with row stride ld.
  void (*fill)(const void* context, int64_t row, int64_t rows, int64_t k0, int64_t kc, T* out, int64_t ld);
  const void* context;
  T* work;  // GemmTable::work elements, 64-byte aligned
};

// Packed b: for each block of `kc` rows (a balanced split of k), for each panel of `nr` columns, the rows of
// that panel one after another. The last panel is only as wide as its columns rounded up to `lanes`.
template <typename T>
struct GemmTable {
  int64_t mr, nr, lanes, kc, nb;
  void (*gemm)(const GemmArgs<T>& g);
  // Elements of working memory `gemm` needs.
  int64_t (*work)(const GemmArgs<T>& g);
  // Packs `width` columns of k rows at b as one panel, zeros up to the next multiple of `lanes`.
  void (*panel)(int64_t k, int64_t width, const T* b, int64_t b_rs, int64_t b_cs, T* out);
  // y[i] += a[i] * b[i]
  void (*multiply_add)(int64_t n, const T* a, const T* b, T* y);
};

struct GemmKernels {
  GemmTable<float> f32;
  GemmTable<double> f64;
};

// How a packed b splits k: blocks of equal size in whole vectors, none longer than `limit` (a multiple of
// 16).
static inline int64_t gemm_block(int64_t k, int64_t limit) {
  const int64_t blocks = (k + limit - 1) / limit;
  return blocks > 1 ? ((k + blocks - 1) / blocks + 15) / 16 * 16 : k;
}

extern "C" {
extern const GemmKernels gemm_v2, gemm_v3, gemm_v4, gemm_generic;
}
