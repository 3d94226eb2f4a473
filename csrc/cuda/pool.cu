// Max, average and adaptive average pooling with their gradients. Both orders of dims are (images, rows,
// columns, channels) in memory: row-major (N, C, H, W) has N C images of one channel. A thread has a pixel of
// what is written, 16 bytes of its channels where they allow it, and gathers; so every element is written
// once, in an order of additions that does not depend on timing.
#include <type_traits>

#include "halves.h"
#include "reduce.h"

namespace needle {
namespace {

struct Images {
  int64_t N, C, images, channels;
  int H, W, P, Q;

  Images(const double* desc, bool channels_last)
      : N(int64_t(desc[0])),
        C(int64_t(desc[1])),
        images(channels_last ? N : N * C),
        channels(channels_last ? C : 1),
        H(int(desc[2])),
        W(int(desc[3])),
        P(int(desc[4])),
        Q(int(desc[5])) {}
};

// Positions in images of some size, in units of one or several channels.
struct Frame {
  Divisor channels, width, height;
};

// f(image, row, column, unit, position) for the n positions from `first` on, which is the start of an image.
template <typename F>
__global__ void each_pixel(uint32_t n, Frame frame, int64_t first_image, int64_t first, F f) {
  const uint32_t step = gridDim.x * blockDim.x;
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    const uint32_t pixel = frame.channels.divide(i), unit = i - pixel * frame.channels.divisor;
    const uint32_t line = frame.width.divide(pixel), column = pixel - line * frame.width.divisor;
    const uint32_t image = frame.height.divide(line), row = line - image * frame.height.divisor;
    f(first_image + image, int(row), int(column), int(unit), first + i);
  }
}

template <typename F>
int32_t run_each_pixel(int64_t images, int64_t height, int64_t width, int64_t units, const F& f) {
  const int64_t size = height * width * units;
  if (images * size == 0) return kOk;
  constexpr int64_t kMost = int64_t(1) << 30;
  if (size > kMost) return fail(kInvalid, "images of more than 2^30 elements have no kernel");
  Frame frame;
  frame.channels.set(uint32_t(units));
  frame.width.set(uint32_t(width));
  frame.height.set(uint32_t(height));
  for (int64_t image = 0, count; image < images; image += count) {
    count = std::min(images - image, kMost / size);
    NEEDLE_LAUNCH((each_pixel<F>), grid_for(count * size), kThreads, 0, stream(), uint32_t(count * size),
                  frame, image, image * size, f);
  }
  return launched("starting a kernel");
}

// Calls f with as many channels as a thread takes at once, a compile-time constant.
template <typename T, typename F>
int32_t with_lanes(const Images& s, const T* a, const T* b, const F& f) {
  constexpr int V = vector_lanes<T>();
  const bool whole = s.channels % V == 0 && is_aligned(a, V * sizeof(T)) && is_aligned(b, V * sizeof(T));
  return whole ? f(std::integral_constant<int, V>()) : f(std::integral_constant<int, 1>());
}

template <typename S, int V>
NEEDLE_DEVICE Vector<S, V> rounded(const ComputedType<S> (&x)[V]) {
  Vector<S, V> y;
  for (int lane = 0; lane < V; lane++) round_to(x[lane], &y.lane[lane]);
  return y;
}

// Outputs [first, last] of an axis.
struct Span {
  int first, last;
};

// The windows along one axis of max pooling.
struct Taps {
  int size, outputs, kernel, stride, pad, dilation;

  // The windows that may look at a position.
  NEEDLE_DEVICE Span over(int position) const {
    const int end = position + pad, begin = end - (kernel - 1) * dilation, last = end / stride;
    return {begin <= 0 ? 0 : (begin + stride - 1) / stride, last < outputs ? last : outputs - 1};
  }
};

template <typename S, int V>
struct MaxPool {
  typedef ComputedType<S> T;
  Taps v, u;
  int units;
  const Vector<S, V>* x;
  Vector<S, V>* y;
  int64_t* indices;

