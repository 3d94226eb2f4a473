// needle_rnn_layer, needle_lstm_layer, needle_gru_layer and their backward ops: a launch for every step (see
// rnn_step.h), nothing else between them. Cells get the unit k of sequence b.
#include "rnn_step.h"

#include "elementwise.h"

namespace needle {
namespace {

NEEDLE_DEVICE float exponential(float x) { return expf(x); }
NEEDLE_DEVICE double exponential(double x) { return exp(x); }
NEEDLE_DEVICE float hyperbolic(float x) { return tanhf(x); }
NEEDLE_DEVICE double hyperbolic(double x) { return tanh(x); }
template <typename T>
NEEDLE_DEVICE T logistic(T x) {
  return T(1) / (T(1) + exponential(-x));
}

struct Sequences {
  int64_t steps, batch, hidden;
  bool reverse;

  explicit Sequences(const double* desc)
      : steps(int64_t(desc[0])), batch(int64_t(desc[1])), hidden(int64_t(desc[2])), reverse(desc[3] != 0) {}
  int64_t state() const { return batch * hidden; }
  // The step taken as number s.
  int64_t step(int64_t s) const { return reverse ? steps - 1 - s : s; }
  Layer layer() const { return {int(batch), int(hidden)}; }
  dim3 grid(int units) const {
    return dim3(unsigned((hidden + units - 1) / units), unsigned((batch + kRows - 1) / kRows));
  }
  bool fit(int64_t gates) const {
    return batch <= int64_t(65535) * kRows && hidden * gates < int64_t(1) << 30;
  }
};

int32_t too_large() { return fail(kInvalid, "a recurrent layer of this size has no kernel"); }

// Forward: cell_at(t, before) is the cell of step t, whose step before is `before` (-1: none).
template <typename T, typename CellAt>
int32_t forward(const Sequences& sizes, const T* h0, const T* w, T* y, T* hn, T* previous,
                const CellAt& cell_at) {
  typedef decltype(cell_at(0, 0)) Cell;
  if (sizes.state() == 0) return kOk;
  if (!sizes.fit(Cell::kGates)) return too_large();
  const int64_t size = sizes.state();
  cudaMemcpyAsync(previous + sizes.step(0) * size, h0, size_t(size) * sizeof(T), cudaMemcpyDeviceToDevice,
                  stream());
  const dim3 grid = sizes.grid(ForwardColumns<T>::kCount / Cell::kGates);
  for (int64_t s = 0; s < sizes.steps; s++) {
    const int64_t t = sizes.step(s), before = s == 0 ? -1 : sizes.step(s - 1);
    const T* const h = s == 0 ? h0 : y + before * size;
    T* const next = s + 1 == sizes.steps ? hn : previous + sizes.step(s + 1) * size;
    NEEDLE_LAUNCH((step_forward<T, Cell>), grid, kThreads, 0, stream(), sizes.layer(), h, w,
                  cell_at(t, before), y + t * size, next);
  }
  return launched("starting a kernel");
}

// Backward: from the last step taken to the first. `gates` has the gradients of the gates' recurrent part,
// which the cells write.
template <typename T, typename CellAt>
int32_t backward(const Sequences& sizes, const T* w, const T* gh, const T* gates, T* dh0,
                 const CellAt& cell_at) {
  typedef decltype(cell_at(0, 0, true)) Cell;
  if (sizes.state() == 0) return kOk;
  if (!sizes.fit(Cell::kGates)) return too_large();
  const dim3 grid = sizes.grid(8);
  const T* after = nullptr;
  for (int64_t s = sizes.steps - 1; s >= -1; s--) {
    const int64_t t = s < 0 ? 0 : sizes.step(s), before = s <= 0 ? -1 : sizes.step(s - 1);
    NEEDLE_LAUNCH((step_backward<T, Cell>), grid, kThreads, 0, stream(), sizes.layer(), after, w, gh,
                  cell_at(t, before, s + 1 == sizes.steps), s < 0, dh0);
    after = gates + t * Cell::kGates * sizes.state();
  }
  return launched("starting a kernel");
}

// --- The plain layer ---

template <typename T>
struct Plain {
  static constexpr int kGates = 1;
  const T* x;
  bool relu;

  NEEDLE_DEVICE T operator()(int hidden, int b, int k, const T (&pre)[1], T) const {
    const T sum = pre[0] + x[int64_t(b) * hidden + k];
    return relu ? (sum < 0 ? T(0) : sum) : hyperbolic(sum);
  }
};

template <typename T>
struct PlainBackward {
  static constexpr int kGates = 1;
  static constexpr bool kPasses = false;
  const T *y, *gy;
  T* dx;
  bool relu;

  NEEDLE_DEVICE T operator()(int hidden, int b, int k, T d) const {
    const int64_t at = int64_t(b) * hidden + k;
    if (gy) d += gy[at];
    dx[at] = relu ? (y[at] > 0 ? d : T(0)) : d * (1 - y[at] * y[at]);
    return 0;
  }
};

template <typename T>
const T* later(const T* p, int64_t by) {
  return p ? p + by : nullptr;
}

// --- LSTM: gates i, f, g, o ---

template <typename T>
struct Lstm {
  static constexpr int kGates = 4;
  const T *x, *before;
  T *gates, *cells, *cn;  // cn: null before the last step

