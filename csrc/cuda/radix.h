// Stable sorting of (key, value) pairs by radix, 8 bits per pass: blocks count the digits of their tiles, the
// counts become places, and blocks move their pairs there in order. Also the running count of flags that
// compaction needs. All of it is integer arithmetic whose results do not depend on timing.
#pragma once
#include "arena.h"

namespace needle {
namespace {

constexpr int kDigits = 256, kWarps = kThreads / 32, kSteps = 8;
constexpr int64_t kTileItems = int64_t(kThreads) * kSteps;  // a warp takes kSteps runs of 32 in order
static_assert(kDigits == kThreads, "a thread per digit");

inline int64_t tiles_of(int64_t n) { return (n + kTileItems - 1) / kTileItems; }

template <typename K>
struct Pairs {
  K* keys;
  uint32_t* values;
};

// Which 8 bits a pass looks at: of the key, or of value / divisor.
struct Digit {
  int shift;
  bool of_value;
  Divisor divisor;

  template <typename K>
  NEEDLE_DEVICE uint32_t operator()(K key, uint32_t value) const {
    return of_value ? divisor.divide(value) >> shift & 255 : uint32_t(key >> shift) & 255;
  }
};

// The position of item `step` of a thread within its tile.
NEEDLE_DEVICE int64_t item_of(int step) {
  return int64_t(blockIdx.x) * kTileItems + int64_t(threadIdx.x / 32) * 32 * kSteps + step * 32 +
         threadIdx.x % 32;
}

NEEDLE_DEVICE uint32_t lanes_below() { return (1u << threadIdx.x % 32) - 1; }

// counts[digit * tiles + tile]
template <typename K>
__global__ void count_digits(Pairs<K> in, int64_t n, Digit digit, uint32_t* counts) {
  NEEDLE_SHARED(uint32_t, own, [kDigits]);
  own[threadIdx.x] = 0;
  __syncthreads();
  for (int step = 0; step < kSteps; step++) {
    const int64_t i = item_of(step);
    if (i < n) atomicAdd(&own[digit(in.keys[i], in.values[i])], 1u);
  }
  __syncthreads();
  counts[int64_t(threadIdx.x) * gridDim.x + blockIdx.x] = own[threadIdx.x];
}

// The sum of what the threads before this one give; `all` becomes that of all.
NEEDLE_DEVICE uint32_t sum_before(uint32_t own, uint32_t* all) {
  NEEDLE_SHARED(uint32_t, totals, [kWarps]);
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  uint32_t up_to = own;
  for (int by = 1; by < 32; by *= 2) {
    const uint32_t other = __shfl_up_sync(0xffffffffu, up_to, by);
    if (lane >= by) up_to += other;
  }
  if (lane == 31) totals[warp] = up_to;
  __syncthreads();
  uint32_t before = 0;
  *all = 0;
  for (int w = 0; w < kWarps; w++) {
    if (w == warp) before = *all;
    *all += totals[w];
  }
  __syncthreads();
  return before + up_to - own;
}

// A block per row of n counts: each becomes the sum of those before it; totals[row] that of the row.
__global__ void sum_rows(uint32_t* counts, int64_t n, uint32_t* totals) {
  uint32_t* const row = counts + int64_t(blockIdx.x) * n;
  uint32_t running = 0;
  for (int64_t first = 0; first < n; first += kThreads) {
    const int64_t i = first + threadIdx.x;
    const uint32_t own = i < n ? row[i] : 0;
    uint32_t all;
    const uint32_t before = sum_before(own, &all);
    if (i < n) row[i] = running + before;
    running += all;
  }
  if (threadIdx.x == 0) totals[blockIdx.x] = running;
}

// The same for short rows, as many as threads, by one block.
constexpr int64_t kShortRow = 32;

__global__ void sum_short_rows(uint32_t* counts, int64_t n, uint32_t* totals) {
  uint32_t* const row = counts + int64_t(threadIdx.x) * n;
  uint32_t running = 0;
  for (int64_t i = 0; i < n; i++) {
    const uint32_t own = row[i];
    row[i] = running;
    running += own;
  }
  totals[threadIdx.x] = running;
}

template <typename K>
__global__ void move_pairs(Pairs<K> in, Pairs<K> out, int64_t n, Digit digit, const uint32_t* counts,
                           const uint32_t* totals) {
  NEEDLE_SHARED(uint32_t, places, [kWarps][kDigits]);
  const int tid = int(threadIdx.x), warp = tid / 32;
  for (int w = 0; w < kWarps; w++) places[w][tid] = 0;
  uint32_t all;
  const uint32_t start = sum_before(totals[tid], &all) + counts[int64_t(tid) * gridDim.x + blockIdx.x];
  __syncthreads();
  K key[kSteps];
  uint32_t value[kSteps], rank[kSteps], own[kSteps];
  for (int step = 0; step < kSteps; step++) {
    const int64_t i = item_of(step);
    const bool valid = i < n;
    key[step] = valid ? in.keys[i] : K(0);
    value[step] = valid ? in.values[i] : 0;
    const uint32_t d = own[step] = digit(key[step], value[step]);
    // The lanes with the same digit.
    uint32_t peers = __ballot_sync(0xffffffffu, valid);
    for (int bit = 0; bit < 8; bit++) {
      const uint32_t votes = __ballot_sync(0xffffffffu, d >> bit & 1);
      peers &= d >> bit & 1 ? votes : ~votes;
    }
    rank[step] = places[warp][d] + uint32_t(__popc(peers & lanes_below()));
    __syncwarp();
    if (valid && (peers & lanes_below()) == 0) places[warp][d] += uint32_t(__popc(peers));
    __syncwarp();
  }
  __syncthreads();
  uint32_t place = start;
  for (int w = 0; w < kWarps; w++) {
    const uint32_t count = places[w][tid];
    places[w][tid] = place;
    place += count;
  }
  __syncthreads();
  for (int step = 0; step < kSteps; step++) {
    if (item_of(step) >= n) continue;
    const uint32_t to = places[warp][own[step]] + rank[step];
    out.keys[to] = key[step];
    out.values[to] = value[step];
  }
}

// How many bits numbers below `limit` have.
inline int bits_below(uint64_t limit) {
  int bits = 0;
  while (bits < 64 && limit > uint64_t(1) << bits) bits++;
  return bits;
}

// The memory of a sort of n pairs, n below 2^31.
template <typename K>
struct Sorter {
  int64_t n;
  Pairs<K> pairs, spare;
  uint32_t *counts, *totals;

