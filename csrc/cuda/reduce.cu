// Reductions over any dims: sums, means, products, extremes, any and all, variance, norm. Floats are added in
// float over a few elements and in double across them.
#include "reduce.h"

#include <limits>
#include <type_traits>

#include "halves.h"

namespace needle {
namespace {

// The part of R (see reduce.h) that reductions of one tensor share.
template <typename S, typename A>
struct Simple {
  typedef ComputedType<S> T;
  typedef T Item;
  typedef A Part;
  typedef A Total;
  typedef NoSetting Setting;
  const S* x;

  NEEDLE_DEVICE NoSetting setting(int64_t) const { return {}; }
  NEEDLE_DEVICE T load(int64_t offset, int64_t, NoSetting) const { return value_of(x[offset]); }
  NEEDLE_DEVICE A total(A part) const { return part; }
};

// Sums, and means where `divisor` is a count.
template <typename S>
struct Sum : Simple<S, typename Wide<S>::type> {
  typedef ComputedType<S> T;
  typedef typename Wide<S>::type A;
  S* y;
  double divisor;

  NEEDLE_DEVICE A start() const { return 0; }
  NEEDLE_DEVICE void add(A& part, const T (&item)[kRun], int n) const {
    T sum = 0;
    for (int i = 0; i < kRun; i++) sum += i < n ? item[i] : T(0);
    part += A(sum);
  }
  static NEEDLE_DEVICE A merge(A a, A b) { return a + b; }
  NEEDLE_DEVICE void store(int64_t i, double total) const { round_to(total / divisor, &y[i]); }
  NEEDLE_DEVICE void store(int64_t i, int64_t total) const { y[i] = S(total); }
};

template <typename T>
struct Product : Simple<T, typename Wide<T>::type> {
  typedef typename Wide<T>::type A;
  T* y;

  NEEDLE_DEVICE A start() const { return 1; }
  NEEDLE_DEVICE void add(A& part, const T (&item)[kRun], int n) const {
    for (int i = 0; i < kRun; i++) part *= i < n ? A(item[i]) : A(1);
  }
  static NEEDLE_DEVICE A merge(A a, A b) { return a * b; }
  NEEDLE_DEVICE void store(int64_t i, A total) const { y[i] = T(total); }
};

template <typename T, bool Largest>
struct Extreme : Simple<T, T> {
  T* y;
  T none;

  static NEEDLE_DEVICE T merge(T a, T b) { return Largest ? larger(a, b) : smaller(a, b); }
  NEEDLE_DEVICE T start() const { return none; }
  NEEDLE_DEVICE void add(T& part, const T (&item)[kRun], int n) const {
    for (int i = 0; i < kRun; i++) part = i < n ? merge(part, item[i]) : part;
  }
  NEEDLE_DEVICE void store(int64_t i, T total) const { y[i] = total; }
};

// Whether an element differs from `usual`: any with false, all with true.
struct Different : Simple<uint8_t, int> {
  uint8_t* y;
  bool usual;

  NEEDLE_DEVICE int start() const { return 0; }
  NEEDLE_DEVICE void add(int& part, const uint8_t (&item)[kRun], int n) const {
    for (int i = 0; i < kRun; i++) part |= int(i < n && (item[i] != 0) != usual);
  }
  static NEEDLE_DEVICE int merge(int a, int b) { return a | b; }
  NEEDLE_DEVICE void store(int64_t i, int total) const { y[i] = uint8_t((total != 0) != usual); }
};

template <typename T>
struct Norm : Simple<T, double> {
  T* y;

  NEEDLE_DEVICE double start() const { return 0; }
  NEEDLE_DEVICE void add(double& part, const T (&item)[kRun], int n) const {
    for (int i = 0; i < kRun; i++) part += i < n ? double(item[i]) * double(item[i]) : 0.0;
  }
  static NEEDLE_DEVICE double merge(double a, double b) { return a + b; }
  NEEDLE_DEVICE void store(int64_t i, double total) const { y[i] = T(sqrt(total)); }
};

template <typename T>
struct Variance {
  typedef T Item;
  typedef RunningMoments<T> Part;
  typedef Moments Total;
  typedef NoSetting Setting;
  const T* x;
  T *y, *mean;
  double correction;

