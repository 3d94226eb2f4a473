// How many elements are not 0, and where they are: blocks count those of their tiles, the counts become
// places, and blocks write the coordinates there in order.
#include "elementwise.h"
#include "radix.h"
#include "reduce.h"

namespace needle {
namespace {

template <typename T>
struct Count {
  typedef T Item;
  typedef int64_t Part;
  typedef int64_t Total;
  typedef NoSetting Setting;
  const T* x;
  int64_t* y;

  NEEDLE_DEVICE NoSetting setting(int64_t) const { return {}; }
  NEEDLE_DEVICE T load(int64_t offset, int64_t, NoSetting) const { return x[offset]; }
  NEEDLE_DEVICE int64_t start() const { return 0; }
  NEEDLE_DEVICE void add(int64_t& part, const T (&item)[kRun], int n) const {
    for (int i = 0; i < kRun; i++) part += i < n && item[i] != 0;
  }
  NEEDLE_DEVICE int64_t total(int64_t part) const { return part; }
  static NEEDLE_DEVICE int64_t merge(int64_t a, int64_t b) { return a + b; }
  NEEDLE_DEVICE void store(int64_t, int64_t all) const { *y = all; }
};

// How many there are in each tile.
template <typename T>
__global__ void count_tiles(const T* x, int64_t n, uint32_t* counts) {
  uint32_t own = 0, all;
  for (int step = 0; step < kSteps; step++) {
    const int64_t i = item_of(step);
    own += i < n && x[i] != 0;
  }
  sum_before(own, &all);
  if (threadIdx.x == 0) counts[blockIdx.x] = all;
}

struct Coordinates {
  int64_t ndim;
  int64_t size[kMaxDims];

  NEEDLE_DEVICE void write(int64_t flat, int64_t* to) const {
    for (int64_t d = ndim - 1; d > 0; d--) {
      const int64_t rest = flat / size[d];
      to[d] = flat - rest * size[d];
      flat = rest;
    }
    if (ndim > 0) to[0] = flat;
  }
};

template <typename T>
__global__ void list_tiles(const T* x, int64_t first, int64_t n, const uint32_t* places,
                           const uint32_t* before, Coordinates shape, int64_t* y) {
  // Threads of a warp hold its elements in turns: places go by the warp's ballots, step by step.
  NEEDLE_SHARED(uint32_t, starts, [kWarps]);
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  uint32_t votes[kSteps], own = 0, all;
  for (int step = 0; step < kSteps; step++) {
    const int64_t i = item_of(step);
    votes[step] = __ballot_sync(0xffffffffu, i < n && x[i] != 0);
    own += uint32_t(__popc(votes[step]));
  }
  const uint32_t start = sum_before(lane == 0 ? own : 0, &all);
  if (lane == 0) starts[warp] = start;
  __syncthreads();
  int64_t place = int64_t(*before) + places[blockIdx.x] + starts[warp];
  for (int step = 0; step < kSteps; step++) {
    if (votes[step] >> lane & 1) {
      shape.write(first + item_of(step), y + (place + __popc(votes[step] & lanes_below())) * shape.ndim);
    }
    place += __popc(votes[step]);
  }
}

// What is found in one piece comes before the next.
__global__ void add_counts(uint32_t* before, const uint32_t* total) { *before += *total; }

template <typename T>
int32_t list_nonzero(const T* x, int64_t n, const Coordinates& shape, int64_t* y) {
  if (n == 0 || shape.ndim == 0) return kOk;
  constexpr int64_t kMost = int64_t(1) << 30;
  uint32_t *counts, *total, *before;
  const bool room = lay_out(kScratchTask, [&](Arena& arena) {
    counts = arena.take<uint32_t>(tiles_of(n < kMost ? n : kMost));
    total = arena.take<uint32_t>(1);
    before = arena.take<uint32_t>(1);
  });
  if (!room) return out_of_memory();
  cudaMemsetAsync(before, 0, sizeof *before, stream());
  for (int64_t first = 0; first < n; first += kMost) {
    const int64_t some = n - first < kMost ? n - first : kMost;
    const unsigned tiles = unsigned(tiles_of(some));
    NEEDLE_LAUNCH((count_tiles<T>), tiles, kThreads, 0, stream(), x + first, some, counts);
    NEEDLE_LAUNCH((sum_rows), 1, kThreads, 0, stream(), counts, int64_t(tiles), total);
    NEEDLE_LAUNCH((list_tiles<T>), tiles, kThreads, 0, stream(), x + first, first, some, counts, before,
                  shape, y);
    NEEDLE_LAUNCH((add_counts), 1, 1, 0, stream(), before, total);
  }
  return launched("starting a kernel");
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_count_nonzero(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                           double, const double* desc) noexcept {
  const double all[] = {0, 1, desc[0], 1};
  return with_number(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return reduce(Count<T>{at<T>(x, x_off), at<int64_t>(y, y_off)}, all);
  });
}

NEEDLE_EXPORT int32_t needle_nonzero(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                     double, const double* desc) noexcept {
  Coordinates shape{int64_t(desc[0]), {}};
  if (shape.ndim > kMaxDims) return too_many_dims(shape.ndim);
  int64_t n = 1;
  for (int64_t d = 0; d < shape.ndim; d++) n *= shape.size[d] = int64_t(desc[1 + d]);
  return with_number(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return list_nonzero(at<T>(x, x_off), n, shape, at<int64_t>(y, y_off));
  });
}
