// Convolutions as matrix products whose first factor is never made: loaders of tile.h that gather it from
// channels-last images. Row m of that matrix is an output pixel, column (tap, channel) what the pixel looks
// at.
#pragma once
#include "elementwise.h"
#include "tile.h"

namespace needle {
namespace {

// A pixel of the output grid.
struct Place {
  int64_t image;
  int i, j;
};

// Which pixels of the source images (H, W) an output pixel (i, j) looks at: for each of the taps (a, b) the
// pixel (i step + start + a inc), likewise along w; those outside of the image count as zero.
struct Gather {
  int64_t images, channels, depth;  // channels of the source: all, and in a group
  int H, W, I, J;
  int step_h, step_w, start_h, start_w, inc_h, inc_w, taps_h, taps_w;
  Divisor by_row, by_column;

  NEEDLE_ANYWHERE int64_t rows() const { return images * I * J; }
  NEEDLE_ANYWHERE int64_t width() const { return int64_t(taps_h) * taps_w * depth; }
  void set_grid(int64_t i, int64_t j) {
    I = int(i), J = int(j);
    if (I > 0 && J > 0) by_row.set(uint32_t(I)), by_column.set(uint32_t(J));
  }
  NEEDLE_DEVICE Place place(uint32_t row) const {
    const uint32_t line = by_column.divide(row), image = by_row.divide(line);
    return {int64_t(image), int(line - image * uint32_t(I)), int(row - line * uint32_t(J))};
  }
  // The offset of the first channel of a tap, or -1 outside of the image.
  NEEDLE_DEVICE int64_t offset(const Place& p, int a, int b) const {
    const int h = p.i * step_h + start_h + a * inc_h, w = p.j * step_w + start_w + b * inc_w;
    if (uint32_t(h) >= uint32_t(H) || uint32_t(w) >= uint32_t(W)) return -1;
    return ((p.image * H + h) * W + w) * channels;
  }
};

// A column of the gathered matrix, walked along it.
struct Column {
  int a, b;
  int64_t channel;

  NEEDLE_DEVICE Column(const Gather& g, int64_t start) : a(0), b(0), channel(0) { move(g, start); }
  NEEDLE_DEVICE void move(const Gather& g, int64_t by) {
    channel += by;
    while (channel >= g.depth && a < g.taps_h) {
      channel -= g.depth;
      if (++b == g.taps_w) b = 0, a++;
    }
  }
  NEEDLE_DEVICE bool inside(const Gather& g) const { return a < g.taps_h; }
};

// R rows of the gathered matrix, D of its columns at a time: stored with columns outside, as a factor `a`.
template <typename T, int R, int D, int V>
struct RowGatherer {
  static constexpr int kUnits = D / V, kLines = kThreads / kUnits, kPasses = R / kLines;
  static_assert(kPasses * kLines == R, "every thread brings as much");

  const Gather& g;
  const T* x;
  Column column;
  Place place[kPasses];
  Vector<T, V> held[kPasses];

  NEEDLE_DEVICE RowGatherer(const Gather& g, const T* x, int64_t first_row)
      : g(g), x(x), column(g, int(threadIdx.x) % kUnits * V) {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      const int64_t row = first_row + int(threadIdx.x) / kUnits + pass * kLines;
      place[pass] = row < g.rows() ? g.place(uint32_t(row)) : Place{-1, 0, 0};
    }
  }

  NEEDLE_DEVICE void fetch() {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      const int64_t offset =
          place[pass].image >= 0 && column.inside(g) ? g.offset(place[pass], column.a, column.b) : -1;
      held[pass] = load_or_zero<T, V>(x + offset + column.channel, offset >= 0);
    }
    column.move(g, D);
  }
  template <int P>
  NEEDLE_DEVICE void store(T (&tile)[D][P]) const {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      NEEDLE_UNROLL for (int lane = 0; lane < V; lane++) {
        tile[int(threadIdx.x) % kUnits * V + lane][int(threadIdx.x) / kUnits + pass * kLines] =
            held[pass].lane[lane];
      }
    }
  }
};

// R columns of the gathered matrix, D rows of [begin, end) at a time: its transpose as a factor `a`.
template <typename T, int R, int D, int V>
struct ColumnGatherer {
  static constexpr int kUnits = R / V, kLines = kThreads / kUnits, kPasses = D / kLines;
  static_assert(kPasses * kLines == D, "every thread brings as much");

  const Gather& g;
  const T* x;
  Column column;
  uint32_t row, end;
  Vector<T, V> held[kPasses];

  NEEDLE_DEVICE ColumnGatherer(const Gather& g, const T* x, int64_t first_column, int64_t begin, int64_t end)
      : g(g),
        x(x),
        column(g, first_column + int(threadIdx.x) % kUnits * V),
        row(uint32_t(begin) + threadIdx.x / kUnits),
        end(uint32_t(end)) {}

  NEEDLE_DEVICE void fetch() {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      const uint32_t at = row + pass * kLines;
      const int64_t offset = at < end && column.inside(g) ? g.offset(g.place(at), column.a, column.b) : -1;
      held[pass] = load_or_zero<T, V>(x + offset + column.channel, offset >= 0);
    }
    row += D;
  }
  template <int P>
  NEEDLE_DEVICE void store(T (&tile)[D][P]) const {
    NEEDLE_UNROLL for (int pass = 0; pass < kPasses; pass++) {
      T* const to = &tile[int(threadIdx.x) / kUnits + pass * kLines][int(threadIdx.x) % kUnits * V];
      *reinterpret_cast<Vector<T, V>*>(to) = held[pass];
    }
  }
};

// Where products go: to every step-th pixel of images (H, W), from `first` on.
template <typename T>
struct Target {
  T* y;
  const T* bias;
  int64_t channels;
  int H, W, first_h, first_w, step_h, step_w;

  NEEDLE_DEVICE T* pixel(const Place& p) const {
    return y +
           ((p.image * H + first_h + int64_t(p.i) * step_h) * W + first_w + int64_t(p.j) * step_w) * channels;
  }
};

// The weights as a matrix (tap and inner channel, outer channel), for each group its columns. Of w, the
// element of outer channel o, inner channel c and filter position (r, s) lies at
//   o / columns * group_stride + o % columns * outer_stride + c * inner_stride + r * S + s
// Taps are the filter positions (r + a dr, s + b ds).
struct Weights {
  int64_t outer, columns, group_stride, outer_stride, inner_stride;
  int S, r, s, dr, ds;

  NEEDLE_DEVICE int64_t offset(const Gather& g, int64_t line, int64_t o) const {
    const int64_t tap = line / g.depth, c = line - tap * g.depth;
    const int a = int(tap / g.taps_w), b = int(tap) - a * g.taps_w;
    return o / columns * group_stride + o % columns * outer_stride + c * inner_stride +
           int64_t(r + a * dr) * S + s + b * ds;
  }
};

}  // namespace
}  // namespace needle
