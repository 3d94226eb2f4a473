// One step of a recurrent layer as one kernel: a thin product with the recurrent weights, and then the cell,
// while the product is still in shared memory. Few rows and a deep k: the warps of a block share k, so that
// many reads are on the way at once, and add their sums in their order.
#pragma once
#include "device.h"

namespace needle {
namespace {

// A block has kRows sequences; its warps take kDepth steps of k in turn.
constexpr int kRows = 32, kDepth = 8, kWarps = kThreads / 32;

// The elements that a thread loads or multiplies: of a tile [kDepth][kRows], and of one [kDepth][COLS].
template <typename T, int COLS>
struct WarpTile {
  static constexpr int kStrideA = kRows + 4, kStrideB = COLS + 4;  // apart on the banks of shared memory
  static constexpr int kLoadsA = kRows * kDepth / 32, kLoadsB = COLS * kDepth / 32;
  static constexpr int kTM = kRows / 8, kTN = COLS / 4;  // a warp is 8 x 4 threads
  static constexpr int V = vector_lanes<T>() < kTN ? vector_lanes<T>() : kTN;
  // Shared memory: the tiles of all warps, and afterwards their sums, of rows of kSums.
  static constexpr int kTiles = kWarps * kDepth * (kStrideA + kStrideB), kSums = COLS + 1;
  static constexpr int kLanes = vector_lanes<T>();
  static constexpr int kAll = kWarps * kRows * kSums > kTiles ? kWarps* kRows* kSums : kTiles;
  static constexpr int kVectors = (kAll + kLanes - 1) / kLanes;
  typedef Vector<T, kLanes> Aligned;
};

// Adds to `sum` the product of a (kRows, k), contiguous along k, and the columns that `b` gives. A column is
// where its elements begin, or null; they are `b.step` apart.
template <typename S, typename T, typename Columns>
NEEDLE_DEVICE void warp_product(const T* a, int64_t lda, int rows, int k, const Columns& b, T* tiles,
                                T (&sum)[S::kTM][S::kTN]) {
  constexpr int V = S::V, kCols = S::kStrideB - 4;
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  T* const own_a = tiles + warp * kDepth * (S::kStrideA + S::kStrideB);
  T* const own_b = own_a + kDepth * S::kStrideA;
  // Neighbouring lanes read along k, or across columns where these are neighbours in memory.
  const int depth_a = lane % kDepth, row_a = lane / kDepth;
  const int depth_b = Columns::kAcross ? lane / kCols : depth_a,
            col_b = Columns::kAcross ? lane % kCols : row_a;
  constexpr int kStepB = 32 / (Columns::kAcross ? kCols : kDepth);  // from load to load
  T next_a[S::kLoadsA], next_b[S::kLoadsB];
  const auto load = [&](int first) {
    NEEDLE_UNROLL for (int i = 0; i < S::kLoadsA; i++) {
      const int row = row_a + i * (32 / kDepth), d = first + depth_a;
      next_a[i] = row < rows && d < k ? a[row * lda + d] : T(0);
    }
    NEEDLE_UNROLL for (int i = 0; i < S::kLoadsB; i++) {
      const int col = Columns::kAcross ? col_b : col_b + i * kStepB;
      const int d = first + (Columns::kAcross ? depth_b + i * kStepB : depth_b);
      const T* const column = b.column(col);
      next_b[i] = column && d < k ? column[d * b.step] : T(0);
    }
  };
  load(warp * kDepth);
  for (int first = warp * kDepth; first < k; first += kWarps * kDepth) {
    __syncwarp();
    NEEDLE_UNROLL for (int i = 0; i < S::kLoadsA; i++) {
      own_a[depth_a * S::kStrideA + row_a + i * (32 / kDepth)] = next_a[i];
    }
    NEEDLE_UNROLL for (int i = 0; i < S::kLoadsB; i++) {
      if (Columns::kAcross) {
        own_b[(depth_b + i * kStepB) * S::kStrideB + col_b] = next_b[i];
      } else {
        own_b[depth_b * S::kStrideB + col_b + i * kStepB] = next_b[i];
      }
    }
    __syncwarp();
    load(first + kWarps * kDepth);
    if (lane / 4 * S::kTM >= rows) continue;  // until the barrier
    NEEDLE_UNROLL for (int d = 0; d < kDepth; d++) {
      T x[S::kTM], y[S::kTN];
      NEEDLE_UNROLL for (int i = 0; i < S::kTM; i += V) {
        const Vector<T, V> v =
            reinterpret_cast<const Vector<T, V>*>(own_a + d * S::kStrideA + lane / 4 * S::kTM + i)[0];
        NEEDLE_UNROLL for (int j = 0; j < V; j++) x[i + j] = v.lane[j];
      }
      NEEDLE_UNROLL for (int i = 0; i < S::kTN; i += V) {
        const Vector<T, V> v =
            reinterpret_cast<const Vector<T, V>*>(own_b + d * S::kStrideB + lane % 4 * S::kTN + i)[0];
        NEEDLE_UNROLL for (int j = 0; j < V; j++) y[i + j] = v.lane[j];
      }
      NEEDLE_UNROLL for (int i = 0; i < S::kTM; i++) {
        NEEDLE_UNROLL for (int j = 0; j < S::kTN; j++) sum[i][j] += x[i] * y[j];
      }
    }
  }
}

// The product of the whole block: its element (row, col) is then sum_of(parts, row, col). Every thread comes
// here.
template <typename S, typename T, typename Columns>
NEEDLE_DEVICE void block_product(const T* a, int64_t lda, int rows, int k, const Columns& b, T* parts) {
  T sum[S::kTM][S::kTN] = {};
  warp_product<S>(a, lda, rows, k, b, parts, sum);
  __syncthreads();
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  T* const own = parts + (warp * kRows + lane / 4 * S::kTM) * S::kSums + lane % 4 * S::kTN;
  NEEDLE_UNROLL for (int i = 0; i < S::kTM; i++) {
    NEEDLE_UNROLL for (int j = 0; j < S::kTN; j++) own[i * S::kSums + j] = sum[i][j];
  }
  __syncthreads();
}

template <typename S, typename T>
NEEDLE_DEVICE T sum_of(const T* parts, int row, int col) {
  T sum = 0;
  for (int warp = 0; warp < kWarps; warp++) sum += parts[(warp * kRows + row) * S::kSums + col];
  return sum;
}

struct Layer {
  int batch, hidden;
};

// Rows of w (gates * hidden, hidden), by gate and unit of the block.
template <typename T, int GATES, int UNITS>
struct GateColumns {
  static constexpr bool kAcross = false;
  const T* w;
  int first, hidden, step;

