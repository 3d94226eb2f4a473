// What the norms share: statistics by the reductions of reduce.h, and the passes that apply per-channel
// numbers to all elements. x is [.., channels, inner]; numbers are per channel, or per sample and channel.
#pragma once
#include "arena.h"
#include "elementwise.h"
#include "halves.h"
#include "reduce.h"

namespace needle {
namespace {

// What the elements of a channel are multiplied with and shifted by, forward and backward:
//   y = scale (x - mean) + shift        dx = scale g + slope (x - mean) + level
template <typename T>
struct Channel {
  T mean, scale, shift, slope, level;
};

// Which Channel an element belongs to: (i / sample) * per_sample + i / inner % channels.
struct Grouping {
  int64_t elements, sample, per_sample, channels, inner;
};

// The same with divisors, for pieces of fewer than 2^31 elements.
struct Grouped {
  Divisor sample, channels, inner;
  uint32_t per_sample, step;  // step: how the channel changes from one element to the next within a vector

  NEEDLE_DEVICE int64_t channel(uint32_t i) const {
    const uint32_t run = inner.divide(i), c = run - channels.divide(run) * channels.divisor;
    return int64_t(per_sample == 0 ? 0 : sample.divide(i) * per_sample) + c;
  }
};

template <typename S, int V, typename F>
__global__ void apply_channels(const S* g, const S* x, S* y, uint32_t n, Grouped by,
                               const Channel<ComputedType<S>>* channels, F f) {
  typedef Vector<S, V> Lanes;
  const uint32_t step = gridDim.x * blockDim.x;
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
    const Channel<ComputedType<S>>* const c = channels + by.channel(i * V);
    const Lanes a = reinterpret_cast<const Lanes*>(x)[i];
    const Lanes b = g ? reinterpret_cast<const Lanes*>(g)[i] : a;
    Lanes out;
    for (int lane = 0; lane < V; lane++) {
      round_to(f(value_of(b.lane[lane]), value_of(a.lane[lane]), c[lane * by.step]), &out.lane[lane]);
    }
    reinterpret_cast<Lanes*>(y)[i] = out;
  }
}

// y = f(g, x, channel) for all elements.
template <typename T, typename F>
int32_t apply_grouped(const T* g, const T* x, T* y, const Grouping& s,
                      const Channel<ComputedType<T>>* channels, const F& f) {
  if (s.elements == 0) return kOk;
  Grouped by;
  constexpr int V = vector_lanes<T>();
  const int64_t unit = s.per_sample ? s.sample : s.channels * s.inner;  // after which the pattern repeats
  constexpr int64_t kMost = int64_t(1) << 30;
  if (unit > kMost) return fail(kInvalid, "samples of more than 2^30 elements have no kernel");
  by.sample.set(uint32_t(s.sample));
  by.channels.set(uint32_t(s.channels));
  by.inner.set(uint32_t(s.inner));
  by.per_sample = uint32_t(s.per_sample);
  by.step = s.inner == 1 ? 1 : 0;
  const bool whole = (s.inner == 1 ? s.channels : s.inner) % V == 0 && is_aligned(x, V * sizeof(T)) &&
                     is_aligned(y, V * sizeof(T)) && (!g || is_aligned(g, V * sizeof(T)));
  const int64_t units = s.elements / unit, most = kMost / unit;
  for (int64_t u = 0; u < units; u += most) {
    const int64_t n = std::min(most, units - u) * unit, at = u * unit;
    const Channel<ComputedType<T>>* const own = channels + (s.per_sample ? u * s.per_sample : 0);
    const T* const from = g ? g + at : nullptr;
    if (whole) {
      NEEDLE_LAUNCH((apply_channels<T, V, F>), grid_for(n / V), kThreads, 0, stream(), from, x + at, y + at,
                    uint32_t(n / V), by, own, f);
    } else {
      NEEDLE_LAUNCH((apply_channels<T, 1, F>), grid_for(n), kThreads, 0, stream(), from, x + at, y + at,
                    uint32_t(n), by, own, f);
    }
  }
  return launched("starting a kernel");
}

template <typename T>
struct Forward {
  bool relu;
  NEEDLE_DEVICE T operator()(T, T x, const Channel<T>& c) const {
    const T y = (x - c.mean) * c.scale + c.shift;
    return relu && y < 0 ? T(0) : y;
  }
};

template <typename T>
struct Backward {
  bool relu;
  NEEDLE_DEVICE T operator()(T g, T x, const Channel<T>& c) const {
    const T d = x - c.mean;
    const T own = relu && d * c.scale + c.shift <= 0 ? T(0) : g;
    return own * c.scale + (d * c.slope + c.level);
  }
};

// --- Reductions (see reduce.h) ---

// Mean and squared deviations, kept as they are.
template <typename S>
struct Statistics {
  typedef ComputedType<S> T;
  typedef T Item;
  typedef RunningMoments<T> Part;
  typedef Moments Total;
  typedef NoSetting Setting;
  const S* x;
  Moments* moments;