  void lay_out(Arena& arena) {
    for (Pairs<K>* p : {&pairs, &spare}) *p = {arena.take<K>(n), arena.take<uint32_t>(n)};
    counts = arena.take<uint32_t>(tiles_of(n) * kDigits);
    totals = arena.take<uint32_t>(kDigits);
  }

  // Sorts `pairs` by `bits` bits of the keys, or of value / divisor.
  void sort(int bits, uint32_t divisor = 0) {
    if (n == 0) return;
    Digit digit{0, divisor != 0, {}};
    digit.divisor.set(divisor == 0 ? 1 : divisor);
    const unsigned tiles = unsigned(tiles_of(n));
    for (; digit.shift < bits; digit.shift += 8) {
      NEEDLE_LAUNCH((count_digits<K>), tiles, kThreads, 0, stream(), pairs, n, digit, counts);
      if (tiles <= kShortRow) {
        NEEDLE_LAUNCH((sum_short_rows), 1, kThreads, 0, stream(), counts, int64_t(tiles), totals);
      } else {
        NEEDLE_LAUNCH((sum_rows), kDigits, kThreads, 0, stream(), counts, int64_t(tiles), totals);
      }
      NEEDLE_LAUNCH((move_pairs<K>), tiles, kThreads, 0, stream(), pairs, spare, n, digit, counts, totals);
      const Pairs<K> sorted = spare;
      spare = pairs;
      pairs = sorted;
    }
  }
};

}  // namespace
}  // namespace needle
