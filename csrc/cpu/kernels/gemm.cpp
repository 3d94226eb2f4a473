// Single-threaded matrix product: b in panels that stay in L2, a in row panels that stay in L1, a register
// tile of R rows by V vectors. Compiled once per ISA level; the drivers split the work over threads.
// Every loop over R or V is unrolled, initialisation included, or the accumulators leave their registers.
#include "gemm.h"

#include "transpose.h"
#include "vec.h"

#define UNROLL _Pragma("GCC unroll 16")
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else  // GCC before 12
#define SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, typename Vec<T>::mask{i, j, k, l})
#endif

namespace {

template <typename T>
struct Vec;
template <>
struct Vec<float> {
  typedef vf type;
  typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));
  typedef int32_t mask __attribute__((vector_size(16)));
  typedef vi bits;
  typedef int32_t bits_any __attribute__((vector_size(NEEDLE_VECTOR_BYTES), aligned(4), may_alias));
  static constexpr int lanes = W;
};
template <>
struct Vec<double> {
  typedef vd type;
  typedef double quad __attribute__((vector_size(32), aligned(8), may_alias));
  typedef int64_t mask __attribute__((vector_size(32)));
  typedef vl bits;
  typedef int64_t bits_any __attribute__((vector_size(NEEDLE_VECTOR_BYTES), aligned(8), may_alias));
  static constexpr int lanes = WD;
};

#if defined(__AVX512F__)
constexpr int MR = 8, NV = 3;
constexpr int64_t KC = 384;
#elif defined(__AVX2__)
constexpr int MR = 6, NV = 2;
constexpr int64_t KC = 256;
#else
constexpr int MR = 6, NV = 2;
constexpr int64_t KC = 384;
#endif

template <typename T>
constexpr int64_t NR = NV * Vec<T>::lanes;
// Columns of b packed at a time, and rows of c kept near while k advances over a packed b.
template <typename T>
constexpr int64_t NB = 480 * sizeof(float) / sizeof(T);
constexpr int64_t MB = 768;
// Room after each row of a filled panel, so that rows do not share cache sets.
constexpr int64_t PAD = 16;

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// c (R, V vectors) = or += a times b, where a is packed (R values for each step) or has rows of stride ars.
template <typename T, int R, int V, bool PACKED>
void micro(int64_t k, const T* a, int64_t ars, const T* b, int64_t bs, T* c, int64_t ldc, const T* bias,
           bool add) {
  typedef typename Vec<T>::type vec;
  constexpr int L = Vec<T>::lanes;
  vec acc[R][V];
  UNROLL for (int i = 0; i < R; i++) { UNROLL for (int j = 0; j < V; j++) acc[i][j] = vec{}; }
#ifdef __wasm__
// Engines do not unroll, and test for interrupts in every turn of a loop.
#pragma clang loop unroll_count(R == MR && V == NV ? 4 : 1)
#endif
  for (int64_t p = 0; p < k; p++, a += PACKED ? R : 1, b += bs) {
    vec bv[V];
    UNROLL for (int j = 0; j < V; j++) {
      bv[j] = load(b + j * L);
      __builtin_prefetch(b + 8 * bs + j * L);
    }
    UNROLL for (int i = 0; i < R; i++) {
      const vec av = splat(PACKED ? a[i] : a[i * ars]);
      UNROLL for (int j = 0; j < V; j++) acc[i][j] = fma(av, bv[j], acc[i][j]);
    }
  }
  if (add) {
    UNROLL for (int i = 0; i < R; i++) {
      UNROLL for (int j = 0; j < V; j++) store(c + i * ldc + j * L, load(c + i * ldc + j * L) + acc[i][j]);
    }
  } else if (bias) {
    UNROLL for (int i = 0; i < R; i++) {
      UNROLL for (int j = 0; j < V; j++) store(c + i * ldc + j * L, load(bias + j * L) + acc[i][j]);
    }
  } else {
    UNROLL for (int i = 0; i < R; i++) {
      UNROLL for (int j = 0; j < V; j++) store(c + i * ldc + j * L, acc[i][j]);
    }
  }
}

