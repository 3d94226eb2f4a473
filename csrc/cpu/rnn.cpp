// needle_rnn_layer, needle_lstm_layer, needle_gru_layer and their backward ops: all steps of a layer in one
// parallel region. Each thread owns some hidden units: it packs their recurrent weights once, and at each
// step multiplies the whole state by them and finishes its units' gates. One barrier a step hands the state
// on.
#include <algorithm>
#include <atomic>

#include "../common.h"
#include "gemm_split.h"
#include "kernels/rnn.h"

namespace needle {
namespace {

template <typename T>
const RnnTable<T>& rnn_table();
template <>
const RnnTable<float>& rnn_table<float>() {
  return select_kernels(rnn)->f32;
}
template <>
const RnnTable<double>& rnn_table<double>() {
  return select_kernels(rnn)->f64;
}

struct Sizes {
  int64_t steps, batch, hidden;
  bool reverse, relu;

  explicit Sizes(const double* desc)
      : steps(int64_t(desc[0])), batch(int64_t(desc[1])), hidden(int64_t(desc[2])), reverse(desc[3] != 0) {}
  int64_t state() const { return batch * hidden; }
  // The step taken as number s.
  int64_t step(int64_t s) const { return reverse ? steps - 1 - s : s; }
};

// Multiply-adds of one step below which one more thread does not pay: about 20 us, many times what a barrier
// costs among threads that run, since beside other processes it costs far more.
constexpr double kStepGrain = 1 << 20;

// The hidden units [first, first + width) of one thread.
struct Share {
  int64_t first, width;
};

// Runs f(share) on every thread of a team. A share is a whole number of vectors, so that neighbours write to
// cache lines of their own.
template <typename F>
void share_units(const Sizes& sizes, int64_t gates, int64_t lanes, const F& f) {
  const double work = double(sizes.batch) * double(gates) * double(sizes.hidden) * double(sizes.hidden);
  const int64_t wanted = std::max<int64_t>(1, int64_t(work / kStepGrain));
  const int64_t threads = std::min(std::min<int64_t>(thread_count(), wanted), ceil_div(sizes.hidden, lanes));
#ifdef _OPENMP
  if (threads > 1) {
#pragma omp parallel num_threads(int(threads))
    {
      const int64_t i = omp_get_thread_num(), parts = omp_get_num_threads();
      const int64_t first = slice_start(sizes.hidden, lanes, i, parts);
      f(Share{first, slice_start(sizes.hidden, lanes, i + 1, parts) - first});
    }
    return;
  }
#endif
  f(Share{0, sizes.hidden});
}

// Waits for the team; nothing outside a parallel region.
void barrier() {
#ifdef _OPENMP
  if (omp_in_parallel()) {
#pragma omp barrier
  }
#endif
}

// A share's part of the product of the state with the recurrent weights.
template <typename T>
struct Product {
  const RnnTable<T>& table = rnn_table<T>();
  RnnProduct<T> g{};
  T* packed = nullptr;
  T* extra = nullptr;  // what prepare() was asked for beside

  // Memory for k by n packed weights and `more` elements.
  bool prepare(int64_t m, int64_t n, int64_t k, int64_t more) {
    g.m = m, g.n = n, g.k = g.lda = k;
    g.ldc = round_up(n, table.lanes);
    const int64_t weights = round_up(k * g.ldc, 16);
    g.packed = packed = static_cast<T*>(scratch(kScratchWeights, size_t(weights + more) * sizeof(T)));
    if (!packed) return false;
    extra = packed + weights;
    return true;
  }

  // Packs the factor whose columns [j, j + width) from step k0 on fill(k0, kc, j, width, out) packs as a
  // panel.
  template <typename F>
  void pack(const F& fill) {
    const int64_t limit = gemm_block(g.k, table.kc);
    for (int64_t k0 = 0; k0 < g.k; k0 += limit) {
      const int64_t kc = std::min(limit, g.k - k0);
      for (int64_t j = 0; j < g.n; j += table.nr) {
        fill(k0, kc, j, std::min(table.nr, g.n - j), packed + k0 * g.ldc + kc * j);
      }
    }
  }

