// needle_attention and needle_attention_backward: for each head, blocks of queries against blocks of keys, so
// that scores live in the cache only. Forward keeps a running maximum and sum per query (online softmax);
// backward recomputes the probabilities. Threads take whole blocks of queries, backward whole heads.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "../common.h"
#include "gemm_packed.h"
#include "kernels/attention.h"

namespace needle {
namespace {

template <typename T>
const AttentionTable<T>& attention_table();
template <>
const AttentionTable<float>& attention_table<float>() {
  return select_kernels(attention)->f32;
}
template <>
const AttentionTable<double>& attention_table<double>() {
  return select_kernels(attention)->f64;
}

constexpr int64_t kQueries = 64;  // rows of a block of scores

// One (N, H, rows, features) tensor.
template <typename T>
struct Heads {
  T* data;
  int64_t batch, head, row, feature;  // strides

  Heads(T* base, const double*& strides)
      : data(base),
        batch(int64_t(strides[0])),
        head(int64_t(strides[1])),
        row(int64_t(strides[2])),
        feature(int64_t(strides[3])) {
    strides += 4;
  }
  T* of(int64_t n, int64_t h) const { return data + n * batch + h * head; }
};

enum MaskKind { kNoMask, kBoolMask, kAddedMask };

template <typename T>
struct Attention {
  int64_t batch, heads, queries, keys, features, wide;
  T scale;
  bool causal;
  MaskKind mask_kind;
  const void* mask;
  int64_t mask_batch, mask_head, mask_row, mask_key;  // strides
  int64_t block;  // keys in a block of scores: whole panels of a packed factor
  const GemmTable<T>& gemm = gemm_table<T>();
  const AttentionTable<T>& table = attention_table<T>();

  // Leaves `desc` at the strides of the tensors.
  Attention(const double*& desc, const void* mask_base, double mask_off) {
    batch = int64_t(desc[0]), heads = int64_t(desc[1]), queries = int64_t(desc[2]), keys = int64_t(desc[3]);
    features = int64_t(desc[4]), wide = int64_t(desc[5]);
    scale = T(desc[6]), causal = desc[7] != 0, mask_kind = MaskKind(int(desc[8]));
    mask = mask_kind == kBoolMask ? static_cast<const void*>(at<uint8_t>(mask_base, mask_off))
                                  : at<T>(mask_base, mask_off);
    mask_batch = int64_t(desc[9]), mask_head = int64_t(desc[10]);
    mask_row = int64_t(desc[11]), mask_key = int64_t(desc[12]);
    desc += 13;
    block = round_up(96, gemm.nr);
  }

  // Keys that the queries before `end` can see. Blocks of keys are taken whole, as they were packed.
  int64_t visible(int64_t end) const { return causal ? std::min(keys, end) : keys; }

  // What is added to the scores of query i with the keys [j, j + n): null for nothing, else maybe in `row`.
  const T* bias(int64_t b, int64_t h, int64_t i, int64_t j, int64_t n, T* row) const {
    const int64_t start = b * mask_batch + h * mask_head + i * mask_row + j * mask_key;
    if (mask_kind == kNoMask) return nullptr;
    if (mask_kind == kAddedMask) {
      const T* from = static_cast<const T*>(mask) + start;
      if (mask_key == 1) return from;
      for (int64_t x = 0; x < n; x++) row[x] = from[x * mask_key];
      return row;
    }
    const uint8_t* from = static_cast<const uint8_t*>(mask) + start;
    for (int64_t x = 0; x < n; x++) row[x] = from[x * mask_key] ? T(0) : -std::numeric_limits<T>::infinity();
    return row;
  }