template <typename T>
using Micro = void (*)(int64_t, const T*, int64_t, const T*, int64_t, T*, int64_t, const T*, bool);

// micro for each number of rows and vectors.
template <typename T, bool PACKED>
struct Table {
#define ROW(R) {micro<T, R, 1, PACKED>, micro<T, R, 2, PACKED>, micro<T, R, NV, PACKED>}
  static constexpr Micro<T> at[MR][3] = {ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6),
#if defined(__AVX512F__)
                                         ROW(7), ROW(8)
#endif
  };
#undef ROW
};

// A last few columns of c would leave most of a vector idle. Up to TAIL of them are computed with vectors
// along the rows of c where a is packed, and along k where it is not.
constexpr int TAIL = 4;

// Whether n columns end with so few beyond whole vectors.
template <typename T>
bool has_tail(int64_t n) {
  return Vec<T>::lanes >= 2 * TAIL && n % Vec<T>::lanes > 0 && n % Vec<T>::lanes <= TAIL;
}

// out (R rows of TAIL) = a times b for a packed; b has rows of stride bs. Reads whole vectors of rows: what
// lies beyond R is not used.
template <typename T, int R>
void tail_packed(int64_t k, const T* a, const T* b, int64_t bs, T* out) {
  typedef T rows __attribute__((vector_size(8 * sizeof(T))));
  typedef T rows_any __attribute__((vector_size(8 * sizeof(T)), aligned(sizeof(T)), may_alias));
  rows acc[2][TAIL] = {};
  int64_t p = 0;
  for (; p + 2 <= k; p += 2, a += 2 * R, b += 2 * bs) {
    UNROLL for (int h = 0; h < 2; h++) {
      const rows av = *(const rows_any*)(a + h * R);
      UNROLL for (int j = 0; j < TAIL; j++) acc[h][j] += av * b[h * bs + j];
    }
  }
  if (p < k) {
    const rows av = *(const rows_any*)a;
    UNROLL for (int j = 0; j < TAIL; j++) acc[0][j] += av * b[j];
  }
  UNROLL for (int j = 0; j < TAIL; j++) {
    const rows sum = acc[0][j] + acc[1][j];
    UNROLL for (int i = 0; i < R; i++) out[i * TAIL + j] = sum[i];
  }
}

// out[j] = the sum of v[j].
template <typename T>
void store_sums(const typename Vec<T>::type (&v)[TAIL], T* out) {
  typedef typename Vec<T>::quad quad;
  quad s[TAIL];
  UNROLL for (int j = 0; j < TAIL; j++) {
    quad part[Vec<T>::lanes / 4];
    __builtin_memcpy(part, &v[j], sizeof part);
    s[j] = part[0];
    UNROLL for (int l = 1; l < Vec<T>::lanes / 4; l++) s[j] += part[l];
  }
  const quad ab = SHUFFLE(s[0], s[1], 0, 4, 1, 5) + SHUFFLE(s[0], s[1], 2, 6, 3, 7);
  const quad cd = SHUFFLE(s[2], s[3], 0, 4, 1, 5) + SHUFFLE(s[2], s[3], 2, 6, 3, 7);
  *(quad*)out = SHUFFLE(ab, cd, 0, 1, 4, 5) + SHUFFLE(ab, cd, 2, 3, 6, 7);
}

// The same for R rows of a with stride ars, and b transposed: TAIL rows of stride KC, zero beyond k.
template <typename T, int R>
void tail_along(int64_t k, const T* a, int64_t ars, const T* b, T* out) {
  typedef typename Vec<T>::type vec;
  constexpr int L = Vec<T>::lanes;
  vec acc[R][TAIL];
  UNROLL for (int i = 0; i < R; i++) { UNROLL for (int j = 0; j < TAIL; j++) acc[i][j] = vec{}; }
  int64_t p = 0;
  for (; p + L <= k; p += L) {
    vec bv[TAIL];
    UNROLL for (int j = 0; j < TAIL; j++) bv[j] = load(b + j * KC + p);
    UNROLL for (int i = 0; i < R; i++) {
      const vec av = load(a + i * ars + p);
      UNROLL for (int j = 0; j < TAIL; j++) acc[i][j] = fma(av, bv[j], acc[i][j]);
    }
  }
  if (p < k) {
    UNROLL for (int i = 0; i < R; i++) {
      T rest[L] = {};
      for (int64_t q = p; q < k; q++) rest[q - p] = a[i * ars + q];
      UNROLL for (int j = 0; j < TAIL; j++) acc[i][j] = fma(load(rest), load(b + j * KC + p), acc[i][j]);
    }
  }
  UNROLL for (int i = 0; i < R; i++) store_sums<T>(acc[i], out + i * TAIL);
}

