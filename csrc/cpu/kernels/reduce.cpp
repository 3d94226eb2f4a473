// Reductions as lane arrays that the compiler keeps in vector registers. Sums of floats run in float over
// blocks of at most 16K elements (256 to 1024 a lane) and in double across blocks, which is more exact than
// pairwise summation. Compiled once per ISA level.
#include "reduce.h"

#include "vec.h"

namespace {

constexpr int64_t kBlock = 16384;
constexpr int64_t kRowBlock = 256;  // rows that a column sums before it goes to its accumulator
constexpr int64_t kTile = 1024;     // columns at a time: their partial results stay in the first-level cache
constexpr int64_t kNarrow = 128;

template <typename T>
struct Limits;
template <>
struct Limits<float> {
  static constexpr float low = -__builtin_inff(), high = __builtin_inff();
};
template <>
struct Limits<double> {
  static constexpr double low = -__builtin_inf(), high = __builtin_inf();
};
template <>
struct Limits<int64_t> {
  static constexpr int64_t low = INT64_MIN, high = INT64_MAX;
};
template <>
struct Limits<int32_t> {
  static constexpr int32_t low = INT32_MIN, high = INT32_MAX;
};
template <>
struct Limits<uint8_t> {
  static constexpr uint8_t low = 0, high = 255;
};

// Each operation: Element as stored, Lane in which blocks are reduced, Total across blocks.
template <typename E, typename L, typename A>
struct Types {
  typedef E Element;
  typedef L Lane;
  typedef A Total;
};

template <typename E, typename A>
struct Sum : Types<E, E, A> {
  static constexpr E identity = 0;
  static E term(E x, E) { return x; }
  template <typename V>
  static V combine(V a, V b) {
    return a + b;
  }
};

template <typename E, typename A>
struct Prod : Types<E, A, A> {
  static constexpr A identity = 1;
  static A term(E x, A) { return A(x); }
  static A combine(A a, A b) { return a * b; }
};

template <typename E>
struct Squares : Types<E, double, double> {
  static constexpr double identity = 0;
  static double term(E x, double) { return double(x) * double(x); }
  static double combine(double a, double b) { return a + b; }
};

template <typename E>
struct Deviations : Types<E, E, double> {
  static constexpr E identity = 0;
  static E term(E x, E shift) { return (x - shift) * (x - shift); }
  template <typename V>
  static V combine(V a, V b) {
    return a + b;
  }
};

template <typename E, typename A>
struct Max : Types<E, E, A> {
  static constexpr bool largest = true;
  static constexpr E identity = Limits<E>::low;
  static E term(E x, E) { return x; }
  template <typename V>
  static V combine(V a, V b) {
    return (b > a) | (b != b) ? b : a;
  }
};

template <typename E, typename A>
struct Min : Types<E, E, A> {
  static constexpr bool largest = false;
  static constexpr E identity = Limits<E>::high;
  static E term(E x, E) { return x; }
  template <typename V>
  static V combine(V a, V b) {
    return (b < a) | (b != b) ? b : a;
  }
};

template <class Op>
typename Op::Lane reduce_block(const typename Op::Element* x, int64_t n, typename Op::Lane shift) {
  typedef typename Op::Lane L;
  constexpr int lanes = 4 * NEEDLE_VECTOR_BYTES / int(sizeof(L));
  L lane[lanes];
  for (int j = 0; j < lanes; j++) lane[j] = Op::identity;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int j = 0; j < lanes; j++) lane[j] = Op::combine(lane[j], Op::term(x[i + j], shift));
  }
  for (int j = 0; i < n; i++, j++) lane[j] = Op::combine(lane[j], Op::term(x[i], shift));
  for (int half = lanes / 2; half > 0; half /= 2) {
    for (int j = 0; j < half; j++) lane[j] = Op::combine(lane[j], lane[j + half]);
  }
  return lane[0];
}

template <class Op>
inline typename Op::Lane reduce_strided(const typename Op::Element* x, int64_t n, int64_t stride,
                                        typename Op::Lane shift) {
  typedef typename Op::Lane L;
  L lane[4] = {Op::identity, Op::identity, Op::identity, Op::identity};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int j = 0; j < 4; j++) lane[j] = Op::combine(lane[j], Op::term(x[(i + j) * stride], shift));
  }
  for (; i < n; i++) lane[0] = Op::combine(lane[0], Op::term(x[i * stride], shift));
  return Op::combine(Op::combine(lane[0], lane[1]), Op::combine(lane[2], lane[3]));
}