  NEEDLE_DEVICE T operator()(int hidden, int b, int k, const T (&pre)[4], T) const {
    const int64_t at = int64_t(b) * hidden + k, row = int64_t(b) * 4 * hidden + k;
    const T i = logistic(pre[0] + x[row]), f = logistic(pre[1] + x[row + hidden]),
            g = hyperbolic(pre[2] + x[row + 2 * hidden]), o = logistic(pre[3] + x[row + 3 * hidden]);
    const T cell = f * before[at] + i * g;
    gates[row] = i;
    gates[row + hidden] = f;
    gates[row + 2 * hidden] = g;
    gates[row + 3 * hidden] = o;
    cells[at] = cell;
    if (cn) cn[at] = cell;
    return o * hyperbolic(cell);
  }
};

template <typename T>
struct LstmBackward {
  static constexpr int kGates = 4;
  static constexpr bool kPasses = false;
  const T *gates, *cells, *before, *gy, *carried;  // carried: the gradient of the cell, null where 0
  T *dx, *carry;

  NEEDLE_DEVICE T operator()(int hidden, int b, int k, T d) const {
    const int64_t at = int64_t(b) * hidden + k, row = int64_t(b) * 4 * hidden + k;
    const T i = gates[row], f = gates[row + hidden], g = gates[row + 2 * hidden], o = gates[row + 3 * hidden];
    if (gy) d += gy[at];
    const T s = hyperbolic(cells[at]), cell = d * o * (1 - s * s) + (carried ? carried[at] : T(0));
    dx[row] = cell * g * i * (1 - i);
    dx[row + hidden] = cell * before[at] * f * (1 - f);
    dx[row + 2 * hidden] = cell * i * (1 - g * g);
    dx[row + 3 * hidden] = d * s * o * (1 - o);
    carry[at] = cell * f;
    return 0;
  }
};

// --- GRU: gates r, z, n; the fourth that is kept is the recurrent part of n ---

template <typename T>
struct Gru {
  static constexpr int kGates = 3;
  const T *x, *bias;
  T* gates;

  NEEDLE_DEVICE T part(const T (&pre)[3], int gate, int hidden, int k) const {
    return bias ? pre[gate] + bias[gate * hidden + k] : pre[gate];
  }
  NEEDLE_DEVICE T operator()(int hidden, int b, int k, const T (&pre)[3], T before) const {
    const int64_t row = int64_t(b) * 3 * hidden + k, out = int64_t(b) * 4 * hidden + k;
    const T q = part(pre, 2, hidden, k);
    const T r = logistic(part(pre, 0, hidden, k) + x[row]),
            z = logistic(part(pre, 1, hidden, k) + x[row + hidden]);
    const T candidate = hyperbolic(r * q + x[row + 2 * hidden]);
    gates[out] = r;
    gates[out + hidden] = z;
    gates[out + 2 * hidden] = candidate;
    gates[out + 3 * hidden] = q;
    return z * (before - candidate) + candidate;
  }
};

template <typename T>
struct GruBackward {
  static constexpr int kGates = 3;
  static constexpr bool kPasses = true;
  const T *gates, *before, *gy;
  T *dx, *dr;

  NEEDLE_DEVICE T operator()(int hidden, int b, int k, T d) const {
    const int64_t at = int64_t(b) * hidden + k, row = 3 * int64_t(b) * hidden + k,
                  in = 4 * int64_t(b) * hidden + k;
    const T r = gates[in], z = gates[in + hidden], candidate = gates[in + 2 * hidden];
    if (gy) d += gy[at];
    const T dn = d * (1 - z) * (1 - candidate * candidate);
    const T reset = dn * gates[in + 3 * hidden] * r * (1 - r),
            update = d * (before[at] - candidate) * z * (1 - z);
    dx[row] = dr[row] = reset;
    dx[row + hidden] = dr[row + hidden] = update;
    dx[row + 2 * hidden] = dn;
    dr[row + 2 * hidden] = dn * r;
    return d * z;
  }
};

}  // namespace
}  // namespace needle

using namespace needle;

// An argument of the surrounding function as a pointer to its first element.
#define TENSOR(name) at<T>(name, name##_off)

NEEDLE_EXPORT int32_t needle_rnn_layer(const void* xg, double xg_off, const void* h0, double h0_off,
                                       const void* w, double w_off, void* y, double y_off, void* hn,
                                       double hn_off, void* previous, double previous_off, int32_t dtypes,
                                       double, const double* desc) noexcept {
  const Sequences sizes(desc);
  const bool relu = desc[4] != 0;
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return forward<T>(sizes, TENSOR(h0), TENSOR(w), TENSOR(y), TENSOR(hn), TENSOR(previous),
                      [&](int64_t t, int64_t) { return Plain<T>{TENSOR(xg) + t * sizes.state(), relu}; });
  });
}

