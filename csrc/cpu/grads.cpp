// needle_merge_rows, needle_add_rows, needle_limit_norm: gradients between backward and the optimiser's step.
// Rows are found through a small hash table, so that nothing costs more than the rows that there are. Threads
// share the columns: rows that meet are added by one thread, in their order.
#include <algorithm>

#include "../common.h"
#include "gemm_split.h"

namespace needle {
namespace {

struct Rows {
  int64_t count, width, skip;

  // Runs f(first, end) on parts of the columns.
  template <typename F>
  void columns(const F& f) const {
    constexpr int64_t lanes = 16;  // whole cache lines
    parallel_for(ceil_div(width, lanes), std::max<int64_t>(1, kGrain / (lanes * (count + 1))),
                 [&](int64_t begin, int64_t end) { f(begin * lanes, std::min(width, end * lanes)); });
  }
};

// Numbers the distinct indices in the order in which they appear: place[r] for row r (-1: skipped), and the
// indices in `ids`. Returns how many there are, or -1 where memory is out.
template <typename I>
int64_t number_rows(const Rows& rows, const I* index, int64_t* ids, int64_t*& place) {
  int64_t slots = 16;
  while (slots < 2 * rows.count) slots *= 2;
  place = static_cast<int64_t*>(scratch(kScratchReduce, size_t(rows.count + slots) * sizeof(int64_t)));
  if (!place) return -1;
  int64_t* const table = place + rows.count;  // places, -1 where free
  std::fill(table, table + slots, int64_t(-1));
  int64_t found = 0;
  for (int64_t r = 0; r < rows.count; r++) {
    const int64_t id = int64_t(index[r]);
    place[r] = -1;
    if (id == rows.skip) continue;
    uint64_t at = uint64_t(id) * 0x9e3779b97f4a7c15u >> 32;
    for (;; at++) {
      int64_t& slot = table[at & uint64_t(slots - 1)];
      if (slot < 0) {
        ids[found] = id;
        slot = found++;
      }
      if (ids[slot] != id) continue;
      place[r] = slot;
      break;
    }
  }
  return found;
}

template <typename T, typename I>
int32_t merge_rows(const Rows& rows, const T* from, const I* index, T* merged, int64_t* ids) {
  int64_t* place;
  const int64_t found = number_rows(rows, index, ids, place);
  if (found < 0) return out_of_memory();
  std::fill(ids + found, ids + rows.count, found > 0 ? ids[0] : rows.skip);
  rows.columns([&](int64_t begin, int64_t end) {
    int64_t filled = 0;
    for (int64_t r = 0; r < rows.count; r++) {
      if (place[r] < 0) continue;
      const T* in = from + r * rows.width;
      T* out = merged + place[r] * rows.width;
      if (place[r] == filled) {
        std::copy(in + begin, in + end, out + begin);
        filled++;
      } else {
        for (int64_t c = begin; c < end; c++) out[c] += in[c];
      }
    }
    for (; filled < rows.count; filled++) {
      std::fill(merged + filled * rows.width + begin, merged + filled * rows.width + end, T(0));
    }
  });
  return kOk;
}

template <typename T, typename I>
int32_t add_rows(const Rows& rows, int64_t limit, T alpha, T* param, const T* from, const I* index) {
  for (int64_t r = 0; r < rows.count; r++) {
    if ((index[r] < 0 || index[r] >= limit) && index[r] != rows.skip) {
      return fail(kInvalid, "index %lld at position %lld is not in [0, %lld)", (long long)index[r],
                  (long long)r, (long long)limit);
    }
  }
  rows.columns([&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows.count; r++) {
      if (index[r] == rows.skip) continue;
      const T* in = from + r * rows.width;
      T* out = param + int64_t(index[r]) * rows.width;
      for (int64_t c = begin; c < end; c++) out[c] += alpha * in[c];
    }
  });
  return kOk;
}

template <typename T>
int32_t limit_norm(int64_t n, double most, T* grad, const T* norm) {
  const T factor = T(most / (double(*norm) + 1e-6));
  if (factor >= 1) return kOk;
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) grad[i] *= factor;
  });
  return kOk;
}

// Calls f(zero of the main dtype's type, zero of the index's type).
template <typename F>
int32_t with_types(int32_t dtypes, const F& f) {
  const bool wide = second_dtype(dtypes) == kInt64;
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return wide ? f(float{}, int64_t{}) : f(float{}, int32_t{});
    case kFloat64:
      return wide ? f(double{}, int64_t{}) : f(double{}, int32_t{});
    default:
      return fail(kInternal, "no kernel for %s", dtype_name(main_dtype(dtypes)));
  }
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_merge_rows(const void* rows, double rows_off, const void* index,
                                        double index_off, void* merged, double merged_off, void* ids,
                                        double ids_off, int32_t dtypes, double, const double* desc) noexcept {
  return with_types(dtypes, [&](auto value, auto place) {
    using T = decltype(value);
    using I = decltype(place);
    return merge_rows(Rows{int64_t(desc[0]), int64_t(desc[1]), int64_t(desc[2])}, at<T>(rows, rows_off),
                      at<I>(index, index_off), at<T>(merged, merged_off), at<int64_t>(ids, ids_off));
  });
}

NEEDLE_EXPORT int32_t needle_add_rows(void* param, double param_off, const void* rows, double rows_off,
                                      const void* index, double index_off, int32_t dtypes, double,
                                      const double* desc) noexcept {
  return with_types(dtypes, [&](auto value, auto place) {
    using T = decltype(value);
    using I = decltype(place);
    return add_rows(Rows{int64_t(desc[0]), int64_t(desc[1]), int64_t(desc[3])}, int64_t(desc[2]), T(desc[4]),
                    at<T>(param, param_off), at<T>(rows, rows_off), at<I>(index, index_off));
  });
}

NEEDLE_EXPORT int32_t needle_limit_norm(void* grad, double grad_off, const void* norm, double norm_off,
                                        int32_t dtypes, double n, const double* desc) noexcept {
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return limit_norm(int64_t(n), desc[0], at<float>(grad, grad_off), at<float>(norm, norm_off));
    case kFloat64:
      return limit_norm(int64_t(n), desc[0], at<double>(grad, grad_off), at<double>(norm, norm_off));
    default:
      return fail(kInternal, "no kernel for %s", dtype_name(main_dtype(dtypes)));
  }
}
