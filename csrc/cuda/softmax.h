// The largest element of a line and Σ exp(x - largest), in one pass: shared by softmax and cross entropy.
#pragma once
#include "team.h"

namespace needle {
namespace {

// The functions of the C library for both float types. Their names stand in a namespace that nobody opens:
// nvcc includes headers of its own behind ours.
namespace functions {
NEEDLE_DEVICE float exp(float x) { return expf(x); }
NEEDLE_DEVICE double exp(double x) { return ::exp(x); }
NEEDLE_DEVICE float log(float x) { return logf(x); }
NEEDLE_DEVICE double log(double x) { return ::log(x); }
NEEDLE_DEVICE float log1p(float x) { return log1pf(x); }
NEEDLE_DEVICE double log1p(double x) { return ::log1p(x); }
}  // namespace functions

struct Exponentials {
  double largest, sum;
};

NEEDLE_DEVICE Exponentials other_lane(Exponentials e, int by) {
  return {other_lane(e.largest, by), other_lane(e.sum, by)};
}

struct MergeExponentials {
  NEEDLE_DEVICE Exponentials operator()(const Exponentials& a, const Exponentials& b) const {
    if (a.sum == 0) return b;
    if (b.sum == 0) return a;
    const double largest = larger(a.largest, b.largest);
    // Where the largest is infinite, differences are NaN, as they are to be.
    return {largest,
            a.sum * functions::exp(a.largest - largest) + b.sum * functions::exp(b.largest - largest)};
  }
};

// Of elements x[k * step], k < size. An empty line has the largest -∞ and the sum 0.
template <typename T>
NEEDLE_DEVICE Exponentials exponentials(const Team& team, const T* x, int64_t size, int64_t step) {
  constexpr int N = 4;
  T largest = -T(INFINITY);
  double sum = 0;
  each_run<N>(0, size, team.lane(), team.lanes, [&](int64_t at, int n) {
    T item[N] = {}, here = largest, some = 0;
    for (int i = 0; i < N; i++) {
      if (i >= n) break;
      item[i] = x[(at + int64_t(i) * team.lanes) * step];
      here = larger(here, item[i]);
    }
    if (here == -T(INFINITY)) return;  // adds 0 to whatever is finite
    if (sum != 0) sum *= double(functions::exp(largest - here));
    largest = here;
    for (int i = 0; i < N; i++) some += i < n ? functions::exp(item[i] - here) : T(0);
    sum += double(some);
  });
  return combine(team, Exponentials{double(largest), sum}, MergeExponentials());
}

}  // namespace
}  // namespace needle
