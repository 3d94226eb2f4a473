// Loops of the norms. Loops over columns are plain: the compiler vectorises them. They take several rows a
// step, so that an accumulator is loaded and stored once for all of them. Compiled once per ISA level.
#include "norm.h"

#include "vec.h"

#define UNROLL _Pragma("GCC unroll 8")

namespace {

template <typename T>
struct Vec;
template <>
struct Vec<float> {
  typedef vf type;
  static constexpr int lanes = W;
};
template <>
struct Vec<double> {
  typedef vd type;
  static constexpr int lanes = WD;
};

constexpr int kChains = 4;         // vectors that accumulate side by side
constexpr int64_t kBlock = 16384;  // elements that are summed in T before they go into a double
constexpr int64_t kFirst = 512;    // elements whose mean the moments of a block are taken around

// ---------------------------------------------------------------- columns

template <typename T>
void sum_columns(int64_t rows, int64_t width, const T* __restrict x, T* __restrict sum) {
  int64_t r = 0;
  for (; r + 8 <= rows; r += 8, x += 8 * width) {
    const T *a = x, *b = x + width, *c = b + width, *d = c + width;
    const T *e = d + width, *f = e + width, *g = f + width, *h = g + width;
    for (int64_t j = 0; j < width; j++)
      sum[j] += ((a[j] + b[j]) + (c[j] + d[j])) + ((e[j] + f[j]) + (g[j] + h[j]));
  }
  for (; r < rows; r++, x += width) {
    for (int64_t j = 0; j < width; j++) sum[j] += x[j];
  }
}

template <typename T>
void square_columns(int64_t rows, int64_t width, const T* __restrict x, const T* __restrict mean,
                    T* __restrict square) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * width) {
    const T *a = x, *b = x + width, *c = b + width, *d = c + width;
    for (int64_t j = 0; j < width; j++) {
      const T m = mean[j], p = a[j] - m, q = b[j] - m, u = c[j] - m, v = d[j] - m;
      square[j] += (p * p + q * q) + (u * u + v * v);
    }
  }
  for (; r < rows; r++, x += width) {
    for (int64_t j = 0; j < width; j++) square[j] += (x[j] - mean[j]) * (x[j] - mean[j]);
  }
}

template <typename T, bool kRelu>
void scale_columns_as(int64_t rows, int64_t width, const T* __restrict x, NormColumns<T> p, T* __restrict y) {
  const T* __restrict mean = p.mean, * __restrict scale = p.scale, * __restrict shift = p.shift;
  for (int64_t r = 0; r < rows; r++, x += width, y += width) {
    for (int64_t j = 0; j < width; j++) {
      const T value = (x[j] - mean[j]) * scale[j] + shift[j];
      y[j] = kRelu && value < 0 ? T(0) : value;
    }
  }
}

template <typename T>
void scale_columns(int64_t rows, int64_t width, const T* x, NormColumns<T> p, bool relu, T* y) {
  relu ? scale_columns_as<T, true>(rows, width, x, p, y) : scale_columns_as<T, false>(rows, width, x, p, y);
}

template <typename T, bool kRelu>
void dot_columns_as(int64_t rows, int64_t width, const T* __restrict g, int64_t g_step, const T* __restrict x,
                    NormColumns<T> p, T* __restrict sum, T* __restrict dot) {
  const T* __restrict mean = p.mean, * __restrict scale = p.scale, * __restrict shift = p.shift;
  const auto masked = [](T g, T centred, T scale, T shift) {
    return kRelu && centred * scale + shift <= 0 ? T(0) : g;
  };
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * width, g += 4 * g_step) {
    const T *x1 = x + width, *x2 = x1 + width, *x3 = x2 + width;
    const T *g1 = g + g_step, *g2 = g1 + g_step, *g3 = g2 + g_step;
    for (int64_t j = 0; j < width; j++) {
      const T c0 = x[j] - mean[j], c1 = x1[j] - mean[j], c2 = x2[j] - mean[j], c3 = x3[j] - mean[j];
      const T h0 = masked(g[j], c0, scale[j], shift[j]), h1 = masked(g1[j], c1, scale[j], shift[j]);
      const T h2 = masked(g2[j], c2, scale[j], shift[j]), h3 = masked(g3[j], c3, scale[j], shift[j]);
      sum[j] += (h0 + h1) + (h2 + h3);
      dot[j] += (h0 * c0 + h1 * c1) + (h2 * c2 + h3 * c3);
    }
  }
  for (; r < rows; r++, x += width, g += g_step) {
    for (int64_t j = 0; j < width; j++) {
      const T centred = x[j] - mean[j], h = masked(g[j], centred, scale[j], shift[j]);
      sum[j] += h;
      dot[j] += h * centred;
    }
  }
}

