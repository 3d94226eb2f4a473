// Adding rows to the places that indices name, in the order in which the rows stand, whatever the timing: the
// indices are sorted, stably, and one thread adds up what goes to an element.
#pragma once
#include "index.h"
#include "radix.h"

namespace needle {
namespace {

// Rows (outer, count, inner) that go to slices of (outer, size, inner).
template <typename T>
struct Adding {
  const T* src;
  T* y;
  int64_t outer, size, count, inner;
  T alpha;
};

// A group of `lanes` threads per row in sorted order; those whose place begins there add all of its rows.
// Where `places` is given, a place is that of its first row.
template <typename T, typename K>
__global__ void add_sorted(Adding<T> a, Pairs<K> sorted, K limit, const uint32_t* places, int lanes) {
  constexpr int N = 8;
  const int64_t groups = int64_t(gridDim.x) * (kThreads / lanes);
  const int lane = int(threadIdx.x) % lanes;
  for (int64_t j = int64_t(blockIdx.x) * (kThreads / lanes) + threadIdx.x / lanes; j < a.count; j += groups) {
    const K key = sorted.keys[j];
    if (key >= limit || (j > 0 && sorted.keys[j - 1] == key)) continue;
    const int64_t place = places ? int64_t(places[sorted.values[j]]) : int64_t(key);
    for (int64_t o = 0; o < a.outer; o++) {
      for (int64_t c = lane; c < a.inner; c += lanes) {
        T* const to = a.y + (o * a.size + place) * a.inner + c;
        T sum = *to;
        for (int64_t first = j; first < a.count && sorted.keys[first] == key; first += N) {
          T item[N] = {};
          bool same[N] = {};
          for (int i = 0; i < N; i++) {
            same[i] = first + i < a.count && sorted.keys[first + i] == key;
            if (same[i]) item[i] = a.src[(o * a.count + sorted.values[first + i]) * a.inner + c];
          }
          for (int i = 0; i < N; i++) sum = same[i] ? T(sum + a.alpha * item[i]) : sum;
        }
        *to = sum;
      }
    }
  }
}

template <typename T, typename K>
void launch_add_sorted(const Adding<T>& a, const Pairs<K>& sorted, K limit, const uint32_t* places) {
  int lanes = 1;
  while (lanes < kThreads && lanes < a.inner) lanes *= 2;
  NEEDLE_LAUNCH((add_sorted<T, K>), grid_for(a.count * lanes), kThreads, 0, stream(), a, sorted, limit,
                places, lanes);
}

}  // namespace
}  // namespace needle
