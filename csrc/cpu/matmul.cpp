// needle_matmul and needle_linear: strided and batched matrix products split over threads.
// float32 and float64 run the register-tiled kernels; the integers run plain loops; halves are declined.
#include <algorithm>
#include <atomic>
#include <utility>

#include "../common.h"
#include "gemm_split.h"

namespace needle {
namespace {

// A batch of products; the outputs lie one after another.
template <typename T>
struct Batch {
  GemmArgs<T> g;
  int64_t count, ndim;
  const double *shape, *a_strides, *b_strides;
};

// Moves a and b of `g` to product number `index` of the batch.
template <typename T>
void advance(const Batch<T>& batch, int64_t index, GemmArgs<T>& g) {
  g.c += index * batch.g.m * batch.g.ldc;
  for (int64_t d = batch.ndim - 1; d >= 0; d--) {
    const int64_t size = int64_t(batch.shape[d]), i = index % size;
    index /= size;
    g.a += i * int64_t(batch.a_strides[d]);
    g.b += i * int64_t(batch.b_strides[d]);
  }
}

// Treats the batch as more rows where b is the same for all and the rows of a go on evenly.
template <typename T>
void fold(Batch<T>& batch) {
  GemmArgs<T>& g = batch.g;
  while (batch.ndim > 0) {
    const int64_t d = batch.ndim - 1, size = int64_t(batch.shape[d]);
    if (size != 1) {
      if (batch.b_strides[d] != 0 || (g.m > 1 && batch.a_strides[d] != double(g.m * g.a_rs))) return;
      if (g.m == 1) g.a_rs = int64_t(batch.a_strides[d]);
      g.m *= size;
      batch.count /= size;
    }
    batch.ndim--;
  }
}

template <typename T>
int32_t run(Batch<T>& batch) {
  if (batch.count == 0 || batch.g.m == 0 || batch.g.n == 0) return kOk;
  fold(batch);
  GemmArgs<T>& g = batch.g;
  // One column: as one row of the transposed product, c being contiguous either way.
  const T* row_bias = nullptr;
  if (g.n == 1 && g.m > 1) {
    std::swap(g.a, g.b);
    std::swap(batch.a_strides, batch.b_strides);
    std::swap(g.a_rs, g.b_cs);
    std::swap(g.a_cs, g.b_rs);
    std::swap(g.m, g.n);
    std::swap(row_bias, g.bias);
    g.ldc = g.n;
  }
  const GemmTable<T>& table = gemm_table<T>();
  const int64_t threads = gemm_threads(double(batch.count) * double(g.m) * double(g.n) * double(g.k));
  GemmGrid grid{1, 1};
  if (batch.count < 4 * threads && batch.count % threads != 0) {
    const bool small = g.m <= 4 * table.mr;
    const int64_t a_cost = 16 * ceil_div(g.n, table.nb), b_cost = g.b_rs == 1 ? 32 : small ? 4 : 12;
    grid = gemm_grid(g.m, g.n, threads, table.nr, a_cost, b_cost);
  }
  const int64_t slices = grid.rows * grid.cols;
  std::atomic<bool> failed{false};
  parallel_tasks(batch.count * slices, threads, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t i = task % slices / grid.cols, j = task % grid.cols;
      GemmArgs<T> part = g;
      advance(batch, task / slices, part);
      const int64_t m0 = slice_start(g.m, 1, i, grid.rows), n0 = slice_start(g.n, table.nr, j, grid.cols);
      part.m = slice_start(g.m, 1, i + 1, grid.rows) - m0;
      part.n = slice_start(g.n, table.nr, j + 1, grid.cols) - n0;
      if (part.m == 0 || part.n == 0) continue;
      part.a += m0 * g.a_rs;
      part.b += n0 * g.b_cs;
      part.c += m0 * g.ldc + n0;
      if (part.bias) part.bias += n0;
      part.work = static_cast<T*>(scratch(kScratchGemm, size_t(table.work(part)) * sizeof(T)));
      if (!part.work) {
        failed = true;
        return;
      }
      table.gemm(part);
      if (row_bias) {
        for (int64_t x = 0; x < part.n; x++) part.c[x] += row_bias[0];
      }
    }
  });
  return failed ? out_of_memory() : kOk;
}

