// Max, average and adaptive average pooling with their gradients, for contiguous (N, C, H, W) and for
// channels-last tensors. Channels-last runs the window kernels over whole rows of channels; the gradient of
// an average gathers from the windows over each pixel, so every element is written once.
#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "../common.h"
#include "kernels/pool.h"

namespace needle {
namespace {

template <typename T>
const PoolTable<T>& pool_table();
template <>
const PoolTable<float>& pool_table<float>() {
  return select_kernels(pool)->f32;
}
template <>
const PoolTable<double>& pool_table<double>() {
  return select_kernels(pool)->f64;
}

struct Images {
  int64_t N, C, H, W, P, Q;
  bool channels_last;

  Images(const double* desc, double format)
      : N(int64_t(desc[0])),
        C(int64_t(desc[1])),
        H(int64_t(desc[2])),
        W(int64_t(desc[3])),
        P(int64_t(desc[4])),
        Q(int64_t(desc[5])),
        channels_last(format != 0) {}
};

// Calls f(image, row) for all rows of all images, split over threads; `cost` is that of one row in elements.
template <typename F>
void each_row(int64_t images, int64_t rows, int64_t cost, const F& f) {
  parallel_for(images * rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(cost, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; i++) f(i / rows, i % rows);
               });
}

// ---------------------------------------------------------------- max

// The positions inside [0, size) of the window that starts at `start`: first, first + dilation, ... below
// end.
struct Span {
  int64_t first, end;
};
Span window(int64_t start, int64_t kernel, int64_t dilation, int64_t size) {
  const int64_t skipped = start < 0 ? (-start + dilation - 1) / dilation : 0;
  return {start + skipped * dilation, std::min(size, start + (kernel - 1) * dilation + 1)};
}

// One window of a plane whose rows are W long; minus infinity and no index when it lies in the padding.
template <typename T>
void max_window(const T* x, int64_t W, Span v, int64_t dil_h, Span u, int64_t dil_w, T* best, int64_t* at) {
  *best = -std::numeric_limits<T>::infinity();
  *at = v.first < v.end && u.first < u.end ? v.first * W + u.first : -1;
  for (int64_t h = v.first; h < v.end; h += dil_h) {
    for (int64_t w = u.first; w < u.end; w += dil_w) {
      const T value = x[h * W + w];
      if (value > *best || value != value) *best = value, *at = h * W + w;
    }
  }
}

template <typename T>
int32_t max_pool(const double* desc, const T* x, T* y, int64_t* indices) {
  const Images s(desc, desc[16]);
  const int64_t kh = int64_t(desc[6]), kw = int64_t(desc[7]), stride_h = int64_t(desc[8]),
                stride_w = int64_t(desc[9]);
  const int64_t pad_h = int64_t(desc[10]), pad_w = int64_t(desc[11]), dil_h = int64_t(desc[12]),
                dil_w = int64_t(desc[13]);
  const auto vertical = [&](int64_t p) { return window(p * stride_h - pad_h, kh, dil_h, s.H); };
  const auto horizontal = [&](int64_t q) { return window(q * stride_w - pad_w, kw, dil_w, s.W); };
  const auto kernel = pool_table<T>().max;
  if (!s.channels_last) {
    // Outputs [q0, q1) have windows that are whole along w.
    const int64_t q0 = std::min(s.Q, (pad_w + stride_w - 1) / stride_w),
                  last = s.W - 1 + pad_w - (kw - 1) * dil_w;
    const int64_t q1 = std::max(q0, last < 0 ? 0 : std::min(s.Q, last / stride_w + 1)), whole = q1 - q0;
    each_row(s.N * s.C, s.P, s.Q * kh * kw, [&](int64_t plane, int64_t p) {
      static thread_local std::vector<T> gathered;
      static thread_local std::vector<const T*> rows;
      static thread_local std::vector<int32_t> index;
      const T* in = x + plane * s.H * s.W;
      T* best = y + (plane * s.P + p) * s.Q;
      int64_t* at = indices + (plane * s.P + p) * s.Q;
      const Span v = vertical(p);
      for (int64_t q = 0; q < s.Q; q++) {
        if (q < q0 || q >= q1 || v.first >= v.end)
          max_window(in, s.W, v, dil_h, horizontal(q), dil_w, best + q, at + q);
      }
      if (whole == 0 || v.first >= v.end) return;
      // The windows that are whole side by side, as the kernel wants them: one row for each tap.
      gathered.resize(size_t(kh * kw * whole));
      rows.clear();
      index.clear();
      for (int64_t h = v.first; h < v.end; h += dil_h) {
        for (int64_t tap = 0; tap < kw; tap++) {
          const int64_t w = q0 * stride_w - pad_w + tap * dil_w;
          T* to = gathered.data() + int64_t(rows.size()) * whole;
          for (int64_t q = 0; q < whole; q++) to[q] = in[h * s.W + w + q * stride_w];
          rows.push_back(to);
          index.push_back(int32_t(h * s.W + w));
        }
      }
      kernel(whole, int64_t(rows.size()), rows.data(), index.data(), best + q0, at + q0);
      for (int64_t q = 0; q < whole; q++) at[q0 + q] += q * stride_w;
    });
    return kOk;
  }
  each_row(s.N, s.P, s.Q * s.C * kh * kw, [&](int64_t n, int64_t p) {
    static thread_local std::vector<const T*> rows;
    static thread_local std::vector<int32_t> index;
    const T* in = x + n * s.H * s.W * s.C;
    const Span v = vertical(p);
    for (int64_t q = 0; q < s.Q; q++) {
      const Span u = horizontal(q);
      rows.clear();
      index.clear();
      for (int64_t h = v.first; h < v.end; h += dil_h) {
        for (int64_t w = u.first; w < u.end; w += dil_w) {
          rows.push_back(in + (h * s.W + w) * s.C);
          index.push_back(int32_t(h * s.W + w));
        }
      }
      const int64_t out = ((n * s.P + p) * s.Q + q) * s.C;
      if (rows.empty()) {
        std::fill(y + out, y + out + s.C, -std::numeric_limits<T>::infinity());
        std::fill(indices + out, indices + out + s.C, int64_t(-1));
      } else {
        kernel(s.C, int64_t(rows.size()), rows.data(), index.data(), y + out, indices + out);
      }
    }
  });
  return kOk;
}

// Windows may overlap, so one thread adds up all that belongs to a plane, or to a range of the channels of an
// image.
template <typename T>
int32_t max_pool_backward(const double* desc, const T* g, const int64_t* indices, T* dx) {
  const Images s(desc, desc[16]);
  const int64_t in = s.H * s.W, out = s.P * s.Q;
  if (!s.channels_last) {
    each_row(s.N, s.C, in + out, [&](int64_t n, int64_t c) {
      const int64_t plane = n * s.C + c;
      std::memset(dx + plane * in, 0, size_t(in) * sizeof(T));
      for (int64_t i = plane * out; i < (plane + 1) * out; i++) {
        if (indices[i] >= 0) dx[plane * in + indices[i]] += g[i];
      }
    });
    return kOk;
  }
  const int64_t parts =
      std::max<int64_t>(1, std::min((thread_count() + s.N - 1) / std::max<int64_t>(s.N, 1), s.C / 16));
  each_row(s.N, parts, (in + out) * s.C / parts, [&](int64_t n, int64_t part) {
    const int64_t c0 = s.C * part / parts, c1 = s.C * (part + 1) / parts;
    T* image = dx + n * in * s.C;
    for (int64_t i = 0; i < in; i++) std::memset(image + i * s.C + c0, 0, size_t(c1 - c0) * sizeof(T));
    for (int64_t i = n * out; i < (n + 1) * out; i++) {
      for (int64_t c = c0; c < c1; c++) {
        const int64_t at = indices[i * s.C + c];
        if (at >= 0) image[at * s.C + c] += g[i * s.C + c];
      }
    }
  });
  return kOk;
}

// ---------------------------------------------------------------- averages

// The windows along one axis: [start, end) inside the input, and the length that counts towards the divisor.
struct Axis {
  struct Window {
    int64_t start, end, length;
  };
  std::vector<Window> windows;
  std::vector<Span> covering;  // for each input position, the windows over it