  NEEDLE_DEVICE const T* column(int c) const {
    const int gate = c / UNITS, unit = first + c % UNITS;
    return gate < GATES && unit < hidden ? w + (int64_t(gate) * hidden + unit) * hidden : nullptr;
  }
};

// Columns of w.
template <typename T>
struct UnitColumns {
  static constexpr bool kAcross = true;
  const T* w;
  int first, hidden;
  int64_t step;

  NEEDLE_DEVICE const T* column(int c) const { return first + c < hidden ? w + first + c : nullptr; }
};

// Columns of the product of a step forward: what shared memory has room for.
template <typename T>
struct ForwardColumns {
  static constexpr int kCount = sizeof(T) == 4 ? 32 : 16;
};

// A step forward, from the state before it: h is (batch, hidden). The cell gets the recurrent part of its
// gates; the new state goes to y and to `next`.
template <typename T, typename Cell>
__global__ void __launch_bounds__(kThreads)
    step_forward(Layer layer, const T* h, const T* w, Cell cell, T* y, T* next) {
  typedef WarpTile<T, ForwardColumns<T>::kCount> S;
  constexpr int kUnits = ForwardColumns<T>::kCount / Cell::kGates;
  typedef typename S::Aligned Aligned;
  NEEDLE_SHARED(Aligned, shared, [S::kVectors]);
  T* const parts = shared[0].lane;
  const int first_unit = int(blockIdx.x) * kUnits, first_row = int(blockIdx.y) * kRows;
  const GateColumns<T, Cell::kGates, kUnits> columns{w, first_unit, layer.hidden, 1};
  block_product<S>(h + int64_t(first_row) * layer.hidden, layer.hidden, layer.batch - first_row, layer.hidden,
                   columns, parts);
  for (int e = int(threadIdx.x); e < kRows * kUnits; e += kThreads) {
    const int row = e / kUnits, unit = e % kUnits, b = first_row + row, k = first_unit + unit;
    if (b >= layer.batch || k >= layer.hidden) continue;
    T pre[Cell::kGates];
    NEEDLE_UNROLL for (int g = 0; g < Cell::kGates; g++) pre[g] = sum_of<S>(parts, row, g * kUnits + unit);
    const int64_t at = int64_t(b) * layer.hidden + k;
    const T state = cell(layer.hidden, b, k, pre, h[at]);
    y[at] = state;
    next[at] = state;
  }
}

// A step backward. The gradient of its state is `given` (or 0) at first, and later the product of the gates'
// gradients of the step after, (batch, gates * hidden), plus what passed by these gates, which lies in dh.
// The last launch has no cell: it leaves the gradient of the first state in dh.
template <typename T, typename Cell>
__global__ void __launch_bounds__(kThreads)
    step_backward(Layer layer, const T* after, const T* w, const T* given, Cell cell, bool last, T* dh) {
  constexpr int kCols = 8;
  typedef WarpTile<T, kCols> S;
  typedef typename S::Aligned Aligned;
  NEEDLE_SHARED(Aligned, shared, [S::kVectors]);
  T* const parts = shared[0].lane;
  const int first_unit = int(blockIdx.x) * kCols, first_row = int(blockIdx.y) * kRows;
  if (after) {
    const int wide = Cell::kGates * layer.hidden;
    const UnitColumns<T> columns{w, first_unit, layer.hidden, layer.hidden};
    block_product<S>(after + int64_t(first_row) * wide, wide, layer.batch - first_row, wide, columns, parts);
  }
  const int row = int(threadIdx.x) / kCols, unit = int(threadIdx.x) % kCols;
  static_assert(kRows * kCols == kThreads, "a unit of a sequence per thread");
  const int b = first_row + row, k = first_unit + unit;
  if (b >= layer.batch || k >= layer.hidden) return;
  const int64_t at = int64_t(b) * layer.hidden + k;
  T d = after ? sum_of<S>(parts, row, unit) : given ? given[at] : T(0);
  if (after && Cell::kPasses) d += dh[at];
  if (last) {
    dh[at] = d;
    return;
  }
  const T pass = cell(layer.hidden, b, k, d);
  if (Cell::kPasses) dh[at] = pass;
}

}  // namespace
}  // namespace needle
