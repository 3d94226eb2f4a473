// What attention and its gradients share: heads of strided tensors, masks, and products of the weights of a
// tile of scores (64 queries by 64 keys, or the other way round) with the rows that they belong to.
#pragma once
#include <type_traits>

#include "elementwise.h"
#include "softmax.h"
#include "tile.h"

namespace needle {
namespace {

constexpr int kSide = 64;  // rows and columns of a tile of scores

// One (N, H, rows, features) tensor.
template <typename T>
struct Heads {
  T* data;
  int64_t batch, head, row, feature;  // strides

  // Takes the next four strides.
  static Heads take(T* base, const double*& strides) {
    const Heads h{base, int64_t(strides[0]), int64_t(strides[1]), int64_t(strides[2]), int64_t(strides[3])};
    strides += 4;
    return h;
  }
  NEEDLE_DEVICE T* of(int64_t n, int64_t h) const { return data + n * batch + h * head; }
  // Whether V features can be read at once.
  bool whole(int V) const {
    return feature == 1 && batch % V == 0 && head % V == 0 && row % V == 0 && is_aligned(data, V * sizeof(T));
  }
};

enum MaskKind : int { kNoMask, kBoolMask, kAddedMask };

template <typename S>
struct Attention {
  typedef ComputedType<S> T;
  int64_t batch, heads, queries, keys, features, wide;
  T scale;
  bool causal;
  MaskKind mask_kind;
  const void* mask;
  int64_t mask_batch, mask_head, mask_row, mask_key;  // strides

  // Leaves `desc` at the strides of the tensors.
  static Attention take(const double*& desc, const void* mask, double mask_off) {
    Attention p;
    int64_t* const sizes[] = {&p.batch, &p.heads, &p.queries, &p.keys, &p.features, &p.wide};
    for (int64_t* size : sizes) *size = int64_t(*desc++);
    p.scale = T(*desc++);
    p.causal = *desc++ != 0;
    p.mask_kind = MaskKind(int(*desc++));
    p.mask = p.mask_kind == kBoolMask ? static_cast<const void*>(at<uint8_t>(mask, mask_off))
                                      : at<S>(mask, mask_off);
    int64_t* const strides[] = {&p.mask_batch, &p.mask_head, &p.mask_row, &p.mask_key};
    for (int64_t* stride : strides) *stride = int64_t(*desc++);
    return p;
  }

  // The score of query i and key j from the product of their features; minus infinity where it is hidden.
  NEEDLE_DEVICE T score(T product, int64_t b, int64_t h, int64_t i, int64_t j) const {
    if (i >= queries || j >= keys || (causal && j > i)) return T(-INFINITY);
    if (mask_kind == kNoMask) return product * scale;
    const int64_t at = b * mask_batch + h * mask_head + i * mask_row + j * mask_key;
    if (mask_kind == kAddedMask) return product * scale + value_of(static_cast<const S*>(mask)[at]);
    return static_cast<const uint8_t*>(mask)[at] ? product * scale : T(-INFINITY);
  }
};

// How a kernel goes through its tiles: D steps of an inner dim at a time, V features at a time, and W times
// 64 columns of results.
template <typename T_, int D_, int V_, int W_>
struct Way {
  typedef T_ T;
  static constexpr int D = D_, V = V_, W = W_, kColumns = 64 * W;
  typedef TileProduct<T, kSide, kSide, D> Scores;
  typedef T Lines[D][kColumns + 4];
  typedef T Weights[kSide][kSide + 4];

  // Shared memory: the stages of products, then the weights of a tile.
  static constexpr size_t kStages =
      2 * (sizeof(typename Scores::Stage) > sizeof(Lines) ? sizeof(typename Scores::Stage) : sizeof(Lines));
  static constexpr size_t kBytes = kStages + sizeof(Weights);
};

template <class W>
struct Shared {
  typedef typename W::T T;
  char* memory;