  Axis(int64_t size, int64_t outputs) : windows(size_t(outputs)), covering(size_t(size)) {}

  static Axis strided(int64_t size, int64_t outputs, int64_t kernel, int64_t stride, int64_t pad,
                      bool include_pad) {
    Axis axis(size, outputs);
    for (int64_t p = 0; p < outputs; p++) {
      const int64_t start = p * stride - pad, end = std::min(start + kernel, size + pad);
      Window w{std::max<int64_t>(start, 0), std::min(end, size), end - start};
      if (!include_pad) w.length = w.end - w.start;
      axis.windows[size_t(p)] = w;
    }
    axis.cover();
    return axis;
  }

  static Axis adaptive(int64_t size, int64_t outputs) {
    Axis axis(size, outputs);
    for (int64_t p = 0; p < outputs; p++) {
      const int64_t start = p * size / outputs, end = ((p + 1) * size + outputs - 1) / outputs;
      axis.windows[size_t(p)] = {start, end, end - start};
    }
    axis.cover();
    return axis;
  }

 private:
  // Starts and ends both ascend, so the windows over a position are neighbours.
  void cover() {
    int64_t first = 0, last = 0;
    const int64_t count = int64_t(windows.size());
    for (int64_t h = 0; h < int64_t(covering.size()); h++) {
      while (first < count && windows[size_t(first)].end <= h) first++;
      while (last < count && windows[size_t(last)].start <= h) last++;
      covering[size_t(h)] = {first, last};
    }
  }
};

// The sum of n neighbours, in lanes that the compiler keeps in vectors.
template <typename T>
T sum_row(const T* x, int64_t n) {
  T sum = 0;
  int64_t i = 0;
  if (n >= 16) {
    T lanes[16] = {};
    for (; i + 16 <= n; i += 16) {
      for (int l = 0; l < 16; l++) lanes[l] += x[i + l];
    }
    for (int l = 0; l < 16; l++) sum += lanes[l];
  }
  for (; i < n; i++) sum += x[i];
  return sum;
}

// The divisor of a window: `fixed` unless that is 0.
template <typename T>
T divisor_of(const Axis::Window& v, const Axis::Window& u, double fixed) {
  return fixed != 0 ? T(fixed) : T(v.length * u.length);
}

template <typename T>
int32_t average(const Images& s, const Axis& vertical, const Axis& horizontal, double fixed, const T* x,
                T* y) {
  const int64_t taps = s.P * s.Q == 0 ? 0 : std::max<int64_t>(1, s.H * s.W / (s.P * s.Q));
  const auto kernel = pool_table<T>().average;
  const int64_t images = s.channels_last ? s.N : s.N * s.C, channels = s.channels_last ? s.C : 1;
  each_row(images, s.P, s.Q * channels * taps, [&](int64_t n, int64_t p) {
    static thread_local std::vector<const T*> rows;
    const T* in = x + n * s.H * s.W * channels;
    const Axis::Window v = vertical.windows[size_t(p)];
    for (int64_t q = 0; q < s.Q; q++) {
      const Axis::Window u = horizontal.windows[size_t(q)];
      T* out = y + ((n * s.P + p) * s.Q + q) * channels;
      if (v.start >= v.end || u.start >= u.end) {
        std::fill(out, out + channels, T(0));
      } else if (!s.channels_last) {
        T sum = 0;
        for (int64_t h = v.start; h < v.end; h++) sum += sum_row(in + h * s.W + u.start, u.end - u.start);
        *out = sum / divisor_of<T>(v, u, fixed);
      } else {
        rows.clear();
        for (int64_t h = v.start; h < v.end; h++) {
          for (int64_t w = u.start; w < u.end; w++) rows.push_back(in + (h * s.W + w) * channels);
        }
        kernel(channels, int64_t(rows.size()), rows.data(), divisor_of<T>(v, u, fixed), out);
      }
    }
  });
  return kOk;
}

template <typename T>
int32_t average_backward(const Images& s, const Axis& vertical, const Axis& horizontal, double fixed,
                         const T* g, T* dx) {
  if (!s.channels_last) {
    each_row(s.N * s.C, s.H, 2 * s.W, [&](int64_t plane, int64_t h) {
      T* out = dx + (plane * s.H + h) * s.W;
      std::fill(out, out + s.W, T(0));
      const Span v = vertical.covering[size_t(h)];
      for (int64_t p = v.first; p < v.end; p++) {
        const T* in = g + (plane * s.P + p) * s.Q;
        for (int64_t q = 0; q < s.Q; q++) {
          const Axis::Window u = horizontal.windows[size_t(q)];
          const T share = in[q] / divisor_of<T>(vertical.windows[size_t(p)], u, fixed);
          for (int64_t w = u.start; w < u.end; w++) out[w] += share;
        }
      }
    });
    return kOk;
  }
  const auto kernel = pool_table<T>().spread;
  each_row(s.N, s.H, 2 * s.W * s.C, [&](int64_t n, int64_t h) {
    static thread_local std::vector<const T*> rows;
    static thread_local std::vector<T> divisors;
    const Span v = vertical.covering[size_t(h)];
    for (int64_t w = 0; w < s.W; w++) {
      const Span u = horizontal.covering[size_t(w)];
      rows.clear();
      divisors.clear();
      for (int64_t p = v.first; p < v.end; p++) {
        for (int64_t q = u.first; q < u.end; q++) {
          rows.push_back(g + ((n * s.P + p) * s.Q + q) * s.C);
          divisors.push_back(
              divisor_of<T>(vertical.windows[size_t(p)], horizontal.windows[size_t(q)], fixed));
        }
      }
      kernel(s.C, int64_t(rows.size()), rows.data(), divisors.data(), dx + ((n * s.H + h) * s.W + w) * s.C);
    }
  });
  return kOk;
}

// Calls f(images, vertical, horizontal, fixed divisor) for the descriptor of avg_pool2d.
template <typename F>
int32_t with_windows(const double* desc, const F& f) {
  const Images s(desc, desc[16]);
  const bool include_pad = desc[14] != 0;
  const Axis vertical =
      Axis::strided(s.H, s.P, int64_t(desc[6]), int64_t(desc[8]), int64_t(desc[10]), include_pad);
  const Axis horizontal =
      Axis::strided(s.W, s.Q, int64_t(desc[7]), int64_t(desc[9]), int64_t(desc[11]), include_pad);
  return f(s, vertical, horizontal, desc[15]);
}

// The same for the descriptor of adaptive_avg_pool2d.
template <typename F>
int32_t with_adaptive_windows(const double* desc, const F& f) {
  const Images s(desc, desc[6]);
  return f(s, Axis::adaptive(s.H, s.P), Axis::adaptive(s.W, s.Q), 0.0);
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_max_pool2d(const void* x, double x_off, void* y, double y_off, void* indices,
                                        double indices_off, int32_t dtypes, double,
                                        const double* desc) noexcept {
  int64_t* index = at<int64_t>(indices, indices_off);
  if (main_dtype(dtypes) == kFloat32) return max_pool(desc, at<float>(x, x_off), at<float>(y, y_off), index);
  return max_pool(desc, at<double>(x, x_off), at<double>(y, y_off), index);
}

NEEDLE_EXPORT int32_t needle_max_pool2d_backward(const void* g, double g_off, const void* indices,
                                                 double indices_off, void* dx, double dx_off, int32_t dtypes,
                                                 double, const double* desc) noexcept {
  const int64_t* index = at<int64_t>(indices, indices_off);
  if (main_dtype(dtypes) == kFloat32) {
    return max_pool_backward(desc, at<float>(g, g_off), index, at<float>(dx, dx_off));
  }
  return max_pool_backward(desc, at<double>(g, g_off), index, at<double>(dx, dx_off));
}

NEEDLE_EXPORT int32_t needle_avg_pool2d(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                        double, const double* desc) noexcept {
  return with_windows(desc, [&](const Images& s, const Axis& v, const Axis& u, double fixed) {
    if (main_dtype(dtypes) == kFloat32)
      return average(s, v, u, fixed, at<float>(x, x_off), at<float>(y, y_off));
    return average(s, v, u, fixed, at<double>(x, x_off), at<double>(y, y_off));
  });
}

NEEDLE_EXPORT int32_t needle_avg_pool2d_backward(const void* g, double g_off, void* dx, double dx_off,
                                                 int32_t dtypes, double, const double* desc) noexcept {
  return with_windows(desc, [&](const Images& s, const Axis& v, const Axis& u, double fixed) {
    if (main_dtype(dtypes) == kFloat32) {
      return average_backward(s, v, u, fixed, at<float>(g, g_off), at<float>(dx, dx_off));
    }
    return average_backward(s, v, u, fixed, at<double>(g, g_off), at<double>(dx, dx_off));
  });
}

NEEDLE_EXPORT int32_t needle_adaptive_avg_pool2d(const void* x, double x_off, void* y, double y_off,
                                                 int32_t dtypes, double, const double* desc) noexcept {
  return with_adaptive_windows(desc, [&](const Images& s, const Axis& v, const Axis& u, double fixed) {
    if (main_dtype(dtypes) == kFloat32)
      return average(s, v, u, fixed, at<float>(x, x_off), at<float>(y, y_off));
    return average(s, v, u, fixed, at<double>(x, x_off), at<double>(y, y_off));
  });
}

NEEDLE_EXPORT int32_t needle_adaptive_avg_pool2d_backward(const void* g, double g_off, void* dx,
                                                          double dx_off, int32_t dtypes, double,
                                                          const double* desc) noexcept {
  return with_adaptive_windows(desc, [&](const Images& s, const Axis& v, const Axis& u, double fixed) {
    if (main_dtype(dtypes) == kFloat32) {
      return average_backward(s, v, u, fixed, at<float>(g, g_off), at<float>(dx, dx_off));
    }
    return average_backward(s, v, u, fixed, at<double>(g, g_off), at<double>(dx, dx_off));
  });
}
