// Matrix products by tiles: a block computes a tile of c, its threads parts of the tile in registers, from
// shared memory that is filled for the next steps while these are computed. Any strides, batches, and k split
// over blocks where the tiles alone would not fill the device; the parts are then added in their order.
#pragma once
#include "device.h"

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

// A tile of M x N x K, of which a thread computes TM x TN; a warp is 4 x 8 threads.
template <typename T, int M, int N, int K, int TM, int TN>
struct Tile {
  typedef T Element;
  static constexpr int kM = M, kN = N, kK = K, kTM = TM, kTN = TN;
  static constexpr int V = vector_lanes<T>();
  static constexpr int kWarpRows = M / (4 * TM), kWarpCols = N / (8 * TN);
  // Blocks on a multiprocessor at once: what the compiler's use of registers must allow.
  static constexpr int kBlocks = TM * TN * sizeof(T) > 64 ? 2 : 3;
  // Padding keeps the transposing stores of a warp on different banks.
  static constexpr int kRowsM = M + V, kRowsN = N + V;
  static_assert(kWarpRows * kWarpCols * 32 == kThreads, "a thread for every part");
  static_assert(M * K == kThreads * V && N * K == kThreads * V, "one vector of each operand per thread");
};

// The vector of a tile that this thread loads: where it is in the tile, and in memory.
template <typename T, int ROWS, int K, int V>
struct Chunk {
  int row, depth;  // in the tile
  const T* p;

  NEEDLE_DEVICE Chunk(const Operand<T>& x, int64_t offset, int first_row, int first_depth) {
    const int t = int(threadIdx.x);
    if (x.along_depth) {
      row = t / (K / V);
      depth = t % (K / V) * V;
    } else {
      row = t % (ROWS / V) * V;
      depth = t / (ROWS / V);
    }
    p = x.p + offset + int64_t(first_row + row) * x.row + int64_t(first_depth + depth) * x.depth;
  }

  // The next vector; zeros beyond `rows` and `depths`, which count from this tile.
  NEEDLE_DEVICE Vector<T, V> next(const Operand<T>& x, int rows, int depths) {
    Vector<T, V> v;
    const int inside_rows = rows - row, inside_depth = depths - depth;
    const int run = x.along_depth ? inside_depth : inside_rows;
    const bool any = x.along_depth ? inside_rows > 0 : inside_depth > 0;
    if (x.vector && any && run >= V) {
      v = reinterpret_cast<const Vector<T, V>*>(p)[0];
    } else {
      const int64_t stride = x.along_depth ? x.depth : x.row;
      for (int lane = 0; lane < V; lane++) v.lane[lane] = any && lane < run ? p[lane * stride] : T(0);
    }
    p += K * x.depth;
    return v;
  }

  // Stores it in the tile, whose rows are then contiguous: [depth][row].
  NEEDLE_DEVICE void put(T* tile, const Vector<T, V>& v, bool along_depth) const {
    constexpr int kStride = ROWS + V;
    if (along_depth) {
      for (int lane = 0; lane < V; lane++) tile[(depth + lane) * kStride + row] = v.lane[lane];
    } else {
      reinterpret_cast<Vector<T, V>*>(tile + depth * kStride + row)[0] = v;
    }
  }
};

// Which rows or columns of a tile a thread has: runs of V, `step` apart.
template <int TILE, int V>
NEEDLE_DEVICE int part_of(int warp, int lane, int lanes, int i) {
  return warp * lanes * TILE + i / V * lanes * V + lane * V + i % V;
}

template <typename S, typename T>
NEEDLE_DEVICE void multiply_step(const T* a, const T* b, T (&sum)[S::kTM][S::kTN]) {
  constexpr int V = S::V;
  T x[S::kTM], y[S::kTN];
  NEEDLE_UNROLL for (int i = 0; i < S::kTM; i += V) {
    const Vector<T, V> v = reinterpret_cast<const Vector<T, V>*>(a + i * 4)[0];
    NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) x[i + lane] = v.lane[lane];
  }
  NEEDLE_UNROLL for (int j = 0; j < S::kTN; j += V) {
    const Vector<T, V> v = reinterpret_cast<const Vector<T, V>*>(b + j * 8)[0];
    NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) y[j + lane] = v.lane[lane];
  }
  NEEDLE_UNROLL for (int i = 0; i < S::kTM; i++) {
    NEEDLE_UNROLL for (int j = 0; j < S::kTN; j++) sum[i][j] = T(sum[i][j] + x[i] * y[j]);
  }
}

// One row of a thread's part.
template <typename S, typename T>
NEEDLE_DEVICE void store_row(const Gemm<T>& g, T* c, int row, int first_col, int warp_col, int lane_col,
                             const T (&sum)[S::kTN], const T* bias) {
  constexpr int V = S::V;
  T* const to = c + int64_t(row) * g.n;
  NEEDLE_UNROLL for (int j = 0; j < S::kTN; j += V) {
    const int col = first_col + part_of<S::kTN, V>(warp_col, lane_col, 8, j);
    Vector<T, V> v;
    NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) {
      v.lane[lane] = sum[j + lane];
      if (bias && col + lane < g.n) v.lane[lane] += bias[col + lane];
    }
    if (g.vector_c && col < g.n) {
      reinterpret_cast<Vector<T, V>*>(to + col)[0] = v;
    } else {
      NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) {
        if (col + lane < g.n) to[col + lane] = v.lane[lane];
      }
    }
  }
}

