// needle_cross_entropy_linear_backward: from the gradient of a cross entropy over scores h wᵀ + bias to those
// of h, w and bias, without the gradient of the scores in memory: the tiles of the two products compute it
// where they would load it.
#include "elementwise.h"
#include "labels.h"

namespace needle {
namespace {

template <typename T>
using Row = typename CrossEntropyGradient<T>::Row;

template <typename T>
__global__ void make_rows(CrossEntropyGradient<T> gradient, Row<T>* rows) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t r = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; r < gradient.labels.rows; r += step) {
    rows[r] = gradient.row(r);
  }
}

constexpr int kTile = 64, kDepth = 16, kOwn = 4;  // a thread computes kOwn x kOwn elements of a tile

// y (m, n) = a b, where a (m, depth) is the gradient of the scores, or its transpose, and b (depth, n).
template <typename T, bool Transposed>
__global__ void multiply(CrossEntropyGradient<T> gradient, const Row<T>* rows, const T* b, T* y, int64_t m,
                         int64_t n, int64_t depth, int64_t across) {
  NEEDLE_SHARED(T, left, [kDepth][kTile + 1]);
  NEEDLE_SHARED(T, right, [kDepth][kTile]);
  const int tid = int(threadIdx.x), tx = tid % (kTile / kOwn), ty = tid / (kTile / kOwn);
  const int64_t i0 = blockIdx.x / across * kTile, j0 = blockIdx.x % across * kTile;
  T sum[kOwn][kOwn] = {};
  for (int64_t d0 = 0; d0 < depth; d0 += kDepth) {
    for (int t = tid; t < kTile * kDepth; t += kThreads) {
      // Neighbouring threads read neighbouring classes.
      const int i = Transposed ? t % kTile : t / kDepth, d = Transposed ? t / kTile : t % kDepth;
      const int64_t row = Transposed ? d0 + d : i0 + i, c = Transposed ? i0 + i : d0 + d;
      const bool inside = i0 + i < m && d0 + d < depth;
      left[d][i] = inside ? gradient.at(rows[row], row, c) : T(0);
      const int j = t % kTile, e = t / kTile;
      right[e][j] = d0 + e < depth && j0 + j < n ? b[(d0 + e) * n + j0 + j] : T(0);
    }
    __syncthreads();
    for (int d = 0; d < kDepth; d++) {
      T u[kOwn], v[kOwn];
      for (int k = 0; k < kOwn; k++) {
        u[k] = left[d][ty * kOwn + k];
        v[k] = right[d][tx + k * (kTile / kOwn)];
      }
      for (int k = 0; k < kOwn; k++) {
        for (int l = 0; l < kOwn; l++) sum[k][l] += u[k] * v[l];
      }
    }
    __syncthreads();
  }
  for (int k = 0; k < kOwn; k++) {
    for (int l = 0; l < kOwn; l++) {
      const int64_t i = i0 + ty * kOwn + k, j = j0 + tx + l * (kTile / kOwn);
      if (i < m && j < n) y[i * n + j] = sum[k][l];
    }
  }
}

template <typename T, bool Transposed>
int32_t launch_multiply(const CrossEntropyGradient<T>& gradient, const Row<T>* rows, const T* b, T* y,
                        int64_t m, int64_t n, int64_t depth) {
  if (m == 0 || n == 0) return kOk;
  const int64_t across = (n + kTile - 1) / kTile, blocks = (m + kTile - 1) / kTile * across;
  if (blocks > kMaxBlocks) return too_many_blocks();
  NEEDLE_LAUNCH((multiply<T, Transposed>), unsigned(blocks), kThreads, 0, stream(), gradient, rows, b, y, m,
                n, depth, across);
  return launched("starting a kernel");
}

// The sums of the gradient over rows (see reduce.h).
template <typename T>
struct ClassSums {
  typedef T Item;
  typedef double Part;
  typedef double Total;
  typedef int64_t Setting;  // the class
  CrossEntropyGradient<T> gradient;
  const Row<T>* rows;
  T* db;

  NEEDLE_DEVICE int64_t setting(int64_t c) const { return c; }
  NEEDLE_DEVICE T load(int64_t, int64_t row, int64_t c) const { return gradient.at(rows[row], row, c); }
  NEEDLE_DEVICE double start() const { return 0; }
  NEEDLE_DEVICE void add(double& part, const T (&item)[kRun], int n) const {
    T sum = 0;
    for (int i = 0; i < kRun; i++) sum += i < n ? item[i] : T(0);
    part += double(sum);
  }
  NEEDLE_DEVICE double total(double part) const { return part; }
  static NEEDLE_DEVICE double merge(double a, double b) { return a + b; }
  NEEDLE_DEVICE void store(int64_t c, double all) const { db[c] = T(all); }
};

template <typename T>
int32_t backward(CrossEntropyGradient<T> gradient, int64_t size, const T* h, const T* w, T* dh, T* dw,
                 T* db) {
  const int64_t n = gradient.labels.rows, classes = gradient.labels.classes;
  int32_t status = prepare(gradient);
  if (status != kOk) return status;
  Row<T>* const rows = static_cast<Row<T>*>(scratch(kScratchTask, size_t(n) * sizeof(Row<T>)));
  if (!rows) return out_of_memory();
  if (n > 0) NEEDLE_LAUNCH((make_rows<T>), grid_for(n), kThreads, 0, stream(), gradient, rows);
  status = launch_multiply<T, false>(gradient, rows, w, dh, n, size, classes);
  if (status == kOk) status = launch_multiply<T, true>(gradient, rows, h, dw, classes, size, n);
  if (status != kOk) return status;
  const double over_rows[] = {1, 1, double(classes), 1, double(n), double(classes)};
  return reduce(ClassSums<T>{gradient, rows, db}, over_rows);
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_cross_entropy_linear_backward(
    const void* g, double g_off, const void* x, double x_off, const void* target, double target_off,
    const void* stats, double stats_off, const void* total, double total_off, const void* h, double h_off,
    const void* w, double w_off, const void* weight, double weight_off, void* dh, double dh_off, void* dw,
    double dw_off, void* db, double db_off, int32_t dtypes, double, const double* desc) noexcept {
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    const CrossEntropyGradient<T> gradient{Labels(target, target_off, dtypes, desc),
                                           at<T>(g, g_off),
                                           at<T>(x, x_off),
                                           at<T>(stats, stats_off),
                                           at<T>(total, total_off),
                                           at<T>(weight, weight_off),
                                           nullptr,
                                           desc[4],
                                           alarm()};
    return backward(gradient, int64_t(desc[5]), at<T>(h, h_off), at<T>(w, w_off), at<T>(dh, dh_off),
                    at<T>(dw, dw_off), at<T>(db, db_off));
  });
}
