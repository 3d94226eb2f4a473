// How elementwise loops over contiguous memory run on arguments that are not: numbers, broadcast and strided
// operands go through tiles that stay in L1, the rest as it lies. Threads split the row-major order of the result.
#pragma once
#include "strided.h"

namespace needle {

// Elements per tile; four tiles of the widest type fit L1.
constexpr int64_t kTile = 1024;
// Rows from this length on are passed to the kernel as they lie.
constexpr int64_t kLongRow = 256;

struct Tile {
  alignas(64) char bytes[kTile * 8];
};

// A tensor argument; as a number it stands for as many equal elements as needed.
struct Operand {
  char* base;
  int64_t bytes;
  bool number;
  char element[8];

  Operand(const void* memory, double offset, DType dtype, bool saturate)
      : base(nullptr), bytes(dtype_bytes(dtype)), number(memory == nullptr), element{} {
    if (number) {
      store_number(offset, dtype, saturate, element);
    } else {
      base = static_cast<char*>(const_cast<void*>(memory)) + int64_t(offset) * bytes;
    }
  }
};

inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

// All operands contiguous, or numbers.
template <int N, typename Kernel>
void run_flat(const Operand* in, const Operand& y, int64_t n, int64_t grain, const Kernel& kernel) {
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    Tile tiles[N];
    int64_t step = end - begin;
    for (int k = 0; k < N; k++) {
      if (!in[k].number) continue;
      step = at_most(step, kTile);
      repeat(in[k].element, in[k].bytes, tiles[k].bytes, step);
    }
    for (int64_t i = begin; i < end; i += step) {
      const void* p[N];
      for (int k = 0; k < N; k++) p[k] = in[k].number ? tiles[k].bytes : in[k].base + i * in[k].bytes;
      kernel(p, y.base + i * y.bytes, at_most(step, end - i));
    }
  });
}

// How the walk reads an operand, or writes the result.
struct Way {
  Sizes strides;
  bool dense;  // row-major throughout
  int64_t inner;
};

template <int N, typename Kernel>
void run_strided(const Operand* in, const Operand& y, const double* desc, int64_t grain, const Kernel& kernel) {
  const int64_t ndim = int64_t(desc[0]);
  const Sizes shape = to_sizes(desc + 1, ndim);
  Way ways[N + 1];
  for (int k = 0; k <= N; k++) {
    ways[k].strides = to_sizes(desc + 1 + ndim * (k + 1), ndim);
    ways[k].dense = is_dense(shape, ways[k].strides);
    ways[k].inner = ways[k].strides.back();
  }
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  const int64_t row = shape.back();
  const bool long_rows = row >= kLongRow;
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    Tile tiles[N + 1];
    int64_t held[N];  // where in an operand the element comes from that its tile repeats; -1: none
    for (int k = 0; k < N; k++) {
      held[k] = -1;
      if (in[k].number) repeat(in[k].element, in[k].bytes, tiles[k].bytes, kTile);
    }
    Sizes index;
    for (int64_t position = begin, m; position < end; position += m) {
      m = at_most(kTile, end - position);
      if (long_rows) {
        m = at_most(m, row - position % row);
        locate(shape, position, index);
      }
      const void* p[N];
      for (int k = 0; k < N; k++) {
        const Way& way = ways[k];
        char* tile = tiles[k].bytes;
        if (in[k].number) {
          p[k] = tile;
        } else if (way.dense) {
          p[k] = in[k].base + position * in[k].bytes;
        } else if (long_rows && way.inner == 1) {
          p[k] = in[k].base + offset_of(index, way.strides) * in[k].bytes;
        } else if (long_rows && way.inner == 0) {
          const int64_t offset = offset_of(index, way.strides);
          if (held[k] != offset) repeat(in[k].base + offset * in[k].bytes, in[k].bytes, tile, kTile);
          held[k] = offset;
          p[k] = tile;
        } else {
          gather(shape, way.strides, in[k].bytes, in[k].base, position, m, tile);
          p[k] = tile;
        }
      }
      const Way& out = ways[N];
      if (out.dense) {
        kernel(p, y.base + position * y.bytes, m);
      } else if (long_rows && out.inner == 1) {
        kernel(p, y.base + offset_of(index, out.strides) * y.bytes, m);
      } else {
        kernel(p, tiles[N].bytes, m);
        scatter(shape, out.strides, y.bytes, tiles[N].bytes, y.base, position, m);
      }
    }
  });
}

template <int N, typename Kernel>
void run(const Operand* in, const Operand& y, double n, const double* desc, int64_t cost, const Kernel& kernel) {
  const int64_t grain = kGrain / cost;
  if (desc && desc[0] > 0) {
    run_strided<N>(in, y, desc, grain, kernel);
  } else {
    run_flat<N>(in, y, int64_t(n), grain, kernel);
  }
}

}  // namespace needle