  NEEDLE_DEVICE typename W::Scores::Stage* stages() const {
    return reinterpret_cast<typename W::Scores::Stage*>(memory);
  }
  NEEDLE_DEVICE typename W::Lines* lines() const { return reinterpret_cast<typename W::Lines*>(memory); }
  NEEDLE_DEVICE typename W::Weights& weights() const {
    return *reinterpret_cast<typename W::Weights*>(memory + W::kStages);
  }
};

// scores = rows of a (from row `ai` on) times rows of b (from `bi` on), over `inner` features.
template <class W, typename S>
NEEDLE_DEVICE void multiply_rows(typename W::Scores& scores, const Shared<W>& shared, const Heads<const S>& a,
                                 const S* a_head, int64_t ai, int64_t a_rows, const Heads<const S>& b,
                                 const S* b_head, int64_t bi, int64_t b_rows, int64_t inner) {
  AlongLoader<S, kSide, W::D, W::V> from_a(a_head, a.row, ai, a_rows, inner, a.feature);
  AlongLoader<S, kSide, W::D, W::V> from_b(b_head, b.row, bi, b_rows, inner, b.feature);
  scores.multiply((inner + W::D - 1) / W::D, from_a, from_b, shared.stages());
}

// Leaves weights for all threads of the block.
template <class W, typename T>
NEEDLE_DEVICE void put_weights(const Shared<W>& shared, const T (&weights)[4][4]) {
  __syncthreads();  // others may still read the last ones
  NEEDLE_UNROLL for (int i = 0; i < 4; i++) {
    Quad<T> four;
    NEEDLE_UNROLL for (int j = 0; j < 4; j++) four[j] = weights[i][j];
    Quad<T>::at(&shared.weights()[tile_row(i)][tile_column(0)]) = four;
  }
}

// sum += the weights times rows [first, first + 64) of a head below `rows`, columns from `column` on.
template <class W, typename T, typename S>
NEEDLE_DEVICE void add_weighted(T (&sum)[4][4 * W::W], const Shared<W>& shared, const Heads<const S>& x,
                                const S* head, int64_t first, int64_t rows, int64_t column, int64_t columns) {
  const int64_t end = first + kSide < rows ? first + kSide : rows;
  LineLoader<S, W::kColumns, W::D, W::V> loader(head, x.row, first, end, column, columns, x.feature);
  const int steps = int((end - first + W::D - 1) / W::D);
  loader.fetch();
  __syncthreads();  // others may still read the stages
  for (int step = 0; step < steps; step++) {
    typename W::Lines& lines = shared.lines()[step % 2];
    loader.store(lines);
    __syncthreads();
    if (step + 1 < steps) loader.fetch();
    NEEDLE_UNROLL for (int k = 0; k < W::D; k += 4) {
      Quad<T> weights[4];
      NEEDLE_UNROLL for (int i = 0; i < 4; i++) {
        weights[i] = Quad<T>::at(&shared.weights()[tile_row(i)][step * W::D + k]);
      }
      NEEDLE_UNROLL for (int l = 0; l < 4; l++) {
        NEEDLE_UNROLL for (int w = 0; w < W::W; w++) {
          const Quad<T> line = Quad<T>::at(&lines[k + l][tile_column(4 * w)]);
          NEEDLE_UNROLL for (int i = 0; i < 4; i++) {
            NEEDLE_UNROLL for (int j = 0; j < 4; j++) sum[i][4 * w + j] += weights[i][l] * line[j];
          }
        }
      }
    }
  }
}

// Writes a tile of results: rows from `first` on below `rows`, columns from `column` on below `columns`.
template <class W, typename T, typename S>
NEEDLE_DEVICE void store_rows(const T (&sum)[4][4 * W::W], const Heads<S>& y, S* head, int64_t first,
                              int64_t rows, int64_t column, int64_t columns) {
  NEEDLE_UNROLL for (int i = 0; i < 4; i++) {
    const int64_t row = first + tile_row(i);
    if (row >= rows) continue;
    S* const to = head + row * y.row;
    NEEDLE_UNROLL for (int j = 0; j < 4 * W::W; j++) {
      const int64_t at = column + tile_column(j);
      if (at < columns) round_to(sum[i][j], to + at * y.feature);
    }
  }
}

// The larger of a value and those of the 16 threads that share rows; their sum.
template <typename T>
NEEDLE_DEVICE T row_largest(T v) {
  for (int by = 8; by > 0; by /= 2) v = larger(v, other_lane(v, by));
  return v;
}
template <typename T>
NEEDLE_DEVICE T row_sum(T v) {
  for (int by = 8; by > 0; by /= 2) v += other_lane(v, by);
  return v;
}

// Calls f with the way for `columns` columns of results; `whole`: features can be read 16 bytes at a time.
template <typename T, typename F>
int32_t with_way(int64_t columns, bool whole, const F& f) {
  if constexpr (sizeof(T) == sizeof(double)) return f(Way<T, 8, 1, 1>());
  else if (!whole) return f(Way<T, 16, 1, 1>());
  else if (columns <= 64) return f(Way<T, 16, 4, 1>());
  else return f(Way<T, 16, 4, 2>());
}

NEEDLE_ANYWHERE int64_t tiles_of(int64_t n, int64_t size = kSide) { return (n + size - 1) / size; }

}  // namespace
}  // namespace needle
