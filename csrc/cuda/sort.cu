// Sorting along the middle dim of [outer, size, inner]. Elements become unsigned keys whose order is theirs
// (NaN last, both zeros equal), paired with positions: equal elements keep their order by the positions.
// Short lines are sorted within a block by a bitonic network (Batcher 1968), long ones all together by radix:
// first by their keys, then by their lines.
#include <algorithm>

#include "elementwise.h"
#include "radix.h"
#include "team.h"

namespace needle {
namespace {

NEEDLE_DEVICE uint32_t key_of(float x) {
  if (x != x) return UINT32_MAX;
  const uint32_t bits = __float_as_uint(x == 0 ? 0.0f : x);
  return bits >> 31 ? ~bits : bits | uint32_t(1) << 31;
}
NEEDLE_DEVICE uint64_t key_of(double x) {
  if (x != x) return UINT64_MAX;
  const uint64_t bits = uint64_t(__double_as_longlong(x == 0 ? 0.0 : x));
  return bits >> 63 ? ~bits : bits | uint64_t(1) << 63;
}
NEEDLE_DEVICE uint32_t key_of(int32_t x) { return uint32_t(x) ^ uint32_t(1) << 31; }
NEEDLE_DEVICE uint64_t key_of(int64_t x) { return uint64_t(x) ^ uint64_t(1) << 63; }
NEEDLE_DEVICE uint32_t key_of(uint8_t x) { return x; }

template <typename T>
struct Sorting {
  const T* x;
  T* values;
  int64_t* indices;
  int64_t lines, size, inner, count;  // the first `count` of each line are wanted
  bool descending;

  NEEDLE_DEVICE int64_t from(int64_t line, int64_t k) const {
    return (line / inner * size + k) * inner + line % inner;
  }
  NEEDLE_DEVICE auto key(int64_t line, int64_t k) const {
    const auto key = key_of(x[from(line, k)]);
    return descending ? decltype(key)(~key) : key;
  }
  // Element k of a line is number `rank`.
  NEEDLE_DEVICE void place(int64_t line, int64_t rank, int64_t k) const {
    if (rank >= count) return;
    const int64_t to = (line / inner * count + rank) * inner + line % inner;
    values[to] = x[from(line, k)];
    indices[to] = k;
  }
};

// --- Short lines: a block sorts as many as fit, padded to a power of 2 ---

constexpr int kShort = 1024;

template <typename T, typename K>
__global__ void sort_short(Sorting<T> s, int padded) {
  NEEDLE_SHARED(K, keys, [kShort]);
  NEEDLE_SHARED(uint32_t, at, [kShort]);
  const int64_t first = int64_t(blockIdx.x) * (kShort / padded);
  for (int i = int(threadIdx.x); i < kShort; i += kThreads) {
    const int64_t line = first + i / padded;
    const int k = i % padded;
    keys[i] = line < s.lines && k < s.size ? s.key(line, k) : K(~K(0));
    at[i] = uint32_t(k);  // what pads a line comes behind its elements
  }
  __syncthreads();
  for (int run = 2; run <= padded; run *= 2) {
    for (int by = run / 2; by > 0; by /= 2) {
      for (int i = int(threadIdx.x); i < kShort / 2; i += kThreads) {
        const int low = i / by * 2 * by + i % by, high = low + by;
        const bool rising = (low & (padded - 1) & run) == 0;
        const bool inverted = keys[low] > keys[high] || (keys[low] == keys[high] && at[low] > at[high]);
        if (inverted == rising) {
          const K key = keys[low];
          const uint32_t position = at[low];
          keys[low] = keys[high], keys[high] = key;
          at[low] = at[high], at[high] = position;
        }
      }
      __syncthreads();
    }
  }
  for (int i = int(threadIdx.x); i < kShort; i += kThreads) {
    const int64_t line = first + i / padded;
    const int rank = i % padded;
    if (line < s.lines && rank < s.size) s.place(line, rank, at[i]);
  }
}

// --- Long lines ---

template <typename T, typename K>
__global__ void make_pairs(Sorting<T> s, int64_t first, int64_t n, Pairs<K> pairs) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    pairs.keys[i] = s.key(first + i / s.size, i % s.size);
    pairs.values[i] = uint32_t(i);
  }
}

