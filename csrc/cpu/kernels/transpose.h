// Transposes of N by N elements that lie in N integer vectors, by shuffles of two vectors each: for copies
// between memory orders and for packing. Included by ISA files only, like vec.h.
#pragma once

namespace {

// Lanes of a (0 to N - 1) and b (N to 2N - 1); `lanes` is a constant once the caller is unrolled.
template <int N, typename V>
inline V shuffle(V a, V b, V lanes) {
#if __has_builtin(__builtin_shuffle)
  return __builtin_shuffle(a, b, lanes);
#else
  V y{};
#pragma GCC unroll 16
  for (int l = 0; l < N; l++) y[l] = lanes[l] < N ? a[lanes[l]] : b[lanes[l] - N];
  return y;
#endif
}

// Swaps the off-diagonal blocks of side S of each 2S by 2S block of the rows r.
template <int S, int N, typename V>
inline void swap_blocks(V (&r)[N]) {
  V low{}, high{};
  for (int l = 0; l < N; l++) {
    low[l] = l & S ? l - S + N : l;
    high[l] = l & S ? l + N : l + S;
  }
#pragma GCC unroll 16
  for (int i = 0; i < N; i++) {
    if (i & S) continue;
    const V a = r[i], b = r[i + S];
    r[i] = shuffle<N>(a, b, low);
    r[i + S] = shuffle<N>(a, b, high);
  }
}

template <int S, int N, typename V>
inline void transpose_square(V (&r)[N]) {
  swap_blocks<S>(r);
  if constexpr (S > 1) transpose_square<S / 2>(r);
}

}  // namespace