  NEEDLE_DEVICE void operator()(int64_t image, int p, int q, int unit, int64_t at) const {
    const Vector<S, V>* const from = x + image * v.size * u.size * units + unit;
    T largest[V];
    int index[V];
    for (int lane = 0; lane < V; lane++) largest[lane] = T(-INFINITY), index[lane] = -1;
    for (int i = 0; i < v.kernel; i++) {
      const int h = p * v.stride - v.pad + i * v.dilation;
      if (h < 0 || h >= v.size) continue;
      for (int j = 0; j < u.kernel; j++) {
        const int w = q * u.stride - u.pad + j * u.dilation;
        if (w < 0 || w >= u.size) continue;
        const int pixel = h * u.size + w;
        const Vector<S, V> value = from[int64_t(pixel) * units];
        for (int lane = 0; lane < V; lane++) {
          const T here = value_of(value.lane[lane]);
          if (index[lane] >= 0 && !(here > largest[lane]) && here == here) continue;
          largest[lane] = here;
          index[lane] = pixel;
        }
      }
    }
    Vector<S, V> best;
    for (int lane = 0; lane < V; lane++) round_to(largest[lane], &best.lane[lane]);
    y[at] = best;
    for (int lane = 0; lane < V; lane++) indices[at * V + lane] = index[lane];
  }
};

// Every element asks the windows over it whether it was their largest.
template <typename S, int V>
struct MaxPoolBackward {
  typedef ComputedType<S> T;
  Taps v, u;
  int units;
  const Vector<S, V>* g;
  const int64_t* indices;
  Vector<S, V>* dx;

  NEEDLE_DEVICE void operator()(int64_t image, int h, int w, int unit, int64_t at) const {
    const Span rows = v.over(h), columns = u.over(w);
    const int64_t start = image * v.outputs * u.outputs * units + unit, pixel = h * u.size + w;
    T sum[V] = {};
    for (int p = rows.first; p <= rows.last; p++) {
      for (int q = columns.first; q <= columns.last; q++) {
        const int64_t from = start + int64_t(p * u.outputs + q) * units;
        const Vector<S, V> grad = g[from];
        for (int lane = 0; lane < V; lane++) {
          if (indices[from * V + lane] == pixel) sum[lane] += value_of(grad.lane[lane]);
        }
      }
    }
    dx[at] = rounded<S, V>(sum);
  }
};

// The windows along one axis of an average.
struct Axis {
  int size, outputs, kernel, stride, pad;
  bool adaptive, include_pad;

  struct Window {
    int begin, end, length;  // length: what counts towards the divisor
  };
  NEEDLE_DEVICE Window window(int p) const {
    if (adaptive) {
      const int begin = int(int64_t(p) * size / outputs);
      const int end = int((int64_t(p + 1) * size + outputs - 1) / outputs);
      return {begin, end, end - begin};
    }
    const int start = p * stride - pad, stop = start + kernel < size + pad ? start + kernel : size + pad;
    const int begin = start < 0 ? 0 : start, end = stop < size ? stop : size;
    return {begin, end, include_pad ? stop - start : end - begin};
  }
  // The windows over a position.
  NEEDLE_DEVICE Span over(int position) const {
    if (adaptive) {
      return {int(int64_t(position) * outputs / size),
              int((int64_t(position + 1) * outputs + size - 1) / size) - 1};
    }
    const int end = position + pad, begin = end - kernel + 1, last = end / stride;
    return {begin <= 0 ? 0 : (begin + stride - 1) / stride, last < outputs ? last : outputs - 1};
  }
};

struct Averaging {
  Axis v, u;
  double fixed;  // divides all sums unless it is 0

  template <typename T>
  NEEDLE_DEVICE T divisor(const Axis::Window& rows, const Axis::Window& columns) const {
    return fixed != 0 ? T(fixed) : T(rows.length) * T(columns.length);
  }
};

template <typename S, int V>
struct Average {
  typedef ComputedType<S> T;
  Averaging a;
  int units;
  const Vector<S, V>* x;
  Vector<S, V>* y;