NEEDLE_EXPORT int32_t needle_rnn_layer_backward(const void* y, double y_off, const void* w, double w_off,
                                                const void* gy, double gy_off, const void* gh, double gh_off,
                                                void* dx, double dx_off, void* dh0, double dh0_off,
                                                int32_t dtypes, double, const double* desc) noexcept {
  const Sequences sizes(desc);
  const bool relu = desc[4] != 0;
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return backward<T>(sizes, TENSOR(w), TENSOR(gh), TENSOR(dx), TENSOR(dh0), [&](int64_t t, int64_t, bool) {
      const int64_t first = t * sizes.state();
      return PlainBackward<T>{TENSOR(y) + first, later(TENSOR(gy), first), TENSOR(dx) + first, relu};
    });
  });
}

NEEDLE_EXPORT int32_t needle_lstm_layer(const void* xg, double xg_off, const void* h0, double h0_off,
                                        const void* c0, double c0_off, const void* w, double w_off, void* y,
                                        double y_off, void* hn, double hn_off, void* cn, double cn_off,
                                        void* gates, double gates_off, void* cells, double cells_off,
                                        void* previous, double previous_off, int32_t dtypes, double,
                                        const double* desc) noexcept {
  const Sequences sizes(desc);
  const int64_t size = sizes.state(), last = sizes.step(sizes.steps - 1);
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return forward<T>(sizes, TENSOR(h0), TENSOR(w), TENSOR(y), TENSOR(hn), TENSOR(previous),
                      [&](int64_t t, int64_t before) {
                        const T* const from = before < 0 ? TENSOR(c0) : TENSOR(cells) + before * size;
                        return Lstm<T>{TENSOR(xg) + 4 * t * size, from, TENSOR(gates) + 4 * t * size,
                                       TENSOR(cells) + t * size, t == last ? TENSOR(cn) : nullptr};
                      });
  });
}

NEEDLE_EXPORT int32_t needle_lstm_layer_backward(const void* gates, double gates_off, const void* cells,
                                                 double cells_off, const void* c0, double c0_off,
                                                 const void* w, double w_off, const void* gy, double gy_off,
                                                 const void* gh, double gh_off, const void* gc, double gc_off,
                                                 void* dx, double dx_off, void* dh0, double dh0_off,
                                                 void* dc0, double dc0_off, int32_t dtypes, double,
                                                 const double* desc) noexcept {
  const Sequences sizes(desc);
  const int64_t size = sizes.state();
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return backward<T>(sizes, TENSOR(w), TENSOR(gh), TENSOR(dx), TENSOR(dh0),
                       [&](int64_t t, int64_t before, bool first) {
                         const T* const from = before < 0 ? TENSOR(c0) : TENSOR(cells) + before * size;
                         const T* const carried = first ? TENSOR(gc) : TENSOR(dc0);
                         return LstmBackward<T>{TENSOR(gates) + 4 * t * size,
                                                TENSOR(cells) + t * size,
                                                from,
                                                later(TENSOR(gy), t * size),
                                                carried,
                                                TENSOR(dx) + 4 * t * size,
                                                TENSOR(dc0)};
                       });
  });
}

NEEDLE_EXPORT int32_t needle_gru_layer(const void* xg, double xg_off, const void* h0, double h0_off,
                                       const void* w, double w_off, const void* bias, double bias_off,
                                       void* y, double y_off, void* hn, double hn_off, void* gates,
                                       double gates_off, void* previous, double previous_off, int32_t dtypes,
                                       double, const double* desc) noexcept {
  const Sequences sizes(desc);
  const int64_t size = sizes.state();
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return forward<T>(sizes, TENSOR(h0), TENSOR(w), TENSOR(y), TENSOR(hn), TENSOR(previous),
                      [&](int64_t t, int64_t) {
                        return Gru<T>{TENSOR(xg) + 3 * t * size, TENSOR(bias), TENSOR(gates) + 4 * t * size};
                      });
  });
}

NEEDLE_EXPORT int32_t needle_gru_layer_backward(const void* gates, double gates_off, const void* previous,
                                                double previous_off, const void* w, double w_off,
                                                const void* gy, double gy_off, const void* gh, double gh_off,
                                                void* dx, double dx_off, void* dr, double dr_off, void* dh0,
                                                double dh0_off, int32_t dtypes, double,
                                                const double* desc) noexcept {
  const Sequences sizes(desc);
  const int64_t size = sizes.state();
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return backward<T>(sizes, TENSOR(w), TENSOR(gh), TENSOR(dr), TENSOR(dh0), [&](int64_t t, int64_t, bool) {
      return GruBackward<T>{TENSOR(gates) + 4 * t * size, TENSOR(previous) + t * size,
                            later(TENSOR(gy), t * size), TENSOR(dx) + 3 * t * size,
                            TENSOR(dr) + 3 * t * size};
    });
  });
}