  // Packs w (gates * hidden, hidden), transposed: column j of gate i is the row of unit first + j. A panel
  // that crosses from one gate to the next is gathered in `panel` first (nr rows of w).
  void pack_transposed(const T* w, int64_t hidden, Share share, T* panel) {
    const GemmTable<T>& gemm = gemm_table<T>();
    const auto row = [&](int64_t j) {
      return w + (j / share.width * hidden + share.first + j % share.width) * hidden;
    };
    pack([&](int64_t k0, int64_t kc, int64_t j, int64_t width, T* out) {
      if (j % share.width + width <= share.width) return gemm.panel(kc, width, row(j) + k0, 1, hidden, out);
      for (int64_t i = 0; i < width; i++) std::copy(row(j + i) + k0, row(j + i) + k0 + kc, panel + i * kc);
      gemm.panel(kc, width, panel, 1, kc, out);
    });
  }

  // Packs columns [first, first + n) of w (k, hidden).
  void pack_columns(const T* w, int64_t hidden, int64_t first) {
    pack([&](int64_t k0, int64_t kc, int64_t j, int64_t width, T* out) {
      gemm_table<T>().panel(kc, width, w + k0 * hidden + first + j, hidden, 1, out);
    });
  }

  // c = a (m, k) times the packed weights, plus the bias, or plus what c holds.
  void run(const T* a, T* c, const T* bias, bool add) {
    g.a = a, g.c = c, g.bias = bias, g.add = add;
    table.product(g);
  }
};

// Copies the columns of a share of a (batch, hidden) state.
template <typename T>
void copy_share(const Sizes& sizes, Share share, const T* from, T* to) {
  for (int64_t b = 0; b < sizes.batch; b++) {
    const T* row = from + b * sizes.hidden + share.first;
    std::copy(row, row + share.width, to + b * sizes.hidden + share.first);
  }
}

// Forward: calls step(t, b, pre, share) for every step and sequence with the recurrent part of the share's
// gates; it writes the new state to y. `previous` receives the states before each step, `hn` the last one.
template <typename T, typename Step>
int32_t forward(const Sizes& sizes, int64_t gates, const T* h0, const T* w, const T* bias, const T* y, T* hn,
                T* previous, const Step& step) {
  if (sizes.batch == 0) return kOk;
  std::atomic<bool> failed{false};
  share_units(sizes, gates, gemm_table<T>().lanes, [&](Share share) {
    Product<T> product;
    const int64_t n = gates * share.width, row = round_up(n, product.table.lanes);
    const int64_t most = std::max(product.table.nr * sizes.hidden, sizes.batch * row);
    const bool ready = product.prepare(sizes.batch, n, sizes.hidden, row + most);
    if (!ready) failed = true;
    T* const own_bias = product.extra;
    T* const pre = own_bias + row;
    if (ready) {
      product.pack_transposed(w, sizes.hidden, share, pre);
      std::fill(own_bias, own_bias + row, T(0));
      for (int64_t j = 0; bias && j < n; j++) {
        own_bias[j] = bias[j / share.width * sizes.hidden + share.first + j % share.width];
      }
      copy_share(sizes, share, h0, previous + sizes.step(0) * sizes.state());
    }
    barrier();
    if (failed) return;
    for (int64_t s = 0; s < sizes.steps; s++) {
      const int64_t t = sizes.step(s);
      product.run(previous + t * sizes.state(), pre, bias ? own_bias : nullptr, false);
      for (int64_t b = 0; b < sizes.batch; b++) step(t, b, pre + b * row, share);
      const bool last = s + 1 == sizes.steps;
      copy_share(sizes, share, y + t * sizes.state(),
                 last ? hn : previous + sizes.step(s + 1) * sizes.state());
      barrier();
    }
  });
  return failed ? out_of_memory() : kOk;
}

// Backward: calls step(t, b, before, dh, carry, share) for every step from the last to the first; `before` is
// the step taken before, or -1. It writes the gates' gradients to dr and may leave in dh what passes by the
// gates (`pass`). dh and carry hold the share's units; carry starts as `carried` and ends in `carry0`, where
// given.
template <typename T, typename Step>
int32_t backward(const Sizes& sizes, int64_t gates, const T* w, const T* gh, const T* carried, const T* dr,
                 bool pass, T* dh0, T* carry0, const Step& step) {
  if (sizes.batch == 0) return kOk;
  std::atomic<bool> failed{false};
  share_units(sizes, gates, gemm_table<T>().lanes, [&](Share share) {
    Product<T> product;
    const int64_t row = round_up(share.width, product.table.lanes), wide = gates * sizes.hidden;
    const int64_t size = sizes.batch * row;
    const bool ready = product.prepare(sizes.batch, share.width, wide, 2 * size);
    if (!ready) failed = true;
    T* const dh = product.extra;
    T* const carry = dh + size;
    if (ready) {
      product.pack_columns(w, sizes.hidden, share.first);
      std::fill(dh, dh + 2 * size, T(0));
      for (int64_t b = 0; b < sizes.batch; b++) {
        const int64_t at = b * sizes.hidden + share.first;
        if (gh) std::copy(gh + at, gh + at + share.width, dh + b * row);
        if (carried) std::copy(carried + at, carried + at + share.width, carry + b * row);
      }
    }
    barrier();
    if (failed) return;
    for (int64_t s = sizes.steps - 1; s >= 0; s--) {
      const int64_t t = sizes.step(s), before = s == 0 ? -1 : sizes.step(s - 1);
      for (int64_t b = 0; b < sizes.batch; b++) {
        step(t, b, before, dh + b * row, carry + b * row, share);
      }
      barrier();
      product.run(dr + t * sizes.batch * wide, dh, nullptr, pass);
    }
    for (int64_t b = 0; b < sizes.batch; b++) {
      const int64_t at = b * sizes.hidden + share.first;
      std::copy(dh + b * row, dh + b * row + share.width, dh0 + at);
      if (carry0) std::copy(carry + b * row, carry + b * row + share.width, carry0 + at);
    }
  });
  return failed ? out_of_memory() : kOk;
}

template <typename T>
int32_t rnn_layer(const Sizes& sizes, const T* xg, const T* h0, const T* w, T* y, T* hn, T* previous) {
  const auto step = sizes.relu ? rnn_table<T>().relu : rnn_table<T>().tanh;
  return forward(sizes, 1, h0, w, static_cast<const T*>(nullptr), y, hn, previous,
                 [&](int64_t t, int64_t b, const T* pre, Share share) {
                   const int64_t at = t * sizes.state() + b * sizes.hidden + share.first;
                   step(share.width, pre, xg + at, y + at);
                 });
}

template <typename T>
int32_t rnn_layer_backward(const Sizes& sizes, const T* y, const T* w, const T* gy, const T* gh, T* dx,
                           T* dh0) {
  const auto step = sizes.relu ? rnn_table<T>().relu_backward : rnn_table<T>().tanh_backward;
  return backward(sizes, 1, w, gh, static_cast<const T*>(nullptr), dx, false, dh0, static_cast<T*>(nullptr),
                  [&](int64_t t, int64_t b, int64_t, const T* dh, T*, Share share) {
                    const int64_t at = t * sizes.state() + b * sizes.hidden + share.first;
                    step(share.width, y + at, dh, gy ? gy + at : nullptr, dx + at);
                  });
}

template <typename T>
int32_t lstm_layer(const Sizes& sizes, const T* xg, const T* h0, const T* c0, const T* w, T* y, T* hn, T* cn,
                   T* gates, T* cells, T* previous) {
  const auto step = rnn_table<T>().lstm;
  const int64_t hidden = sizes.hidden, size = sizes.state(), last = sizes.step(sizes.steps - 1);
  const int32_t status = forward(
      sizes, 4, h0, w, static_cast<const T*>(nullptr), y, hn, previous,
      [&](int64_t t, int64_t b, const T* pre, Share share) {
        const int64_t unit = b * hidden + share.first, at = t * size + unit,
                      row = 4 * (t * size + b * hidden) + share.first;
        const T* before = t == sizes.step(0) ? c0 : cells + (sizes.reverse ? t + 1 : t - 1) * size;
        step(share.width, pre, share.width, xg + row, hidden, before + unit, gates + row, cells + at, y + at);
      });
  if (status == kOk) std::copy(cells + last * size, cells + (last + 1) * size, cn);
  return status;
}

template <typename T>
int32_t lstm_layer_backward(const Sizes& sizes, const T* gates, const T* cells, const T* c0, const T* w,
                            const T* gy, const T* gh, const T* gc, T* dx, T* dh0, T* dc0) {
  const auto step = rnn_table<T>().lstm_backward;
  const int64_t hidden = sizes.hidden, size = sizes.state();
  return backward(sizes, 4, w, gh, gc, dx, false, dh0, dc0,
                  [&](int64_t t, int64_t b, int64_t before, const T* dh, T* dc, Share share) {
                    const int64_t unit = b * hidden + share.first, at = t * size + unit;
                    const int64_t row = 4 * (t * size + b * hidden) + share.first;
                    step(share.width, gates + row, hidden, cells + at,
                         (before < 0 ? c0 : cells + before * size) + unit, dh, gy ? gy + at : nullptr, dc,
                         dx + row);
                  });
}

template <typename T>
int32_t gru_layer(const Sizes& sizes, const T* xg, const T* h0, const T* w, const T* bias, T* y, T* hn,
                  T* gates, T* previous) {
  const auto step = rnn_table<T>().gru;
  const int64_t hidden = sizes.hidden;
  return forward(sizes, 3, h0, w, bias, y, hn, previous,
                 [&](int64_t t, int64_t b, const T* pre, Share share) {
                   const int64_t row = t * sizes.state() + b * hidden, at = row + share.first;
                   step(share.width, pre, share.width, xg + 3 * row + share.first, hidden, previous + at,
                        gates + 4 * row + share.first, y + at);
                 });
}

template <typename T>
int32_t gru_layer_backward(const Sizes& sizes, const T* gates, const T* previous, const T* w, const T* gy,
                           const T* gh, T* dx, T* dr, T* dh0) {
  const auto step = rnn_table<T>().gru_backward;
  const int64_t hidden = sizes.hidden;
  return backward(sizes, 3, w, gh, static_cast<const T*>(nullptr), dr, true, dh0, static_cast<T*>(nullptr),
                  [&](int64_t t, int64_t b, int64_t, T* dh, T*, Share share) {
                    const int64_t row = t * sizes.state() + b * hidden, at = row + share.first;
                    step(share.width, gates + 4 * row + share.first, hidden, previous + at,
                         gy ? gy + at : nullptr, dh, dx + 3 * row + share.first, dr + 3 * row + share.first);
                  });
}

}  // namespace
}  // namespace needle