// The tail of up to MR rows: out (rows of TAIL) from a packed, or from rows of a and b transposed.
template <typename T>
void tail(bool packed, int64_t rows, int64_t k, const T* a, int64_t ars, const T* b, int64_t bs, T* out) {
  if (packed) {
    using Packed = void (*)(int64_t, const T*, const T*, int64_t, T*);
    static constexpr Packed at[MR] = {tail_packed<T, 1>, tail_packed<T, 2>, tail_packed<T, 3>,
                                      tail_packed<T, 4>, tail_packed<T, 5>, tail_packed<T, 6>,
#if defined(__AVX512F__)
                                      tail_packed<T, 7>, tail_packed<T, 8>
#endif
    };
    at[rows - 1](k, a, b, bs, out);
    return;
  }
  for (; rows >= 4; rows -= 4, a += 4 * ars, out += 4 * TAIL) tail_along<T, 4>(k, a, ars, b, out);
  for (; rows > 0; rows--, a += ars, out += TAIL) tail_along<T, 1>(k, a, ars, b, out);
}

// out[p * R + i] = x[i * ld + p] for i < rows: square transposes in registers, 64 steps at a time so that out
// stays in L1. The last group of rows overlaps the one before. Returns how many of the k steps it did.
template <typename T>
int64_t pack_squares(int64_t k, int64_t rows, const T* x, int64_t ld, T* out, int64_t R) {
  typedef typename Vec<T>::bits vec;
  typedef typename Vec<T>::bits_any any;
  constexpr int L = Vec<T>::lanes;
  const int64_t whole = k / L * L;
  for (int64_t p0 = 0; p0 < whole; p0 += 64) {
    const int64_t end = min64(p0 + 64, whole);
    for (int64_t i0 = 0; i0 < rows; i0 += L) {
      const int64_t i = min64(i0, rows - L);
      for (int64_t p = p0; p < end; p += L) {
        vec r[L];
        UNROLL for (int l = 0; l < L; l++) r[l] = *(const any*)(x + (i + l) * ld + p);
        transpose_square<L / 2>(r);
        UNROLL for (int l = 0; l < L; l++) * (any*)(out + (p + l) * R + i) = r[l];
      }
    }
  }
  return whole;
}

// The same with 4 by 4 transposes, for few rows.
template <typename T>
int64_t pack_quads(int64_t k, int64_t rows, const T* x, int64_t ld, T* out, int64_t R) {
  typedef typename Vec<T>::quad quad;
  for (int64_t p0 = 0; p0 + 4 <= k; p0 += 64) {
    const int64_t end = min64(p0 + 64, k) - 3;
    for (int64_t i0 = 0; i0 < rows; i0 += 4) {
      const int64_t i = min64(i0, rows - 4);
      const T* r = x + i * ld;
      T* o = out + i;
      for (int64_t p = p0; p < end; p += 4) {
        const quad a = *(const quad*)(r + p), b = *(const quad*)(r + ld + p);
        const quad c = *(const quad*)(r + 2 * ld + p), d = *(const quad*)(r + 3 * ld + p);
        const quad ab0 = SHUFFLE(a, b, 0, 4, 1, 5);
        const quad ab1 = SHUFFLE(a, b, 2, 6, 3, 7);
        const quad cd0 = SHUFFLE(c, d, 0, 4, 1, 5);
        const quad cd1 = SHUFFLE(c, d, 2, 6, 3, 7);
        *(quad*)(o + p * R) = SHUFFLE(ab0, cd0, 0, 1, 4, 5);
        *(quad*)(o + (p + 1) * R) = SHUFFLE(ab0, cd0, 2, 3, 6, 7);
        *(quad*)(o + (p + 2) * R) = SHUFFLE(ab1, cd1, 0, 1, 4, 5);
        *(quad*)(o + (p + 3) * R) = SHUFFLE(ab1, cd1, 2, 3, 6, 7);
      }
    }
  }
  return k / 4 * 4;
}