  // Keys of [j, j + n) that query i sees.
  int64_t seen(int64_t i, int64_t j, int64_t n) const {
    return causal ? std::max<int64_t>(0, std::min(n, i - j + 1)) : n;
  }
};

// A second factor of products: packed, or read where it lies.
template <typename T>
struct Factor {
  const T* data;
  int64_t rs, cs;
  const T* packed;
  int64_t packed_n, packed_j;
};

template <typename T>
Factor<T> plain(const T* data, int64_t rs, int64_t cs) {
  return {data, rs, cs, nullptr, 0, 0};
}

template <typename T>
Factor<T> packed(const T* data, int64_t n, int64_t j) {
  return {nullptr, 0, 0, data, round_up(n, gemm_table<T>().lanes), j};
}

// c (m, n) = or += a (m, k) times b (k, n)
template <typename T>
void multiply(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_rs, int64_t a_cs, const Factor<T>& b,
              T* c, int64_t ldc, bool add, T* work) {
  GemmArgs<T> g{};
  g.m = m, g.n = n, g.k = k;
  g.a = a, g.a_rs = a_rs, g.a_cs = a_cs;
  g.b = b.data, g.b_rs = b.rs, g.b_cs = b.cs;
  g.packed = b.packed, g.packed_n = b.packed_n, g.packed_j = b.packed_j;
  g.c = c, g.ldc = ldc, g.add = add, g.work = work;
  gemm_table<T>().gemm(g);
}

// Working memory of the products of this attention, those with unpacked factors included.
template <typename T>
int64_t product_work(const Attention<T>& p) {
  GemmArgs<T> g{};
  g.m = kQueries, g.n = p.block, g.k = p.features;
  const int64_t scores = p.gemm.work(g);
  g.n = p.wide, g.k = p.block;
  return round_up(std::max(scores, p.gemm.work(g)), 16);
}

// Cuts scratch memory into pieces.
template <typename T>
struct Pieces {
  T* next;
  T* take(int64_t n) {
    T* piece = next;
    next += round_up(n, 16);
    return piece;
  }
};

template <typename T>
int64_t padded(const Attention<T>& p, int64_t n) {
  return round_up(round_up(n, p.gemm.lanes), 16);
}

// Where block j of values or keys, packed as (block, n) factors one after another, begins.
template <typename T>
int64_t block_offset(const Attention<T>& p, int64_t j, int64_t n) {
  return j * padded(p, n);
}

// Packs the blocks of a head's rows (keys, n): as products over the keys need them.
template <typename T>
void pack_blocks(const Attention<T>& p, const T* rows, int64_t row, int64_t feature, int64_t n, T* out) {
  for (int64_t j = 0; j < p.keys; j += p.block) {
    pack_factor(std::min(p.block, p.keys - j), n, rows, row, feature, out + block_offset(p, j, n));
    rows += p.block * row;
  }
}

template <typename T>
int32_t forward(const Attention<T>& p, const Heads<const T>& q, const Heads<const T>& k,
                const Heads<const T>& v, const Heads<T>& y, T* lse) {
  const int64_t blocks = ceil_div(p.queries, kQueries), tasks = p.batch * p.heads * blocks;
  const double each = double(p.queries) * double(p.keys) * double(p.features + p.wide);
  // Few queries read keys and values once or so: packing would cost more than it saves.
  const bool pack = p.queries > 4 * p.gemm.mr;
  const T none = -std::numeric_limits<T>::infinity();
  std::atomic<bool> failed{false};
  parallel_tasks(tasks, gemm_threads(double(p.batch * p.heads) * each), [&](int64_t begin, int64_t end) {
    const int64_t work = product_work(p), key_size = pack ? padded(p, p.keys) * p.features : 0;
    const int64_t value_size = pack ? padded(p, p.wide) * p.keys : 0, tile = kQueries * p.block;
    const int64_t total = work + round_up(key_size, 16) + round_up(value_size, 16) + round_up(tile, 16) +
                          round_up(p.block, 16) + 2 * kQueries;
    Pieces<T> pieces{static_cast<T*>(scratch(kScratchTask, size_t(total) * sizeof(T)))};
    if (!pieces.next) {
      failed = true;
      return;
    }
    T *const gemm_work = pieces.take(work), *const keys = pieces.take(key_size),
             *const values = pieces.take(value_size);
    T *const scores = pieces.take(tile), *const row = pieces.take(p.block);
    T *const max = pieces.take(kQueries), *const sum = pieces.take(kQueries);
    int64_t packed_head = -1;
    for (int64_t task = begin; task < end; task++) {
      const int64_t head = task / blocks, b = head / p.heads, h = head % p.heads;
      const int64_t i0 = task % blocks * kQueries, m = std::min(kQueries, p.queries - i0);
      const T *queries = q.of(b, h) + i0 * q.row, *kh = k.of(b, h), *vh = v.of(b, h);
      T* const out = y.of(b, h) + i0 * y.row;
      if (pack && head != packed_head) {
        pack_factor(p.features, p.keys, kh, k.feature, k.row, keys);
        pack_blocks(p, vh, v.row, v.feature, p.wide, values);
        packed_head = head;
      }
      std::fill(max, max + m, none);
      std::fill(sum, sum + m, T(0));
      const int64_t last = p.visible(i0 + m);
      for (int64_t j = 0; j < last; j += p.block) {
        const int64_t n = std::min(p.block, p.keys - j);
        multiply(m, n, p.features, queries, q.row, q.feature,
                 pack ? packed<T>(keys, p.keys, j) : plain(kh + j * k.row, k.feature, k.row), scores, n,
                 false, gemm_work);
        for (int64_t i = 0; i < m; i++) {
          T* const s = scores + i * n;
          const int64_t seen = p.seen(i0 + i, j, n);
          const T top =
              std::max(max[i], p.table.scores(seen, p.scale, p.bias(b, h, i0 + i, j, seen, row), s));
          // A row without any key so far: exp(-inf - 0) = 0.
          const T shift = top == none ? T(0) : top, shrink = std::exp(max[i] - shift);
          sum[i] = sum[i] * shrink + p.table.exponentials(seen, shift, s);
          std::fill(s + seen, s + n, T(0));
          if (j > 0 && shrink != T(1)) p.table.scale(p.wide, shrink, out + i * y.row);
          max[i] = top;
        }
        multiply(m, p.wide, n, scores, n, 1,
                 pack ? packed<T>(values + block_offset(p, j, p.wide), p.wide, 0)
                      : plain(vh + j * v.row, v.row, v.feature),
                 out, y.row, j > 0, gemm_work);
      }
      for (int64_t i = 0; i < m; i++) {
        T* const to = out + i * y.row;
        if (last == 0) std::fill(to, to + p.wide, T(0));
        if (sum[i] != T(0)) p.table.scale(p.wide, T(1) / sum[i], to);
        lse[head * p.queries + i0 + i] = max[i] == none && sum[i] == T(0) ? none : max[i] + std::log(sum[i]);
      }
    }
  });
  return failed ? out_of_memory() : kOk;
}

template <typename T>
struct Gradients {
  Heads<const T> g, q, k, v, y;
  Heads<T> dq, dk, dv;
  const T* lse;
};

template <typename T>
int32_t backward(const Attention<T>& p, const Gradients<T>& t) {
  const double each = double(p.queries) * double(p.keys) * double(3 * p.features + 2 * p.wide);
  const T none = -std::numeric_limits<T>::infinity();
  std::atomic<bool> failed{false};
  parallel_tasks(
      p.batch * p.heads, gemm_threads(double(p.batch * p.heads) * each), [&](int64_t begin, int64_t end) {
        const int64_t work = product_work(p), tile = kQueries * p.block;
        const int64_t sizes[] = {work,
                                 padded(p, p.keys) * p.features,
                                 padded(p, p.keys) * p.wide,
                                 padded(p, p.features) * p.keys,
                                 padded(p, p.features) * kQueries,
                                 padded(p, p.wide) * kQueries,
                                 tile,
                                 tile,
                                 p.block,
                                 kQueries};
        int64_t total = 0;
        for (const int64_t size : sizes) total += round_up(size, 16);
        Pieces<T> pieces{static_cast<T*>(scratch(kScratchTask, size_t(total) * sizeof(T)))};
        if (!pieces.next) {
          failed = true;
          return;
        }
        T *const gemm_work = pieces.take(sizes[0]), *const keys_across = pieces.take(sizes[1]);
        T *const values_across = pieces.take(sizes[2]), *const keys = pieces.take(sizes[3]);
        T *const queries = pieces.take(sizes[4]), *const outputs = pieces.take(sizes[5]);
        T *const scores = pieces.take(tile), *const grads = pieces.take(tile),
                 *const row = pieces.take(p.block);
        T* const mean = pieces.take(kQueries);
        for (int64_t head = begin; head < end; head++) {
          const int64_t b = head / p.heads, h = head % p.heads;
          pack_factor(p.features, p.keys, t.k.of(b, h), t.k.feature, t.k.row, keys_across);
          pack_factor(p.wide, p.keys, t.v.of(b, h), t.v.feature, t.v.row, values_across);
          pack_blocks(p, t.k.of(b, h), t.k.row, t.k.feature, p.features, keys);
          for (int64_t j = 0; j < p.keys; j++) {
            T *const dk = t.dk.of(b, h) + j * t.dk.row, *const dv = t.dv.of(b, h) + j * t.dv.row;
            std::fill(dk, dk + p.features, T(0));
            std::fill(dv, dv + p.wide, T(0));
          }
          for (int64_t i0 = 0; i0 < p.queries; i0 += kQueries) {
            const int64_t m = std::min(kQueries, p.queries - i0);
            const T *const q = t.q.of(b, h) + i0 * t.q.row, *const g = t.g.of(b, h) + i0 * t.g.row;
            const T *const y = t.y.of(b, h) + i0 * t.y.row, *const lse = t.lse + head * p.queries + i0;
            T* const dq = t.dq.of(b, h) + i0 * t.dq.row;
            pack_factor(m, p.features, q, t.q.row, t.q.feature, queries);
            pack_factor(m, p.wide, g, t.g.row, t.g.feature, outputs);
            for (int64_t i = 0; i < m; i++) {
              T dot = 0;
              for (int64_t e = 0; e < p.wide; e++)
                dot += g[i * t.g.row + e * t.g.feature] * y[i * t.y.row + e * t.y.feature];
              mean[i] = dot;
              std::fill(dq + i * t.dq.row, dq + i * t.dq.row + p.features, T(0));
            }
            const int64_t last = p.visible(i0 + m);
            for (int64_t j = 0; j < last; j += p.block) {
              const int64_t n = std::min(p.block, p.keys - j);
              multiply(m, n, p.features, q, t.q.row, t.q.feature, packed<T>(keys_across, p.keys, j), scores,
                       n, false, gemm_work);
              multiply(m, n, p.wide, g, t.g.row, t.g.feature, packed<T>(values_across, p.keys, j), grads, n,
                       false, gemm_work);
              for (int64_t i = 0; i < m; i++) {
                T *const s = scores + i * n, *const d = grads + i * n;
                const int64_t seen = lse[i] == none ? 0 : p.seen(i0 + i, j, n);
                p.table.scores(seen, p.scale, p.bias(b, h, i0 + i, j, seen, row), s);
                p.table.exponentials(seen, lse[i], s);
                p.table.gradient(seen, s, mean[i], p.scale, d);
                std::fill(s + seen, s + n, T(0));
                std::fill(d + seen, d + n, T(0));
              }
              multiply(n, p.wide, m, scores, 1, n, packed<T>(outputs, p.wide, 0),
                       t.dv.of(b, h) + j * t.dv.row, t.dv.row, true, gemm_work);
              multiply(m, p.features, n, grads, n, 1,
                       packed<T>(keys + block_offset(p, j, p.features), p.features, 0), dq, t.dq.row, true,
                       gemm_work);
              multiply(n, p.features, m, grads, 1, n, packed<T>(queries, p.features, 0),
                       t.dk.of(b, h) + j * t.dk.row, t.dk.row, true, gemm_work);
            }
          }
        }
      });
  return failed ? out_of_memory() : kOk;
}

template <typename T>
int32_t run_forward(const T* q, const T* k, const T* v, const void* mask, double mask_off, T* y, T* lse,
                    const double* desc) {
  const Attention<T> p(desc, mask, mask_off);
  const Heads<const T> queries(q, desc), keys(k, desc), values(v, desc);
  const Heads<T> out(y, desc);
  return forward(p, queries, keys, values, out, lse);
}

template <typename T>
int32_t run_backward(const T* g, const T* q, const T* k, const T* v, const T* y, const T* lse,
                     const void* mask, double mask_off, T* dq, T* dk, T* dv, const double* desc) {
  const Attention<T> p(desc, mask, mask_off);
  // Braces evaluate in order, and each Heads takes the next four strides.
  const Gradients<T> t{{g, desc},  {q, desc},  {k, desc},  {v, desc}, {y, desc},
                       {dq, desc}, {dk, desc}, {dv, desc}, lse};
  return backward(p, t);
}

}  // namespace
}  // namespace needle

