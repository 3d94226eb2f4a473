// needle_conv2d, needle_conv2d_input and needle_conv2d_weight on channels-last tensors: by cuDNN where it is
// loaded (halves by it alone), else tiled matrix products over gathered images (conv.h), or a thread per
// element where groups are too narrow for tiles and in float64. The gradient of the input gathers as well,
// one product for each residue of the position by the stride; that of the weights is summed over parts of the
// pixels, then over the parts in their order.
#include <algorithm>

#include "conv.h"
#include "dnn.h"

namespace needle {
namespace {

struct Conv {
  int64_t N, C, H, W, K, R, S, P, Q, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;

  explicit Conv(const double* desc) {
    int64_t* const fields[] = {&N, &C,        &H,        &W,     &K,     &R,     &S,     &P,
                               &Q, &stride_h, &stride_w, &pad_h, &pad_w, &dil_h, &dil_w, &groups};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) *fields[i] = int64_t(desc[i]);
  }
  int64_t group_in() const { return C / groups; }
  int64_t group_out() const { return K / groups; }
};

int32_t check_size(const Gather& g, int64_t outer) {
  constexpr int64_t kMost = int64_t(1) << 31;
  if (g.rows() < kMost && g.width() * outer < kMost) return kOk;
  return fail(kInvalid, "a convolution of %lld pixels has no kernel: take fewer images at a time",
              static_cast<long long>(g.rows()));
}

// --- The products ---

template <typename T>
__global__ void pack_weights(Gather g, Weights at, const T* w, T* packed, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const int64_t line = i / at.outer;
    packed[i] = w[at.offset(g, line, i - line * at.outer)];
  }
}

// out = gathered rows times packed weights, plus bias. Blocks along y are groups.
template <int R, int C, int D, int V>
__global__ void __launch_bounds__(kThreads, 2)
    multiply_tiles(Gather g, const float* x, const float* packed, Target<float> out, int64_t columns,
                   int column_tiles) {
  const int64_t group = blockIdx.y, first = blockIdx.x % column_tiles * C, width = g.width();
  const int64_t row = int64_t(blockIdx.x / column_tiles) * R, skipped = group * columns;
  RowGatherer<float, R, D, V> a(g, x + group * g.depth, row);
  LineLoader<float, C, D, V> b(packed + skipped, out.channels, 0, width, first, columns);
  typedef TileProduct<float, R, C, D> Tile;
  NEEDLE_SHARED(typename Tile::Stage, stages, [2]);
  Tile tile;
  tile.multiply((width + D - 1) / D, a, b, stages);
  NEEDLE_UNROLL for (int i = 0; i < tile.kRows; i++) {
    const int64_t m = row + tile_row(i);
    if (m >= g.rows()) continue;
    float* const to = out.pixel(g.place(uint32_t(m))) + skipped;
    NEEDLE_UNROLL for (int j = 0; j < tile.kColumns; j += V) {
      const int64_t n = first + tile_column(j);
      if (n >= columns) continue;
      Vector<float, V> v;
      for (int lane = 0; lane < V; lane++) {
        v.lane[lane] = tile.sum[i][j + lane] + (out.bias ? out.bias[skipped + n + lane] : 0);
      }
      *reinterpret_cast<Vector<float, V>*>(to + n) = v;
    }
  }
}

// The same with a thread per element: n elements from row `first` on.
template <typename T>
__global__ void multiply_elements(Gather g, const T* x, const T* packed, Target<T> out, Divisor by_channel,
                                  Divisor by_group, int64_t first, uint32_t n) {
  const uint32_t step = gridDim.x * blockDim.x;
  for (uint32_t e = blockIdx.x * blockDim.x + threadIdx.x; e < n; e += step) {
    const uint32_t row = by_channel.divide(e), o = e - row * by_channel.divisor;
    const Place place = g.place(uint32_t(first) + row);
    const T* const from = x + int64_t(by_group.divide(o)) * g.depth;
    const T* weight = packed + o;
    T sum = 0;
    for (int a = 0; a < g.taps_h; a++) {
      for (int b = 0; b < g.taps_w; b++, weight += g.depth * out.channels) {
        const int64_t offset = g.offset(place, a, b);
        if (offset < 0) continue;
        for (int64_t c = 0; c < g.depth; c++) sum += from[offset + c] * weight[c * out.channels];
      }
    }
    out.pixel(place)[o] = sum + (out.bias ? out.bias[o] : T(0));
  }
}

