// needle_cross_entropy_linear_backward: from the gradient of a cross entropy over scores h wᵀ + bias to those
// of h, w and bias, without the gradient of the scores in memory: threads share the classes, and what a block
// of scores contributes is computed where both products find it in the second-level cache.
#include <algorithm>
#include <atomic>

#include "gemm_packed.h"
#include "labels.h"

namespace needle {
namespace {

template <typename T>
struct Projection {
  const T *h, *w;  // (N, K) and (C, K)
  int64_t size;    // K
  T *dh, *dw, *db;
};

// c (m, n; contiguous rows) = or += a (m, k) times a packed b (k, n).
template <typename T>
void multiply(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_rs, int64_t a_cs, const T* packed, T* c,
              bool add, T* work) {
  const GemmTable<T>& table = gemm_table<T>();
  GemmArgs<T> g{};
  g.m = m, g.n = n, g.k = k;
  g.a = a, g.a_rs = a_rs, g.a_cs = a_cs;
  g.packed = packed, g.packed_n = round_up(n, table.lanes);
  g.c = c, g.ldc = n, g.add = add;
  g.work = work;
  table.gemm(g);
}

// At least 1, so that memory is asked for even where nothing is to be done.
inline int64_t blocks_of(int64_t n, int64_t limit) { return std::max<int64_t>(1, ceil_div(n, limit)); }

template <typename T>
int32_t run(const CrossEntropyGradient<T>& gradient, const Projection<T>& p) {
  const Labels& labels = gradient.labels;
  const GemmTable<T>& table = gemm_table<T>();
  const int64_t rows = labels.rows, classes = labels.classes, size = p.size;
  const int64_t threads = std::min(gemm_threads(2.0 * double(rows) * double(classes) * double(size)),
                                   std::max<int64_t>(1, classes / table.nr));
  // Blocks no higher and no wider than the kernels take without a further split.
  const int64_t row_blocks = blocks_of(rows, table.kc), height = ceil_div(rows, row_blocks);
  const int64_t share = ceil_div(classes, threads);
  const int64_t width = round_up(ceil_div(share, blocks_of(share, table.kc)), table.lanes);
  // An odd number of cache lines from row to row: columns are read too, and must not share cache sets.
  constexpr int64_t line = 64 / sizeof(T);
  const int64_t stride = (ceil_div(width, line) | 1) * line;

  T* const packed_h = static_cast<T*>(
      scratch(kScratchWeights, size_t(row_blocks * packed_size<T>(height, size)) * sizeof(T)));
  T* const partial = static_cast<T*>(
      scratch(kScratchReduce, size_t(std::max<int64_t>(1, (threads - 1) * rows * size)) * sizeof(T)));
  if (!packed_h || !partial) return out_of_memory();
  const auto first_row = [&](int64_t i) { return std::min(rows, i * height); };
  parallel_tasks(row_blocks, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t r = first_row(i);
      pack_factor(first_row(i + 1) - r, size, p.h + r * size, size, 1,
                  packed_h + i * packed_size<T>(height, size));
    }
  });

  std::atomic<bool> failed{false};
  parallel_tasks(threads, threads, [&](int64_t begin, int64_t end) {
    // Usually one slice each; all of them where the team is smaller than asked for.
    for (int64_t slice = begin; slice < end; slice++) {
      const int64_t from = std::min(classes, slice * share), to = std::min(classes, from + share);
      T* const dh = slice == 0 ? p.dh : partial + (slice - 1) * rows * size;
      GemmArgs<T> sizes{};
      sizes.m = std::max(height, width), sizes.n = size, sizes.k = table.kc, sizes.packed = packed_h;
      const int64_t block = height * stride, weights = round_up(packed_size<T>(width, size), line);
      T* const scores = static_cast<T*>(
          scratch(kScratchTask, size_t(block + stride + weights + table.work(sizes)) * sizeof(T)));
      if (!scores) {
        failed = true;
        return;
      }
      T* const sums = scores + block;
      T* const packed_w = sums + stride;
      T* const work = packed_w + weights;
      if (from == to) std::fill(dh, dh + rows * size, T(0));
      for (int64_t c = from; c < to; c += width) {
        const int64_t n = std::min(width, to - c);
        pack_factor(n, size, p.w + c * size, size, 1, packed_w);
        std::fill(p.db + c, p.db + c + n, T(0));
        for (int64_t i = 0; i < row_blocks; i++) {
          const int64_t r = first_row(i), m = first_row(i + 1) - r;
          std::fill(sums, sums + n, T(0));
          for (int64_t row = 0; row < m; row++) {
            gradient.run(r + row, c, n, scores + row * stride);
            loss_table<T>().add(scores + row * stride, n, sums);
          }
          loss_table<T>().add(sums, n, p.db + c);
          multiply(n, size, m, scores, 1, stride, packed_h + i * packed_size<T>(height, size),
                   p.dw + c * size, i > 0, work);
          multiply(m, size, n, scores, stride, 1, packed_w, dh + r * size, c > from, work);
        }
      }
    }
  });
  if (failed) return out_of_memory();
  if (threads > 1) {
    parallel_for(rows * size, kGrain / threads, [&](int64_t begin, int64_t end) {
      for (int64_t slice = 1; slice < threads; slice++) {
        loss_table<T>().add(partial + (slice - 1) * rows * size + begin, end - begin, p.dh + begin);
      }
    });
  }
  return kOk;
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_cross_entropy_linear_backward(
    const void* g, double g_off, const void* x, double x_off, const void* target, double target_off,
    const void* stats, double stats_off, const void* total, double total_off, const void* h, double h_off,
    const void* w, double w_off, const void* weight, double weight_off, void* dh, double dh_off, void* dw,
    double dw_off, void* db, double db_off, int32_t dtypes, double, const double* desc) noexcept {
  return with_float_type(dtypes, [&](auto zero) {
    using T = decltype(zero);
    const Labels labels(target, target_off, dtypes, desc);
    const int32_t status = labels.check();
    if (status != kOk) return status;
    const CrossEntropyGradient<T> gradient(labels, at<T>(g, g_off), at<T>(x, x_off), at<T>(stats, stats_off),
                                           at<T>(total, total_off), at<T>(weight, weight_off), desc[4]);
    return run<T>(gradient, {at<T>(h, h_off), at<T>(w, w_off), int64_t(desc[5]), at<T>(dh, dh_off),
                             at<T>(dw, dw_off), at<T>(db, db_off)});
  });
}