template <typename T>
void pack_across(int64_t k, int64_t rows, const T* x, int64_t ld, T* out, int64_t R) {
  int64_t p0 = rows >= Vec<T>::lanes ? pack_squares(k, rows, x, ld, out, R) : 0;
  if (rows >= 4) p0 += pack_quads(k - p0, rows, x + p0, ld, out + p0 * R, R);
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t p = p0; p < k; p++) out[p * R + i] = x[i * ld + p];
  }
}

// out[p * R + i] = x[i * rs + p * cs] for i < rows, zero for the rest of R: one panel of a or b.
template <typename T>
void pack(int64_t k, int64_t rows, const T* x, int64_t rs, int64_t cs, T* out, int64_t R) {
  constexpr int L = Vec<T>::lanes;
  if (rows < R) {
    for (int64_t i = 0; i < k * R; i += L) store(out + i, typename Vec<T>::type{});
  }
  if (rs == 1 && rows == NV * L) {
    for (int64_t p = 0; p < k; p++) {
      UNROLL for (int j = 0; j < NV; j++) store(out + p * R + j * L, load(x + p * cs + j * L));
    }
  } else if (rs == 1 && R == rows && rows <= MR && (rows == MR || cs >= MR)) {
    // Of fewer rows too as many as a vector may hold: the next step overwrites what is too much.
    const int64_t whole = rows == MR ? k : k - 1;
    for (int64_t p = 0; p < whole; p++) {
      UNROLL for (int i = 0; i < MR; i++) out[p * R + i] = x[p * cs + i];
    }
    for (int64_t p = whole; p < k; p++) {
      for (int64_t i = 0; i < rows; i++) out[p * R + i] = x[p * cs + i];
    }
  } else if (rs == 1) {
    for (int64_t p = 0; p < k; p++) {
      for (int64_t i = 0; i < rows; i++) out[p * R + i] = x[p * cs + i];
    }
  } else if (cs == 1) {
    pack_across(k, rows, x, rs, out, R);
  } else {
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t p = 0; p < k; p++) out[p * R + i] = x[i * rs + p * cs];
    }
  }
}

template <typename T>
void panel(int64_t k, int64_t width, const T* b, int64_t b_rs, int64_t b_cs, T* out) {
  pack(k, width, b, b_cs, b_rs, out, round_up(width, Vec<T>::lanes));
}

// The sum of R rows of a times four columns of b, both contiguous along k.
template <typename T, int R>
void dots(const GemmArgs<T>& g, int64_t i0) {
  typedef typename Vec<T>::type vec;
  constexpr int L = Vec<T>::lanes;
  const T* a = g.a + i0 * g.a_rs;
  for (int64_t j0 = 0; j0 < g.n; j0 += 4) {
    const int64_t cols = min64(4, g.n - j0);
    const T* b[4];
    for (int j = 0; j < 4; j++) b[j] = g.b + (j0 + (j < cols ? j : 0)) * g.b_cs;
    vec acc[R][4];
    UNROLL for (int i = 0; i < R; i++) { UNROLL for (int j = 0; j < 4; j++) acc[i][j] = vec{}; }
    int64_t p = 0;
    for (; p + L <= g.k; p += L) {
      UNROLL for (int j = 0; j < 4; j++) {
        const vec bv = load(b[j] + p);
        UNROLL for (int i = 0; i < R; i++) acc[i][j] = fma(load(a + i * g.a_rs + p), bv, acc[i][j]);
      }
    }
    for (int i = 0; i < R; i++) {
      for (int64_t j = 0; j < cols; j++) {
        T part[L];
        store(part, acc[i][j]);
        for (int64_t q = p; q < g.k; q++) part[q - p] += a[i * g.a_rs + q] * b[j][q];
        for (int h = L / 2; h > 0; h /= 2) {
          for (int l = 0; l < h; l++) part[l] += part[l + h];
        }
        T* c = g.c + (i0 + i) * g.ldc + j0 + j;
        *c = g.add ? *c + part[0] : g.bias ? g.bias[j0 + j] + part[0] : part[0];
      }
    }
  }
}