using namespace needle;

// An argument of the surrounding function as a pointer to its first element.
#define TENSOR(name) at<T>(name, name##_off)
// Returns what `call` does with T as the type of the main dtype.
#define RETURN_BY_TYPE(call)              \
  do {                                    \
    if (main_dtype(dtypes) == kFloat32) { \
      typedef float T;                    \
      return call;                        \
    }                                     \
    typedef double T;                     \
    return call;                          \
  } while (0)

NEEDLE_EXPORT int32_t needle_rnn_layer(const void* xg, double xg_off, const void* h0, double h0_off,
                                       const void* w, double w_off, void* y, double y_off, void* hn,
                                       double hn_off, void* previous, double previous_off, int32_t dtypes,
                                       double, const double* desc) noexcept {
  Sizes sizes(desc);
  sizes.relu = desc[4] != 0;
  RETURN_BY_TYPE(
      rnn_layer<T>(sizes, TENSOR(xg), TENSOR(h0), TENSOR(w), TENSOR(y), TENSOR(hn), TENSOR(previous)));
}

NEEDLE_EXPORT int32_t needle_rnn_layer_backward(const void* y, double y_off, const void* w, double w_off,
                                                const void* gy, double gy_off, const void* gh, double gh_off,
                                                void* dx, double dx_off, void* dh0, double dh0_off,
                                                int32_t dtypes, double, const double* desc) noexcept {
  Sizes sizes(desc);
  sizes.relu = desc[4] != 0;
  RETURN_BY_TYPE(
      rnn_layer_backward<T>(sizes, TENSOR(y), TENSOR(w), TENSOR(gy), TENSOR(gh), TENSOR(dx), TENSOR(dh0)));
}

