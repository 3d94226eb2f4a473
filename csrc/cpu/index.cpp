// Reading and writing at positions given by int64 or int32 tensors (lib/ops/index.ts: x is (outer, size,
// inner) around the indexed dims). Indices are checked before anything is read through them. Work is split so
// that no two threads write one element, in an order that does not depend on the number of threads.
#include <string.h>
#include <atomic>

#include "../common.h"

namespace needle {
namespace {

struct Geometry {
  int64_t outer, size, count, inner, dim;

  explicit Geometry(const double* desc)
      : outer(int64_t(desc[0])),
        size(int64_t(desc[1])),
        count(int64_t(desc[2])),
        inner(int64_t(desc[3])),
        dim(int64_t(desc[4])) {}
};

int32_t out_of_range(int64_t index, int64_t position, int64_t dim, int64_t size) {
  return fail(kInvalid, "index %lld at position %lld is out of range: dim %lld has size %lld",
              (long long)index, (long long)position, (long long)dim, (long long)size);
}

// The position of the first index outside [0, size), or -1.
template <typename I>
int64_t first_bad(const I* index, int64_t n, int64_t size) {
  constexpr int64_t kBlock = 1024;
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t end = n - start < kBlock ? n : start + kBlock;
    bool bad = false;
    for (int64_t i = start; i < end; i++) bad |= uint64_t(int64_t(index[i])) >= uint64_t(size);
    if (!bad) continue;
    for (int64_t i = start; i < end; i++) {
      if (uint64_t(int64_t(index[i])) >= uint64_t(size)) return i;
    }
  }
  return -1;
}

// Fails where an index is outside [0, size).
template <typename I>
int32_t check(const I* index, int64_t n, int64_t dim, int64_t size) {
  std::atomic<int64_t> found{n};
  parallel_for(n, 4 * kGrain, [&](int64_t begin, int64_t end) {
    const int64_t bad = first_bad(index + begin, end - begin, size);
    if (bad < 0) return;
    int64_t known = found.load();
    while (begin + bad < known && !found.compare_exchange_weak(known, begin + bad)) {
    }
  });
  const int64_t position = found.load();
  return position < n ? out_of_range(int64_t(index[position]), position, dim, size) : kOk;
}

// y = x, or zeros without x; nothing where they are the same memory.
void copy_or_clear(const void* x, void* y, int64_t bytes) {
  if (x == y || bytes == 0) return;
  parallel_for(bytes, 8 * kGrain, [&](int64_t begin, int64_t end) {
    char* to = static_cast<char*>(y) + begin;
    if (x) memcpy(to, static_cast<const char*>(x) + begin, size_t(end - begin));
    else memset(to, 0, size_t(end - begin));
  });
}

// The part of a scattering that one thread does: all indices, for these outer and inner positions and
// targets.
struct Part {
  int64_t outer0, outer1, inner0, inner1, target0, target1;
};

// Splits a scattering into parts that write different elements, whatever the indices are.
template <typename F>
void parallel_scatter(const Geometry& g, const F& f) {
  const int64_t work = g.outer * g.count * g.inner, limit = thread_count();
  int64_t threads = work / kGrain < limit ? work / kGrain : limit;
  if (threads < 1) threads = 1;
  const bool by_outer = g.outer >= threads, by_inner = g.inner >= 16 * threads;
  const int64_t units = by_outer ? g.outer : by_inner ? g.inner : g.size;
  parallel_tasks(units, threads, [&](int64_t begin, int64_t end) {
    Part p{0, g.outer, 0, g.inner, 0, g.size};
    if (by_outer) p.outer0 = begin, p.outer1 = end;
    else if (by_inner) p.inner0 = begin, p.inner1 = end;
    else p.target0 = begin, p.target1 = end;
    f(p);
  });
}

// Columns are walked in tiles of this width, so that the part of x that a tile reaches stays in the cache.
constexpr int64_t kColumns = 64;

int64_t tile_end(int64_t start, int64_t end) { return end - start < kColumns ? end : start + kColumns; }

// f(target, source) for each element of an index-per-element scattering.
template <typename I, typename F>
void each_element(const Geometry& g, const I* index, const F& f) {
  parallel_scatter(g, [&](const Part& p) {
    for (int64_t o = p.outer0; o < p.outer1; o++) {
      for (int64_t c0 = p.inner0; c0 < p.inner1; c0 += kColumns) {
        const int64_t c1 = tile_end(c0, p.inner1);
        for (int64_t k = 0; k < g.count; k++) {
          const int64_t row = (o * g.count + k) * g.inner;
          for (int64_t c = c0; c < c1; c++) {
            const int64_t i = int64_t(index[row + c]);
            if (i >= p.target0 && i < p.target1) f((o * g.size + i) * g.inner + c, row + c);
          }
        }
      }
    }
  });
}

// f(target, source, n) for each run of an index-per-slice scattering; slices with index `skip` are left out.
template <typename I, typename F>
void each_slice(const Geometry& g, const I* index, int64_t skip, const F& f) {
  parallel_scatter(g, [&](const Part& p) {
    const int64_t n = p.inner1 - p.inner0;
    for (int64_t o = p.outer0; o < p.outer1; o++) {
      for (int64_t k = 0; k < g.count; k++) {
        const int64_t i = int64_t(index[k]);
        if (i < p.target0 || i >= p.target1 || i == skip) continue;
        f((o * g.size + i) * g.inner + p.inner0, (o * g.count + k) * g.inner + p.inner0, n);
      }
    }
  });
}

template <typename I, typename T>
int32_t gather(const Geometry& g, const T* x, const I* index, T* y) {
  const int64_t n = g.outer * g.count * g.inner;
  const int32_t status = check(index, n, g.dim, g.size);
  if (status != kOk || n == 0) return status;
  if (g.inner == 1) {
    parallel_for(n, kGrain / 4, [&](int64_t begin, int64_t end) {
      for (int64_t e = begin; e < end;) {
        const int64_t o = e / g.count, left = (o + 1) * g.count, stop = end < left ? end : left;
        const T* from = x + o * g.size;
        for (; e < stop; e++) y[e] = from[int64_t(index[e])];
      }
    });
    return kOk;
  }
  const int64_t tiles = (g.inner + kColumns - 1) / kColumns;
  parallel_for(g.outer * tiles, kGrain / (4 * g.count * kColumns) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t o = task / tiles, c0 = task % tiles * kColumns, c1 = tile_end(c0, g.inner);
      const T* from = x + o * g.size * g.inner;
      for (int64_t k = 0; k < g.count; k++) {
        const int64_t row = (o * g.count + k) * g.inner;
        for (int64_t c = c0; c < c1; c++) y[row + c] = from[int64_t(index[row + c]) * g.inner + c];
      }
    }
  });
  return kOk;
}

