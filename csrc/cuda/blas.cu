// Matrix products through cuBLAS, whose matrices are column-major: the transpose of ours. float32 is
// multiplied as such, without TF32; halves on tensor cores with sums in float32. One handle and workspace per
// device.
#include "blas.h"

#include <algorithm>
#include <utility>

#include "dynlib.h"
#include "elementwise.h"

namespace needle {
namespace {

// Of cublas_api.h and library_types.h.
constexpr int kNormal = 0, kTransposed = 1, kDefaultAlgorithm = -1, kSum32 = 68, kSum64 = 70, kNoMemory = 3;

int cublas_type(DType dtype) {
  constexpr int types[] = {0, 1, 2, 14};  // CUDA_R_32F, CUDA_R_64F, CUDA_R_16F, CUDA_R_16BF
  return types[dtype];
}

struct Handle {
  void* handle = nullptr;
  void* workspace = nullptr;
};
thread_local Handle handles[kMaxDevices];

// The handle of the current device, made at first use, or null.
void* handle_of(const Cublas* blas) {
  Handle& h = handles[current_device()];
  if (h.handle) return h.handle;
  int status = blas->cublasCreate_v2(&h.handle);
  if (status == 0) status = blas->cublasSetStream_v2(h.handle, stream());
  if (status != 0) {
    h.handle = nullptr;
    give_up_cublas(blas->cublasGetStatusString(status));
    return nullptr;
  }
  // A workspace of our own: with it a product gives the same bits every time. Without memory cuBLAS has its
  // own.
  constexpr size_t kWorkspace = size_t(32) << 20;
  if (cudaMalloc(&h.workspace, kWorkspace) == cudaSuccess) {
    blas->cublasSetWorkspace_v2(h.handle, h.workspace, kWorkspace);
  } else {
    cudaGetLastError();
  }
  return h.handle;
}

// A matrix as BLAS describes it: stored row by row, or (transposed) column by column, `ld` elements apart.
struct Stored {
  bool valid, transposed;
  int64_t ld;
};

Stored stored(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride) {
  if ((col_stride == 1 || cols == 1) && (rows == 1 || row_stride >= cols)) {
    return {true, false, rows == 1 ? cols : row_stride};
  }
  if ((row_stride == 1 || rows == 1) && (cols == 1 || col_stride >= rows)) {
    return {true, true, cols == 1 ? rows : col_stride};
  }
  return {false, false, 0};
}

struct Same {
  template <typename T>
  NEEDLE_DEVICE T operator()(T x) const {
    return x;
  }
};

// Fills y (rows, columns) with one row.
template <typename Bits>
int32_t repeat_row(const void* row, void* y, int64_t rows, int64_t columns) {
  const double r = double(rows), c = double(columns), desc[] = {2, r, c, 0, 1, c, 1};
  return run(static_cast<Bits*>(y), r * c, desc, Same(), Argument<Bits>{static_cast<const Bits*>(row), 0});
}

struct BatchDim {
  int64_t size, a, b;
};

}  // namespace

int32_t blas_multiply(DType dtype, const void* a, const void* b, const void* bias, void* c,
                      const double* desc) {
  if (dtype > kBfloat16) return kDeclined;
  const Cublas* const blas = cublas();
  if (!blas) return kDeclined;
  const int64_t m = int64_t(desc[0]), n = int64_t(desc[1]), k = int64_t(desc[2]), ndim = int64_t(desc[7]);
  const Stored sa = stored(m, k, int64_t(desc[3]), int64_t(desc[4]));
  const Stored sb = stored(k, n, int64_t(desc[5]), int64_t(desc[6]));
  constexpr int64_t kMost = (int64_t(1) << 31) - 1;
  if (m * n * k == 0 || !sa.valid || !sb.valid || ndim > kMaxDims) return kDeclined;
  if (m > kMost || n > kMost || k > kMost || sa.ld > kMost || sb.ld > kMost) return kDeclined;
  // Batch dims, the last one for cuBLAS: neighbours merged where both factors allow it.
  const double *shape = desc + 8, *a_strides = shape + ndim, *b_strides = a_strides + ndim;
  BatchDim dims[kMaxDims] = {};
  int count = 0;
  int64_t products = 1;
  for (int64_t d = 0; d < ndim; d++) {
    const BatchDim dim{int64_t(shape[d]), int64_t(a_strides[d]), int64_t(b_strides[d])};
    products *= dim.size;
    if (dim.size == 1) continue;
    BatchDim* const last = count > 0 ? &dims[count - 1] : nullptr;
    if (last && last->a == dim.a * dim.size && last->b == dim.b * dim.size) {
      *last = {last->size * dim.size, dim.a, dim.b};
    } else {
      dims[count++] = dim;
    }
  }
  if (products == 0) return kDeclined;
  const BatchDim inner = count > 0 ? dims[--count] : BatchDim{1, 0, 0};
  if (inner.size > kMost) return kDeclined;
  void* const handle = handle_of(blas);
  if (!handle) return kDeclined;

  const int64_t bytes = dtype_bytes(dtype), size = m * n;
  if (bias) {
    const auto fill = bytes == 2   ? repeat_row<uint16_t>
                      : bytes == 4 ? repeat_row<uint32_t>
                                   : repeat_row<uint64_t>;
    const int32_t status = fill(bias, c, products * m, n);
    if (status != kOk) return status;
  }
  const int type = cublas_type(dtype);
  const float one32 = 1, beta32 = bias ? 1.0f : 0.0f;
  const double one64 = 1, beta64 = bias ? 1.0 : 0.0;
  const bool wide = dtype == kFloat64;
  const void* const alpha = wide ? static_cast<const void*>(&one64) : &one32;
  const void* const beta = wide ? static_cast<const void*>(&beta64) : &beta32;
  const char *const from_a = static_cast<const char*>(a), *const from_b = static_cast<const char*>(b);
  char* const to = static_cast<char*>(c);
  stream();  // launches what waits
  for (int64_t at = 0; at < products; at += inner.size) {
    int64_t a_at = 0, b_at = 0;
    for (int64_t d = count - 1, rest = at / inner.size; d >= 0; rest /= dims[d--].size) {
      a_at += rest % dims[d].size * dims[d].a;
      b_at += rest % dims[d].size * dims[d].b;
    }
    // The transpose: b comes first, and columns of c are its rows.
    const int status = blas->cublasGemmStridedBatchedEx(
        handle, sb.transposed ? kTransposed : kNormal, sa.transposed ? kTransposed : kNormal, int(n), int(m),
        int(k), alpha, from_b + b_at * bytes, type, int(sb.ld), inner.b, from_a + a_at * bytes, type,
        int(sa.ld), inner.a, beta, to + at * size * bytes, type, int(n), size, int(inner.size),
        wide ? kSum64 : kSum32, kDefaultAlgorithm);
    if (status == 0) continue;
    return fail(status == kNoMemory ? kOutOfMemory : kInternal, "cuBLAS: %s",
                blas->cublasGetStatusString(status));
  }
  return kOk;
}

}  // namespace needle