// Whether there is enough to a group for tiles to pay.
bool is_wide(const Gather& g, int64_t groups, int64_t columns) {
  return columns >= 16 && g.width() >= 16 && groups <= 65535;
}

template <int R, int C, int D>
struct TileSize {
  static constexpr int kRows = R, kColumns = C, kDepth = D;
  static int64_t blocks(int64_t rows, int64_t columns) {
    return (rows + R - 1) / R * ((columns + C - 1) / C);
  }
};

// Calls f(tile size) for tiles as large as keep all multiprocessors busy.
template <typename F>
void with_tile(int64_t rows, int64_t columns, int64_t times, const F& f) {
  typedef TileSize<128, 128, 8> Large;
  typedef TileSize<128, 64, 16> Tall;
  const int64_t enough = multiprocessors();
  if (rows > 64 && columns > 64 && Large::blocks(rows, columns) * times >= enough) f(Large());
  else if (rows > 64 && Tall::blocks(rows, columns) * times >= enough) f(Tall());
  else f(TileSize<64, 64, 16>());
}

template <typename F>
void with_lanes(bool whole, const F& f) {
  if (whole) f(std::integral_constant<int, 4>());
  else f(std::integral_constant<int, 1>());
}

template <typename... P>
bool is_whole(const Gather& g, int64_t columns, const P*... tensors) {
  return g.depth % 4 == 0 && columns % 4 == 0 && (is_aligned(tensors, 16) && ...);
}

int32_t launch_tiles(const Gather& g, int64_t groups, int64_t columns, const float* x, const float* packed,
                     const Target<float>& out) {
  with_tile(g.rows(), columns, groups, [&](auto size) {
    typedef decltype(size) Tile;
    with_lanes(is_whole(g, columns, x, out.y), [&](auto lanes) {
      constexpr int V = decltype(lanes)::value;
      const int column_tiles = int((columns + Tile::kColumns - 1) / Tile::kColumns);
      const dim3 grid{unsigned(Tile::blocks(g.rows(), columns)), unsigned(groups)};
      NEEDLE_LAUNCH((multiply_tiles<Tile::kRows, Tile::kColumns, Tile::kDepth, V>), grid, kThreads, 0,
                    stream(), g, x, packed, out, columns, column_tiles);
    });
  });
  return launched("starting a kernel");
}

template <typename T>
int32_t launch_elements(const Gather& g, int64_t columns, const T* x, const T* packed, const Target<T>& out) {
  Divisor by_channel, by_group;
  by_channel.set(uint32_t(out.channels));
  by_group.set(uint32_t(columns));
  const int64_t most = (int64_t(1) << 30) / out.channels;
  for (int64_t row = 0, count; row < g.rows(); row += count) {
    count = std::min(most, g.rows() - row);
    NEEDLE_LAUNCH((multiply_elements<T>), grid_for(count * out.channels), kThreads, 0, stream(), g, x, packed,
                  out, by_channel, by_group, row, uint32_t(count * out.channels));
  }
  return launched("starting a kernel");
}

// out = gathered x times the weights.
template <typename T>
int32_t multiply(const Gather& g, int64_t groups, const Weights& at, const T* x, const T* w,
                 const Target<T>& out) {
  if (g.rows() == 0 || at.outer == 0) return kOk;
  const int32_t status = check_size(g, at.outer);
  if (status != kOk) return status;
  const int64_t n = g.width() * at.outer;
  T* const packed = static_cast<T*>(scratch(kScratchWeights, size_t(n) * sizeof(T)));
  if (!packed) return out_of_memory();
  if (n > 0) NEEDLE_LAUNCH((pack_weights<T>), grid_for(n), kThreads, 0, stream(), g, at, w, packed, n);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (is_wide(g, groups, at.columns)) return launch_tiles(g, groups, at.columns, x, packed, out);
  }
  return launch_elements(g, at.columns, x, packed, out);
}

