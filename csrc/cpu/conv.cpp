// needle_conv2d, needle_conv2d_input and needle_conv2d_weight on channels-last tensors: matrix products whose
// patch matrix is made in the cache as the product goes along. The gradient of the input gathers, one product
// for each residue of the position by the stride, so no two threads write the same pixel. Depthwise has loops
// of its own.
#include <atomic>

#include "../common.h"
#include "conv_depthwise.h"
#include "conv_patches.h"
#include "gemm_split.h"

namespace needle {
namespace {

// Where the products of a patch matrix go: rows `ld` apart, or, with `sparse`, to every step-th pixel of an
// image.
template <typename T>
struct Target {
  T* base;
  int64_t ld;
  bool sparse;
  int64_t H, W, first_h, first_w, step_h, step_w;
};

// The weights of one group as a matrix (patch column, output column) in packed panels. w[tap + inner *
// inner_stride
// + column * column_stride] belongs to channel `inner` of that tap.
template <typename T>
T* pack_weights(const Patches<T>& p, int64_t S, const T* w, int64_t inner_stride, int64_t column_stride,
                int64_t n) {
  const GemmTable<T>& table = gemm_table<T>();
  const int64_t k = p.width(), padded = round_up(n, table.lanes), step = gemm_block(k, table.kc);
  T* packed = static_cast<T*>(scratch(kScratchConv, size_t(k * padded) * sizeof(T)));
  if (!packed || k == 0) return packed;
  const int64_t blocks = ceil_div(k, step), panels = ceil_div(n, table.nr), taps_w = int64_t(p.taps_w.size());
  parallel_tasks(
      blocks * panels, gemm_threads(16.0 * double(k) * double(n)), [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; task++) {
          const int64_t k0 = task / panels * step, j0 = task % panels * table.nr;
          const int64_t kc = std::min(step, k - k0), width = std::min(table.nr, n - j0);
          T* out = packed + k0 * padded + kc * j0;
          for (int64_t at = k0; at < k0 + kc;) {
            const int64_t tap = at / p.depth, inner = at % p.depth,
                          count = std::min(p.depth - inner, k0 + kc - at);
            const int64_t index =
                p.taps_h[size_t(tap / taps_w)].index * S + p.taps_w[size_t(tap % taps_w)].index;
            table.panel(count, width, w + index + inner * inner_stride + j0 * column_stride, inner_stride,
                        column_stride, out + (at - k0) * round_up(width, table.lanes));
            at += count;
          }
        }
      });
  return packed;
}

// out = patches of all images times packed weights (n columns), plus bias.
template <typename T>
int32_t multiply(const Patches<T>& p, int64_t images, const T* packed, int64_t n, const T* bias,
                 const Target<T>& out) {
  const GemmTable<T>& table = gemm_table<T>();
  const int64_t area = p.rows * p.cols, m = images * area, k = p.width();
  constexpr int64_t kChunk = 192;  // rows that go through scratch memory at a time when the target is sparse
  const int64_t threads = gemm_threads(double(m) * double(n) * double(std::max<int64_t>(k, 4)));
  const GemmGrid grid = gemm_grid(m, n, threads, table.nr, 32 * ceil_div(n, table.nb), 0);
  std::atomic<bool> failed{false};
  parallel_tasks(grid.rows * grid.cols, threads, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t i = task / grid.cols, j = task % grid.cols;
      const int64_t m0 = slice_start(m, 1, i, grid.rows), m1 = slice_start(m, 1, i + 1, grid.rows);
      const int64_t j0 = slice_start(n, table.nr, j, grid.cols),
                    j1 = slice_start(n, table.nr, j + 1, grid.cols);
      if (j0 == j1) continue;
      GemmArgs<T> g{};
      g.n = j1 - j0;
      g.k = k;
      g.ldc = out.sparse ? g.n : out.ld;
      g.bias = bias ? bias + j0 : nullptr;
      g.packed = packed;
      g.packed_n = round_up(n, table.lanes);
      g.packed_j = j0;
      g.work = static_cast<T*>(scratch(kScratchGemm, size_t(table.work(g)) * sizeof(T)));
      T* rows =
          out.sparse ? static_cast<T*>(scratch(kScratchTask, size_t(kChunk * g.n) * sizeof(T))) : nullptr;
      if (!g.work || (out.sparse && !rows)) {
        failed = true;
        return;
      }
      // Fills count rows from the start of the slice, so each chunk gets patches that begin there.
      struct Slice {
        const Patches<T>* patches;
        int64_t start;
      } slice{&p, 0};
      g.context = &slice;
      if (p.plain()) {
        g.a_rs = p.C;
        g.a_cs = 1;
      } else {
        g.fill = [](const void* context, int64_t row, int64_t count, int64_t k0, int64_t kc, T* to,
                    int64_t ld) {
          const Slice& s = *static_cast<const Slice*>(context);
          Patches<T>::fill(s.patches, s.start + row, count, k0, kc, to, ld);
        };
      }
      for (int64_t at = m0; at < m1; at += g.m) {
        g.m = out.sparse ? std::min(kChunk, m1 - at) : m1 - m0;
        g.a = p.x + at * p.C;
        g.c = out.sparse ? rows : out.base + at * out.ld + j0;
        slice.start = at;
        table.gemm(g);
        for (int64_t r = 0; out.sparse && r < g.m; r++) {
          const int64_t image = (at + r) / area, h = (at + r) % area / p.cols, w = (at + r) % p.cols;
          const int64_t pixel =
              (image * out.H + out.first_h + h * out.step_h) * out.W + out.first_w + w * out.step_w;
          std::memcpy(out.base + pixel * out.ld + j0, rows + r * g.n, size_t(g.n) * sizeof(T));
        }
      }
    }
  });
  return failed ? out_of_memory() : kOk;
}

