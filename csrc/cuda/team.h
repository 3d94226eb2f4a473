// Teams: the threads of a block that work on one line of a tensor together (a row of a softmax, the elements
// of one sum) and combine what they found in a fixed order, so that results do not depend on timing. Many
// short lines share a block; a long line has a block for itself.
#pragma once
#include "device.h"

namespace needle {
namespace {

// How the kThreads threads of a block fall into teams of `lanes` (a power of 2). Where lines are contiguous,
// neighbouring threads are of one team; where lines lie side by side, neighbouring threads are of
// neighbouring teams (`across`), so that both read memory in runs.
struct Team {
  int lanes;
  bool across;

  NEEDLE_ANYWHERE int teams() const { return kThreads / lanes; }
  NEEDLE_DEVICE int lane() const { return across ? int(threadIdx.x) / teams() : int(threadIdx.x) % lanes; }
  NEEDLE_DEVICE int number() const { return across ? int(threadIdx.x) % teams() : int(threadIdx.x) / lanes; }
  // The line that this team works on; beyond the last one it goes through the same steps on nothing.
  NEEDLE_DEVICE int64_t line() const { return int64_t(blockIdx.x) * teams() + number(); }
};

inline int power_of_two(int64_t n, int most) {
  int p = 1;
  while (p < n && p < most) p *= 2;
  return p;
}

// Teams for `lines` lines of `size` elements, either contiguous or `inner` of them side by side.
inline Team team_for(int64_t lines, int64_t size, int64_t inner) {
  constexpr int kWarp = 32;
  if (inner > 1) {
    // As many columns as fill a memory transaction; the rest of the block shares each of them.
    return {kThreads / power_of_two(inner, kWarp), true};
  }
  const bool few = lines * kWarp < int64_t(multiprocessors()) * 1024;
  if (size > (few ? 256 : 1024)) return {kThreads, false};
  return {power_of_two(size, kWarp), false};
}

inline int64_t blocks_for(const Team& team, int64_t lines) {
  return (lines + team.teams() - 1) / team.teams();
}

// The grid of a kernel whose blocks are numbered by blockIdx.x alone.
inline int32_t too_many_blocks() { return fail(kInvalid, "too many lines for one kernel"); }
constexpr int64_t kMaxBlocks = (int64_t(1) << 31) - 1;

// A value of the lane whose number differs in the bits `by`.
template <typename V>
NEEDLE_DEVICE V other_lane(V v, int by) {
  return V(__shfl_xor_sync(0xffffffffu, v, by));
}

// The values of all lanes combined by op(V, V), the same result for each lane. Every thread of the block must
// come here. Structs bring their own other_lane.
template <typename V, typename Op>
NEEDLE_DEVICE V combine(const Team& team, V v, const Op& op) {
  NEEDLE_SHARED(V, slots, [kThreads]);
  const int tid = int(threadIdx.x);
  if (!team.across) {
    const int width = team.lanes < 32 ? team.lanes : 32;
    for (int by = width / 2; by > 0; by /= 2) {
      const V other = other_lane(v, by);
      v = tid & by ? op(other, v) : op(v, other);  // in the order of lanes, for ops that look at it
    }
    if (team.lanes <= 32) return v;
    if (tid % 32 == 0) slots[tid / 32] = v;
    __syncthreads();
    V all = slots[0];
    for (int warp = 1; warp < kThreads / 32; warp++) all = op(all, slots[warp]);
    __syncthreads();
    return all;
  }
  const int step = team.teams(), lane = team.lane();
  slots[tid] = v;
  __syncthreads();
  for (int half = team.lanes / 2; half > 0; half /= 2) {
    if (lane < half) slots[tid] = op(slots[tid], slots[tid + half * step]);
    __syncthreads();
  }
  const V all = slots[team.number()];
  __syncthreads();
  return all;
}

// The larger (or smaller) of two values; NaN wins.
template <typename T>
NEEDLE_DEVICE T larger(T a, T b) {
  return b > a || b != b ? b : a;
}
template <typename T>
NEEDLE_DEVICE T smaller(T a, T b) {
  return b < a || b != b ? b : a;
}

struct Plus {
  template <typename V>
  NEEDLE_DEVICE V operator()(V a, V b) const {
    return a + b;
  }
};
struct Larger {
  template <typename V>
  NEEDLE_DEVICE V operator()(V a, V b) const {
    return larger(a, b);
  }
};

// --- Mean and sum of squared deviations of a growing set, merged pairwise (Chan, Golub, LeVeque 1983) ---

struct Moments {
  double count, mean, m2;
};

NEEDLE_DEVICE Moments other_lane(Moments m, int by) {
  return {other_lane(m.count, by), other_lane(m.mean, by), other_lane(m.m2, by)};
}

struct Merge {
  NEEDLE_DEVICE Moments operator()(const Moments& a, const Moments& b) const {
    if (a.count == 0) return b;
    if (b.count == 0) return a;
    const double count = a.count + b.count, delta = b.mean - a.mean, part = b.count / count;
    // Weighted means rather than a.mean + delta * part: those of infinities stay infinite.
    return {count, a.mean * (1 - part) + b.mean * part, a.m2 + b.m2 + delta * delta * (a.count * part)};
  }
};

// What one thread has seen, in the type of the elements; `add` takes up to N of them at once.
template <typename T>
struct RunningMoments {
  T count, mean, m2;

  template <int N>
  NEEDLE_DEVICE void add(const T (&x)[N], int n) {
    T sum = 0, squares = 0;
    for (int i = 0; i < N; i++) sum += i < n ? x[i] : T(0);
    const T here = sum / T(n);
    for (int i = 0; i < N; i++) {
      const T d = i < n ? x[i] - here : T(0);
      squares += d * d;
    }
    if (count == 0) {
      count = T(n), mean = here, m2 = squares;
      return;
    }
    const T all = count + T(n), part = T(n) / all, delta = here - mean;
    mean = mean * (1 - part) + here * part;
    m2 += squares + delta * delta * (count * part);
    count = all;
  }
  NEEDLE_DEVICE Moments total() const { return {double(count), double(mean), double(m2)}; }
};

// Calls f(positions, n) over the positions lane, lane + lanes, ... below `size`, N of them at a time: their
// loads are on the way together.
template <int N, typename F>
NEEDLE_DEVICE void each_run(int64_t begin, int64_t end, int lane, int lanes, const F& f) {
  int64_t at = begin + lane;
  for (; at + int64_t(N - 1) * lanes < end; at += int64_t(N) * lanes) f(at, N);
  if (at < end) f(at, int((end - at + lanes - 1) / lanes));
}

}  // namespace
}  // namespace needle