// --- The gradient of the weights ---

// partial (part, tap and channel, output channel) = sums over a part of the pixels. Blocks along y are
// groups, along z parts.
template <int R, int C, int D, int V>
__global__ void __launch_bounds__(kThreads, 2)
    weight_tiles(Gather g, const float* x, const float* grad, float* partial, int64_t outer, int64_t columns,
                 int column_tiles, int64_t part_rows) {
  const int64_t group = blockIdx.y, first = blockIdx.x % column_tiles * C, width = g.width();
  const int64_t line = int64_t(blockIdx.x / column_tiles) * R, skipped = group * columns;
  const int64_t rows = g.rows(), begin = int64_t(blockIdx.z) * part_rows;
  const int64_t end = begin + part_rows < rows ? begin + part_rows : rows;
  ColumnGatherer<float, R, D, V> a(g, x + group * g.depth, line, begin, end);
  LineLoader<float, C, D, V> b(grad + skipped, outer, begin, end, first, columns);
  typedef TileProduct<float, R, C, D> Tile;
  NEEDLE_SHARED(typename Tile::Stage, stages, [2]);
  Tile tile;
  tile.multiply(begin < end ? (end - begin + D - 1) / D : 0, a, b, stages);
  float* const own = partial + int64_t(blockIdx.z) * width * outer + skipped;
  NEEDLE_UNROLL for (int i = 0; i < tile.kRows; i++) {
    const int64_t m = line + tile_row(i);
    if (m >= width) continue;
    NEEDLE_UNROLL for (int j = 0; j < tile.kColumns; j += V) {
      const int64_t n = first + tile_column(j);
      if (n >= columns) continue;
      Vector<float, V> v;
      for (int lane = 0; lane < V; lane++) v.lane[lane] = tile.sum[i][j + lane];
      *reinterpret_cast<Vector<float, V>*>(own + m * outer + n) = v;
    }
  }
}

// The same with a thread per element of a part; blocks along y are parts.
template <typename T>
__global__ void weight_elements(Gather g, const T* x, const T* grad, T* partial, int64_t outer,
                                int64_t columns, int64_t part_rows) {
  const int64_t n = g.width() * outer, e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (e >= n) return;
  const int64_t line = e / outer, o = e - line * outer;
  const Column column(g, line);
  const int64_t rows = g.rows(), begin = int64_t(blockIdx.y) * part_rows;
  const int64_t end = begin + part_rows < rows ? begin + part_rows : rows;
  const T* const from = x + o / columns * g.depth + column.channel;
  T sum = 0;
  for (int64_t row = begin; row < end; row++) {
    const int64_t offset = g.offset(g.place(uint32_t(row)), column.a, column.b);
    if (offset >= 0) sum += from[offset] * grad[row * outer + o];
  }
  partial[int64_t(blockIdx.y) * n + e] = sum;
}

template <typename T>
__global__ void add_parts(Gather g, Weights at, const T* partial, int64_t parts, T* dw) {
  const int64_t n = g.width() * at.outer, step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    T sum = partial[i];
    for (int64_t part = 1; part < parts; part++) sum += partial[part * n + i];
    const int64_t line = i / at.outer;
    dw[at.offset(g, line, i - line * at.outer)] = sum;
  }
}

// How many parts the pixels fall into, so that `blocks` for each part fill the device, and no part is short.
int64_t parts_for(int64_t rows, int64_t blocks, int64_t wanted, int64_t least) {
  const int64_t parts = std::min((wanted + blocks - 1) / blocks, (rows + least - 1) / least);
  return std::max<int64_t>(1, std::min<int64_t>(parts, 65535));
}

