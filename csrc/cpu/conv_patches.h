// The matrix of patches ("im2col") of a channels-last tensor, made a few rows at a time where the product
// needs them and never as a whole. Row (n, i, j) holds, tap after tap, the source pixels that output pixel
// sees.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace needle {

// One convolution as it stands in the descriptor.
struct Conv {
  int64_t N, C, H, W, K, R, S, P, Q, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;

  explicit Conv(const double* desc) {
    int64_t* field[] = {&N, &C,        &H,        &W,     &K,     &R,     &S,     &P,
                        &Q, &stride_h, &stride_w, &pad_h, &pad_w, &dil_h, &dil_w, &groups};
    for (int i = 0; i < 16; i++) *field[i] = int64_t(desc[i]);
  }
  int64_t group_in() const { return C / groups; }
  int64_t group_out() const { return K / groups; }
  bool depthwise() const { return groups > 1 && groups == C && groups == K; }
};

// A position of the kernel and where it looks: at source row i * stride + offset for output row i.
struct Tap {
  int64_t index, offset;
};

// The taps along one axis that hit the source for some output, of those with a whole offset. The output at i
// lies at `first` + i * `step` of an axis that is `stride` times finer than the source (forward: first = 0,
// stride = 1).
inline std::vector<Tap> forward_taps(int64_t kernel, int64_t dilation, int64_t pad, int64_t stride,
                                     int64_t source, int64_t outputs) {
  std::vector<Tap> taps;
  for (int64_t r = 0; r < kernel; r++) {
    const int64_t offset = r * dilation - pad;
    // The first output at or right of the source's start must lie before its end.
    const int64_t i = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
    if (i < outputs && i * stride + offset < source) taps.push_back({r, offset});
  }
  return taps;
}

// The same for the gradient of the input at first, first + stride, ...: source row i + offset for the i-th of
// them.
inline std::vector<Tap> backward_taps(int64_t kernel, int64_t dilation, int64_t pad, int64_t stride,
                                      int64_t first, int64_t source, int64_t outputs) {
  std::vector<Tap> taps;
  for (int64_t r = kernel - 1; r >= 0; r--) {  // offsets ascend
    const int64_t at = first + pad - r * dilation;
    if (at % stride != 0) continue;
    const int64_t offset = at / stride;
    if (offset < source && outputs - 1 + offset >= 0) taps.push_back({r, offset});
  }
  return taps;
}

template <typename T>
struct Patches {
  const T* x;          // the source, from the first channel of the group on
  int64_t H, W, C;     // its size; C is also the distance between pixels
  int64_t rows, cols;  // outputs along each axis of one image
  int64_t stride_h, stride_w;
  int64_t depth;  // channels of the group
  std::vector<Tap> taps_h, taps_w;
  int64_t run;  // taps along w that are neighbours in memory: all of them or one

  Patches(const T* source, int64_t h, int64_t w, int64_t c, int64_t channels, std::vector<Tap> along_h,
          std::vector<Tap> along_w)
      : x(source),
        H(h),
        W(w),
        C(c),
        depth(channels),
        taps_h(std::move(along_h)),
        taps_w(std::move(along_w)),
        run(1) {
    bool neighbours = depth == C;
    for (size_t s = 1; s < taps_w.size(); s++) neighbours &= taps_w[s].offset == taps_w[s - 1].offset + 1;
    if (neighbours) run = int64_t(taps_w.size());
  }
  int64_t taps() const { return int64_t(taps_h.size() * taps_w.size()); }
  int64_t width() const { return taps() * depth; }
  // Whether the patches are the source itself.
  bool plain() const {
    return taps() == 1 && taps_h[0].offset == 0 && taps_w[0].offset == 0 && stride_h == 1 && stride_w == 1 &&
           rows == H && cols == W;
  }

  // Calls f(offset, to, lo, hi, count) for each run in columns [k0, k0 + kc) of the patch of output (i, j):
  // its `count` elements stand from `to` on, those in [lo, hi) at `offset` + their place in the run in the
  // image, the others outside of it.
  template <typename F>
  void runs(int64_t i, int64_t j, int64_t k0, int64_t kc, const F& f) const {
    const int64_t length = run * depth, runs_w = int64_t(taps_w.size()) / run, row = W * C;
    int64_t index = k0 / length, u0 = k0 % length;
    int64_t r = index / runs_w, s = index % runs_w;
    for (int64_t to = 0; to < kc;) {
      const int64_t count = std::min(length - u0, kc - to);
      const int64_t h = i * stride_h + taps_h[size_t(r)].offset;
      // Elements [from, from + count) of the source row, of which [0, row) exist.
      const int64_t from = (j * stride_w + taps_w[size_t(s * run)].offset) * C + u0;
      const bool inside = h >= 0 && h < H;
      const int64_t lo = inside ? std::min(count, std::max<int64_t>(0, -from)) : count;
      const int64_t hi = inside ? std::max(lo, std::min(count, row - from)) : count;
      f(h * row + from, to, lo, hi, count);
      to += count;
      u0 = 0;
      if (++s == runs_w) s = 0, r++;
    }
  }

  // Columns [k0, k0 + kc) of the patch of output (i, j) of the image at `image`.
  void row(const T* image, int64_t i, int64_t j, int64_t k0, int64_t kc, T* out) const {
    runs(i, j, k0, kc, [&](int64_t offset, int64_t to, int64_t lo, int64_t hi, int64_t count) {
      for (int64_t u = 0; u < lo; u++) out[to + u] = 0;
      if (hi > lo) copy(image + offset + lo, hi - lo, out + to + lo);
      for (int64_t u = hi; u < count; u++) out[to + u] = 0;
    });
  }

  // GemmArgs::fill, with the patches as context; rows count through all images.
  static void fill(const void* context, int64_t row, int64_t rows, int64_t k0, int64_t kc, T* out,
                   int64_t ld) {
    const Patches& p = *static_cast<const Patches*>(context);
    const int64_t area = p.rows * p.cols;
    int64_t i = row % area / p.cols, j = row % p.cols;
    const T* image = p.x + row / area * p.H * p.W * p.C;
    for (int64_t r = 0; r < rows; r++, out += ld) {
      p.row(image, i, j, k0, kc, out);
      if (++j < p.cols) continue;
      j = 0;
      if (++i < p.rows) continue;
      i = 0;
      image += p.H * p.W * p.C;
    }
  }

 private:
  // Short runs in steps of 16 bytes, the last one overlapping: faster than a call of memcpy.
  static void copy(const T* from, int64_t count, T* to) {
    constexpr int64_t step = 16 / int64_t(sizeof(T));
    if (count > 16 * step) {
      std::memcpy(to, from, size_t(count) * sizeof(T));
    } else if (count >= step) {
      for (int64_t u = 0; u < count - step; u += step) std::memcpy(to + u, from + u, 16);
      std::memcpy(to + count - step, from + count - step, 16);
    } else {
      for (int64_t u = 0; u < count; u++) to[u] = from[u];
    }
  }
};

}  // namespace needle
