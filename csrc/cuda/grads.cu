// needle_merge_rows, needle_add_rows, needle_limit_norm: gradients between backward and the optimiser's step.
// Rows are sorted by their indices, so that those which meet are added in their order.
#include <algorithm>

#include "index_add.h"

namespace needle {
namespace {

// Rows in the order of their indices; those to be left out, and indices out of range, come last with the key
// `limit`. Ids stand for themselves: without a limit of their own they are any numbers from 0 on.
template <typename K>
__global__ void make_keys(Indices index, int64_t skip, bool checked, Pairs<K> pairs, K limit, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t r = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; r < n; r += step) {
    const int64_t raw = index.raw(r), i = raw == skip ? -1 : checked ? index[r] : raw;
    pairs.keys[r] = i < 0 ? limit : K(i);
    pairs.values[r] = uint32_t(r);
  }
}

// first[r] = 1 where row r is the first with its index.
template <typename K>
__global__ void find_first(Pairs<K> sorted, K limit, uint32_t* first, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t j = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; j < n; j += step) {
    const K key = sorted.keys[j];
    first[sorted.values[j]] = key < limit && (j == 0 || sorted.keys[j - 1] != key);
  }
}

// The distinct indices in the order in which they first appear: places[r] is where that of a first row goes.
// Behind them stands the first of all again.
template <typename K>
__global__ void list_ids(Pairs<K> sorted, K limit, const uint32_t* places, const uint32_t* total,
                         int64_t skip, int64_t* ids, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x, found = *total;
  for (int64_t j = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; j < n; j += step) {
    const K key = sorted.keys[j];
    if (key < limit && (j == 0 || sorted.keys[j - 1] != key)) {
      const int64_t place = places[sorted.values[j]];
      ids[place] = int64_t(key);
      if (place == 0) {
        for (int64_t k = found; k < n; k++) ids[k] = int64_t(key);
      }
    }
    if (found == 0) ids[j] = skip;
  }
}

template <typename T>
int32_t merge_rows(const Indices& index, int64_t n, int64_t width, int64_t skip, const T* rows, T* merged,
                   int64_t* ids) {
  const int32_t status = copy_or_clear(nullptr, merged, size_t(n * width) * sizeof(T));
  if (status != kOk || n == 0) return status;
  constexpr uint64_t kNone = ~uint64_t(0);
  Sorter<uint64_t> sorter;
  sorter.n = n;
  uint32_t *places, *total;
  const bool room = lay_out(kScratchTask, [&](Arena& arena) {
    sorter.lay_out(arena);
    places = arena.take<uint32_t>(n);
    total = arena.take<uint32_t>(1);
  });
  if (!room) return out_of_memory();
  NEEDLE_LAUNCH((make_keys<uint64_t>), grid_for(n), kThreads, 0, stream(), index, skip, false, sorter.pairs,
                kNone, n);
  sorter.sort(64);
  NEEDLE_LAUNCH((find_first<uint64_t>), grid_for(n), kThreads, 0, stream(), sorter.pairs, kNone, places, n);
  NEEDLE_LAUNCH((sum_rows), 1, kThreads, 0, stream(), places, n, total);
  NEEDLE_LAUNCH((list_ids<uint64_t>), grid_for(n), kThreads, 0, stream(), sorter.pairs, kNone, places, total,
                skip, ids, n);
  launch_add_sorted(Adding<T>{rows, merged, 1, n, n, width, T(1)}, sorter.pairs, kNone, places);
  return launched("starting a kernel");
}

template <typename T>
int32_t add_rows(const Indices& index, int64_t n, int64_t width, int64_t skip, T alpha, T* param,
                 const T* rows) {
  const uint64_t limit = uint64_t(index.size);
  Sorter<uint64_t> sorter;
  sorter.n = n;
  if (!lay_out(kScratchTask, [&](Arena& arena) { sorter.lay_out(arena); })) return out_of_memory();
  NEEDLE_LAUNCH((make_keys<uint64_t>), grid_for(n), kThreads, 0, stream(), index, skip, true, sorter.pairs,
                limit, n);
  sorter.sort(bits_below(limit + 1));
  launch_add_sorted(Adding<T>{rows, param, 1, index.size, n, width, alpha}, sorter.pairs, limit, nullptr);
  return launched("starting a kernel");
}

template <typename T>
__global__ void limit_norm(int64_t n, double most, T* grad, const T* norm) {
  const T factor = T(most / (double(*norm) + 1e-6));
  if (factor >= 1) return;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) grad[i] *= factor;
}

int32_t too_many_rows() { return fail(kInvalid, "more than 2^31 rows have no kernel"); }

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_merge_rows(const void* rows, double rows_off, const void* index,
                                        double index_off, void* merged, double merged_off, void* ids,
                                        double ids_off, int32_t dtypes, double, const double* desc) noexcept {
  const int64_t n = int64_t(desc[0]);
  if (n >= int64_t(1) << 31) return too_many_rows();
  const Indices indices(index, index_off, second_dtype(dtypes), INT64_MAX);
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return merge_rows(indices, n, int64_t(desc[1]), int64_t(desc[2]), at<T>(rows, rows_off),
                      at<T>(merged, merged_off), at<int64_t>(ids, ids_off));
  });
}

NEEDLE_EXPORT int32_t needle_add_rows(void* param, double param_off, const void* rows, double rows_off,
                                      const void* index, double index_off, int32_t dtypes, double,
                                      const double* desc) noexcept {
  const int64_t n = int64_t(desc[0]), width = int64_t(desc[1]);
  if (n * width == 0) return kOk;
  if (n >= int64_t(1) << 31) return too_many_rows();
  const Indices indices(index, index_off, second_dtype(dtypes), int64_t(desc[2]));
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return add_rows(indices, n, width, int64_t(desc[3]), T(desc[4]), at<T>(param, param_off),
                    at<T>(rows, rows_off));
  });
}

NEEDLE_EXPORT int32_t needle_limit_norm(void* grad, double grad_off, const void* norm, double norm_off,
                                        int32_t dtypes, double n, const double* desc) noexcept {
  if (n == 0) return kOk;
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    NEEDLE_LAUNCH((limit_norm<T>), grid_for(int64_t(n)), kThreads, 0, stream(), int64_t(n), desc[0],
                  at<T>(grad, grad_off), at<T>(norm, norm_off));
    return launched("starting a kernel");
  });
}
