// The product of a recurrent step, and its elementwise part, forward and backward, a vector of hidden units
// at a time. Compiled once per ISA level. The product has few rows and weights that are larger than the L2
// cache and come back every step: each panel is used for all rows while the next one is fetched.
#include "rnn.h"

#include "gemm.h"
#include "loops.h"

#define UNROLL _Pragma("GCC unroll 16")

namespace {

// The register tile: rows, and vectors per row. kc steps of a panel stay in L2, of a row of tiles in L1.
#if defined(__AVX512F__)
constexpr int kRows = 8, kVectors = 3;
#else
constexpr int kRows = 6, kVectors = 2;
#endif
constexpr int64_t kSteps = 384;

// One tile: R rows of a times a panel of V vectors. Meanwhile F cache lines a step are fetched from `next`
// on.
template <typename T, int R, int V, int F>
void tile(int64_t k, const T* a, int64_t lda, const T* b, T* c, int64_t ldc, const T* bias, bool add,
          const T* next) {
  typedef typename Lanes<T>::type vec;
  constexpr int L = Lanes<T>::count;
  constexpr int64_t line = 64 / sizeof(T);
  vec sum[R][V];
  UNROLL for (int i = 0; i < R; i++) { UNROLL for (int j = 0; j < V; j++) sum[i][j] = vec{}; }
  for (int64_t p = 0; p < k; p++, a++, b += V * L, next += F * line) {
    vec row[V];
    UNROLL for (int j = 0; j < V; j++) row[j] = load(b + j * L);
    UNROLL for (int f = 0; f < F; f++) __builtin_prefetch(next + f * line, 0, 2);
    UNROLL for (int i = 0; i < R; i++) {
      const vec x = splat(a[i * lda]);
      UNROLL for (int j = 0; j < V; j++) sum[i][j] = fma(x, row[j], sum[i][j]);
    }
  }
  UNROLL for (int i = 0; i < R; i++) {
    UNROLL for (int j = 0; j < V; j++) {
      T* const out = c + i * ldc + j * L;
      store(out, add ? load(out) + sum[i][j] : bias ? load(bias + j * L) + sum[i][j] : sum[i][j]);
    }
  }
}

template <typename T>
using Tile = void (*)(int64_t, const T*, int64_t, const T*, T*, int64_t, const T*, bool, const T*);

// tile for 1 to kRows rows.
template <typename T, int V, int F>
struct Tiles {
  static constexpr Tile<T> rows[] = {tile<T, 1, V, F>, tile<T, 2, V, F>, tile<T, 3, V, F>,
                                     tile<T, 4, V, F>, tile<T, 5, V, F>, tile<T, 6, V, F>,
#if defined(__AVX512F__)
                                     tile<T, 7, V, F>, tile<T, 8, V, F>
#endif
  };
};

// The tiles of a panel of `vectors` when `parts` tiles share the fetching of the next one.
template <typename T>
const Tile<T>* tiles(int64_t vectors, int64_t parts) {
#if defined(__AVX512F__)
  if (vectors == 3) {
    return parts == 1 ? Tiles<T, 3, 3>::rows : parts == 2 ? Tiles<T, 3, 2>::rows : Tiles<T, 3, 1>::rows;
  }
#endif
  if (vectors == 2) return parts == 1 ? Tiles<T, 2, 2>::rows : Tiles<T, 2, 1>::rows;
  return Tiles<T, 1, 1>::rows;
}

template <typename T>
void product(const RnnProduct<T>& g) {
  constexpr int64_t L = Lanes<T>::count, width = kVectors * L, line = 64 / sizeof(T);
  const int64_t steps = gemm_block(g.k, kSteps), padded = (g.n + L - 1) / L * L,
                parts = (g.m + kRows - 1) / kRows;
  for (int64_t k0 = 0; k0 < g.k; k0 += steps) {
    const int64_t kc = g.k - k0 < steps ? g.k - k0 : steps;
    for (int64_t j = 0; j < padded; j += width) {
      const int64_t vectors = (padded - j < width ? padded - j : width) / L;
      const T* const b = g.packed + k0 * padded + kc * j;
      // Panels follow each other; after the last one comes the first one of the next step.
      const bool last = k0 + kc == g.k && j + width >= padded;
      const T* next = last ? g.packed : b + kc * vectors * L;
      const Tile<T>* const rows = tiles<T>(vectors, parts);
      const int64_t lines = parts >= vectors ? 1 : parts == 1 ? vectors : 2;
      int64_t i = 0;
      for (int64_t q = 0; q < parts; q++) {
        const int64_t end = g.m * (q + 1) / parts;
        rows[end - i - 1](kc, g.a + i * g.lda + k0, g.lda, b, g.c + i * g.ldc + j, g.ldc,
                          g.bias && k0 == 0 ? g.bias + j : nullptr, g.add || k0 > 0, next);
        // What is left of the next panel; this one again, which is near, when nothing is.
        next = (q + 1) * lines < vectors * L / line ? next + kc * lines * line : b;
        i = end;
      }
    }
  }
}

// Up to one vector of units; the last ones of a row are padded with 0.
template <typename T>
struct Units {
  typedef typename Lanes<T>::type vec;
  static constexpr int64_t count = Lanes<T>::count;
  int64_t first, used;

