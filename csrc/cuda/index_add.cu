// needle_scatter_add and needle_index_add: sums at positions, in the order of the sources. Few indices are
// gone through by a thread for each line; many are sorted.
#include "index_add.h"

namespace needle {
namespace {

// A thread per line (o, c) adds its `count` elements one after the other.
template <typename T>
__global__ void add_lines(Geometry g, Indices index, const T* src, T* y, bool slices, int64_t skip) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t line = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; line < g.outer * g.inner;
       line += step) {
    const int64_t o = line / g.inner, c = line - o * g.inner;
    for (int64_t k = 0; k < g.count; k++) {
      const int64_t from = (o * g.count + k) * g.inner + c, i = index[slices ? k : from];
      if (i < 0 || i == skip) continue;
      T* const to = y + (o * g.size + i) * g.inner + c;
      *to = T(*to + src[from]);
    }
  }
}

// Where each source goes: a slice, or an element of y. `limit` stands for nowhere.
template <typename K>
__global__ void make_keys(Geometry g, Indices index, Split split, bool slices, int64_t skip, Pairs<K> pairs,
                          K limit, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < n; e += step) {
    const int64_t i = index[e];
    int64_t o = 0, k = 0, c = 0;
    if (!slices) split(e, &o, &k, &c);
    const int64_t place = slices ? i : (o * g.size + i) * g.inner + c;
    pairs.keys[e] = i < 0 || i == skip ? limit : K(place);
    pairs.values[e] = uint32_t(e);
  }
}

template <typename T, typename K>
int32_t add_by_sorting(const Geometry& g, const Indices& index, const T* src, T* y, bool slices,
                       int64_t skip) {
  const int64_t n = slices ? g.count : g.outer * g.count * g.inner;
  const K limit = K(slices ? g.size : g.elements());
  Sorter<K> sorter;
  sorter.n = n;
  if (!lay_out(kScratchTask, [&](Arena& arena) { sorter.lay_out(arena); })) return out_of_memory();
  NEEDLE_LAUNCH((make_keys<K>), grid_for(n), kThreads, 0, stream(), g, index,
                Split(g.outer, g.count, g.inner), slices, skip, sorter.pairs, limit, n);
  sorter.sort(bits_below(uint64_t(limit) + 1));
  const Adding<T> all = slices ? Adding<T>{src, y, g.outer, g.size, g.count, g.inner, T(1)}
                               : Adding<T>{src, y, 1, g.elements(), n, 1, T(1)};
  launch_add_sorted(all, sorter.pairs, limit, nullptr);
  return launched("starting a kernel");
}

template <typename T>
int32_t add_all(const Geometry& g, const Indices& index, const T* src, const T* x, T* y, bool slices,
                int64_t skip) {
  const int32_t status = copy_or_clear(x, y, size_t(g.elements()) * sizeof(T));
  const int64_t lines = g.outer * g.inner, n = lines * g.count, indices = slices ? g.count : n;
  if (status != kOk || n == 0) return status;
  if (g.count <= 64 || g.count * 4 <= lines) {
    NEEDLE_LAUNCH((add_lines<T>), grid_for(lines), kThreads, 0, stream(), g, index, src, y, slices, skip);
    return launched("starting a kernel");
  }
  if (indices >= int64_t(1) << 31) return fail(kInvalid, "more than 2^31 indices have no kernel");
  return (slices ? g.size : g.elements()) < int64_t(1) << 31
             ? add_by_sorting<T, uint32_t>(g, index, src, y, slices, skip)
             : add_by_sorting<T, uint64_t>(g, index, src, y, slices, skip);
}

int32_t add_any(const void* index, double index_off, const void* src, double src_off, const void* x,
                double x_off, void* y, double y_off, int32_t dtypes, const double* desc, bool slices,
                int64_t skip) {
  const Geometry g(desc);
  const Indices indices(index, index_off, main_dtype(dtypes), g.size);
  return with_number(second_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return add_all(g, indices, at<T>(src, src_off), at<T>(x, x_off), at<T>(y, y_off), slices, skip);
  });
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_scatter_add(const void* index, double index_off, const void* src, double src_off,
                                         const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                         double, const double* desc) noexcept {
  return add_any(index, index_off, src, src_off, x, x_off, y, y_off, dtypes, desc, false, -1);
}

NEEDLE_EXPORT int32_t needle_index_add(const void* index, double index_off, const void* src, double src_off,
                                       const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                       double, const double* desc) noexcept {
  return add_any(index, index_off, src, src_off, x, x_off, y, y_off, dtypes, desc, true, int64_t(desc[5]));
}