template <typename T>
Patches<T> input_patches(const Conv& s, const T* x, int64_t group) {
  Patches<T> p(x + group * s.group_in(), s.H, s.W, s.C, s.group_in(),
               forward_taps(s.R, s.dil_h, s.pad_h, s.stride_h, s.H, s.P),
               forward_taps(s.S, s.dil_w, s.pad_w, s.stride_w, s.W, s.Q));
  p.rows = s.P, p.cols = s.Q, p.stride_h = s.stride_h, p.stride_w = s.stride_w;
  return p;
}

template <typename T>
int32_t forward(const Conv& s, const T* x, const T* w, const T* bias, T* y) {
  const int64_t area = s.R * s.S, depth = s.group_in() * area;
  for (int64_t g = 0; g < s.groups; g++) {
    const int64_t first = g * s.group_out();
    const Patches<T> p = input_patches(s, x, g);
    const T* packed = pack_weights(p, s.S, w + first * depth, area, depth, s.group_out());
    if (!packed) return out_of_memory();
    const Target<T> out{y + first, s.K, false, 0, 0, 0, 0, 1, 1};
    const int32_t status = multiply(p, s.N, packed, s.group_out(), bias ? bias + first : nullptr, out);
    if (status != kOk) return status;
  }
  return kOk;
}