template <typename T>
void dot_columns(int64_t rows, int64_t width, const T* g, int64_t g_step, const T* x, NormColumns<T> p,
                 bool relu, T* sum, T* dot) {
  relu ? dot_columns_as<T, true>(rows, width, g, g_step, x, p, sum, dot)
       : dot_columns_as<T, false>(rows, width, g, g_step, x, p, sum, dot);
}

template <typename T, bool kRelu>
void grad_columns_as(int64_t rows, int64_t width, const T* __restrict g, int64_t g_step,
                     const T* __restrict x, NormColumns<T> p, const T* __restrict slope,
                     const T* __restrict level, T* __restrict dx) {
  const T* __restrict mean = p.mean, * __restrict scale = p.scale, * __restrict shift = p.shift;
  for (int64_t r = 0; r < rows; r++, g += g_step, x += width, dx += width) {
    for (int64_t j = 0; j < width; j++) {
      const T centred = x[j] - mean[j];
      const T h = kRelu && centred * scale[j] + shift[j] <= 0 ? T(0) : g[j];
      dx[j] = scale[j] * h + (slope[j] * centred + level[j]);
    }
  }
}

template <typename T>
void grad_columns(int64_t rows, int64_t width, const T* g, int64_t g_step, const T* x, NormColumns<T> p,
                  const T* slope, const T* level, bool relu, T* dx) {
  relu ? grad_columns_as<T, true>(rows, width, g, g_step, x, p, slope, level, dx)
       : grad_columns_as<T, false>(rows, width, g, g_step, x, p, slope, level, dx);
}

// ---------------------------------------------------------------- runs