template <typename I, typename T>
int32_t scatter(const Geometry& g, const T* x, const I* index, const T* src, T value, T* y) {
  const int32_t status = check(index, g.outer * g.count * g.inner, g.dim, g.size);
  if (status != kOk) return status;
  copy_or_clear(x, y, g.outer * g.size * g.inner * int64_t(sizeof(T)));
  if (src) each_element(g, index, [&](int64_t to, int64_t from) { y[to] = src[from]; });
  else each_element(g, index, [&](int64_t to, int64_t) { y[to] = value; });
  return kOk;
}

template <typename I, typename T>
int32_t scatter_add(const Geometry& g, const I* index, const T* src, const T* x, T* y) {
  const int32_t status = check(index, g.outer * g.count * g.inner, g.dim, g.size);
  if (status != kOk) return status;
  copy_or_clear(x, y, g.outer * g.size * g.inner * int64_t(sizeof(T)));
  each_element(g, index, [&](int64_t to, int64_t from) { y[to] = T(y[to] + src[from]); });
  return kOk;
}

template <typename I, typename T>
int32_t index_select(const Geometry& g, const T* x, const I* index, T* y) {
  const int32_t status = check(index, g.count, g.dim, g.size);
  if (status != kOk) return status;
  parallel_for(g.outer * g.count, kGrain / (g.inner + 8) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end;) {
      const int64_t o = e / g.count, k0 = e % g.count;
      const int64_t left = end - e, run = left < g.count - k0 ? left : g.count - k0;
      const T* from = x + o * g.size * g.inner;
      if (g.inner == 1) {
        for (int64_t j = 0; j < run; j++) y[e + j] = from[int64_t(index[k0 + j])];
      } else {
        for (int64_t j = 0; j < run; j++) {
          memcpy(y + (e + j) * g.inner, from + int64_t(index[k0 + j]) * g.inner, size_t(g.inner) * sizeof(T));
        }
      }
      e += run;
    }
  });
  return kOk;
}