template <class Op>
inline typename Op::Total reduce_row(const typename Op::Element* x, int64_t n, int64_t stride,
                                     const double* shift, typename Op::Total total) {
  typedef typename Op::Lane L;
  typedef typename Op::Total A;
  const L s = shift ? L(*shift) : L(0);
  if (stride == 1 && n < 32) {
    total = Op::combine(total, A(reduce_strided<Op>(x, n, 1, s)));
  } else if (stride == 1) {
    for (int64_t i = 0; i < n; i += kBlock) {
      total = Op::combine(total, A(reduce_block<Op>(x + i, n - i < kBlock ? n - i : kBlock, s)));
    }
  } else {
    constexpr int64_t block = 1024;
    for (int64_t i = 0; i < n; i += block) {
      total =
          Op::combine(total, A(reduce_strided<Op>(x + i * stride, n - i < block ? n - i : block, stride, s)));
    }
  }
  return total;
}

template <class Op>
void row(const void* data, int64_t n, int64_t stride, const double* shift, void* accumulator) {
  auto* total = static_cast<typename Op::Total*>(accumulator);
  *total = reduce_row<Op>(static_cast<const typename Op::Element*>(data), n, stride, shift, *total);
}

template <class Op>
void rows(const void* data, int64_t count, int64_t row_stride, int64_t n, int64_t stride, const double* shift,
          void* accumulators) {
  const auto* x = static_cast<const typename Op::Element*>(data);
  auto* totals = static_cast<typename Op::Total*>(accumulators);
  for (int64_t r = 0; r < count; r++) {
    totals[r] = reduce_row<Op>(x + r * row_stride, n, stride, shift ? shift + r : shift, totals[r]);
  }
}

// One tile of at most kTile columns.
template <class Op>
void reduce_tile(const typename Op::Element* x, int64_t rows, int64_t stride, int64_t n, const double* shift,
                 typename Op::Total* accumulators) {
  typedef typename Op::Lane L;
  typedef typename Op::Total A;
  typedef typename Op::Element E;
  L part[kTile], s[kTile];
  for (int64_t j = 0; j < n; j++) s[j] = shift ? L(shift[j]) : L(0);
  for (int64_t r0 = 0; r0 < rows; r0 += kRowBlock) {
    const int64_t end = rows - r0 < kRowBlock ? rows : r0 + kRowBlock;
    for (int64_t j = 0; j < n; j++) part[j] = Op::identity;
    int64_t r = r0;
    for (; r + 4 <= end; r += 4) {
      const E *a = x + r * stride, *b = a + stride, *c = b + stride, *d = c + stride;
      for (int64_t j = 0; j < n; j++) {
        const L ab = Op::combine(Op::term(a[j], s[j]), Op::term(b[j], s[j]));
        const L cd = Op::combine(Op::term(c[j], s[j]), Op::term(d[j], s[j]));
        part[j] = Op::combine(part[j], Op::combine(ab, cd));
      }
    }
    for (; r < end; r++) {
      const E* a = x + r * stride;
      for (int64_t j = 0; j < n; j++) part[j] = Op::combine(part[j], Op::term(a[j], s[j]));
    }
    for (int64_t j = 0; j < n; j++) accumulators[j] = Op::combine(accumulators[j], A(part[j]));
  }
}

