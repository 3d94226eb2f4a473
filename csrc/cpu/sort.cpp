// Sorting along the middle dim of [outer, size, inner]. Elements become unsigned keys whose order is theirs
// (NaN last, both zeros equal), paired with positions: equal elements keep their order by the positions. Long
// lines are sorted by radix, short ones by comparison.
#include <string.h>
#include <algorithm>
#include <atomic>
#include <utility>

#include "../common.h"

namespace needle {
namespace {

inline uint32_t key_of(float x) {
  uint32_t bits;
  x = x == 0 ? 0.0f : x;
  memcpy(&bits, &x, sizeof bits);
  if (x != x) return UINT32_MAX;
  return bits >> 31 ? ~bits : bits | uint32_t(1) << 31;
}
inline uint64_t key_of(double x) {
  uint64_t bits;
  x = x == 0 ? 0.0 : x;
  memcpy(&bits, &x, sizeof bits);
  if (x != x) return UINT64_MAX;
  return bits >> 63 ? ~bits : bits | uint64_t(1) << 63;
}
inline uint32_t key_of(int32_t x) { return uint32_t(x) ^ uint32_t(1) << 31; }
inline uint64_t key_of(int64_t x) { return uint64_t(x) ^ uint64_t(1) << 63; }
inline uint32_t key_of(uint8_t x) { return x; }

template <typename K>
struct Entry {
  K key;
  K at;
  bool operator<(const Entry& other) const { return key < other.key || (key == other.key && at < other.at); }
};

constexpr int64_t kRadixFrom = 512;

// Sorts n entries that stand in order of `at`; returns where the result is, `a` or `b`.
template <typename K>
Entry<K>* radix_sort(Entry<K>* a, Entry<K>* b, int64_t n) {
  constexpr int digits = int(sizeof(K));
  int64_t counts[digits][256] = {};
  for (int64_t i = 0; i < n; i++) {
    for (int d = 0; d < digits; d++) counts[d][a[i].key >> (8 * d) & 255]++;
  }
  for (int d = 0; d < digits; d++) {
    int64_t starts[256], sum = 0;
    bool single = false;
    for (int v = 0; v < 256; v++) {
      single |= counts[d][v] == n;
      starts[v] = sum;
      sum += counts[d][v];
    }
    if (single) continue;
    for (int64_t i = 0; i < n; i++) b[starts[a[i].key >> (8 * d) & 255]++] = a[i];
    std::swap(a, b);
  }
  return a;
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

// The first `count` of each line in order.
template <typename T, typename K>
int32_t sort_lines(const Args& args, bool descending, int64_t count) {
  const T* x = at<T>(args.x, args.x_off);
  T* values = at<T>(args.values, args.values_off);
  int64_t* indices = at<int64_t>(args.indices, args.indices_off);
  const int64_t outer = int64_t(args.desc[0]), size = int64_t(args.desc[1]), inner = int64_t(args.desc[2]);
  if (count == 0) return kOk;
  const K flip = descending ? ~K(0) : K(0);
  std::atomic<bool> failed{false};
  // Sorting an element costs about 64 additions.
  parallel_for(outer * inner, std::max<int64_t>(1, kGrain / (64 * size)), [&](int64_t begin, int64_t end) {
    Entry<K>* memory = static_cast<Entry<K>*>(scratch(kScratchTask, size_t(size) * 2 * sizeof(Entry<K>)));
    if (!memory) {
      failed = true;
      return;
    }
    for (int64_t line = begin; line < end; line++) {
      const T* from = x + line / inner * size * inner + line % inner;
      const int64_t to = line / inner * count * inner + line % inner;
      Entry<K>* sorted = memory;
      for (int64_t k = 0; k < size; k++) sorted[k] = {K(key_of(from[k * inner]) ^ flip), K(k)};
      if (count < size / 4) {
        std::nth_element(sorted, sorted + count - 1, sorted + size);
        std::sort(sorted, sorted + count);
      } else if (size >= kRadixFrom) {
        sorted = radix_sort(sorted, sorted + size, size);
      } else {
        std::sort(sorted, sorted + size);
      }
      for (int64_t k = 0; k < count; k++) {
        const int64_t place = int64_t(sorted[k].at);
        values[to + k * inner] = from[place * inner];
        indices[to + k * inner] = place;
      }
    }
  });
  return failed ? out_of_memory() : int32_t(kOk);
}

int32_t sort_any(const Args& args, int32_t dtypes, bool descending, int64_t count) {
  // Positions are as wide as keys.
  if (args.desc[1] > 4294967295.0) return fail(kInvalid, "lines of %.0f elements are too long", args.desc[1]);
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return sort_lines<float, uint32_t>(args, descending, count);
    case kFloat64:
      return sort_lines<double, uint64_t>(args, descending, count);
    case kInt32:
      return sort_lines<int32_t, uint32_t>(args, descending, count);
    case kInt64:
      return sort_lines<int64_t, uint64_t>(args, descending, count);
    case kUint8:
    case kBool:
      return sort_lines<uint8_t, uint32_t>(args, descending, count);
    default:
      return fail(kInvalid, "there is no kernel for %s", dtype_name(main_dtype(dtypes)));
  }
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
