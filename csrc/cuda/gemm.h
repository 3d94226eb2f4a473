// Matrix products by tiles: a block computes a tile of c, its threads parts of the tile in registers, from
// shared memory that is filled for the next steps while these are computed. Any strides, batches, and k split
// over blocks where the tiles alone would not fill the device; the parts are then added in their order.
#pragma once
#include "tile.h"

namespace needle {
namespace {

// a is (m, k), b is (n, k): `row` and `depth` are the strides of m or n and of k.
template <typename T>
struct Operand {
  const T* p;
  int64_t row, depth;
  bool along_depth;  // neighbouring threads read along k, which is contiguous if anything is
  bool vector;       // reads of 16 bytes are aligned
};

template <typename T>
struct Gemm {
  int m, n, k;
  Operand<T> a, b;
  T* c;           // (count, m, n) contiguous, or a sum for each split of k
  const T* bias;  // (n), may be null
  int64_t count;
  Dims<2> batch;  // where the matrices of a and b are
  int tiles_m, tiles_n;
  int depth;  // of one split: a multiple of a tile's
  bool vector_c;
};

// Loads ROWS rows of an operand for a tile, K steps at a time, one vector by every thread.
template <typename T, int ROWS, int K>
struct OperandLoader {
  static constexpr int V = vector_lanes<T>();
  static_assert(ROWS * K % (kThreads * V) == 0, "every thread brings as much");
  static constexpr int kPasses = ROWS * K / (kThreads * V);

  const Operand<T>& x;
  const T* p;        // where the tile of the next steps begins
  int rows, depths;  // how many there are from there on
  Vector<T, V> held[kPasses];

  NEEDLE_DEVICE OperandLoader(const Operand<T>& x, int64_t offset, int first_row, int rows, int first_depth,
                              int depths)
      : x(x),
        p(x.p + offset + int64_t(first_row) * x.row + int64_t(first_depth) * x.depth),
        rows(rows),
        depths(depths) {}

  // The place in the tile of the vector of a pass.
  NEEDLE_DEVICE int row(int t) const { return x.along_depth ? t / (K / V) : t % (ROWS / V) * V; }
  NEEDLE_DEVICE int depth(int t) const { return x.along_depth ? t % (K / V) * V : t / (ROWS / V); }

  NEEDLE_DEVICE void fetch() {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      const int t = int(threadIdx.x) + pass * kThreads, r = row(t), d = depth(t);
      const int run = x.along_depth ? depths - d : rows - r;
      const bool any = x.along_depth ? r < rows : d < depths;
      const T* const from = p + r * x.row + d * x.depth;
      if (x.vector && any && run >= V) {
        held[pass] = reinterpret_cast<const Vector<T, V>*>(from)[0];
      } else {
        const int64_t stride = x.along_depth ? x.depth : x.row;
        NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) {
          held[pass].lane[lane] = any && lane < run ? from[lane * stride] : T(0);
        }
      }
    }
    p += K * x.depth;
    depths -= K;
  }

  template <int P>
  NEEDLE_DEVICE void store(T (&tile)[K][P]) const {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      const int t = int(threadIdx.x) + pass * kThreads, r = row(t), d = depth(t);
      if (x.along_depth) {
        NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) tile[d + lane][r] = held[pass].lane[lane];
      } else {
        *reinterpret_cast<Vector<T, V>*>(&tile[d][r]) = held[pass];
      }
    }
  }
};

// Columns [first, ..) of one row of c from those of a thread.
template <int N, typename T>
NEEDLE_DEVICE void store_row(const Gemm<T>& g, T* to, int first, const T (&sum)[N]) {
  constexpr int V = vector_lanes<T>();
  NEEDLE_UNROLL for (int j = 0; j < N; j += V) {
    const int col = first + tile_column(j);
    Vector<T, V> v;
    NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) {
      v.lane[lane] = sum[j + lane];
      if (g.bias && col + lane < g.n) v.lane[lane] += g.bias[col + lane];
    }
    if (g.vector_c && col < g.n) {
      *reinterpret_cast<Vector<T, V>*>(to + col) = v;
    } else {
      NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) {
        if (col + lane < g.n) to[col + lane] = v.lane[lane];
      }
    }
  }
}

