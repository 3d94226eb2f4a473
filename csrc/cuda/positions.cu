// The extremes along the middle dim of [outer, size, inner] and their first positions; NaN wins.
#include "elementwise.h"
#include "team.h"

namespace needle {
namespace {

// A candidate: position -1 where there is none.
template <typename T>
struct Candidate {
  T value;
  int64_t at;
};

template <typename T>
NEEDLE_DEVICE Candidate<T> other_lane(const Candidate<T>& c, int by) {
  return {other_lane(c.value, by), other_lane(c.at, by)};
}

template <typename T, bool Largest>
struct Better {
  NEEDLE_DEVICE Candidate<T> operator()(const Candidate<T>& a, const Candidate<T>& b) const {
    if (a.at < 0) return b;
    if (b.at < 0) return a;
    const bool a_none = a.value != a.value, b_none = b.value != b.value;
    if (a_none != b_none) return a_none ? a : b;
    if (!a_none && a.value != b.value) return (a.value > b.value) == Largest ? a : b;
    return a.at < b.at ? a : b;
  }
};

template <typename T, bool Largest>
__global__ void positions(const T* x, T* values, int64_t* indices, int64_t lines, int64_t length,
                          int64_t inner, Team team) {
  const int64_t line = team.line(), size = line < lines ? length : 0;
  const T* const from = x + (size == 0 ? 0 : line / inner * length * inner + line % inner);
  const Better<T, Largest> better;
  Candidate<T> mine{T(0), -1};
  each_run<4>(0, size, team.lane(), team.lanes, [&](int64_t at, int n) {
    T item[4] = {};
    for (int i = 0; i < 4; i++) {
      if (i < n) item[i] = from[(at + int64_t(i) * team.lanes) * inner];
    }
    for (int i = 0; i < 4; i++) {
      if (i < n) mine = better(mine, Candidate<T>{item[i], at + int64_t(i) * team.lanes});
    }
  });
  const Candidate<T> best = combine(team, mine, better);
  if (line >= lines || team.lane() != 0) return;
  indices[line] = best.at;
  if (values) values[line] = best.value;
}

template <bool Largest>
int32_t positions(const void* x, double x_off, void* values, double values_off, void* indices,
                  double indices_off, int32_t dtypes, const double* desc) {
  const int64_t size = int64_t(desc[1]), inner = int64_t(desc[2]), lines = int64_t(desc[0]) * inner;
  if (lines == 0 || size == 0) return kOk;
  const Team team = team_for(lines, size, inner);
  const int64_t blocks = blocks_for(team, lines);
  if (blocks > kMaxBlocks) return too_many_blocks();
  return with_number(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    NEEDLE_LAUNCH((positions<T, Largest>), unsigned(blocks), kThreads, 0, stream(), at<T>(x, x_off),
                  at<T>(values, values_off), at<int64_t>(indices, indices_off), lines, size, inner, team);
    return launched("starting a kernel");
  });
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_max(const void* x, double x_off, void* values, double values_off, void* indices,
                                 double indices_off, int32_t dtypes, double, const double* desc) noexcept {
  return positions<true>(x, x_off, values, values_off, indices, indices_off, dtypes, desc);
}

NEEDLE_EXPORT int32_t needle_min(const void* x, double x_off, void* values, double values_off, void* indices,
                                 double indices_off, int32_t dtypes, double, const double* desc) noexcept {
  return positions<false>(x, x_off, values, values_off, indices, indices_off, dtypes, desc);
}

NEEDLE_EXPORT int32_t needle_argmax(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                    double, const double* desc) noexcept {
  return positions<true>(x, x_off, nullptr, 0, y, y_off, dtypes, desc);
}

NEEDLE_EXPORT int32_t needle_argmin(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                    double, const double* desc) noexcept {
  return positions<false>(x, x_off, nullptr, 0, y, y_off, dtypes, desc);
}