template <class Op>
void columns(const void* data, int64_t rows, int64_t stride, int64_t n, const double* shift,
             void* accumulators) {
  typedef typename Op::Total A;
  const auto* x = static_cast<const typename Op::Element*>(data);
  A* out = static_cast<A*>(accumulators);
  const int64_t group = 2 * kNarrow / n;
  if (stride == n && group > 1 && rows >= 2 * group) {
    // Narrow rows one after another: `group` of them are one row that fills the vectors.
    A wide[2 * kNarrow];
    double wide_shift[2 * kNarrow] = {};
    const int64_t width = group * n;
    for (int64_t j = 0; j < width; j++) {
      wide[j] = A(Op::identity);
      wide_shift[j] = shift ? shift[j % n] : 0;
    }
    reduce_tile<Op>(x, rows / group, width, width, wide_shift, wide);
    for (int64_t j = 0; j < width; j++) out[j % n] = Op::combine(out[j % n], wide[j]);
    x += rows / group * width;
    rows %= group;
  }
  for (int64_t j = 0; j < n; j += kTile) {
    reduce_tile<Op>(x + j, rows, stride, n - j < kTile ? n - j : kTile, shift ? shift + j : shift, out + j);
  }
}

// Op is Max or Min of E.
template <class Op>
int64_t position_row(const void* data, int64_t n) {
  typedef typename Op::Element E;
  const E* x = static_cast<const E*>(data);
  constexpr int64_t step = 64;
  E best = Op::identity;
  for (int64_t i = 0; i < n; i += kBlock) {
    best = Op::combine(best, reduce_block<Op>(x + i, n - i < kBlock ? n - i : kBlock, 0));
  }
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    int found = 0;
    for (int64_t j = 0; j < step; j++) found |= (x[i + j] == best) | (x[i + j] != x[i + j]);
    if (found) break;
  }
  for (; i < n; i++) {
    if (x[i] == best || x[i] != x[i]) return i;
  }
  return 0;
}

template <class Op, typename Index>
void position_columns(const void* data, int64_t rows, int64_t stride, int64_t n, int64_t* positions) {
  typedef typename Op::Element E;
  const E* x = static_cast<const E*>(data);
  constexpr int64_t tile = 256;
  for (int64_t c = 0; c < n; c += tile) {
    const int64_t width = n - c < tile ? n - c : tile;
    E best[tile];
    Index at[tile];
    for (int64_t j = 0; j < width; j++) best[j] = x[c + j], at[j] = 0;
    for (int64_t r = 1; r < rows; r++) {
      const E* y = x + r * stride + c;
      for (int64_t j = 0; j < width; j++) {
        const E v = y[j], b = best[j];
        const bool ahead = Op::largest ? !(v <= b) : !(v >= b);
        const bool take = ahead & (b == b);
        best[j] = take ? v : b;
        at[j] = take ? Index(r) : at[j];
      }
    }
    for (int64_t j = 0; j < width; j++) positions[c + j] = at[j];
  }
}

template <class Op>
constexpr ReduceKernel kernel() {
  return {row<Op>, rows<Op>, columns<Op>};
}
template <class Op, typename Index>
constexpr PositionKernel position() {
  return {position_row<Op>, position_columns<Op, Index>};
}

}  // namespace

extern "C" const ReduceKernels NEEDLE_ISA_NAME(reduce) = {
    {kernel<Sum<float, double>>(), kernel<Sum<double, double>>(), kernel<Sum<int64_t, int64_t>>()},
    {kernel<Prod<float, double>>(), kernel<Prod<double, double>>(), kernel<Prod<int64_t, int64_t>>()},
    {kernel<Squares<float>>(), kernel<Squares<double>>()},
    {kernel<Deviations<float>>(), kernel<Deviations<double>>()},
    {kernel<Max<float, double>>(), kernel<Max<double, double>>(), kernel<Max<int64_t, int64_t>>(),
     kernel<Max<int32_t, int64_t>>(), kernel<Max<uint8_t, int64_t>>()},
    {kernel<Min<float, double>>(), kernel<Min<double, double>>(), kernel<Min<int64_t, int64_t>>(),
     kernel<Min<int32_t, int64_t>>(), kernel<Min<uint8_t, int64_t>>()},
    {position<Max<float, double>, int32_t>(), position<Max<double, double>, int64_t>(),
     position<Max<int64_t, int64_t>, int64_t>(), position<Max<int32_t, int64_t>, int32_t>(),
     position<Max<uint8_t, int64_t>, int32_t>()},
    {position<Min<float, double>, int32_t>(), position<Min<double, double>, int64_t>(),
     position<Min<int64_t, int64_t>, int64_t>(), position<Min<int32_t, int64_t>, int32_t>(),
     position<Min<uint8_t, int64_t>, int32_t>()},
};
