// A block's tile of a matrix product a b, R rows by C columns: kThreads threads bring D steps of the inner
// dim at a time into shared memory, while they multiply the D steps before, each for 4 by 4 elements in every
// 64 by 64 of the tile. Where a and b come from is the business of loaders, structs that hold what one thread
// brings:
//   fetch()       reads its elements of the next D steps into registers, zeros beyond the end
//   store(tile)   puts them into T tile[D][..]: step by row (or column)
#pragma once
#include "halves.h"

namespace needle {
namespace {

// Four neighbours, read and written 16 bytes at a time.
template <typename T>
struct Quad {
  static constexpr int kLanes = vector_lanes<T>();
  Vector<T, kLanes> parts[4 / kLanes];

  NEEDLE_DEVICE T& operator[](int i) { return parts[i / kLanes].lane[i % kLanes]; }
  NEEDLE_DEVICE const T& operator[](int i) const { return parts[i / kLanes].lane[i % kLanes]; }
  static NEEDLE_DEVICE const Quad& at(const T* p) { return *reinterpret_cast<const Quad*>(p); }
  static NEEDLE_DEVICE Quad& at(T* p) { return *reinterpret_cast<Quad*>(p); }
};

// Where in a tile element (i, j) of a thread belongs. Four rows and four columns are neighbours, and so are
// the 16 threads that share rows.
NEEDLE_DEVICE int tile_row(int i) { return i / 4 * 64 + int(threadIdx.x) / 16 * 4 + i % 4; }
NEEDLE_DEVICE int tile_column(int j) { return j / 4 * 64 + int(threadIdx.x) % 16 * 4 + j % 4; }

template <typename T, int R, int C, int D>
struct TileProduct {
  static_assert(kThreads == 256 && R % 64 == 0 && C % 64 == 0, "16 by 16 threads share 64 by 64 elements");
  static constexpr int kM = R, kN = C, kK = D;
  static constexpr int kTall = R / 64, kWide = C / 64, kRows = 4 * kTall, kColumns = 4 * kWide;
  // Rows are longer than needed, so that threads that store down a column do not meet in a bank.
  struct alignas(16) Stage {
    T a[D][R + 4], b[D][C + 4];
  };

  T sum[kRows][kColumns];

  NEEDLE_DEVICE void add(const Stage& stage) {
    NEEDLE_UNROLL for (int k = 0; k < D; k++) {
      Quad<T> a[kTall], b[kWide];
      NEEDLE_UNROLL for (int i = 0; i < kTall; i++) a[i] = Quad<T>::at(&stage.a[k][tile_row(4 * i)]);
      NEEDLE_UNROLL for (int j = 0; j < kWide; j++) b[j] = Quad<T>::at(&stage.b[k][tile_column(4 * j)]);
      NEEDLE_UNROLL for (int i = 0; i < kRows; i++) {
        NEEDLE_UNROLL for (int j = 0; j < kColumns; j++) sum[i][j] += a[i / 4][i % 4] * b[j / 4][j % 4];
      }
    }
  }

  // sum = the product over steps * D of the inner dim, by way of two stages in shared memory, which others
  // may have used until here. All threads of the block come here.
  template <class A, class B>
  NEEDLE_DEVICE void multiply(int64_t steps, A& a, B& b, Stage* stages) {
    NEEDLE_UNROLL for (int i = 0; i < kRows; i++) {
      NEEDLE_UNROLL for (int j = 0; j < kColumns; j++) sum[i][j] = 0;
    }
    if (steps == 0) return;
    a.fetch();
    b.fetch();
    __syncthreads();
    for (int64_t step = 0; step < steps; step++) {
      Stage& stage = stages[step % 2];
      a.store(stage.a);
      b.store(stage.b);
      __syncthreads();
      if (step + 1 < steps) {
        a.fetch();
        b.fetch();
      }
      add(stage);
    }
  }
};

// Elements of type S in memory are computed in T.
template <typename T, int V>
NEEDLE_DEVICE Vector<T, V> load_or_zero(const T* p, bool valid) {
  Vector<T, V> v = {};
  if (valid) v = *reinterpret_cast<const Vector<T, V>*>(p);
  return v;
}

// Columns [column, columns) of a matrix whose lines are the inner dim: step k is line k, V columns at a time.
template <typename S, int C, int D, int V>
struct LineLoader {
  typedef ComputedType<S> T;
  static constexpr int kUnits = C / V, kLines = kThreads / kUnits, kPasses = D / kLines;
  static_assert(kPasses * kLines == D, "every thread brings as much");

  const S* from;  // this thread's columns of line 0
  int64_t stride, line, end;
  bool inside;
  Vector<S, V> held[kPasses];

  // Of the lines, [begin, end). V columns are neighbours.
  NEEDLE_DEVICE LineLoader(const S* matrix, int64_t line_stride, int64_t begin, int64_t end, int64_t column,
                           int64_t columns, int64_t column_stride = 1)
      : from(matrix + (column + unit()) * column_stride),
        stride(line_stride),
        line(begin + int(threadIdx.x) / kUnits),
        end(end),
        inside(column + unit() < columns) {}

  static NEEDLE_DEVICE int unit() { return int(threadIdx.x) % kUnits * V; }

  NEEDLE_DEVICE void fetch() {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      const int64_t k = line + pass * kLines;
      held[pass] = load_or_zero<S, V>(from + k * stride, inside && k < end);
    }
    line += D;
  }
  template <int P>
  NEEDLE_DEVICE void store(T (&tile)[D][P]) const {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      T* const to = &tile[int(threadIdx.x) / kUnits + pass * kLines][unit()];
      Vector<T, V> values;
      NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) values.lane[lane] = value_of(held[pass].lane[lane]);
      *reinterpret_cast<Vector<T, V>*>(to) = values;
    }
  }
};

// Lines [line, lines) of a matrix along which the inner dim lies: V steps at a time, which are neighbours.
template <typename S, int R, int D, int V>
struct AlongLoader {
  typedef ComputedType<S> T;
  static constexpr int kUnits = D / V, kLines = kThreads / kUnits, kPasses = R / kLines;
  static_assert(kPasses * kLines == R, "every thread brings as much");

  const S* from;  // this thread's first line
  int64_t line_stride, stride, lines, inner, k;
  Vector<S, V> held[kPasses];

  NEEDLE_DEVICE AlongLoader(const S* matrix, int64_t line_stride, int64_t line, int64_t end, int64_t inner,
                            int64_t stride)
      : from(matrix + (line + own()) * line_stride),
        line_stride(line_stride),
        stride(stride),
        lines(end - line - own()),
        inner(inner),
        k(int(threadIdx.x) % kUnits * V) {}

  static NEEDLE_DEVICE int own() { return int(threadIdx.x) / kUnits; }

  NEEDLE_DEVICE void fetch() {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      const bool valid = pass * kLines < lines && k < inner;
      held[pass] = load_or_zero<S, V>(from + pass * kLines * line_stride + k * stride, valid);
    }
    k += D;
  }
  template <int P>
  NEEDLE_DEVICE void store(T (&tile)[D][P]) const {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) {
        tile[int(threadIdx.x) % kUnits * V + lane][own() + pass * kLines] = value_of(held[pass].lane[lane]);
      }
    }
  }
};

}  // namespace
}  // namespace needle
