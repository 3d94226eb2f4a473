// A block's tile of a matrix product a b, R rows by C columns: kThreads threads bring D steps of the inner
// dim at a time into shared memory, while they multiply the D steps before, each for 4 by 4 elements in every
// 64 by 64 of the tile. Where a and b come from is the business of loaders, structs that hold what one thread
// brings:
//   fetch()       reads its elements of the next D steps into registers, zeros beyond the end
//   store(tile)   puts them into T tile[D][..]: step by row (or column)
#pragma once
#include "device.h"

namespace needle {
namespace {

template <typename T, int R, int C, int D>
struct TileProduct {
  static_assert(kThreads == 256 && R % 64 == 0 && C % 64 == 0, "16 by 16 threads share 64 by 64 elements");
  static constexpr int kTall = R / 64, kWide = C / 64, kRows = 4 * kTall, kColumns = 4 * kWide;
  // Rows are longer than needed, so that threads that store down a column do not meet in a bank.
  struct alignas(16) Stage {
    T a[D][R + 4], b[D][C + 4];
  };

  T sum[kRows][kColumns];

  // Where in the tile sum[i][j] belongs. Four rows and four columns are neighbours.
  static NEEDLE_DEVICE int row(int i) { return i / 4 * 64 + int(threadIdx.x) / 16 * 4 + i % 4; }
  static NEEDLE_DEVICE int column(int j) { return j / 4 * 64 + int(threadIdx.x) % 16 * 4 + j % 4; }

  NEEDLE_DEVICE void clear() {
    for (int i = 0; i < kRows; i++) {
      for (int j = 0; j < kColumns; j++) sum[i][j] = 0;
    }
  }

  NEEDLE_DEVICE void add(const Stage& stage) {
#pragma unroll
    for (int k = 0; k < D; k++) {
      Vector<T, 4> a[kTall], b[kWide];
      for (int i = 0; i < kTall; i++) a[i] = *reinterpret_cast<const Vector<T, 4>*>(&stage.a[k][row(4 * i)]);
      for (int j = 0; j < kWide; j++)
        b[j] = *reinterpret_cast<const Vector<T, 4>*>(&stage.b[k][column(4 * j)]);
#pragma unroll
      for (int i = 0; i < kRows; i++) {
#pragma unroll
        for (int j = 0; j < kColumns; j++) sum[i][j] += a[i / 4].lane[i % 4] * b[j / 4].lane[j % 4];
      }
    }
  }

  // sum = the product over steps * D of the inner dim. All threads of the block come here.
  template <class A, class B>
  NEEDLE_DEVICE void multiply(int64_t steps, A& a, B& b) {
    NEEDLE_SHARED(Stage, stages, [2]);
    clear();
    if (steps == 0) return;
    a.fetch();
    b.fetch();
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

template <typename T, int V>
NEEDLE_DEVICE Vector<T, V> load_or_zero(const T* p, bool valid) {
  Vector<T, V> v = {};
  if (valid) v = *reinterpret_cast<const Vector<T, V>*>(p);
  return v;
}

// Loads lines of a matrix whose rows are the inner dim: step k is row k, V columns at a time.
template <typename T, int Columns, int D, int V>
struct LineLoader {
  static constexpr int kUnits = Columns / V, kLines = kThreads / kUnits, kPasses = D / kLines;
  static_assert(kPasses * kLines == D, "every thread brings as much");

  const T* from;  // this thread's columns of row 0
  int64_t stride, line, end;
  bool inside;
  Vector<T, V> held[kPasses];

  // Rows [begin, end) of `matrix`, columns from `column` on, of which there are `columns`.
  NEEDLE_DEVICE LineLoader(const T* matrix, int64_t row_stride, int64_t begin, int64_t end, int64_t column,
                           int64_t columns)
      : from(matrix + column + unit() * V),
        stride(row_stride),
        line(begin + int(threadIdx.x) / kUnits),
        end(end),
        inside(column + unit() * V < columns) {}

  static NEEDLE_DEVICE int unit() { return int(threadIdx.x) % kUnits; }

  NEEDLE_DEVICE void fetch() {
    for (int pass = 0; pass < kPasses; pass++) {
      const int64_t k = line + pass * kLines;
      held[pass] = load_or_zero<T, V>(from + k * stride, inside && k < end);
    }
    line += D;
  }
  template <int Padded>
  NEEDLE_DEVICE void store(T (&tile)[D][Padded]) const {
    for (int pass = 0; pass < kPasses; pass++) {
      T* const to = &tile[int(threadIdx.x) / kUnits + pass * kLines][unit() * V];
      *reinterpret_cast<Vector<T, V>*>(to) = held[pass];
    }
  }
};

}  // namespace
}  // namespace needle
