// The elementwise part of recurrent steps, forward and backward, a vector of hidden units at a time. Compiled
// once per ISA level.
#include "rnn.h"

#include "loops.h"

namespace {

// Up to one vector of units; the last ones of a row are padded.
template <typename T>
struct Units {
  typedef typename Lanes<T>::type vec;
  static constexpr int64_t count = Lanes<T>::count;
  int64_t first, used;

  vec get(const T* p) const { return used == count ? load(p + first) : load_tail(p + first, used); }
  void put(T* p, vec v) const {
    if (used == count) {
      store(p + first, v);
    } else {
      store_tail(p + first, v, used);
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

#define NEEDLE_TABLE(T)                                   \
  {step_tanh<T>, step_relu<T>, step_lstm<T>, step_gru<T>, \
   back_tanh<T>, back_relu<T>, back_lstm<T>, back_gru<T>}
extern "C" const RnnKernels NEEDLE_ISA_NAME(rnn) = {NEEDLE_TABLE(float), NEEDLE_TABLE(double)};