NEEDLE_EXPORT int32_t needle_lstm_layer(const void* xg, double xg_off, const void* h0, double h0_off,
                                        const void* c0, double c0_off, const void* w, double w_off, void* y,
                                        double y_off, void* hn, double hn_off, void* cn, double cn_off,
                                        void* gates, double gates_off, void* cells, double cells_off,
                                        void* previous, double previous_off, int32_t dtypes, double,
                                        const double* desc) noexcept {
  const Sizes sizes(desc);
  RETURN_BY_TYPE(lstm_layer<T>(sizes, TENSOR(xg), TENSOR(h0), TENSOR(c0), TENSOR(w), TENSOR(y), TENSOR(hn),
                               TENSOR(cn), TENSOR(gates), TENSOR(cells), TENSOR(previous)));
}

NEEDLE_EXPORT int32_t needle_lstm_layer_backward(const void* gates, double gates_off, const void* cells,
                                                 double cells_off, const void* c0, double c0_off,
                                                 const void* w, double w_off, const void* gy, double gy_off,
                                                 const void* gh, double gh_off, const void* gc, double gc_off,
                                                 void* dx, double dx_off, void* dh0, double dh0_off,
                                                 void* dc0, double dc0_off, int32_t dtypes, double,
                                                 const double* desc) noexcept {
  const Sizes sizes(desc);
  RETURN_BY_TYPE(lstm_layer_backward<T>(sizes, TENSOR(gates), TENSOR(cells), TENSOR(c0), TENSOR(w),
                                        TENSOR(gy), TENSOR(gh), TENSOR(gc), TENSOR(dx), TENSOR(dh0),
                                        TENSOR(dc0)));
}