  NEEDLE_DEVICE void operator()(int64_t image, int p, int q, int unit, int64_t at) const {
    const Vector<S, V>* const from = x + image * a.v.size * a.u.size * units + unit;
    const Axis::Window rows = a.v.window(p), columns = a.u.window(q);
    T sum[V] = {};
    for (int h = rows.begin; h < rows.end; h++) {
      for (int w = columns.begin; w < columns.end; w++) {
        const Vector<S, V> value = from[int64_t(h * a.u.size + w) * units];
        for (int lane = 0; lane < V; lane++) sum[lane] += value_of(value.lane[lane]);
      }
    }
    const bool empty = rows.begin >= rows.end || columns.begin >= columns.end;
    const T divisor = empty ? T(1) : a.divisor<T>(rows, columns);
    for (int lane = 0; lane < V; lane++) sum[lane] /= divisor;
    y[at] = rounded<S, V>(sum);
  }
};

template <typename S, int V>
struct AverageBackward {
  typedef ComputedType<S> T;
  Averaging a;
  int units;
  const Vector<S, V>* g;
  Vector<S, V>* dx;

  NEEDLE_DEVICE void operator()(int64_t image, int h, int w, int unit, int64_t at) const {
    const Vector<S, V>* const from = g + image * a.v.outputs * a.u.outputs * units + unit;
    const Span rows = a.v.over(h), columns = a.u.over(w);
    T sum[V] = {};
    for (int p = rows.first; p <= rows.last; p++) {
      const Axis::Window tall = a.v.window(p);
      for (int q = columns.first; q <= columns.last; q++) {
        const T divisor = a.divisor<T>(tall, a.u.window(q));
        const Vector<S, V> grad = from[int64_t(p * a.u.outputs + q) * units];
        for (int lane = 0; lane < V; lane++) sum[lane] += value_of(grad.lane[lane]) / divisor;
      }
    }
    dx[at] = rounded<S, V>(sum);
  }
};

// The mean of whole images, by the reductions of reduce.h: many threads share a channel.
template <typename S>
struct ImageMean {
  typedef ComputedType<S> T;
  typedef T Item;
  typedef double Part;
  typedef double Total;
  typedef NoSetting Setting;
  const S* x;
  S* y;
  double count;

  NEEDLE_DEVICE NoSetting setting(int64_t) const { return {}; }
  NEEDLE_DEVICE T load(int64_t offset, int64_t, NoSetting) const { return value_of(x[offset]); }
  NEEDLE_DEVICE double start() const { return 0; }
  NEEDLE_DEVICE void add(double& part, const T (&item)[kRun], int n) const {
    T sum = 0;
    for (int i = 0; i < kRun; i++) sum += i < n ? item[i] : T(0);
    part += double(sum);
  }
  NEEDLE_DEVICE double total(double part) const { return part; }
  static NEEDLE_DEVICE double merge(double a, double b) { return a + b; }
  NEEDLE_DEVICE void store(int64_t i, double sum) const { round_to(T(sum / count), &y[i]); }
};

template <typename T>
int32_t image_mean(const Images& s, const T* x, T* y) {
  const double c = double(s.C), area = double(s.H) * s.W, step = double(s.channels);
  const double desc[] = {2,           2,           double(s.N), c,   c * area, step == 1 ? area : 1,
                         double(s.H), double(s.W), step * s.W,  step};
  return reduce(ImageMean<T>{x, y, area}, desc);
}

template <typename T>
int32_t average(const Images& s, const Averaging& a, const T* x, T* y) {
  return with_lanes(s, x, y, [&](auto lanes) {
    constexpr int V = decltype(lanes)::value;
    const int units = int(s.channels / V);
    const Average<T, V> f{a, units, reinterpret_cast<const Vector<T, V>*>(x),
                          reinterpret_cast<Vector<T, V>*>(y)};
    return run_each_pixel(s.images, s.P, s.Q, units, f);
  });
}

template <typename T>
int32_t average_backward(const Images& s, const Averaging& a, const T* g, T* dx) {
  return with_lanes(s, g, dx, [&](auto lanes) {
    constexpr int V = decltype(lanes)::value;
    const int units = int(s.channels / V);
    const AverageBackward<T, V> f{a, units, reinterpret_cast<const Vector<T, V>*>(g),
                                  reinterpret_cast<Vector<T, V>*>(dx)};
    return run_each_pixel(s.images, s.H, s.W, units, f);
  });
}

Averaging strided_windows(const Images& s, const double* desc) {
  const bool include_pad = desc[14] != 0;
  return {{s.H, s.P, int(desc[6]), int(desc[8]), int(desc[10]), false, include_pad},
          {s.W, s.Q, int(desc[7]), int(desc[9]), int(desc[11]), false, include_pad},
          desc[15]};
}

Averaging adaptive_windows(const Images& s) {
  return {{s.H, s.P, 0, 0, 0, true, false}, {s.W, s.Q, 0, 0, 0, true, false}, 0};
}

Taps rows_of(const Images& s, const double* desc) {
  return {s.H, s.P, int(desc[6]), int(desc[8]), int(desc[10]), int(desc[12])};
}
Taps columns_of(const Images& s, const double* desc) {
  return {s.W, s.Q, int(desc[7]), int(desc[9]), int(desc[11]), int(desc[13])};
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_max_pool2d(const void* x, double x_off, void* y, double y_off, void* indices,
                                        double indices_off, int32_t dtypes, double,
                                        const double* desc) noexcept {
  const Images s(desc, desc[16] != 0);
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    const T* const from = at<T>(x, x_off);
    T* const to = at<T>(y, y_off);
    return with_lanes(s, from, to, [&](auto lanes) {
      constexpr int V = decltype(lanes)::value;
      const int units = int(s.channels / V);
      const MaxPool<T, V> f{rows_of(s, desc),
                            columns_of(s, desc),
                            units,
                            reinterpret_cast<const Vector<T, V>*>(from),
                            reinterpret_cast<Vector<T, V>*>(to),
                            at<int64_t>(indices, indices_off)};
      return run_each_pixel(s.images, s.P, s.Q, units, f);
    });
  });
}