using namespace needle;

#define TENSOR(name) at<T>(name, name##_off)

NEEDLE_EXPORT int32_t needle_attention(const void* q, double q_off, const void* k, double k_off,
                                       const void* v, double v_off, const void* mask, double mask_off,
                                       void* y, double y_off, void* lse, double lse_off, int32_t dtypes,
                                       double, const double* desc) noexcept {
  const auto run = [&](auto zero) {
    typedef decltype(zero) T;
    return run_forward<T>(TENSOR(q), TENSOR(k), TENSOR(v), mask, mask_off, TENSOR(y), TENSOR(lse), desc);
  };
  return main_dtype(dtypes) == kFloat32 ? run(0.0f) : run(0.0);
}

NEEDLE_EXPORT int32_t needle_attention_backward(const void* g, double g_off, const void* q, double q_off,
                                                const void* k, double k_off, const void* v, double v_off,
                                                const void* y, double y_off, const void* lse, double lse_off,
                                                const void* mask, double mask_off, void* dq, double dq_off,
                                                void* dk, double dk_off, void* dv, double dv_off,
                                                int32_t dtypes, double, const double* desc) noexcept {
  const auto run = [&](auto zero) {
    typedef decltype(zero) T;
    return run_backward<T>(TENSOR(g), TENSOR(q), TENSOR(k), TENSOR(v), TENSOR(y), TENSOR(lse), mask, mask_off,
                           TENSOR(dq), TENSOR(dk), TENSOR(dv), desc);
  };
  return main_dtype(dtypes) == kFloat32 ? run(0.0f) : run(0.0);
}