  vec get(const T* p) const { return used == count ? load(p + first) : load_first(p + first, used, T(0)); }
  void put(T* p, vec v) const {
    if (used == count) {
      store(p + first, v);
    } else {
      store_first(p + first, used, v);
    }
  }
};

// Calls f on the vectors of n units.
template <typename T, typename F>
NEEDLE_INLINE void each_vector(int64_t n, const F& f) {
  constexpr int64_t L = Lanes<T>::count;
  for (int64_t k = 0; k < n; k += L) f(Units<T>{k, n - k < L ? n - k : L});
}

template <typename T>
void step_tanh(int64_t n, const T* pre, const T* x, T* h) {
  each_vector<T>(n, [&](const Units<T>& u) { u.put(h, tanh(u.get(pre) + u.get(x))); });
}

template <typename T>
void step_relu(int64_t n, const T* pre, const T* x, T* h) {
  typedef typename Lanes<T>::type vec;
  each_vector<T>(n, [&](const Units<T>& u) {
    const vec sum = u.get(pre) + u.get(x);
    u.put(h, sum < T(0) ? vec{} : sum);
  });
}

template <typename T>
void step_lstm(int64_t n, const T* pre, int64_t pre_step, const T* x, int64_t step, const T* c0, T* gates,
               T* c, T* h) {
  typedef typename Lanes<T>::type vec;
  each_vector<T>(n, [&](const Units<T>& u) {
    const vec i = sigmoid(u.get(pre) + u.get(x));
    const vec f = sigmoid(u.get(pre + pre_step) + u.get(x + step));
    const vec g = tanh(u.get(pre + 2 * pre_step) + u.get(x + 2 * step));
    const vec o = sigmoid(u.get(pre + 3 * pre_step) + u.get(x + 3 * step));
    const vec cell = fma(f, u.get(c0), i * g);
    u.put(gates, i);
    u.put(gates + step, f);
    u.put(gates + 2 * step, g);
    u.put(gates + 3 * step, o);
    u.put(c, cell);
    u.put(h, o * tanh(cell));
  });
}

template <typename T>
void step_gru(int64_t n, const T* pre, int64_t pre_step, const T* x, int64_t step, const T* h0, T* gates,
              T* h) {
  typedef typename Lanes<T>::type vec;
  each_vector<T>(n, [&](const Units<T>& u) {
    const vec q = u.get(pre + 2 * pre_step);
    const vec r = sigmoid(u.get(pre) + u.get(x));
    const vec z = sigmoid(u.get(pre + pre_step) + u.get(x + step));
    const vec candidate = tanh(fma(r, q, u.get(x + 2 * step)));
    u.put(gates, r);
    u.put(gates + step, z);
    u.put(gates + 2 * step, candidate);
    u.put(gates + 3 * step, q);
    u.put(h, fma(z, u.get(h0) - candidate, candidate));
  });
}

// What reaches h: from the steps after and from this step's output.
template <typename T>
NEEDLE_INLINE typename Lanes<T>::type reaching(const Units<T>& u, const T* dh, const T* gy) {
  return gy ? u.get(dh) + u.get(gy) : u.get(dh);
}

template <typename T>
void back_tanh(int64_t n, const T* h, const T* dh, const T* gy, T* dx) {
  typedef typename Lanes<T>::type vec;
  each_vector<T>(n, [&](const Units<T>& u) {
    const vec y = u.get(h);
    u.put(dx, reaching(u, dh, gy) * (T(1) - y * y));
  });
}

template <typename T>
void back_relu(int64_t n, const T* h, const T* dh, const T* gy, T* dx) {
  typedef typename Lanes<T>::type vec;
  each_vector<T>(n, [&](const Units<T>& u) { u.put(dx, u.get(h) > T(0) ? reaching(u, dh, gy) : vec{}); });
}

template <typename T>
void back_lstm(int64_t n, const T* gates, int64_t step, const T* c, const T* c0, const T* dh, const T* gy,
               T* dc, T* dx) {
  typedef typename Lanes<T>::type vec;
  each_vector<T>(n, [&](const Units<T>& u) {
    const vec i = u.get(gates), f = u.get(gates + step), g = u.get(gates + 2 * step),
              o = u.get(gates + 3 * step);
    const vec d = reaching(u, dh, gy), s = tanh(u.get(c));
    const vec cell = fma(d * o, T(1) - s * s, u.get(dc));
    u.put(dx, cell * g * i * (T(1) - i));
    u.put(dx + step, cell * u.get(c0) * f * (T(1) - f));
    u.put(dx + 2 * step, cell * i * (T(1) - g * g));
    u.put(dx + 3 * step, d * s * o * (T(1) - o));
    u.put(dc, cell * f);
  });
}

template <typename T>
void back_gru(int64_t n, const T* gates, int64_t step, const T* h0, const T* gy, T* dh, T* dx, T* dr) {
  typedef typename Lanes<T>::type vec;
  each_vector<T>(n, [&](const Units<T>& u) {
    const vec r = u.get(gates), z = u.get(gates + step), candidate = u.get(gates + 2 * step);
    const vec d = reaching(u, static_cast<const T*>(dh), gy);
    const vec dn = d * (T(1) - z) * (T(1) - candidate * candidate);
    const vec reset = dn * u.get(gates + 3 * step) * r * (T(1) - r);
    const vec update = d * (u.get(h0) - candidate) * z * (T(1) - z);
    u.put(dx, reset);
    u.put(dr, reset);
    u.put(dx + step, update);
    u.put(dr + step, update);
    u.put(dx + 2 * step, dn);
    u.put(dr + 2 * step, dn * r);
    u.put(dh, d * z);
  });
}

}  // namespace

#define NEEDLE_TABLE(T)                         \
  {Lanes<T>::count, kVectors * Lanes<T>::count, \
   kSteps,          product<T>,                 \
   step_tanh<T>,    step_relu<T>,               \
   step_lstm<T>,    step_gru<T>,                \
   back_tanh<T>,    back_relu<T>,               \
   back_lstm<T>,    back_gru<T>}
extern "C" const RnnKernels NEEDLE_ISA_NAME(rnn) = {NEEDLE_TABLE(float), NEEDLE_TABLE(double)};
