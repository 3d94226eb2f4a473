// The elementwise part of one recurrent step on one sequence: the per-level table of the kernels in rnn.cpp.
// Shared by the driver (cpu/rnn.cpp) and the ISA file, so it holds plain data only. Each function works on
// `n` neighbouring hidden units; gate i of unit k is at [i * step + k], where `step` belongs to the array.
#pragma once
#include <stdint.h>

// c (m, n; row stride ldc) = a (m, k; row stride lda) times packed weights (k, n), plus the bias (n) or, with
// `add`, what c holds. Rows of c and the bias are read and written up to the next multiple of the vector
// length.
template <typename T>
struct RnnProduct {
  int64_t m, n, k;
  const T* a;
  int64_t lda;
  const T* packed;  // for blocks of `kc` steps (a balanced split of k) panels of `nr` columns, as in gemm.h
  T* c;
  int64_t ldc;
  const T* bias;  // may be null
  bool add;
};

template <typename T>
struct RnnTable {
  int64_t lanes, nr, kc;
  void (*product)(const RnnProduct<T>& g);

  // h = nonlinearity(pre + x)
  void (*tanh)(int64_t n, const T* pre, const T* x, T* h);
  void (*relu)(int64_t n, const T* pre, const T* x, T* h);
  // pre: recurrent part of the gates i, f, g, o (step `pre_step`); x: the input's part, gates: the result
  // (both with step `step`).
  void (*lstm)(int64_t n, const T* pre, int64_t pre_step, const T* x, int64_t step, const T* c0, T* gates,
               T* c, T* h);
  // pre: recurrent part of r, z, n; x: the input's part; gates: r, z, n and the recurrent part of n.
  void (*gru)(int64_t n, const T* pre, int64_t pre_step, const T* x, int64_t step, const T* h0, T* gates,
              T* h);

  // Gradients. dh: of h, from the steps after; gy: of this step's output, or null. dx: of the gates.
  void (*tanh_backward)(int64_t n, const T* h, const T* dh, const T* gy, T* dx);
  void (*relu_backward)(int64_t n, const T* h, const T* dh, const T* gy, T* dx);
  // dc: of c, from the steps after; becomes that of the cell before.
  void (*lstm_backward)(int64_t n, const T* gates, int64_t step, const T* c, const T* c0, const T* dh,
                        const T* gy, T* dc, T* dx);
  // dr: of the recurrent part of the gates; dh becomes the part of the state's gradient that passes by them.
  void (*gru_backward)(int64_t n, const T* gates, int64_t step, const T* h0, const T* gy, T* dh, T* dx,
                       T* dr);
};

struct RnnKernels {
  RnnTable<float> f32;
  RnnTable<double> f64;
};

extern "C" {
extern const RnnKernels rnn_v2, rnn_v3, rnn_v4, rnn_generic;
}
