// Conversions between all dtypes, and transposes of tiles in vector registers.
#include "copy.h"

#include "../halves.h"
#include "transpose.h"
#include "vec.h"

namespace {

// --- Conversions: each dtype is a struct of its stored type, and the ways in and out of it ---

struct Float32 {
  typedef float type;
  static constexpr bool is_float = true;
};
struct Float64 {
  typedef double type;
  static constexpr bool is_float = true;
};
struct Float16 {
  typedef uint16_t type;
  static constexpr bool is_float = true;
};
struct Bfloat16 {
  typedef uint16_t type;
  static constexpr bool is_float = true;
};
struct Int32 {
  typedef int32_t type;
  static constexpr bool is_float = false;
};
struct Int64 {
  typedef int64_t type;
  static constexpr bool is_float = false;
};
struct Uint8 {
  typedef uint8_t type;
  static constexpr bool is_float = false;
};
struct Bool {
  typedef uint8_t type;
  static constexpr bool is_float = false;
};

// The value of an element in the type that the conversion starts from.
template <typename D>
inline typename D::type read(D, typename D::type x) {
  return x;
}
inline float read(Float16, uint16_t x) { return from_float16(x); }
inline float read(Bfloat16, uint16_t x) { return from_bfloat16(x); }

inline float narrow(float x) { return x; }
inline float narrow(double x) { return round_to_odd(x); }
inline float narrow(int32_t x) { return round_to_odd(double(x)); }
inline float narrow(int64_t x) { return round_to_odd(integer_to_odd(x)); }
inline float narrow(uint8_t x) { return float(x); }

template <typename V>
inline float write(Float32, V x) {
  return float(x);
}
template <typename V>
inline double write(Float64, V x) {
  return double(x);
}
template <typename V>
inline uint16_t write(Float16, V x) {
  return to_float16(narrow(x));
}
template <typename V>
inline uint16_t write(Bfloat16, V x) {
  return to_bfloat16(narrow(x));
}
template <typename V>
inline uint8_t write(Bool, V x) {
  return x != 0;
}
// Towards zero, then modulo the width.
template <typename V>
inline int32_t write(Int32, V x) {
  return int32_t(int64_t(x));
}
template <typename V>
inline int64_t write(Int64, V x) {
  return int64_t(x);
}
template <typename V>
inline uint8_t write(Uint8, V x) {
  return uint8_t(int64_t(x));
}

inline bool out_of_range(float x) { return !(__builtin_fabsf(x) < 0x1p63f); }
inline bool out_of_range(double x) { return !(__builtin_fabs(x) < 0x1p63); }

template <typename D>
struct IsInteger {
  static constexpr bool value = !D::is_float;
};
template <>
struct IsInteger<Bool> {
  static constexpr bool value = false;
};

template <typename S, typename D>
int32_t convert(const void* x, void* y, int64_t n) {
  const typename S::type* p = static_cast<const typename S::type*>(x);
  typename D::type* out = static_cast<typename D::type*>(y);
  int32_t bad = 0;
  if constexpr (S::is_float && IsInteger<D>::value) {
    for (int64_t i = 0; i < n; i++) bad |= out_of_range(read(S(), p[i]));
    if (bad) return bad;
  }
#pragma GCC ivdep
  for (int64_t i = 0; i < n; i++) out[i] = write(D(), read(S(), p[i]));
  return bad;
}

// --- Transposes ---

template <typename T, int N>
struct Square;  // N by N elements in N registers
template <>
struct Square<uint32_t, W> {
  typedef vi vector;
  typedef int32_t vector_any __attribute__((vector_size(NEEDLE_VECTOR_BYTES), aligned(4), may_alias));
};
template <>
struct Square<uint64_t, WD> {
  typedef vl vector;
  typedef int64_t vector_any __attribute__((vector_size(NEEDLE_VECTOR_BYTES), aligned(8), may_alias));
};

template <typename T>
void transpose_edge(const T* x, int64_t x_step, T* y, int64_t y_step, int64_t rows, int64_t cols) {
  if (rows < cols) {
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t j = 0; j < cols; j++) y[i * y_step + j] = x[j * x_step + i];
    }
  } else {
    for (int64_t j = 0; j < cols; j++) {
      for (int64_t i = 0; i < rows; i++) y[i * y_step + j] = x[j * x_step + i];
    }
  }
}

