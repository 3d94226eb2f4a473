// needle_attention and needle_attention_backward: a block has 64 queries of a head and goes through the keys,
// 64 at a time, so that scores never leave the multiprocessor. Forward keeps a running maximum and sum for
// each query (online softmax). Backward recomputes the probabilities twice: blocks of queries for the
// gradient of the queries, blocks of keys for those of keys and values; nothing is added up across blocks.
#include "attention.h"

namespace needle {
namespace {

// A block of `first` rows: (head, tile, columns from `column` on).
struct Block {
  int64_t n, h, first, column;

  // With `last_first`, the tiles that see most keys of a causal head come first.
  NEEDLE_DEVICE Block(int64_t heads, int64_t tiles, bool last_first, int columns) {
    const int64_t head = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    n = head / heads;
    h = head % heads;
    first = (last_first ? tiles - 1 - tile : tile) * kSide;
    column = int64_t(blockIdx.y) * columns;
  }
};

template <typename S>
struct Forward {
  typedef ComputedType<S> T;
  Attention<S> p;
  Heads<const S> q, k, v;
  Heads<S> y;
  T* lse;
};

template <class W, typename S>
__global__ void __launch_bounds__(kThreads) attend(Forward<S> t) {
  typedef ComputedType<S> T;
  NEEDLE_DYN_SHARED(char, memory);
  const Shared<W> shared{memory};
  const Attention<S>& p = t.p;
  const Block block(p.heads, tiles_of(p.queries), true, W::kColumns);
  const int64_t n = block.n, h = block.h, first = block.first;
  const S *const queries = t.q.of(n, h), *const keys = t.k.of(n, h), *const values = t.v.of(n, h);
  const int64_t visible = p.causal && first + kSide < p.keys ? first + kSide : p.keys;
  T largest[4], sum[4], result[4][4 * W::W] = {};
  for (int i = 0; i < 4; i++) largest[i] = T(-INFINITY), sum[i] = 0;
  for (int64_t j0 = 0; j0 < visible; j0 += kSide) {
    typename W::Scores scores;
    multiply_rows<W>(scores, shared, t.q, queries, first, p.queries, t.k, keys, j0, p.keys, p.features);
    NEEDLE_UNROLL for (int i = 0; i < 4; i++) {
      T top = largest[i];
      NEEDLE_UNROLL for (int j = 0; j < 4; j++) {
        T& s = scores.sum[i][j];
        s = p.score(s, n, h, first + tile_row(i), j0 + tile_column(j));
        top = larger(top, s);
      }
      top = row_largest(top);
      // A row without any key so far: exp(-inf - 0) = 0.
      const T shift = top == T(-INFINITY) ? T(0) : top, shrink = functions::exp(largest[i] - shift);
      largest[i] = top;
      sum[i] *= shrink;
      NEEDLE_UNROLL for (int j = 0; j < 4; j++) {
        T& s = scores.sum[i][j];
        s = functions::exp(s - shift);
        sum[i] += s;
      }
      NEEDLE_UNROLL for (int j = 0; j < 4 * W::W; j++) result[i][j] *= shrink;
    }
    put_weights(shared, scores.sum);
    add_weighted(result, shared, t.v, values, j0, p.keys, block.column, p.wide);
  }
  NEEDLE_UNROLL for (int i = 0; i < 4; i++) {
    const T all = row_sum(sum[i]), scale = all == 0 ? T(0) : T(1) / all;
    NEEDLE_UNROLL for (int j = 0; j < 4 * W::W; j++) result[i][j] *= scale;
    const int64_t row = first + tile_row(i);
    if (row >= p.queries || tile_column(0) != 0 || block.column != 0) continue;
    t.lse[(n * p.heads + h) * p.queries + row] = all == 0 ? T(-INFINITY) : largest[i] + functions::log(all);
  }
  store_rows<W>(result, t.y, t.y.of(n, h), first, p.queries, block.column, p.wide);
}

template <typename S>
struct Gradients {
  typedef ComputedType<S> T;
  Attention<S> p;
  Heads<const S> g, q, k, v, y;
  Heads<S> dq, dk, dv;
  const T *lse, *dots;  // dots: Σ g y of each query
};

// Σ g y of each query, by teams.
template <typename S>
__global__ void row_dots(Gradients<S> t, Team team, ComputedType<S>* dots) {
  typedef ComputedType<S> T;
  const int64_t row = team.line(), rows = t.p.batch * t.p.heads * t.p.queries;
  T sum = 0;
  if (row < rows) {
    const int64_t head = row / t.p.queries, i = row % t.p.queries, n = head / t.p.heads, h = head % t.p.heads;
    const S *const g = t.g.of(n, h) + i * t.g.row, *const y = t.y.of(n, h) + i * t.y.row;
    for (int64_t e = team.lane(); e < t.p.wide; e += team.lanes) {
      sum += value_of(g[e * t.g.feature]) * value_of(y[e * t.y.feature]);
    }
  }
  sum = combine(team, sum, Plus());
  if (row < rows && team.lane() == 0) dots[row] = sum;
}

// Probabilities and the gradients of scores, of a tile whose rows are queries or, for kOfKeys, keys.
template <class W, bool kOfKeys, typename S>
NEEDLE_DEVICE void weigh(const Gradients<S>& t, const Shared<W>& shared, const Block& block, int64_t first,
                         typename W::Scores& weights, typename W::Scores& grads) {
  const Attention<S>& p = t.p;
  const int64_t n = block.n, h = block.h, own = block.first;
  const S *const q = t.q.of(n, h), *const k = t.k.of(n, h), *const g = t.g.of(n, h), *const v = t.v.of(n, h);
  if (kOfKeys) {
    multiply_rows<W>(weights, shared, t.k, k, own, p.keys, t.q, q, first, p.queries, p.features);
    multiply_rows<W>(grads, shared, t.v, v, own, p.keys, t.g, g, first, p.queries, p.wide);
  } else {
    multiply_rows<W>(weights, shared, t.q, q, own, p.queries, t.k, k, first, p.keys, p.features);
    multiply_rows<W>(grads, shared, t.g, g, own, p.queries, t.v, v, first, p.keys, p.wide);
  }
  typedef ComputedType<S> T;
  const int64_t head = (n * p.heads + h) * p.queries;
  NEEDLE_UNROLL for (int i = 0; i < 4; i++) {
    NEEDLE_UNROLL for (int j = 0; j < 4; j++) {
      const int64_t row = own + tile_row(i), column = first + tile_column(j);
      const int64_t query = kOfKeys ? column : row, key = kOfKeys ? row : column;
      const T score = p.score(weights.sum[i][j], n, h, query, key);
      const bool hidden = score == T(-INFINITY) || t.lse[head + query] == T(-INFINITY);
      const T weight = hidden ? T(0) : functions::exp(score - t.lse[head + query]);
      weights.sum[i][j] = weight;
      grads.sum[i][j] = hidden ? T(0) : weight * (grads.sum[i][j] - t.dots[head + query]) * p.scale;
    }
  }
}

template <class W, typename S>
__global__ void __launch_bounds__(kThreads) attend_back_to_queries(Gradients<S> t) {
  typedef ComputedType<S> T;
  NEEDLE_DYN_SHARED(char, memory);
  const Shared<W> shared{memory};
  const Attention<S>& p = t.p;
  const Block block(p.heads, tiles_of(p.queries), true, W::kColumns);
  const int64_t visible = p.causal && block.first + kSide < p.keys ? block.first + kSide : p.keys;
  T dq[4][4 * W::W] = {};
  for (int64_t j0 = 0; j0 < visible; j0 += kSide) {
    typename W::Scores weights, grads;
    weigh<W, false>(t, shared, block, j0, weights, grads);
    put_weights(shared, grads.sum);
    add_weighted(dq, shared, t.k, t.k.of(block.n, block.h), j0, p.keys, block.column, p.features);
  }
  store_rows<W>(dq, t.dq, t.dq.of(block.n, block.h), block.first, p.queries, block.column, p.features);
}

template <class W, typename S>
__global__ void __launch_bounds__(kThreads) attend_back_to_keys(Gradients<S> t) {
  typedef ComputedType<S> T;
  NEEDLE_DYN_SHARED(char, memory);
  const Shared<W> shared{memory};
  const Attention<S>& p = t.p;
  const Block block(p.heads, tiles_of(p.keys), false, W::kColumns);
  const int64_t n = block.n, h = block.h;
  T dk[4][4 * W::W] = {}, dv[4][4 * W::W] = {};
  for (int64_t i0 = p.causal ? block.first : 0; i0 < p.queries; i0 += kSide) {
    typename W::Scores weights, grads;
    weigh<W, true>(t, shared, block, i0, weights, grads);
    put_weights(shared, weights.sum);
    add_weighted(dv, shared, t.g, t.g.of(n, h), i0, p.queries, block.column, p.wide);
    put_weights(shared, grads.sum);
    add_weighted(dk, shared, t.q, t.q.of(n, h), i0, p.queries, block.column, p.features);
  }
  store_rows<W>(dk, t.dk, t.dk.of(n, h), block.first, p.keys, block.column, p.features);
  store_rows<W>(dv, t.dv, t.dv.of(n, h), block.first, p.keys, block.column, p.wide);
}

template <typename S>
int32_t grid_of(const Attention<S>& p, int64_t rows, int64_t columns, int width, dim3& grid) {
  const int64_t blocks = p.batch * p.heads * tiles_of(rows), across = tiles_of(columns, width);
  if (blocks > kMaxBlocks || across > 65535) return too_many_blocks();
  grid = dim3(unsigned(blocks), unsigned(across > 0 ? across : 1));
  return kOk;
}

template <typename S>
int32_t forward(const Forward<S>& t) {
  typedef ComputedType<S> T;
  const Attention<S>& p = t.p;
  if (p.batch * p.heads * p.queries == 0) return kOk;
  constexpr int V = vector_lanes<T>();
  const bool whole = p.features % V == 0 && p.wide % V == 0 && t.q.whole(V) && t.k.whole(V) && t.v.whole(V);
  return with_way<T>(p.wide, whole, [&](auto way) {
    typedef decltype(way) W;
    dim3 grid;
    const int32_t status = grid_of(p, p.queries, p.wide, W::kColumns, grid);
    if (status != kOk) return status;
    NEEDLE_ALLOW_SHARED((attend<W, S>), W::kBytes);
    NEEDLE_LAUNCH((attend<W, S>), grid, kThreads, W::kBytes, stream(), t);
    return launched("starting a kernel");
  });
}

template <typename S>
int32_t backward(Gradients<S> t) {
  typedef ComputedType<S> T;
  const Attention<S>& p = t.p;
  const int64_t heads = p.batch * p.heads, rows = heads * p.queries;
  T* const dots = static_cast<T*>(scratch(kScratchReduce, size_t(rows) * sizeof(T)));
  if (!dots) return out_of_memory();
  t.dots = dots;
  if (rows > 0) {
    const Team team = team_for(rows, p.wide, 1);
    if (blocks_for(team, rows) > kMaxBlocks) return too_many_blocks();
    NEEDLE_LAUNCH((row_dots<S>), unsigned(blocks_for(team, rows)), kThreads, 0, stream(), t, team, dots);
  }
  constexpr int V = vector_lanes<T>();
  const bool whole =
      p.features % V == 0 && p.wide % V == 0 && t.g.whole(V) && t.q.whole(V) && t.k.whole(V) && t.v.whole(V);
  return with_way<T>(std::max(p.features, p.wide), whole, [&](auto way) {
    typedef decltype(way) W;
    dim3 grid;
    if (rows > 0) {
      const int32_t status = grid_of(p, p.queries, p.features, W::kColumns, grid);
      if (status != kOk) return status;
      NEEDLE_ALLOW_SHARED((attend_back_to_queries<W, S>), W::kBytes);
      NEEDLE_LAUNCH((attend_back_to_queries<W, S>), grid, kThreads, W::kBytes, stream(), t);
    }
    if (heads * p.keys > 0) {
      const int32_t status = grid_of(p, p.keys, std::max(p.features, p.wide), W::kColumns, grid);
      if (status != kOk) return status;
      NEEDLE_ALLOW_SHARED((attend_back_to_keys<W, S>), W::kBytes);
      NEEDLE_LAUNCH((attend_back_to_keys<W, S>), grid, kThreads, W::kBytes, stream(), t);
    }
    return launched("starting a kernel");
  });
}

}  // namespace
}  // namespace needle