NEEDLE_EXPORT int32_t needle_max_pool2d_backward(const void* g, double g_off, const void* indices,
                                                 double indices_off, void* dx, double dx_off, int32_t dtypes,
                                                 double, const double* desc) noexcept {
  const Images s(desc, desc[16] != 0);
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    const T* const from = at<T>(g, g_off);
    T* const to = at<T>(dx, dx_off);
    return with_lanes(s, from, to, [&](auto lanes) {
      constexpr int V = decltype(lanes)::value;
      const int units = int(s.channels / V);
      const MaxPoolBackward<T, V> f{rows_of(s, desc),
                                    columns_of(s, desc),
                                    units,
                                    reinterpret_cast<const Vector<T, V>*>(from),
                                    at<int64_t>(indices, indices_off),
                                    reinterpret_cast<Vector<T, V>*>(to)};
      return run_each_pixel(s.images, s.H, s.W, units, f);
    });
  });
}

NEEDLE_EXPORT int32_t needle_avg_pool2d(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                        double, const double* desc) noexcept {
  const Images s(desc, desc[16] != 0);
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return average(s, strided_windows(s, desc), at<T>(x, x_off), at<T>(y, y_off));
  });
}

NEEDLE_EXPORT int32_t needle_avg_pool2d_backward(const void* g, double g_off, void* dx, double dx_off,
                                                 int32_t dtypes, double, const double* desc) noexcept {
  const Images s(desc, desc[16] != 0);
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return average_backward(s, strided_windows(s, desc), at<T>(g, g_off), at<T>(dx, dx_off));
  });
}

NEEDLE_EXPORT int32_t needle_adaptive_avg_pool2d(const void* x, double x_off, void* y, double y_off,
                                                 int32_t dtypes, double, const double* desc) noexcept {
  const Images s(desc, desc[6] != 0);
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    if (s.P == 1 && s.Q == 1) return image_mean(s, at<T>(x, x_off), at<T>(y, y_off));
    return average(s, adaptive_windows(s), at<T>(x, x_off), at<T>(y, y_off));
  });
}

NEEDLE_EXPORT int32_t needle_adaptive_avg_pool2d_backward(const void* g, double g_off, void* dx,
                                                          double dx_off, int32_t dtypes, double,
                                                          const double* desc) noexcept {
  const Images s(desc, desc[6] != 0);
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return average_backward(s, adaptive_windows(s), at<T>(g, g_off), at<T>(dx, dx_off));
  });
}