template <typename T>
int32_t weight_gradient(const Gather& g, int64_t groups, const Weights& at, const T* x, const T* grad,
                        T* dw) {
  const int64_t n = g.width() * at.outer, rows = g.rows();
  if (n == 0) return kOk;
  const int32_t status = check_size(g, at.outer);
  if (status != kOk) return status;
  T* partial = nullptr;
  int64_t parts = 1, part_rows = 0;
  // Room for `count` parts of whole tiles.
  const auto divide = [&](int64_t count, int64_t depth) {
    part_rows = (rows + count * depth - 1) / (count * depth) * depth;
    parts = std::max<int64_t>(1, part_rows == 0 ? 1 : (rows + part_rows - 1) / part_rows);
    partial = static_cast<T*>(scratch(kScratchConv, size_t(parts * n) * sizeof(T)));
  };
  bool wide = false;
  if constexpr (sizeof(T) == sizeof(float)) {
    wide = is_wide(g, groups, at.columns);
    if (wide) {
      // Parts make up for few tiles, so that tiles can be large.
      const int64_t busy = multiprocessors();
      with_tile(g.width(), at.columns, busy, [&](auto size) {
        typedef decltype(size) Tile;
        const int64_t blocks = Tile::blocks(g.width(), at.columns);
        divide(parts_for(rows, blocks * groups, 2 * busy, 32 * Tile::kDepth), Tile::kDepth);
        if (!partial) return;
        with_lanes(is_whole(g, at.columns, x, grad), [&](auto lanes) {
          constexpr int V = decltype(lanes)::value;
          const int column_tiles = int((at.columns + Tile::kColumns - 1) / Tile::kColumns);
          const dim3 grid{unsigned(blocks), unsigned(groups), unsigned(parts)};
          NEEDLE_LAUNCH((weight_tiles<Tile::kRows, Tile::kColumns, Tile::kDepth, V>), grid, kThreads, 0,
                        stream(), g, x, grad, partial, at.outer, at.columns, column_tiles, part_rows);
        });
      });
    }
  }
  if (!wide) {
    const int64_t blocks = (n + kThreads - 1) / kThreads;
    divide(parts_for(rows, blocks, 8 * multiprocessors(), 64), 1);
    if (partial) {
      NEEDLE_LAUNCH((weight_elements<T>), dim3(unsigned(blocks), unsigned(parts)), kThreads, 0, stream(), g,
                    x, grad, partial, at.outer, at.columns, part_rows);
    }
  }
  if (!partial) return out_of_memory();
  NEEDLE_LAUNCH((add_parts<T>), grid_for(n), kThreads, 0, stream(), g, at, partial, parts, dw);
  return launched("starting a kernel");
}

// --- The three ops ---

Gather forward_gather(const Conv& s) {
  Gather g{};
  g.images = s.N, g.channels = s.C, g.depth = s.group_in();
  g.H = int(s.H), g.W = int(s.W);
  g.set_grid(s.P, s.Q);
  g.step_h = int(s.stride_h), g.step_w = int(s.stride_w);
  g.start_h = -int(s.pad_h), g.start_w = -int(s.pad_w);
  g.inc_h = int(s.dil_h), g.inc_w = int(s.dil_w);
  g.taps_h = int(s.R), g.taps_w = int(s.S);
  return g;
}

// Weights with output channels outside.
Weights forward_weights(const Conv& s) {
  const int64_t area = s.R * s.S, filter = s.group_in() * area;
  return {s.K, s.group_out(), s.group_out() * filter, filter, area, int(s.S), 0, 0, 1, 1};
}

template <typename T>
int32_t forward(const Conv& s, const T* x, const T* w, const T* bias, T* y) {
  const Target<T> out{y, bias, s.K, int(s.P), int(s.Q), 0, 0, 1, 1};
  return multiply(forward_gather(s), s.groups, forward_weights(s), x, w, out);
}

// What the positions of x that leave the rest `rest` by the stride look at along one axis of g.
struct Residue {
  int64_t count;           // positions of x
  int first, step, start;  // filter positions, first + a step; the output position that the first one meets
  int inc, taps;