template <typename I, typename T>
int32_t index_add(const Geometry& g, const I* index, const T* src, const T* x, int64_t skip, T* y) {
  const int32_t status = check(index, g.count, g.dim, g.size);
  if (status != kOk) return status;
  copy_or_clear(x, y, g.outer * g.size * g.inner * int64_t(sizeof(T)));
  each_slice(g, index, skip, [&](int64_t to, int64_t from, int64_t n) {
    T* __restrict out = y + to;
    const T* __restrict in = src + from;
    for (int64_t i = 0; i < n; i++) out[i] = T(out[i] + in[i]);
  });
  return kOk;
}

template <typename I, typename T>
int32_t index_copy(const Geometry& g, const T* x, const I* index, const T* src, T value, T* y) {
  const int32_t status = check(index, g.count, g.dim, g.size);
  if (status != kOk) return status;
  copy_or_clear(x, y, g.outer * g.size * g.inner * int64_t(sizeof(T)));
  each_slice(g, index, -1, [&](int64_t to, int64_t from, int64_t n) {
    if (src) {
      memcpy(y + to, src + from, size_t(n) * sizeof(T));
    } else {
      for (int64_t i = 0; i < n; i++) y[to + i] = value;
    }
  });
  return kOk;
}

int32_t unsupported(DType dtype) { return fail(kInternal, "no kernel for %s", dtype_name(dtype)); }

// Calls f(index, zero) with the typed index and a zero of the element type that `dtype` is computed in.
template <typename F>
int32_t with_numbers(DType dtype, const F& f) {
  switch (dtype) {
    case kFloat32:
      return f(float{});
    case kFloat64:
      return f(double{});
    case kInt32:
      return f(int32_t{});
    case kInt64:
      return f(int64_t{});
    case kUint8:
      return f(uint8_t{});
    default:
      return unsupported(dtype);
  }
}

// The same for elements that are only moved.
template <typename F>
int32_t with_bits(DType dtype, const F& f) {
  switch (dtype_bytes(dtype)) {
    case 1:
      return f(uint8_t{});
    case 4:
      return f(uint32_t{});
    case 8:
      return f(uint64_t{});
    default:
      return unsupported(dtype);
  }
}

template <typename F>
int32_t with_index(DType dtype, const void* base, double offset, const F& f) {
  if (dtype == kInt64) return f(at<int64_t>(base, offset));
  if (dtype == kInt32) return f(at<int32_t>(base, offset));
  return unsupported(dtype);
}

// The bits of `value` in a dtype, in the lowest bytes.
uint64_t bits_of(DType dtype, double value) {
  uint64_t bits = 0;
  with_numbers(dtype == kBool ? kUint8 : dtype, [&](auto zero) {
    const auto x = decltype(zero)(dtype == kBool ? value != 0 : value);
    memcpy(&bits, &x, sizeof x);
    return int32_t(kOk);
  });
  return bits;
}

template <typename I>
int32_t ravel(const I* index, const int64_t* lead, int64_t* y, int64_t n, int64_t size, int64_t dim) {
  std::atomic<int64_t> found{n};
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    int64_t bad = end;
    for (int64_t k = end - 1; k >= begin; k--) {
      const int64_t i = int64_t(index[k]) + (index[k] < 0 ? size : 0);
      if (uint64_t(i) >= uint64_t(size)) bad = k;
      y[k] = (lead ? lead[k] * size : 0) + i;
    }
    int64_t known = found.load();
    while (bad < end && bad < known && !found.compare_exchange_weak(known, bad)) {
    }
  });
  const int64_t position = found.load();
  return position < n ? out_of_range(int64_t(index[position]), position, dim, size) : kOk;
}

// Counts or lists in this many parts, whatever the number of threads.
constexpr int64_t kParts = 64;

int64_t part_start(int64_t n, int64_t part) { return n / kParts * part + n % kParts * part / kParts; }