  NEEDLE_DEVICE NoSetting setting(int64_t) const { return {}; }
  NEEDLE_DEVICE T load(int64_t offset, int64_t, NoSetting) const { return x[offset]; }
  NEEDLE_DEVICE Part start() const { return {0, 0, 0}; }
  NEEDLE_DEVICE void add(Part& part, const T (&item)[kRun], int n) const { part.add(item, n); }
  NEEDLE_DEVICE Moments total(const Part& part) const { return part.total(); }
  static NEEDLE_DEVICE Moments merge(const Moments& a, const Moments& b) { return Merge()(a, b); }
  NEEDLE_DEVICE void store(int64_t i, const Moments& m) const {
    const double divisor = m.count - correction;
    mean[i] = T(m.count > 0 ? m.mean : NAN);
    y[i] = T(m.m2 / (divisor > 0 ? divisor : 0.0));
  }
};

// How many elements make one result.
double reduced_count(const double* desc) {
  const int64_t nkeep = int64_t(desc[0]), ngone = int64_t(desc[1]);
  double count = 1;
  for (int64_t d = 0; d < ngone; d++) count *= desc[2 + 2 * nkeep + d];
  return count;
}

template <bool Largest>
int32_t extremes(const void* x, double x_off, void* y, double y_off, int32_t dtypes, const double* desc) {
  return with_number(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    T none;
    if constexpr (std::is_floating_point<T>::value) none = T(Largest ? -INFINITY : INFINITY);
    else none = Largest ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max();
    return reduce(Extreme<T, Largest>{{at<T>(x, x_off)}, at<T>(y, y_off), none}, desc);
  });
}

int32_t differences(const void* x, double x_off, void* y, double y_off, const double* desc, bool usual) {
  return reduce(Different{{at<uint8_t>(x, x_off)}, at<uint8_t>(y, y_off), usual}, desc);
}

// dx = g times the product of the other elements of the row: products of what is before and behind. A thread
// does a row: any tree of products would make NaN of zeros beside products that overflow.
template <typename T>
__global__ void prod_backward(const T* g, const T* x, T* dx, int64_t rows, int64_t columns) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t r = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; r < rows; r += step) {
    const T* from = x + r * columns;
    T* to = dx + r * columns;
    double before = double(g[r]), behind = 1;
    for (int64_t c = 0; c < columns; c++) {
      to[c] = T(before);
      before *= double(from[c]);
    }
    for (int64_t c = columns - 1; c >= 0; c--) {
      to[c] = T(double(to[c]) * behind);
      behind *= double(from[c]);
    }
  }
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_sum(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double,
                                 const double* desc) noexcept {
  if (main_dtype(dtypes) == kInt64) {
    return reduce(Sum<int64_t>{{at<int64_t>(x, x_off)}, at<int64_t>(y, y_off), 1}, desc);
  }
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) S;
    return reduce(Sum<S>{{at<S>(x, x_off)}, at<S>(y, y_off), 1}, desc);
  });
}

NEEDLE_EXPORT int32_t needle_mean(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double,
                                  const double* desc) noexcept {
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) S;
    return reduce(Sum<S>{{at<S>(x, x_off)}, at<S>(y, y_off), reduced_count(desc)}, desc);
  });
}

NEEDLE_EXPORT int32_t needle_prod(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double,
                                  const double* desc) noexcept {
  if (main_dtype(dtypes) == kInt64) {
    return reduce(Product<int64_t>{{at<int64_t>(x, x_off)}, at<int64_t>(y, y_off)}, desc);
  }
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return reduce(Product<T>{{at<T>(x, x_off)}, at<T>(y, y_off)}, desc);
  });
}

NEEDLE_EXPORT int32_t needle_prod_backward(const void* g, double g_off, const void* x, double x_off, void* dx,
                                           double dx_off, int32_t dtypes, double,
                                           const double* desc) noexcept {
  const int64_t rows = int64_t(desc[0]), columns = int64_t(desc[1]);
  if (rows == 0 || columns == 0) return kOk;
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    NEEDLE_LAUNCH((prod_backward<T>), grid_for(rows), kThreads, 0, stream(), at<T>(g, g_off), at<T>(x, x_off),
                  at<T>(dx, dx_off), rows, columns);
    return launched("starting a kernel");
  });
}

NEEDLE_EXPORT int32_t needle_amax(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double,
                                  const double* desc) noexcept {
  return extremes<true>(x, x_off, y, y_off, dtypes, desc);
}

NEEDLE_EXPORT int32_t needle_amin(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double,
                                  const double* desc) noexcept {
  return extremes<false>(x, x_off, y, y_off, dtypes, desc);
}

NEEDLE_EXPORT int32_t needle_any(const void* x, double x_off, void* y, double y_off, int32_t, double,
                                 const double* desc) noexcept {
  return differences(x, x_off, y, y_off, desc, false);
}

NEEDLE_EXPORT int32_t needle_all(const void* x, double x_off, void* y, double y_off, int32_t, double,
                                 const double* desc) noexcept {
  return differences(x, x_off, y, y_off, desc, true);
}

NEEDLE_EXPORT int32_t needle_var(const void* x, double x_off, void* y, double y_off, void* mean,
                                 double mean_off, int32_t dtypes, double, const double* desc) noexcept {
  const double correction = desc[2 + 2 * int64_t(desc[0]) + 2 * int64_t(desc[1])];
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return reduce(Variance<T>{at<T>(x, x_off), at<T>(y, y_off), at<T>(mean, mean_off), correction}, desc);
  });
}

NEEDLE_EXPORT int32_t needle_l2_norm(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                     double, const double* desc) noexcept {
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return reduce(Norm<T>{{at<T>(x, x_off)}, at<T>(y, y_off)}, desc);
  });
}