// The gradient of the input, image by image: the products of every tap for some output pixels, then added
// where the taps look.
template <typename T>
int32_t scatter_input(const Conv& s, const T* grad, const T* w, T* dx) {
  const GemmTable<T>& table = gemm_table<T>();
  const int64_t kernel = s.R * s.S, depth = s.group_in() * kernel, area = s.P * s.Q, image = s.H * s.W * s.C;
  constexpr int64_t kChunk = 96;
  std::atomic<bool> failed{false};
  for (int64_t group = 0; group < s.groups; group++) {
    const Patches<T> p = input_patches<T>(s, dx, group);
    const int64_t n = p.width(), outputs = s.group_out(), taps_w = int64_t(p.taps_w.size());
    // The weights as a matrix (outputs, patch columns), packed.
    const int64_t padded = round_up(n, table.lanes);
    T* plain = static_cast<T*>(scratch(kScratchWeights, size_t(outputs * n) * sizeof(T)));
    T* packed = static_cast<T*>(scratch(kScratchConv, size_t(outputs * padded) * sizeof(T)));
    if (!plain || !packed) return out_of_memory();
    for (int64_t k = 0; k < outputs; k++) {
      for (int64_t tap = 0; tap < p.taps(); tap++) {
        const int64_t index =
            p.taps_h[size_t(tap / taps_w)].index * s.S + p.taps_w[size_t(tap % taps_w)].index;
        const T* from = w + (group * outputs + k) * depth + index;
        for (int64_t c = 0; c < p.depth; c++) plain[k * n + tap * p.depth + c] = from[c * kernel];
      }
    }
    const int64_t step = gemm_block(outputs, table.kc);
    for (int64_t k0 = 0; k0 < outputs; k0 += step) {
      const int64_t kc = std::min(step, outputs - k0);
      for (int64_t j = 0; j < n; j += table.nr) {
        table.panel(kc, std::min(table.nr, n - j), plain + k0 * n + j, n, 1, packed + k0 * padded + kc * j);
      }
    }
    parallel_tasks(s.N, gemm_threads(double(s.N * area) * double(n) * double(outputs)),
                   [&](int64_t begin, int64_t end) {
                     GemmArgs<T> g{};
                     g.n = g.ldc = n;
                     g.k = outputs;
                     g.a_rs = s.K;
                     g.a_cs = 1;
                     g.packed = packed;
                     g.packed_n = padded;
                     g.c = static_cast<T*>(scratch(kScratchTask, size_t(kChunk * n) * sizeof(T)));
                     g.work = static_cast<T*>(scratch(kScratchGemm, size_t(table.work(g)) * sizeof(T)));
                     if (!g.c || !g.work) {
                       failed = true;
                       return;
                     }
                     if (group == 0)
                       std::memset(dx + begin * image, 0, size_t((end - begin) * image) * sizeof(T));
                     if (n == 0) return;
                     for (int64_t at = begin * area; at < end * area; at += g.m) {
                       g.m = std::min(kChunk, end * area - at);
                       g.a = grad + at * s.K + group * outputs;
                       table.gemm(g);
                       for (int64_t r = 0; r < g.m; r++) {
                         const int64_t pixel = at + r;
                         T* to = dx + group * s.group_in() + pixel / area * image;
                         const T* from = g.c + r * n;
                         p.runs(pixel % area / s.Q, pixel % s.Q, 0, n,
                                [&](int64_t offset, int64_t start, int64_t lo, int64_t hi, int64_t) {
                                  for (int64_t u = lo; u < hi; u++) to[offset + u] += from[start + u];
                                });
                       }
                     }
                   });
    if (failed) return out_of_memory();
  }
  return kOk;
}

template <typename T>
int32_t backward_input(const Conv& s, const T* grad, const T* w, T* dx) {
  const int64_t area = s.R * s.S, depth = s.group_in() * area;
  if (2 * s.group_in() <= gemm_table<T>().lanes && area > 1 && s.N >= thread_count()) {
    return scatter_input(s, grad, w, dx);
  }
  for (int64_t g = 0; g < s.groups; g++) {
    for (int64_t h = 0; h < std::min(s.stride_h, s.H); h++) {
      for (int64_t v = 0; v < std::min(s.stride_w, s.W); v++) {
        const int64_t rows = ceil_div(s.H - h, s.stride_h), cols = ceil_div(s.W - v, s.stride_w);
        Patches<T> p(grad + g * s.group_out(), s.P, s.Q, s.K, s.group_out(),
                     backward_taps(s.R, s.dil_h, s.pad_h, s.stride_h, h, s.P, rows),
                     backward_taps(s.S, s.dil_w, s.pad_w, s.stride_w, v, s.Q, cols));
        p.rows = rows, p.cols = cols, p.stride_h = 1, p.stride_w = 1;
        const T* packed = pack_weights(p, s.S, w + g * s.group_out() * depth, depth, area, s.group_in());
        if (!packed) return out_of_memory();
        const bool sparse = s.stride_h > 1 || s.stride_w > 1;
        const Target<T> out{dx + g * s.group_in(), s.C, sparse, s.H, s.W, h, v, s.stride_h, s.stride_w};
        const int32_t status = multiply<T>(p, s.N, packed, s.group_in(), nullptr, out);
        if (status != kOk) return status;
      }
    }
  }
  return kOk;
}