// Integers: row by row, wrapping. U is the unsigned type of T's width.
template <typename T, typename U>
int32_t run_integers(const Batch<T>& batch) {
  const GemmArgs<T>& g = batch.g;
  const double work = double(batch.count) * double(g.m) * double(g.n) * double(g.k);
  parallel_tasks(batch.count * g.m, gemm_threads(work), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      GemmArgs<T> part = g;
      advance(batch, row / g.m, part);
      const T* a = part.a + row % g.m * g.a_rs;
      T* c = part.c + row % g.m * g.ldc;
      std::fill(c, c + g.n, T(0));
      for (int64_t p = 0; p < g.k; p++) {
        const U value = U(a[p * g.a_cs]);
        const T* b = part.b + p * g.b_rs;
        if (g.b_cs == 1) {
          for (int64_t j = 0; j < g.n; j++) c[j] = T(U(U(c[j]) + U(value * U(b[j]))));
        } else {
          for (int64_t j = 0; j < g.n; j++) c[j] = T(U(U(c[j]) + U(value * U(b[j * g.b_cs]))));
        }
      }
    }
  });
  return kOk;
}

template <typename T>
Batch<T> make_batch(const void* a, double a_off, const void* b, double b_off, void* out, double out_off,
                    const double* desc) {
  Batch<T> batch{};
  GemmArgs<T>& g = batch.g;
  g.m = int64_t(desc[0]), g.n = int64_t(desc[1]), g.k = int64_t(desc[2]);
  g.a_rs = int64_t(desc[3]), g.a_cs = int64_t(desc[4]);
  g.b_rs = int64_t(desc[5]), g.b_cs = int64_t(desc[6]);
  g.a = static_cast<const T*>(a) + int64_t(a_off);
  g.b = static_cast<const T*>(b) + int64_t(b_off);
  g.c = static_cast<T*>(out) + int64_t(out_off);
  g.ldc = g.n;
  batch.ndim = int64_t(desc[7]);
  batch.shape = desc + 8;
  batch.a_strides = batch.shape + batch.ndim;
  batch.b_strides = batch.a_strides + batch.ndim;
  batch.count = 1;
  for (int64_t d = 0; d < batch.ndim; d++) batch.count *= int64_t(batch.shape[d]);
  return batch;
}

template <typename T>
int32_t matmul(const void* a, double a_off, const void* b, double b_off, void* out, double out_off,
               const double* desc) {
  Batch<T> batch = make_batch<T>(a, a_off, b, b_off, out, out_off, desc);
  return run(batch);
}

template <typename T, typename U>
int32_t matmul_integers(const void* a, double a_off, const void* b, double b_off, void* out, double out_off,
                        const double* desc) {
  return run_integers<T, U>(make_batch<T>(a, a_off, b, b_off, out, out_off, desc));
}

template <typename T>
int32_t linear(const void* x, double x_off, const void* w, double w_off, const void* bias, double bias_off,
               void* y, double y_off, const double* desc) {
  const double rows = desc[0], in = desc[1], out = desc[2];
  const double product[] = {rows, out, in, in, 1, 1, in, 0};
  Batch<T> batch = make_batch<T>(x, x_off, w, w_off, y, y_off, product);
  if (bias) batch.g.bias = static_cast<const T*>(bias) + int64_t(bias_off);
  return run(batch);
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_matmul(const void* a, double a_off, const void* b, double b_off, void* out,
                                    double out_off, int32_t dtypes, double, const double* desc) noexcept {
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return matmul<float>(a, a_off, b, b_off, out, out_off, desc);
    case kFloat64:
      return matmul<double>(a, a_off, b, b_off, out, out_off, desc);
    case kFloat16:
    case kBfloat16:
      return kDeclined;
    case kInt32:
      return matmul_integers<int32_t, uint32_t>(a, a_off, b, b_off, out, out_off, desc);
    case kInt64:
      return matmul_integers<int64_t, uint64_t>(a, a_off, b, b_off, out, out_off, desc);
    default:
      return matmul_integers<uint8_t, uint8_t>(a, a_off, b, b_off, out, out_off, desc);
  }
}

NEEDLE_EXPORT int32_t needle_linear(const void* x, double x_off, const void* w, double w_off,
                                    const void* bias, double bias_off, void* y, double y_off, int32_t dtypes,
                                    double, const double* desc) noexcept {
  if (is_half(main_dtype(dtypes))) return kDeclined;
  if (main_dtype(dtypes) == kFloat32)
    return linear<float>(x, x_off, w, w_off, bias, bias_off, y, y_off, desc);
  return linear<double>(x, x_off, w, w_off, bias, bias_off, y, y_off, desc);
}