  Residue(int64_t rest, int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation)
      : count(rest < size ? (size - rest + stride - 1) / stride : 0),
        first(0),
        step(1),
        start(0),
        inc(0),
        taps(0) {
    const auto meets = [&](int64_t r) { return (rest + pad - r * dilation) % stride == 0; };
    while (first < kernel && !meets(first)) first++;
    if (first == kernel) return;
    while (step * dilation % stride != 0) step++;
    taps = int((kernel - first + step - 1) / step);
    start = int((rest + pad - first * dilation) / stride);
    inc = -int(step * dilation / stride);
  }
};

template <typename T>
int32_t input_gradient(const Conv& s, const T* grad, const T* w, T* dx) {
  const int64_t area = s.R * s.S, filter = s.group_in() * area;
  for (int64_t h = 0; h < s.stride_h && h < s.H; h++) {
    const Residue v(h, s.H, s.R, s.stride_h, s.pad_h, s.dil_h);
    for (int64_t j = 0; j < s.stride_w && j < s.W; j++) {
      const Residue u(j, s.W, s.S, s.stride_w, s.pad_w, s.dil_w);
      Gather g{};
      g.images = s.N, g.channels = s.K, g.depth = s.group_out();
      g.H = int(s.P), g.W = int(s.Q);
      g.set_grid(v.count, u.count);
      g.step_h = g.step_w = 1;
      g.start_h = v.start, g.start_w = u.start;
      g.inc_h = v.inc, g.inc_w = u.inc;
      g.taps_h = v.taps, g.taps_w = u.taps;
      const Weights at{s.C,    s.group_in(), s.group_out() * filter, area, filter, int(s.S), v.first, u.first,
                       v.step, u.step};
      const Target<T> out{
          dx, nullptr, s.C, int(s.H), int(s.W), int(h), int(j), int(s.stride_h), int(s.stride_w)};
      const int32_t status = multiply(g, s.groups, at, grad, w, out);
      if (status != kOk) return status;
    }
  }
  return kOk;
}

// By cuDNN, else declined.
int32_t by_library(ConvolutionOp op, int32_t dtypes, const void* first, double first_off, const void* second,
                   double second_off, const void* bias, double bias_off, void* out, double out_off,
                   const double* desc) {
  const double bytes = double(dtype_bytes(main_dtype(dtypes)));
  return dnn_convolve(op, main_dtype(dtypes), at<char>(first, first_off * bytes),
                      at<char>(second, second_off * bytes), at<char>(bias, bias_off * bytes),
                      at<char>(out, out_off * bytes), desc);
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_conv2d(const void* x, double x_off, const void* w, double w_off,
                                    const void* bias, double bias_off, void* y, double y_off, int32_t dtypes,
                                    double, const double* desc) noexcept {
  const int32_t status = by_library(kConvolve, dtypes, x, x_off, w, w_off, bias, bias_off, y, y_off, desc);
  if (status != kDeclined || is_half(main_dtype(dtypes))) return status;
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return forward(Conv(desc), at<T>(x, x_off), at<T>(w, w_off), at<T>(bias, bias_off), at<T>(y, y_off));
  });
}

NEEDLE_EXPORT int32_t needle_conv2d_input(const void* g, double g_off, const void* w, double w_off, void* dx,
                                          double dx_off, int32_t dtypes, double,
                                          const double* desc) noexcept {
  const int32_t status = by_library(kConvolveInput, dtypes, g, g_off, w, w_off, nullptr, 0, dx, dx_off, desc);
  if (status != kDeclined || is_half(main_dtype(dtypes))) return status;
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return input_gradient(Conv(desc), at<T>(g, g_off), at<T>(w, w_off), at<T>(dx, dx_off));
  });
}

NEEDLE_EXPORT int32_t needle_conv2d_weight(const void* g, double g_off, const void* x, double x_off, void* dw,
                                           double dw_off, int32_t dtypes, double,
                                           const double* desc) noexcept {
  const int32_t status =
      by_library(kConvolveWeight, dtypes, g, g_off, x, x_off, nullptr, 0, dw, dw_off, desc);
  if (status != kDeclined || is_half(main_dtype(dtypes))) return status;
  const Conv s(desc);
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return weight_gradient(forward_gather(s), s.groups, forward_weights(s), at<T>(x, x_off), at<T>(g, g_off),
                           at<T>(dw, dw_off));
  });
}