// How the threads share the weight gradient: the columns of the patches as far as they go (nothing to add up
// then), the pixels beyond that, each part with sums of its own.
GemmGrid weight_grid(int64_t threads, int64_t panels, double sums_bytes) {
  int64_t cols = threads;
  while (threads % cols != 0 || (cols > 1 && panels / cols < 2)) cols--;
  const int64_t limit = std::max<int64_t>(1, int64_t(256e6 / sums_bytes));
  return {std::min(threads / cols, limit), cols};
}

// sums (outputs, patch columns) = the gradient of pixels [m0, m1) times columns [c0, c1) of their patches.
template <typename T>
bool weight_sums(const Conv& s, const Patches<T>& p, const T* grad, int64_t m0, int64_t m1, int64_t c0,
                 int64_t c1, T* sums) {
  const GemmTable<T>& table = gemm_table<T>();
  const int64_t step = gemm_block(m1 - m0, table.kc), block = table.nb, ld = p.width();
  // Few outputs read the patches as they are; for more, they go into panels, some rows at a time.
  const bool rows_suffice = s.group_out() <= 4 * table.mr;
  constexpr int64_t kRows = 8;
  GemmArgs<T> g{};
  g.m = s.group_out();
  g.a_rs = 1;
  g.a_cs = s.K;
  g.ldc = ld;
  for (int64_t j0 = c0; j0 < c1; j0 += block) {
    g.n = std::min(block, c1 - j0);
    g.c = sums + j0;
    g.k = step;
    if (p.plain()) g.b_rs = p.C, g.b_cs = 1;
    const int64_t padded = round_up(g.n, table.lanes);
    T* packed = static_cast<T*>(scratch(kScratchTask, size_t((step + kRows) * padded) * sizeof(T)));
    g.work = static_cast<T*>(scratch(kScratchGemm, size_t(table.work(g)) * sizeof(T)));
    if (!packed || !g.work) return false;
    T* rows = packed + step * padded;
    std::memset(rows, 0, size_t(kRows * padded) * sizeof(T));
    g.add = false;
    if (m0 == m1) g.k = 0, table.gemm(g);
    for (int64_t at = m0; at < m1; at += g.k) {
      g.k = std::min(step, m1 - at);
      g.a = grad + at * s.K;
      if (p.plain()) {
        g.b = p.x + at * p.C + j0;
      } else if (rows_suffice) {
        Patches<T>::fill(&p, at, g.k, j0, g.n, packed, padded);
        g.b = packed;
        g.b_rs = padded;
        g.b_cs = 1;
      } else {
        for (int64_t r = 0; r < g.k; r += kRows) {
          const int64_t count = std::min(kRows, g.k - r);
          Patches<T>::fill(&p, at + r, count, j0, g.n, rows, padded);
          for (int64_t j = 0; j < padded; j += table.nr) {
            const int64_t width = std::min(table.nr, padded - j);
            for (int64_t i = 0; i < count; i++) {
              std::memcpy(packed + g.k * j + (r + i) * width, rows + i * padded + j,
                          size_t(width) * sizeof(T));
            }
          }
        }
        g.packed = packed;
        g.packed_n = padded;
      }
      table.gemm(g);
      g.add = true;
    }
  }
  return true;
}