template <class P, typename T>
__global__ void __launch_bounds__(kThreads, 2) multiply(Gemm<T> g) {
  NEEDLE_SHARED(typename P::Stage, stages, [2]);
  // Tiles in groups of 8 rows: those that run together share rows of a and columns of b in the L2 cache.
  constexpr int kGroup = 8;
  const int group = int(blockIdx.x) / (kGroup * g.tiles_n), place = int(blockIdx.x) % (kGroup * g.tiles_n);
  const int tall = g.tiles_m - group * kGroup < kGroup ? g.tiles_m - group * kGroup : kGroup;
  const int first_row = (group * kGroup + place % tall) * P::kM, first_col = place / tall * P::kN;
  const int split = int(blockIdx.y), first_depth = split * g.depth;
  const int depth = g.k - first_depth < g.depth ? g.k - first_depth : g.depth;
  for (int64_t z = blockIdx.z; z < g.count; z += gridDim.z) {
    int64_t offset[2];
    g.batch.locate(uint32_t(z), offset);
    OperandLoader<T, P::kM, P::kK> a(g.a, offset[0], first_row, g.m - first_row, first_depth, depth);
    OperandLoader<T, P::kN, P::kK> b(g.b, offset[1], first_col, g.n - first_col, first_depth, depth);
    P tile;
    tile.multiply((depth + P::kK - 1) / P::kK, a, b, stages);
    T* const c = g.c + (int64_t(split) * g.count + z) * g.m * g.n;
    NEEDLE_UNROLL for (int i = 0; i < P::kRows; i++) {
      const int row = first_row + tile_row(i);
      if (row < g.m) store_row(g, c + int64_t(row) * g.n, first_col, tile.sum[i]);
    }
  }
}

// c = the sum of the parts, in their order, plus the bias.
template <typename T>
__global__ void add_parts(const T* parts, int splits, int64_t size, int n, const T* bias, T* c) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
    T sum = bias ? bias[i % n] : T(0);
    for (int s = 0; s < splits; s++) sum = T(sum + parts[s * size + i]);
    c[i] = sum;
  }
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class P, typename T>
int32_t multiply_by(Gemm<T> g) {
  g.tiles_m = int(ceil_div(g.m, P::kM));
  g.tiles_n = int(ceil_div(g.n, P::kN));
  const int64_t tiles = int64_t(g.tiles_m) * g.tiles_n, size = g.count * g.m * g.n;
  if (tiles >= int64_t(1) << 31) return fail(kInvalid, "a product of this size has no kernel");
  // A split is worth its part of c being written and read again if it is deep.
  constexpr int64_t kDeep = 128, kMostSplits = 256;
  const int64_t blocks = tiles * g.count, fitting = multiprocessors() / blocks, deep = g.k / kDeep;
  int64_t splits = std::max<int64_t>(1, std::min(std::min(fitting, deep), kMostSplits));
  g.depth = int(ceil_div(std::max<int64_t>(1, ceil_div(g.k, splits)), P::kK) * P::kK);
  splits = std::max<int64_t>(1, ceil_div(g.k, g.depth));
  T* const c = g.c;
  const T* const bias = g.bias;
  if (splits > 1) {
    g.c = static_cast<T*>(scratch(kScratchGemm, size_t(splits * size) * sizeof(T)));
    if (!g.c) return out_of_memory();
    g.bias = nullptr;
  }
  g.vector_c = g.n % vector_lanes<T>() == 0 && is_aligned(g.c, vector_lanes<T>() * sizeof(T));
  const dim3 grid(unsigned(tiles), unsigned(splits), unsigned(std::min<int64_t>(g.count, 65535)));
  NEEDLE_LAUNCH((multiply<P, T>), grid, kThreads, 0, stream(), g);
  if (splits > 1) {
    NEEDLE_LAUNCH((add_parts<T>), grid_for(size), kThreads, 0, stream(), g.c, int(splits), size, g.n, bias,
                  c);
  }
  return launched("starting a kernel");
}

}  // namespace
}  // namespace needle