template <typename S, typename T>
__global__ void __launch_bounds__(kThreads, S::kBlocks) multiply(Gemm<T> g) {
  constexpr int V = S::V, K = S::kK, kStrideA = S::kRowsM, kStrideB = S::kRowsN;
  typedef Vector<T, V> Lanes;
  NEEDLE_SHARED(Lanes, a_tiles, [2 * K * S::kRowsM / V]);
  NEEDLE_SHARED(Lanes, b_tiles, [2 * K * S::kRowsN / V]);
  T* const shared_a = a_tiles[0].lane;
  T* const shared_b = b_tiles[0].lane;
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  const int lane_row = lane / 8, lane_col = lane % 8, warp_row = warp / S::kWarpCols,
            warp_col = warp % S::kWarpCols;
  const int mine_a = part_of<S::kTM, V>(warp_row, lane_row, 4, 0),
            mine_b = part_of<S::kTN, V>(warp_col, lane_col, 8, 0);
  // Tiles in groups of 8 rows: those that run together share rows of a and columns of b in the L2 cache.
  constexpr int kGroup = 8;
  const int group = int(blockIdx.x) / (kGroup * g.tiles_n), place = int(blockIdx.x) % (kGroup * g.tiles_n);
  const int tall = g.tiles_m - group * kGroup < kGroup ? g.tiles_m - group * kGroup : kGroup;
  const int first_row = (group * kGroup + place % tall) * S::kM, first_col = place / tall * S::kN;
  const int split = int(blockIdx.y), first_depth = split * g.depth;
  const int depth = g.k - first_depth < g.depth ? g.k - first_depth : g.depth;
  const int rows = g.m - first_row, cols = g.n - first_col;
  for (int64_t z = blockIdx.z; z < g.count; z += gridDim.z) {
    int64_t offset[2];
    g.batch.locate(uint32_t(z), offset);
    Chunk<T, S::kM, K, V> a(g.a, offset[0], first_row, first_depth);
    Chunk<T, S::kN, K, V> b(g.b, offset[1], first_col, first_depth);
    T sum[S::kTM][S::kTN] = {};
    a.put(shared_a, a.next(g.a, rows, depth), g.a.along_depth);
    b.put(shared_b, b.next(g.b, cols, depth), g.b.along_depth);
    __syncthreads();
    int half = 0;
    for (int done = 0; done < depth; done += K, half = 1 - half) {
      const int left = depth - done - K;
      Lanes next_a, next_b;
      if (left > 0) {
        next_a = a.next(g.a, rows, left);
        next_b = b.next(g.b, cols, left);
      }
      const T* const from_a = shared_a + half * K * kStrideA + mine_a;
      const T* const from_b = shared_b + half * K * kStrideB + mine_b;
      NEEDLE_UNROLL for (int d = 0; d < K; d++)
          multiply_step<S, T>(from_a + d * kStrideA, from_b + d * kStrideB, sum);
      if (left > 0) {
        a.put(shared_a + (1 - half) * K * kStrideA, next_a, g.a.along_depth);
        b.put(shared_b + (1 - half) * K * kStrideB, next_b, g.b.along_depth);
      }
      __syncthreads();
    }
    T* const c = g.c + (int64_t(split) * g.count + z) * g.m * g.n;
    NEEDLE_UNROLL for (int i = 0; i < S::kTM; i++) {
      const int row = first_row + part_of<S::kTM, V>(warp_row, lane_row, 4, i);
      if (row < g.m) store_row<S, T>(g, c, row, first_col, warp_col, lane_col, sum[i], g.bias);
    }
    __syncthreads();
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

template <typename S>
int32_t multiply_by(Gemm<typename S::Element> g) {
  typedef typename S::Element T;
  g.tiles_m = int(ceil_div(g.m, S::kM));
  g.tiles_n = int(ceil_div(g.n, S::kN));
  const int64_t tiles = int64_t(g.tiles_m) * g.tiles_n, size = g.count * g.m * g.n;
  if (tiles >= int64_t(1) << 31) return fail(kInvalid, "a product of this size has no kernel");
  // A split is worth its part of c being written and read again if it is deep.
  constexpr int64_t kDeep = 128, kMostSplits = 256;
  const int64_t blocks = tiles * g.count, fitting = multiprocessors() / blocks, deep = g.k / kDeep;
  int64_t splits = std::max<int64_t>(1, std::min(std::min(fitting, deep), kMostSplits));
  g.depth = int(ceil_div(std::max<int64_t>(1, ceil_div(g.k, splits)), S::kK) * S::kK);
  splits = std::max<int64_t>(1, ceil_div(g.k, g.depth));
  T* const c = g.c;
  const T* const bias = g.bias;
  if (splits > 1) {
    g.c = static_cast<T*>(scratch(kScratchGemm, size_t(splits * size) * sizeof(T)));
    if (!g.c) return out_of_memory();
    g.bias = nullptr;
  }
  g.vector_c = g.n % S::V == 0 && is_aligned(g.c, S::V * sizeof(T));
  const dim3 grid(unsigned(tiles), unsigned(splits), unsigned(std::min<int64_t>(g.count, 65535)));
  NEEDLE_LAUNCH((multiply<S, T>), grid, kThreads, 0, stream(), g);
  if (splits > 1) {
    NEEDLE_LAUNCH((add_parts<T>), grid_for(size), kThreads, 0, stream(), g.c, int(splits), size, g.n, bias,
                  c);
  }
  return launched("starting a kernel");
}

}  // namespace
}  // namespace needle
