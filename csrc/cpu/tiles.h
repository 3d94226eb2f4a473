// How elementwise loops over contiguous memory run on arguments that are not: numbers, broadcast and strided
// operands go through tiles that stay in L1, the rest as it lies. Threads split the row-major order of the
// result.
#pragma once
#include "kernels/copy.h"
#include "kernels/elementwise.h"
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

// A power with a small number as exponent is a cheaper op of the same meaning; false: there is none.
inline bool simple_power(double exponent, DType dtype, UnaryOp& op) {
  if (dtype != kFloat32 && dtype != kFloat64) return false;
  if (exponent == 2) return op = kOp_square, true;
  if (exponent == -1) return op = kOp_reciprocal, true;
  return false;
}

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

// How the walk reads an operand, or writes the result (the last of the N + 1 ways).
struct Way {
  Sizes strides;
  bool dense;  // row-major throughout
  int64_t inner;
  // Contiguous along the dim before the last: read through transposed tiles.
  bool transposed;
};

template <int N>
struct Walk {
  Sizes shape;
  Way ways[N + 1];

  explicit Walk(const double* desc) : shape(to_sizes(desc + 1, int64_t(desc[0]))) {
    const size_t ndim = shape.size();
    for (int k = 0; k <= N; k++) {
      Way& way = ways[k];
      way.strides = to_sizes(desc + 1 + int64_t(ndim) * (k + 1), int64_t(ndim));
      way.dense = is_dense(shape, way.strides);
      way.inner = way.strides.back();
      way.transposed = ndim > 1 && way.inner != 0 && way.inner != 1 && way.strides[ndim - 2] == 1;
    }
  }

  // Whether blocks of the last two dims serve: some operand is transposed, the others and the result lie in
  // rows.
  bool in_blocks() const {
    bool some = false;
    for (int k = 0; k < N; k++) {
      some |= ways[k].transposed;
      if (ways[k].inner != 0 && ways[k].inner != 1 && !ways[k].transposed) return false;
    }
    return some && ways[N].inner == 1 && shape.back() >= 8 && shape[shape.size() - 2] >= 8;
  }
};

constexpr int64_t kBlockRows = 32, kBlockCols = 128;

template <int N, typename Kernel>
void run_blocks(const Operand* in, const Operand& y, const Walk<N>& walk, int64_t grain,
                const Kernel& kernel) {
  const size_t last = walk.shape.size() - 1;
  const int64_t rows = walk.shape[last - 1], cols = walk.shape[last];
  const int64_t across = (cols + kBlockCols - 1) / kBlockCols, down = (rows + kBlockRows - 1) / kBlockRows;
  const Sizes outer(walk.shape.begin(), walk.shape.end() - 2);
  int64_t blocks = across * down;
  for (int64_t size : outer) blocks *= size;
  const auto* transposes = select_kernels(copy)->transpose;
  parallel_for(blocks, 1 + grain / (kBlockRows * kBlockCols), [&](int64_t begin, int64_t end) {
    struct Block {
      alignas(64) char bytes[kBlockRows * kBlockCols * 8];
    };
    Block tiles[N];
    for (int k = 0; k < N; k++) {
      if (in[k].number) repeat(in[k].element, in[k].bytes, tiles[k].bytes, kBlockCols);
    }
    Sizes index;
    for (int64_t block = begin; block < end; block++) {
      const int64_t j = block % across * kBlockCols, i = block / across % down * kBlockRows;
      const int64_t height = at_most(kBlockRows, rows - i), width = at_most(kBlockCols, cols - j);
      locate(outer, block / across / down, index);
      index.push_back(i);
      index.push_back(j);
      int64_t at[N + 1];
      for (int k = 0; k <= N; k++) at[k] = offset_of(index, walk.ways[k].strides);
      for (int k = 0; k < N; k++) {
        if (in[k].number || !walk.ways[k].transposed) continue;
        transposes[log2_bytes(in[k].bytes)](in[k].base + at[k] * in[k].bytes, walk.ways[k].inner,
                                            tiles[k].bytes, kBlockCols, height, width);
      }
      for (int64_t r = 0; r < height; r++) {
        const void* p[N];
        for (int k = 0; k < N; k++) {
          const Way& way = walk.ways[k];
          const int64_t bytes = in[k].bytes;
          p[k] = tiles[k].bytes;
          if (in[k].number) continue;
          if (way.transposed) {
            p[k] = tiles[k].bytes + r * kBlockCols * bytes;
            continue;
          }
          const char* from = in[k].base + (at[k] + r * way.strides[last - 1]) * bytes;
          if (way.inner == 1) {
            p[k] = from;
          } else {
            repeat(from, bytes, tiles[k].bytes, width);
          }
        }
        kernel(p, y.base + (at[N] + r * walk.ways[N].strides[last - 1]) * y.bytes, width);
      }
    }
  });
}

template <int N, typename Kernel>
void run_strided(const Operand* in, const Operand& y, const Walk<N>& walk, int64_t grain,
                 const Kernel& kernel) {
  const Sizes& shape = walk.shape;
  const auto& ways = walk.ways;
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
void run(const Operand* in, const Operand& y, double n, const double* desc, int64_t cost,
         const Kernel& kernel) {
  const int64_t grain = kGrain / cost;
  if (desc && desc[0] > 0) {
    const Walk<N> walk(desc);
    if (walk.in_blocks()) {
      run_blocks<N>(in, y, walk, grain, kernel);
    } else {
      run_strided<N>(in, y, walk, grain, kernel);
    }
  } else {
    run_flat<N>(in, y, int64_t(n), grain, kernel);
  }
}

}  // namespace needle