NEEDLE_EXPORT int32_t needle_gru_layer(const void* xg, double xg_off, const void* h0, double h0_off,
                                       const void* w, double w_off, const void* bias, double bias_off,
                                       void* y, double y_off, void* hn, double hn_off, void* gates,
                                       double gates_off, void* previous, double previous_off, int32_t dtypes,
                                       double, const double* desc) noexcept {
  const Sizes sizes(desc);
  RETURN_BY_TYPE(gru_layer<T>(sizes, TENSOR(xg), TENSOR(h0), TENSOR(w), TENSOR(bias), TENSOR(y), TENSOR(hn),
                              TENSOR(gates), TENSOR(previous)));
}

NEEDLE_EXPORT int32_t needle_gru_layer_backward(const void* gates, double gates_off, const void* previous,
                                                double previous_off, const void* w, double w_off,
                                                const void* gy, double gy_off, const void* gh, double gh_off,
                                                void* dx, double dx_off, void* dr, double dr_off, void* dh0,
                                                double dh0_off, int32_t dtypes, double,
                                                const double* desc) noexcept {
  const Sizes sizes(desc);
  RETURN_BY_TYPE(gru_layer_backward<T>(sizes, TENSOR(gates), TENSOR(previous), TENSOR(w), TENSOR(gy),
                                       TENSOR(gh), TENSOR(dx), TENSOR(dr), TENSOR(dh0)));
}