template <typename T, typename K>
__global__ void place_pairs(Sorting<T> s, int64_t first, int64_t n, Pairs<K> pairs) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    s.place(first + i / s.size, i % s.size, int64_t(pairs.values[i]) % s.size);
  }
}

// Lines beside each other that are sorted together have this many elements, if not one line has more.
constexpr int64_t kTogether = int64_t(1) << 27;

template <typename T, typename K>
int32_t sort_long(const Sorting<T>& s) {
  const int64_t together = std::max<int64_t>(1, std::min(s.lines, kTogether / s.size));
  Sorter<K> sorter;
  sorter.n = together * s.size;
  if (!lay_out(kScratchTask, [&](Arena& arena) { sorter.lay_out(arena); })) return out_of_memory();
  for (int64_t first = 0; first < s.lines; first += together) {
    const int64_t lines = std::min(together, s.lines - first);
    sorter.n = lines * s.size;
    NEEDLE_LAUNCH((make_pairs<T, K>), grid_for(sorter.n), kThreads, 0, stream(), s, first, sorter.n,
                  sorter.pairs);
    sorter.sort(int(8 * sizeof(T)));
    sorter.sort(bits_below(uint64_t(lines)), uint32_t(s.size));
    NEEDLE_LAUNCH((place_pairs<T, K>), grid_for(sorter.n), kThreads, 0, stream(), s, first, sorter.n,
                  sorter.pairs);
  }
  return launched("starting a kernel");
}

struct Args {
  const void* x;
  double x_off;
  void* values;
  double values_off;
  void* indices;
  double indices_off;
  const double* desc;
};

int32_t sort_any(const Args& a, int32_t dtypes, bool descending, int64_t count) {
  const int64_t size = int64_t(a.desc[1]), inner = int64_t(a.desc[2]), lines = int64_t(a.desc[0]) * inner;
  if (lines == 0 || count == 0) return kOk;
  if (size >= int64_t(1) << 31) return fail(kInvalid, "lines of %.0f elements are too long", a.desc[1]);
  return with_number(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    typedef typename std::conditional<sizeof(T) == 8, uint64_t, uint32_t>::type K;
    const Sorting<T> s{at<T>(a.x, a.x_off),
                       at<T>(a.values, a.values_off),
                       at<int64_t>(a.indices, a.indices_off),
                       lines,
                       size,
                       inner,
                       count,
                       descending};
    if (size > kShort) return sort_long<T, K>(s);
    const int padded = power_of_two(size, kShort);
    const int64_t blocks = (lines + kShort / padded - 1) / (kShort / padded);
    if (blocks > kMaxBlocks) return too_many_blocks();
    NEEDLE_LAUNCH((sort_short<T, K>), unsigned(blocks), kThreads, 0, stream(), s, padded);
    return launched("starting a kernel");
  });
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_sort(const void* x, double x_off, void* values, double values_off, void* indices,
                                  double indices_off, int32_t dtypes, double, const double* desc) noexcept {
  const Args args{x, x_off, values, values_off, indices, indices_off, desc};
  return sort_any(args, dtypes, desc[3] != 0, int64_t(desc[1]));
}

NEEDLE_EXPORT int32_t needle_topk(const void* x, double x_off, void* values, double values_off, void* indices,
                                  double indices_off, int32_t dtypes, double, const double* desc) noexcept {
  const Args args{x, x_off, values, values_off, indices, indices_off, desc};
  return sort_any(args, dtypes, desc[3] != 0, int64_t(desc[4]));
}
