// needle_cross_entropy_linear_backward: from the gradient of a cross entropy over scores h wᵀ + bias to those
// of h, w and bias. The gradient of the scores is in memory for some rows at a time.
#include "elementwise.h"
#include "labels.h"
#include "matmul.h"

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

// The gradient of the scores of rows [first, end), a block per row.
template <typename T>
__global__ void make_gradient(CrossEntropyGradient<T> gradient, const Row<T>* rows, int64_t first,
                              int64_t end, T* d) {
  const int64_t classes = gradient.labels.classes;
  for (int64_t r = first + blockIdx.x; r < end; r += gridDim.x) {
    const Row<T> row = rows[r];
    T* const to = d + (r - first) * classes;
    for (int64_t c = threadIdx.x; c < classes; c += blockDim.x) to[c] = gradient.at(row, r, c);
  }
}

template <typename T>
__global__ void add_to(const T* x, T* y, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) y[i] += x[i];
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
  // 2 MiB for each multiprocessor keep it busy.
  const int64_t fitting =
      int64_t(multiprocessors()) * (int64_t(2) << 20) / (std::max<int64_t>(classes, 1) * int64_t(sizeof(T)));
  const int64_t most = std::max<int64_t>(1, std::min(n, fitting));
  T* const d = static_cast<T*>(scratch(kScratchElementwise, size_t(most * classes) * sizeof(T)));
  T* const part =
      static_cast<T*>(n > most ? scratch(kScratchWeights, size_t(classes * size) * sizeof(T)) : d);
  if (!d || !part) return out_of_memory();
  constexpr DType dtype = sizeof(T) == sizeof(float) ? kFloat32 : kFloat64;
  for (int64_t first = 0; status == kOk && (first < n || first == 0); first += most) {
    const int64_t end = std::min(n, first + most), count = end - first;
    const double across = double(classes), inner = double(size), down = double(count);
    if (count > 0) {
      NEEDLE_LAUNCH((make_gradient<T>), unsigned(std::min<int64_t>(count, 65535)), kThreads, 0, stream(),
                    gradient, rows, first, end, d);
    }
    const double for_h[] = {down, inner, across, across, 1, inner, 1, 0};
    const double for_w[] = {across, inner, down, 1, across, inner, 1, 0};
    status = multiply_matrices(dtype, d, w, nullptr, dh + first * size, for_h);
    if (status == kOk) {
      status = multiply_matrices(dtype, d, h + first * size, nullptr, first == 0 ? dw : part, for_w);
    }
    if (status == kOk && first > 0 && classes * size > 0) {
      NEEDLE_LAUNCH((add_to<T>), grid_for(classes * size), kThreads, 0, stream(), part, dw, classes * size);
    }
  }
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