template <typename T>
void count_parts(const T* x, int64_t n, int64_t* counts) {
  parallel_tasks(kParts, n < 4 * kGrain ? 1 : thread_count(), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) {
      counts[p] = 0;
      for (int64_t i = part_start(n, p); i < part_start(n, p + 1);) {
        // Counted in short runs and few bits, which vectorises well.
        const int64_t stop = part_start(n, p + 1) - i < 128 ? part_start(n, p + 1) : i + 128;
        uint8_t count = 0;
        for (; i < stop; i++) count = uint8_t(count + (x[i] != 0));
        counts[p] += count;
      }
    }
  });
}

// Writes the coordinates of flat positions, a row each. Divisors are 32-bit where the tensor is small enough.
template <typename U>
void write_coordinates(const int64_t* flat, int64_t count, int64_t ndim, const double* shape, int64_t* rows) {
  for (int64_t j = 0; j < count; j++, rows += ndim) {
    U rest = U(flat[j]);
    for (int64_t d = ndim - 1; d > 0; d--) {
      const U size = U(shape[d]), quotient = rest / size;
      rows[d] = int64_t(rest - quotient * size);
      rest = quotient;
    }
    rows[0] = int64_t(rest);
  }
}

template <typename T>
void list_nonzero(const T* x, int64_t n, int64_t ndim, const double* shape, int64_t* y) {
  int64_t starts[kParts];
  count_parts(x, n, starts);
  for (int64_t p = 0, total = 0; p < kParts; p++) {
    const int64_t count = starts[p];
    starts[p] = total;
    total += count;
  }
  if (ndim == 0) return;
  parallel_tasks(kParts, n < 4 * kGrain ? 1 : thread_count(), [&](int64_t begin, int64_t end) {
    constexpr int64_t kRun = 512;
    int64_t found[kRun];
    for (int64_t p = begin; p < end; p++) {
      int64_t* rows = y + starts[p] * ndim;
      for (int64_t i = part_start(n, p); i < part_start(n, p + 1);) {
        const int64_t stop = part_start(n, p + 1) - i < kRun ? part_start(n, p + 1) : i + kRun;
        int64_t count = 0;
        for (; i < stop; i++) {  // without a branch on the data
          found[count] = i;
          count += x[i] != 0;
        }
        if (ndim == 1) memcpy(rows, found, size_t(count) * sizeof *found);
        else if (n >> 32) write_coordinates<uint64_t>(found, count, ndim, shape, rows);
        else write_coordinates<uint32_t>(found, count, ndim, shape, rows);
        rows += count * ndim;
      }
    }
  });
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_gather(const void* x, double x_off, const void* index, double index_off, void* y,
                                    double y_off, int32_t dtypes, double, const double* desc) noexcept {
  return with_index(second_dtype(dtypes), index, index_off, [&](auto i) {
    return with_bits(main_dtype(dtypes), [&](auto zero) {
      using T = decltype(zero);
      return gather(Geometry(desc), at<T>(x, x_off), i, at<T>(y, y_off));
    });
  });
}

NEEDLE_EXPORT int32_t needle_scatter(const void* x, double x_off, const void* index, double index_off,
                                     const void* src, double src_off, void* y, double y_off, int32_t dtypes,
                                     double, const double* desc) noexcept {
  const uint64_t value = bits_of(main_dtype(dtypes), desc[5]);
  return with_index(second_dtype(dtypes), index, index_off, [&](auto i) {
    return with_bits(main_dtype(dtypes), [&](auto zero) {
      using T = decltype(zero);
      return scatter(Geometry(desc), at<T>(x, x_off), i, at<T>(src, src_off), T(value), at<T>(y, y_off));
    });
  });
}

NEEDLE_EXPORT int32_t needle_scatter_add(const void* index, double index_off, const void* src, double src_off,
                                         const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                         double, const double* desc) noexcept {
  return with_index(main_dtype(dtypes), index, index_off, [&](auto i) {
    return with_numbers(second_dtype(dtypes), [&](auto zero) {
      using T = decltype(zero);
      return scatter_add(Geometry(desc), i, at<T>(src, src_off), at<T>(x, x_off), at<T>(y, y_off));
    });
  });
}

NEEDLE_EXPORT int32_t needle_index_select(const void* x, double x_off, const void* index, double index_off,
                                          void* y, double y_off, int32_t dtypes, double,
                                          const double* desc) noexcept {
  return with_index(second_dtype(dtypes), index, index_off, [&](auto i) {
    return with_bits(main_dtype(dtypes), [&](auto zero) {
      using T = decltype(zero);
      return index_select(Geometry(desc), at<T>(x, x_off), i, at<T>(y, y_off));
    });
  });
}

NEEDLE_EXPORT int32_t needle_embedding(const void* weight, double weight_off, const void* index,
                                       double index_off, void* y, double y_off, int32_t dtypes, double n,
                                       const double* desc) noexcept {
  return needle_index_select(weight, weight_off, index, index_off, y, y_off, dtypes, n, desc);
}

NEEDLE_EXPORT int32_t needle_index_add(const void* index, double index_off, const void* src, double src_off,
                                       const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                       double, const double* desc) noexcept {
  return with_index(main_dtype(dtypes), index, index_off, [&](auto i) {
    return with_numbers(second_dtype(dtypes), [&](auto zero) {
      using T = decltype(zero);
      return index_add(Geometry(desc), i, at<T>(src, src_off), at<T>(x, x_off), int64_t(desc[5]),
                       at<T>(y, y_off));
    });
  });
}

NEEDLE_EXPORT int32_t needle_index_copy(const void* x, double x_off, const void* index, double index_off,
                                        const void* src, double src_off, void* y, double y_off,
                                        int32_t dtypes, double, const double* desc) noexcept {
  const uint64_t value = bits_of(main_dtype(dtypes), desc[5]);
  return with_index(second_dtype(dtypes), index, index_off, [&](auto i) {
    return with_bits(main_dtype(dtypes), [&](auto zero) {
      using T = decltype(zero);
      return index_copy(Geometry(desc), at<T>(x, x_off), i, at<T>(src, src_off), T(value), at<T>(y, y_off));
    });
  });
}

NEEDLE_EXPORT int32_t needle_index(const void* index, double index_off, const void* lead, double lead_off,
                                   void* y, double y_off, int32_t dtypes, double n,
                                   const double* desc) noexcept {
  return with_index(main_dtype(dtypes), index, index_off, [&](auto i) {
    return ravel(i, at<int64_t>(lead, lead_off), at<int64_t>(y, y_off), int64_t(n), int64_t(desc[0]),
                 int64_t(desc[1]));
  });
}

NEEDLE_EXPORT int32_t needle_one_hot(const void* index, double index_off, void* y, double y_off,
                                     int32_t dtypes, double, const double* desc) noexcept {
  const int64_t count = int64_t(desc[0]), classes = int64_t(desc[1]), dim = int64_t(desc[2]);
  int64_t* out = at<int64_t>(y, y_off);
  return with_index(main_dtype(dtypes), index, index_off, [&](auto i) {
    const int32_t status = check(i, count, dim, classes);
    if (status != kOk) return status;
    copy_or_clear(nullptr, out, count * classes * int64_t(sizeof *out));
    for (int64_t k = 0; k < count; k++) out[k * classes + int64_t(i[k])] = 1;
    return int32_t(kOk);
  });
}

NEEDLE_EXPORT int32_t needle_count_nonzero(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                           double, const double* desc) noexcept {
  const DType dtype = main_dtype(dtypes);
  return with_numbers(dtype == kBool ? kUint8 : dtype, [&](auto zero) {
    int64_t counts[kParts], total = 0;
    count_parts(at<decltype(zero)>(x, x_off), int64_t(desc[0]), counts);
    for (int64_t count : counts) total += count;
    *at<int64_t>(y, y_off) = total;
    return int32_t(kOk);
  });
}

NEEDLE_EXPORT int32_t needle_nonzero(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                     double, const double* desc) noexcept {
  const DType dtype = main_dtype(dtypes);
  const int64_t ndim = int64_t(desc[0]);
  int64_t n = 1;
  for (int64_t d = 0; d < ndim; d++) n *= int64_t(desc[1 + d]);
  return with_numbers(dtype == kBool ? kUint8 : dtype, [&](auto zero) {
    list_nonzero(at<decltype(zero)>(x, x_off), n, ndim, desc + 1, at<int64_t>(y, y_off));
    return int32_t(kOk);
  });
}