  NEEDLE_DEVICE NoSetting setting(int64_t) const { return {}; }
  NEEDLE_DEVICE T load(int64_t offset, int64_t, NoSetting) const { return value_of(x[offset]); }
  NEEDLE_DEVICE Part start() const { return {0, 0, 0}; }
  NEEDLE_DEVICE void add(Part& part, const T (&item)[kRun], int n) const { part.add(item, n); }
  NEEDLE_DEVICE Moments total(const Part& part) const { return part.total(); }
  static NEEDLE_DEVICE Moments merge(const Moments& a, const Moments& b) { return Merge()(a, b); }
  NEEDLE_DEVICE void store(int64_t i, const Moments& m) const { moments[i] = m; }
};

// Σ g and Σ g (x - mean).
struct Dots {
  double sum, dot;
};

NEEDLE_DEVICE Dots other_lane(Dots d, int by) { return {other_lane(d.sum, by), other_lane(d.dot, by)}; }

template <typename T>
struct Pair {
  T g, d;
};

struct AddDots {
  NEEDLE_DEVICE Dots operator()(const Dots& a, const Dots& b) const { return {a.sum + b.sum, a.dot + b.dot}; }
};

template <typename T>
NEEDLE_DEVICE void add_pairs(Dots& part, const Pair<T> (&item)[kRun], int n) {
  T sum = 0, dot = 0;
  for (int i = 0; i < kRun; i++) {
    sum += i < n ? item[i].g : T(0);
    dot += i < n ? item[i].g * item[i].d : T(0);
  }
  part.sum += double(sum);
  part.dot += double(dot);
}

// Of each channel; with relu not where the result was 0.
template <typename S>
struct ChannelDots {
  typedef ComputedType<S> T;
  typedef Pair<T> Item;
  typedef Dots Part;
  typedef Dots Total;
  typedef Channel<T> Setting;
  const S *g, *x;
  const Channel<T>* channels;
  bool relu;
  Dots* dots;

  NEEDLE_DEVICE Channel<T> setting(int64_t i) const { return channels[i]; }
  NEEDLE_DEVICE Pair<T> load(int64_t offset, int64_t, const Channel<T>& c) const {
    const T d = value_of(x[offset]) - c.mean, here = value_of(g[offset]);
    return {relu && d * c.scale + c.shift <= 0 ? T(0) : here, d};
  }
  NEEDLE_DEVICE Dots start() const { return {0, 0}; }
  NEEDLE_DEVICE void add(Dots& part, const Pair<T> (&item)[kRun], int n) const { add_pairs(part, item, n); }
  NEEDLE_DEVICE Dots total(Dots part) const { return part; }
  static NEEDLE_DEVICE Dots merge(const Dots& a, const Dots& b) { return AddDots()(a, b); }
  NEEDLE_DEVICE void store(int64_t i, const Dots& d) const { dots[i] = d; }
};

}  // namespace
}  // namespace needle