// K planes to pixels of K channels (images of 2 to 4 channels): N pixels at a time, by K - 1 shuffles a
// vector.
template <typename T, int N, int K>
void interleave(const T* x, int64_t x_step, T* y, int64_t pixels) {
  typedef typename Square<T, N>::vector V;
  typedef typename Square<T, N>::vector_any Any;
  const int64_t whole = pixels / N * N;
  for (int64_t i = 0; i < whole; i += N) {
    V plane[K];
#pragma GCC unroll 4
    for (int c = 0; c < K; c++) plane[c] = *reinterpret_cast<const Any*>(x + c * x_step + i);
#pragma GCC unroll 4
    for (int v = 0; v < K; v++) {
      V out = plane[0];
#pragma GCC unroll 4
      for (int c = 1; c < K; c++) {
        V lanes{};
        for (int l = 0; l < N; l++) {
          const int at = v * N + l;
          lanes[l] = at % K == c ? N + at / K : c == 1 ? at / K : l;
        }
        out = shuffle<N>(out, plane[c], lanes);
      }
      *reinterpret_cast<Any*>(y + i * K + v * N) = out;
    }
  }
  transpose_edge(x + whole, x_step, y + whole * K, K, pixels - whole, K);
}

// And back.
template <typename T, int N, int K>
void deinterleave(const T* x, T* y, int64_t y_step, int64_t pixels) {
  typedef typename Square<T, N>::vector V;
  typedef typename Square<T, N>::vector_any Any;
  const int64_t whole = pixels / N * N;
  for (int64_t i = 0; i < whole; i += N) {
    V in[K];
#pragma GCC unroll 4
    for (int v = 0; v < K; v++) in[v] = *reinterpret_cast<const Any*>(x + i * K + v * N);
#pragma GCC unroll 4
    for (int c = 0; c < K; c++) {
      V out = in[0];
#pragma GCC unroll 4
      for (int v = 1; v < K; v++) {
        V lanes{};
        for (int l = 0; l < N; l++) {
          const int at = l * K + c;
          lanes[l] = at / N == v ? N + at % N : v == 1 ? at % N : l;
        }
        out = shuffle<N>(out, in[v], lanes);
      }
      *reinterpret_cast<Any*>(y + c * y_step + i) = out;
    }
  }
  transpose_edge(x + whole * K, K, y + whole, y_step, K, pixels - whole);
}

template <typename T, int N>
void transpose_vectors(const void* x, int64_t x_step, void* y, int64_t y_step, int64_t rows, int64_t cols) {
  typedef typename Square<T, N>::vector V;
  typedef typename Square<T, N>::vector_any Any;
  const T* p = static_cast<const T*>(x);
  T* q = static_cast<T*>(y);
  if (cols == y_step) {
    if (cols == 2) return interleave<T, N, 2>(p, x_step, q, rows);
    if (cols == 3) return interleave<T, N, 3>(p, x_step, q, rows);
    if (cols == 4) return interleave<T, N, 4>(p, x_step, q, rows);
  }
  if (rows == x_step) {
    if (rows == 2) return deinterleave<T, N, 2>(p, q, y_step, cols);
    if (rows == 3) return deinterleave<T, N, 3>(p, q, y_step, cols);
    if (rows == 4) return deinterleave<T, N, 4>(p, q, y_step, cols);
  }
  const int64_t m = rows / N * N, n = cols / N * N;
  for (int64_t i = 0; i < m; i += N) {
    for (int64_t j = 0; j < n; j += N) {
      V r[N];
#pragma GCC unroll 16
      for (int k = 0; k < N; k++) r[k] = *reinterpret_cast<const Any*>(p + (j + k) * x_step + i);
      transpose_square<N / 2>(r);
#pragma GCC unroll 16
      for (int k = 0; k < N; k++) *reinterpret_cast<Any*>(q + (i + k) * y_step + j) = r[k];
    }
  }
  if (n < cols) transpose_edge(p + n * x_step, x_step, q + n, y_step, m, cols - n);
  if (m < rows) transpose_edge(p + m, x_step, q + m * y_step, y_step, rows - m, cols);
}

template <typename T>
void transpose_plain(const void* x, int64_t x_step, void* y, int64_t y_step, int64_t rows, int64_t cols) {
  transpose_edge(static_cast<const T*>(x), x_step, static_cast<T*>(y), y_step, rows, cols);
}

}  // namespace

#define CASTS(S)                                                                        \
  {convert<S, Float32>, convert<S, Float64>, convert<S, Float16>, convert<S, Bfloat16>, \
   convert<S, Int32>,   convert<S, Int64>,   convert<S, Uint8>,   convert<S, Bool>}

extern "C" const CopyKernels NEEDLE_ISA_NAME(copy) = {
    {CASTS(Float32), CASTS(Float64), CASTS(Float16), CASTS(Bfloat16), CASTS(Int32), CASTS(Int64),
     CASTS(Uint8), CASTS(Bool)},
    {transpose_plain<uint8_t>, transpose_plain<uint16_t>, transpose_vectors<uint32_t, W>,
     transpose_vectors<uint64_t, WD>}};