template <typename T>
int32_t backward_weight(const Conv& s, const T* grad, const T* x, T* dw) {
  const GemmTable<T>& table = gemm_table<T>();
  const int64_t pixels = s.N * s.P * s.Q, outputs = s.group_out(), area = s.R * s.S;
  std::memset(dw, 0, size_t(s.K * s.group_in() * area) * sizeof(T));
  for (int64_t g = 0; g < s.groups; g++) {
    const Patches<T> p = input_patches(s, x, g);
    const int64_t width = p.width();
    if (width == 0 || pixels == 0) continue;
    const int64_t threads = gemm_threads(double(pixels) * double(outputs) * double(width));
    const GemmGrid grid =
        weight_grid(threads, ceil_div(width, table.nr), double(outputs * width) * sizeof(T));
    T* sums = static_cast<T*>(scratch(kScratchWeights, size_t(grid.rows * outputs * width) * sizeof(T)));
    if (!sums) return out_of_memory();
    std::atomic<bool> failed{false};
    parallel_tasks(grid.rows * grid.cols, threads, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t i = task / grid.cols, j = task % grid.cols;
        const int64_t c0 = slice_start(width, table.nr, j, grid.cols),
                      c1 = slice_start(width, table.nr, j + 1, grid.cols);
        if (!weight_sums(s, p, grad + g * outputs, pixels * i / grid.rows, pixels * (i + 1) / grid.rows, c0,
                         c1, sums + i * outputs * width)) {
          failed = true;
        }
      }
    });
    if (failed) return out_of_memory();
    const int64_t taps_w = int64_t(p.taps_w.size());
    parallel_for(outputs, std::max<int64_t>(1, kGrain / width), [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; k++) {
        for (int64_t tap = 0; tap < p.taps(); tap++) {
          const int64_t index =
              p.taps_h[size_t(tap / taps_w)].index * s.S + p.taps_w[size_t(tap % taps_w)].index;
          T* out = dw + (g * outputs + k) * p.depth * area + index;
          const T* part = sums + k * width + tap * p.depth;
          for (int64_t c = 0; c < p.depth; c++) {
            T sum = part[c];
            for (int64_t i = 1; i < grid.rows; i++) sum += part[i * outputs * width + c];
            out[c * area] = sum;
          }
        }
      }
    });
  }
  return kOk;
}

template <typename T>
int32_t conv2d(const Conv& s, const T* x, const T* w, const T* bias, T* y) {
  return s.depthwise() ? depthwise_forward(s, x, w, bias, y) : forward(s, x, w, bias, y);
}

template <typename T>
int32_t conv2d_input(const Conv& s, const T* grad, const T* w, T* dx) {
  return s.depthwise() ? depthwise_input(s, grad, w, dx) : backward_input(s, grad, w, dx);
}

template <typename T>
int32_t conv2d_weight(const Conv& s, const T* grad, const T* x, T* dw) {
  return s.depthwise() ? depthwise_weight(s, grad, x, dw) : backward_weight(s, grad, x, dw);
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_conv2d(const void* x, double x_off, const void* w, double w_off,
                                    const void* bias, double bias_off, void* y, double y_off, int32_t dtypes,
                                    double, const double* desc) noexcept {
  const Conv s(desc);
  if (is_half(main_dtype(dtypes))) return kDeclined;
  if (main_dtype(dtypes) == kFloat32) {
    return conv2d(s, at<float>(x, x_off), at<float>(w, w_off), at<float>(bias, bias_off),
                  at<float>(y, y_off));
  }
  return conv2d(s, at<double>(x, x_off), at<double>(w, w_off), at<double>(bias, bias_off),
                at<double>(y, y_off));
}

NEEDLE_EXPORT int32_t needle_conv2d_input(const void* g, double g_off, const void* w, double w_off, void* dx,
                                          double dx_off, int32_t dtypes, double,
                                          const double* desc) noexcept {
  const Conv s(desc);
  if (is_half(main_dtype(dtypes))) return kDeclined;
  if (main_dtype(dtypes) == kFloat32) {
    return conv2d_input(s, at<float>(g, g_off), at<float>(w, w_off), at<float>(dx, dx_off));
  }
  return conv2d_input(s, at<double>(g, g_off), at<double>(w, w_off), at<double>(dx, dx_off));
}

NEEDLE_EXPORT int32_t needle_conv2d_weight(const void* g, double g_off, const void* x, double x_off, void* dw,
                                           double dw_off, int32_t dtypes, double,
                                           const double* desc) noexcept {
  const Conv s(desc);
  if (is_half(main_dtype(dtypes))) return kDeclined;
  if (main_dtype(dtypes) == kFloat32) {
    return conv2d_weight(s, at<float>(g, g_off), at<float>(x, x_off), at<float>(dw, dw_off));
  }
  return conv2d_weight(s, at<double>(g, g_off), at<double>(x, x_off), at<double>(dw, dw_off));
}