// Columns of b handled in one block: a balanced split in whole panels.
template <typename T>
int64_t column_block(int64_t n) {
  const int64_t blocks = (n + NB<T> / 2) / NB<T>;
  return blocks > 1 ? round_up((n + blocks - 1) / blocks, NR<T>) : n;
}

template <typename T>
int64_t work(const GemmArgs<T>& g) {
  const int64_t a = MR * (KC + PAD) + 64;
  if (g.packed) return a;
  return a + gemm_block(g.k, KC) * round_up(min64(column_block<T>(g.n), g.n), Vec<T>::lanes);
}

// c += or = edge for `rows` rows of `width` columns; edge has rows of stride `es`.
template <typename T>
void put_edge(int64_t rows, int64_t width, const T* edge, int64_t es, const T* bias, bool add, T* c,
              int64_t ldc) {
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t x = 0; x < width; x++) {
      T* out = c + r * ldc + x;
      *out = (add ? *out : bias ? bias[x] : T(0)) + edge[r * es + x];
    }
  }
}

// Columns [j0, j0 + nb) and steps [k0, k0 + kc) for the rows [m0, m1).
template <typename T>
void block(const GemmArgs<T>& g, int64_t m0, int64_t m1, int64_t j0, int64_t nb, int64_t k0, int64_t kc,
           const T* bp, bool in_place, T* ap) {
  constexpr int L = Vec<T>::lanes;
  const bool add = g.add || k0 > 0;
  const int64_t m = m1 - m0, panels = (m + MR - 1) / MR;
  // Rows of a that lie along k and meet few panels of b are read where they are.
  const bool in_rows = !g.fill && g.a_cs == 1 && nb <= 4 * NR<T>, packed = !g.fill && !in_rows;
  // The last columns where they are few; their panel of b is packed.
  const int64_t few = has_tail<T>(nb) && kc >= 2 * L ? nb % L : 0, whole = nb - few;
  const int64_t last = whole / NR<T> * NR<T>, tail_stride = round_up(nb - last, L);
  const T* tail_b = bp + (in_place ? 0 : kc * last) + whole - last;
  alignas(64) T across[TAIL * KC];
  if (few > 0 && !packed) {
    for (int64_t p = 0; p < kc; p++) {
      UNROLL for (int j = 0; j < TAIL; j++) across[j * KC + p] = tail_b[p * tail_stride + j];
    }
    for (int64_t p = kc; p < round_up(kc, L); p++) {
      UNROLL for (int j = 0; j < TAIL; j++) across[j * KC + p] = 0;
    }
    tail_b = across;
  }
  int64_t i = m0;
  for (int64_t q = 0; q < panels; q++) {
    const int64_t next = m0 + m * (q + 1) / panels, rows = next - i;
    const Micro<T>* kernel;
    int64_t ars = 0;
    const T* a = ap;
    if (in_rows) {
      a = g.a + i * g.a_rs + k0;
      ars = g.a_rs;
      kernel = Table<T, false>::at[rows - 1];
    } else if (g.fill) {
      ars = kc + PAD;
      g.fill(g.context, i, rows, k0, kc, ap, ars);
      kernel = Table<T, false>::at[rows - 1];
    } else {
      pack(kc, rows, g.a + i * g.a_rs + k0 * g.a_cs, g.a_rs, g.a_cs, ap, rows);
      kernel = Table<T, true>::at[rows - 1];
    }
    T* const c = g.c + i * g.ldc + j0;
    const T* const bias = g.bias && !add ? g.bias + j0 : nullptr;
    T edge[MR * NV * L];
    for (int64_t j = 0; j < whole; j += NR<T>) {
      const int64_t width = min64(NR<T>, whole - j), padded = round_up(width, L);
      const bool direct = in_place && (width == padded && !(few > 0 && j == last));
      const T* b = direct ? g.b + k0 * g.b_rs + j0 + j : bp + (in_place ? 0 : kc * j);
      const int64_t bs = direct ? g.b_rs : round_up(min64(NR<T>, nb - j), L);
      const T* from = bias ? bias + j : nullptr;
      const Micro<T> run = kernel[(padded - 1) / L];
      if (width == padded) {
        run(kc, a, ars, b, bs, c + j, g.ldc, from, add);
      } else {
        run(kc, a, ars, b, bs, edge, padded, nullptr, false);
        put_edge(rows, width, edge, padded, from, add, c + j, g.ldc);
      }
    }
    if (few > 0) {
      tail(packed, rows, kc, a, ars, tail_b, tail_stride, edge);
      put_edge<T>(rows, few, edge, TAIL, bias ? bias + whole : nullptr, add, c + whole, g.ldc);
    }
    i = next;
  }
}