using namespace needle;

#define TENSOR(name) at<S>(name, name##_off)

NEEDLE_EXPORT int32_t needle_attention(const void* q, double q_off, const void* k, double k_off,
                                       const void* v, double v_off, const void* mask, double mask_off,
                                       void* y, double y_off, void* lse, double lse_off, int32_t dtypes,
                                       double, const double* desc) noexcept {
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) S;
    typedef ComputedType<S> T;
    const double* strides = desc;
    // Braces evaluate in order, and each part takes its numbers from the descriptor.
    const Forward<S> t{Attention<S>::take(strides, mask, mask_off), Heads<const S>::take(TENSOR(q), strides),
                       Heads<const S>::take(TENSOR(k), strides),    Heads<const S>::take(TENSOR(v), strides),
                       Heads<S>::take(TENSOR(y), strides),          at<T>(lse, lse_off)};
    return forward(t);
  });
}

NEEDLE_EXPORT int32_t needle_attention_backward(const void* g, double g_off, const void* q, double q_off,
                                                const void* k, double k_off, const void* v, double v_off,
                                                const void* y, double y_off, const void* lse, double lse_off,
                                                const void* mask, double mask_off, void* dq, double dq_off,
                                                void* dk, double dk_off, void* dv, double dv_off,
                                                int32_t dtypes, double, const double* desc) noexcept {
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) S;
    typedef ComputedType<S> T;
    const double* strides = desc;
    const Gradients<S> t{Attention<S>::take(strides, mask, mask_off),
                         Heads<const S>::take(TENSOR(g), strides),
                         Heads<const S>::take(TENSOR(q), strides),
                         Heads<const S>::take(TENSOR(k), strides),
                         Heads<const S>::take(TENSOR(v), strides),
                         Heads<const S>::take(TENSOR(y), strides),
                         Heads<S>::take(TENSOR(dq), strides),
                         Heads<S>::take(TENSOR(dk), strides),
                         Heads<S>::take(TENSOR(dv), strides),
                         at<T>(lse, lse_off),
                         nullptr};
    return backward(t);
  });
}