template <typename T>
T fold(const typename Vec<T>::type* v) {
  T lanes[Vec<T>::lanes];
  store(lanes, (v[0] + v[1]) + (v[2] + v[3]));
  UNROLL for (int half = Vec<T>::lanes / 2; half > 0; half /= 2) {
    UNROLL for (int l = 0; l < half; l++) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

// Calls wide(run, element, chain) for vectors and narrow(run, element) for what is left of each run; vectors
// of different chains do not wait for each other. After at most kBlock elements calls flush().
template <typename T, typename Wide, typename Narrow, typename Flush>
void walk(int64_t count, int64_t n, const Wide& wide, const Narrow& narrow, const Flush& flush) {
  constexpr int L = Vec<T>::lanes;
  int64_t held = 0;
  for (int64_t r = 0; r < count; r++) {
    for (int64_t start = 0; start < n; start += kBlock) {
      const int64_t end = n - start < kBlock ? n : start + kBlock;
      if (held + end - start > kBlock) flush(), held = 0;
      held += end - start;
      int64_t i = start;
      for (; i + kChains * L <= end; i += kChains * L) {
        UNROLL for (int k = 0; k < kChains; k++) wide(r, i + k * L, k);
      }
      for (; i + L <= end; i += L) wide(r, i, 0);
      for (; i < end; i++) narrow(r, i);
    }
  }
  flush();
}

// The sum of term(x), given for vectors and for single elements.
template <typename T, typename Term>
double total(int64_t count, int64_t stride, int64_t n, const T* x, const Term& term) {
  typename Vec<T>::type v[kChains] = {};
  T rest = 0;
  double sum = 0;
  walk<T>(
      count, n, [&](int64_t r, int64_t i, int k) { v[k] += term(load(x + r * stride + i)); },
      [&](int64_t r, int64_t i) { rest += term(x[r * stride + i]); },
      [&] {
        sum += double(fold<T>(v)) + double(rest);
        UNROLL for (int k = 0; k < kChains; k++) v[k] = typename Vec<T>::type{};
        rest = 0;
      });
  return sum;
}

struct Identity {
  template <typename V>
  V operator()(V x) const {
    return x;
  }
};

template <typename T>
struct SquaredDeviation {
  T mean;
  template <typename V>
  V operator()(V x) const {
    return (x - mean) * (x - mean);
  }
};

// In one pass, around the mean of the first elements: the further it is from the mean of all, the larger is
// the variance, so little is lost when one is taken from the other.
template <typename T>
void moments_runs(int64_t count, int64_t stride, int64_t n, const T* x, double* mean, double* m2) {
  typedef typename Vec<T>::type vec;
  *mean = *m2 = 0;
  if (count * n == 0) return;
  const int64_t some = n < kFirst ? n : kFirst;
  const T origin = T(total(1, 0, some, x, Identity()) / double(some));
  const vec centre = splat(origin);
  vec s[kChains] = {}, q[kChains] = {};
  T rest = 0, rest_square = 0;
  double sum = 0, square = 0;
  walk<T>(
      count, n,
      [&](int64_t r, int64_t i, int k) {
        const vec c = load(x + r * stride + i) - centre;
        s[k] += c;
        q[k] = fma(c, c, q[k]);
      },
      [&](int64_t r, int64_t i) {
        const T c = x[r * stride + i] - origin;
        rest += c;
        rest_square += c * c;
      },
      [&] {
        sum += double(fold<T>(s)) + double(rest);
        square += double(fold<T>(q)) + double(rest_square);
        UNROLL for (int k = 0; k < kChains; k++) s[k] = q[k] = vec{};
        rest = rest_square = 0;
      });
  const double shift = sum / double(count * n);
  *mean = double(origin) + shift;
  const double around = square - sum * shift;
  *m2 = around < 0 ? 0 : around;
}

template <typename T>
void scale_runs(int64_t count, int64_t stride, int64_t n, const T* __restrict x, NormRun<T> p, bool relu,
                T* __restrict y) {
  for (int64_t r = 0; r < count; r++, x += stride, y += stride) {
    if (relu) {
      for (int64_t i = 0; i < n; i++) {
        const T value = (x[i] - p.mean) * p.scale + p.shift;
        y[i] = value < 0 ? T(0) : value;
      }
    } else {
      for (int64_t i = 0; i < n; i++) y[i] = (x[i] - p.mean) * p.scale + p.shift;
    }
  }
}

template <typename T, bool kRelu>
void dot_runs_as(int64_t count, int64_t stride, int64_t n, const T* g, int64_t g_step, const T* x,
                 NormRun<T> p, double* sum, double* dot) {
  typedef typename Vec<T>::type vec;
  const vec mean = splat(p.mean), scale = splat(p.scale), shift = splat(p.shift);
  vec s[kChains] = {}, d[kChains] = {};
  T rest = 0, rest_dot = 0;
  walk<T>(
      count, n,
      [&](int64_t r, int64_t i, int k) {
        const vec centred = load(x + r * stride + i) - mean;
        vec h = load(g + r * g_step + i);
        if (kRelu) h = centred * scale + shift <= vec{} ? vec{} : h;
        s[k] += h;
        d[k] = fma(h, centred, d[k]);
      },
      [&](int64_t r, int64_t i) {
        const T centred = x[r * stride + i] - p.mean;
        const T h = kRelu && centred * p.scale + p.shift <= 0 ? T(0) : g[r * g_step + i];
        rest += h;
        rest_dot += h * centred;
      },
      [&] {
        *sum += double(fold<T>(s)) + double(rest);
        *dot += double(fold<T>(d)) + double(rest_dot);
        UNROLL for (int k = 0; k < kChains; k++) s[k] = d[k] = vec{};
        rest = rest_dot = 0;
      });
}

template <typename T>
void dot_runs(int64_t count, int64_t stride, int64_t n, const T* g, int64_t g_step, const T* x, NormRun<T> p,
              bool relu, double* sum, double* dot) {
  relu ? dot_runs_as<T, true>(count, stride, n, g, g_step, x, p, sum, dot)
       : dot_runs_as<T, false>(count, stride, n, g, g_step, x, p, sum, dot);
}

template <typename T, bool kRelu>
void grad_runs_as(int64_t count, int64_t stride, int64_t n, const T* __restrict g, int64_t g_step,
                  const T* __restrict x, NormRun<T> p, T slope, T level, T* __restrict dx) {
  for (int64_t r = 0; r < count; r++, g += g_step, x += stride, dx += stride) {
    for (int64_t i = 0; i < n; i++) {
      const T centred = x[i] - p.mean;
      const T h = kRelu && centred * p.scale + p.shift <= 0 ? T(0) : g[i];
      dx[i] = p.scale * h + (slope * centred + level);
    }
  }
}

template <typename T>
void grad_runs(int64_t count, int64_t stride, int64_t n, const T* g, int64_t g_step, const T* x, NormRun<T> p,
               T slope, T level, bool relu, T* dx) {
  relu ? grad_runs_as<T, true>(count, stride, n, g, g_step, x, p, slope, level, dx)
       : grad_runs_as<T, false>(count, stride, n, g, g_step, x, p, slope, level, dx);
}

// ---------------------------------------------------------------- rows

template <typename T>
void norm_rows(int64_t rows, int64_t cols, const T* __restrict x, const T* __restrict weight,
               const T* __restrict bias, double eps, T* __restrict y, T* mean, T* rstd) {
  for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
    const T m = mean && cols > 0 ? T(total(1, 0, cols, x, Identity()) / double(cols)) : T(0);
    const double variance = cols > 0 ? total(1, 0, cols, x, SquaredDeviation<T>{m}) / double(cols) : 0;
    const T s = T(1 / __builtin_sqrt(variance + eps));
    if (mean) mean[r] = m;
    rstd[r] = s;
    for (int64_t j = 0; j < cols; j++) y[j] = (x[j] - m) * s * weight[j] + bias[j];
  }
}

// R rows at once, so that dweight and dbias are read and written once for all of them.
template <typename T, int R>
void grad_rows_step(int64_t cols, const T* __restrict g, int64_t g_step, const T* __restrict x, const T* mean,
                    const T* rstd, const T* __restrict weight, T* __restrict dx, T* __restrict dweight,
                    T* __restrict dbias) {
  typedef typename Vec<T>::type vec;
  T m[R], s[R], a[R], b[R];  // dx = s (g w - a - b normal)
  for (int r = 0; r < R; r++) {
    const T *gr = g + r * g_step, *xr = x + r * cols;
    m[r] = mean ? mean[r] : T(0);
    s[r] = rstd[r];
    const vec mv = splat(m[r]);
    vec sums[kChains] = {}, dots[kChains] = {};
    T rest = 0, rest_dot = 0;
    double sum = 0, dot = 0;
    walk<T>(
        1, cols,
        [&](int64_t, int64_t i, int k) {
          const vec h = load(gr + i) * load(weight + i);
          sums[k] += h;
          dots[k] = fma(h, load(xr + i) - mv, dots[k]);
        },
        [&](int64_t, int64_t i) {
          const T h = gr[i] * weight[i];
          rest += h;
          rest_dot += h * (xr[i] - m[r]);
        },
        [&] {
          sum += double(fold<T>(sums)) + double(rest);
          dot += double(fold<T>(dots)) + double(rest_dot);
          UNROLL for (int k = 0; k < kChains; k++) sums[k] = dots[k] = vec{};
          rest = rest_dot = 0;
        });
    a[r] = mean ? T(sum / double(cols)) : T(0);
    b[r] = T(dot * double(s[r]) / double(cols));
  }
  for (int64_t j = 0; j < cols; j++) {
    T dw = 0, db = 0;
    UNROLL for (int r = 0; r < R; r++) {
      const T gr = g[r * g_step + j], normal = (x[r * cols + j] - m[r]) * s[r];
      dw += gr * normal;
      db += gr;
      dx[r * cols + j] = s[r] * (gr * weight[j] - a[r] - normal * b[r]);
    }
    dweight[j] += dw;
    dbias[j] += db;
  }
}

template <typename T>
void grad_rows(int64_t rows, int64_t cols, const T* g, int64_t g_step, const T* x, const T* mean,
               const T* rstd, const T* weight, T* dx, T* dweight, T* dbias) {
  constexpr int R = 4;
  int64_t r = 0;
  for (; r + R <= rows; r += R) {
    grad_rows_step<T, R>(cols, g + r * g_step, g_step, x + r * cols, mean ? mean + r : nullptr, rstd + r,
                         weight, dx + r * cols, dweight, dbias);
  }
  for (; r < rows; r++) {
    grad_rows_step<T, 1>(cols, g + r * g_step, g_step, x + r * cols, mean ? mean + r : nullptr, rstd + r,
                         weight, dx + r * cols, dweight, dbias);
  }
}

}  // namespace

extern "C" const NormKernels NEEDLE_ISA_NAME(norm) = {
    {sum_columns<float>, square_columns<float>, moments_runs<float>, scale_columns<float>, scale_runs<float>,
     dot_columns<float>, dot_runs<float>, grad_columns<float>, grad_runs<float>, norm_rows<float>,
     grad_rows<float>},
    {sum_columns<double>, square_columns<double>, moments_runs<double>, scale_columns<double>,
     scale_runs<double>, dot_columns<double>, dot_runs<double>, grad_columns<double>, grad_runs<double>,
     norm_rows<double>, grad_rows<double>},
};