template <typename T>
void gemm(const GemmArgs<T>& g) {
  constexpr int L = Vec<T>::lanes;
  if (g.k == 0) {
    for (int64_t i = 0; i < g.m && !g.add; i++) {
      for (int64_t j = 0; j < g.n; j++) g.c[i * g.ldc + j] = g.bias ? g.bias[j] : T(0);
    }
    return;
  }
  if (g.m <= 4 && g.b_rs == 1 && g.a_cs == 1 && !g.packed && !g.fill) {
    if (g.m == 4) dots<T, 4>(g, 0);
    if (g.m == 3) dots<T, 3>(g, 0);
    if (g.m == 2) dots<T, 2>(g, 0);
    if (g.m == 1) dots<T, 1>(g, 0);
    return;
  }
  T* ap = g.work;
  T* bp = g.work + MR * (KC + PAD) + 64;
  const int64_t width = column_block<T>(g.n), steps = gemm_block(g.k, KC);
  if (g.packed) {
    for (int64_t m0 = 0; m0 < g.m; m0 += MB) {
      const int64_t m1 = min64(g.m, m0 + MB);
      for (int64_t j0 = 0; j0 < g.n; j0 += width) {
        for (int64_t k0 = 0; k0 < g.k; k0 += steps) {
          const int64_t kc = min64(steps, g.k - k0);
          block(g, m0, m1, j0, min64(width, g.n - j0), k0, kc,
                g.packed + k0 * g.packed_n + kc * (g.packed_j + j0), false, ap);
        }
      }
    }
    return;
  }
  const bool in_place = g.b_cs == 1 && g.m <= 4 * MR;
  for (int64_t j0 = 0; j0 < g.n; j0 += width) {
    const int64_t nb = min64(width, g.n - j0);
    for (int64_t k0 = 0; k0 < g.k; k0 += steps) {
      const int64_t kc = min64(steps, g.k - k0);
      // In place, only a last panel that is not a whole number of vectors is packed.
      for (int64_t j = in_place ? (nb % L ? nb / NR<T> * NR<T> : nb) : 0; j < nb; j += NR<T>) {
        panel(kc, min64(NR<T>, nb - j), g.b + k0 * g.b_rs + (j0 + j) * g.b_cs, g.b_rs, g.b_cs,
              bp + (in_place ? 0 : kc * j));
      }
      block(g, 0, g.m, j0, nb, k0, kc, bp, in_place, ap);
    }
  }
}

template <typename T>
void multiply_add(int64_t n, const T* a, const T* b, T* y) {
  constexpr int L = Vec<T>::lanes;
  int64_t i = 0;
  for (; i + L <= n; i += L) store(y + i, fma(load(a + i), load(b + i), load(y + i)));
  for (; i < n; i++) y[i] += a[i] * b[i];
}

}  // namespace

extern "C" const GemmKernels NEEDLE_ISA_NAME(gemm) = {
    {MR, NR<float>, W, KC, NB<float>, gemm<float>, work<float>, panel<float>, multiply_add<float>},
    {MR, NR<double>, WD, KC, NB<double>, gemm<double>, work<double>, panel<double>, multiply_add<double>},
};
