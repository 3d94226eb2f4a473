// Copies between layouts, conversions between dtypes, and fill. A copy finds the dims in which source and
// result are contiguous: the same dim means runs of bytes, two different ones a transpose of tiles.
#include "kernels/copy.h"

#include <math.h>
#include <stdio.h>
#include <atomic>

#include "../common.h"
#include "tiles.h"

namespace needle {
namespace {

// Bytes that one thread should have to move at least.
constexpr int64_t kCopyGrain = 65536;
// Elements of a transposed tile, and its side where both dims are long.
constexpr int64_t kTransposeTile = 4096, kTransposeSide = 64;

struct Copy {
  Sizes shape, x_strides, y_strides;
  int64_t bytes;
  const char* x;
  char* y;
  int64_t n;
};

// Dims that both tensors walk run by run: as wide as memory allows in the last dim.
void copy_rows(const Copy& c) {
  const int64_t x_step = c.x_strides.back(), y_step = c.y_strides.back();
  const Sizes* const strides[] = {&c.x_strides, &c.y_strides};
  with_width(c.bytes, [&](auto zero) {
    using T = decltype(zero);
    const T* x = reinterpret_cast<const T*>(c.x);
    T* y = reinterpret_cast<T*>(c.y);
    parallel_for(c.n, kCopyGrain / c.bytes, [&](int64_t begin, int64_t end) {
      for_rows<2>(c.shape, strides, begin, end - begin, [&](const int64_t* offset, int64_t, int64_t n) {
        const T* from = x + offset[0];
        T* to = y + offset[1];
        if (y_step == 1) {
          gather_row(from, x_step, to, n);
        } else {
          for (int64_t i = 0; i < n; i++) to[i * y_step] = from[i * x_step];
        }
      });
    });
  });
}

// The last dim is contiguous in y, dim `row` in x: one transpose for every choice of the other dims.
void copy_transposed(const Copy& c, size_t row) {
  const size_t last = c.shape.size() - 1;
  const int64_t rows = c.shape[row], cols = c.shape[last];
  const int64_t x_step = c.x_strides[last], y_step = c.y_strides[row];
  Sizes outer, x_outer, y_outer;
  for (size_t d = 0; d < last; d++) {
    if (d == row) continue;
    outer.push_back(c.shape[d]);
    x_outer.push_back(c.x_strides[d]);
    y_outer.push_back(c.y_strides[d]);
  }
  const int64_t narrow = at_most(rows, cols) < kTransposeSide ? at_most(rows, cols) : kTransposeSide;
  const int64_t wide = kTransposeTile / narrow / 16 * 16 > 0 ? kTransposeTile / narrow / 16 * 16 : 16;
  const int64_t tile_rows = rows <= cols ? narrow : wide, tile_cols = rows <= cols ? wide : narrow;
  const int64_t across = (cols + tile_cols - 1) / tile_cols, down = (rows + tile_rows - 1) / tile_rows;
  const int64_t tasks = c.n / (rows * cols) * across * down;
  const TransposeTile transpose = select_kernels(copy)->transpose[log2_bytes(c.bytes)];
  const int64_t area = at_most(tile_rows, rows) * at_most(tile_cols, cols);
  parallel_for(tasks, 1 + kCopyGrain / (area * c.bytes), [&](int64_t begin, int64_t end) {
    Sizes index;
    for (int64_t task = begin; task < end; task++) {
      const int64_t j = task % across * tile_cols, i = task / across % down * tile_rows;
      locate(outer, task / across / down, index);
      const int64_t from = offset_of(index, x_outer) + i + j * x_step;
      const int64_t to = offset_of(index, y_outer) + i * y_step + j;
      transpose(c.x + from * c.bytes, x_step, c.y + to * c.bytes, y_step, at_most(tile_rows, rows - i),
                at_most(tile_cols, cols - j));
    }
  });
}

void copy(const Copy& c) {
  const size_t last = c.shape.size() - 1;
  if (c.y_strides[last] == 1 && c.x_strides[last] != 1 && c.x_strides[last] != 0) {
    for (size_t d = last; d-- > 0;) {
      if (c.x_strides[d] == 1 && c.shape[d] > 1) return copy_transposed(c, d);
    }
  }
  copy_rows(c);
}

bool representable(double x) { return fabs(x) < 0x1p63; }

// The first element that has no integer value.
double first_unrepresentable(const void* tile, DType dtype, int64_t n) {
  double value = 0;
  const CastLoop widen = select_kernels(copy)->cast[dtype][kFloat64];
  for (int64_t i = 0; i < n; i++) {
    widen(static_cast<const char*>(tile) + i * dtype_bytes(dtype), &value, 1);
    if (!representable(value)) break;
  }
  return value;
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_copy(const void* a, double a_off, void* y, double y_off, int32_t dtypes,
                                  double n, const double* desc) noexcept {
  Copy c;
  c.bytes = dtype_bytes(main_dtype(dtypes));
  c.x = static_cast<const char*>(a) + int64_t(a_off) * c.bytes;
  c.y = static_cast<char*>(y) + int64_t(y_off) * c.bytes;
  c.n = int64_t(n);
  if (!desc || desc[0] == 0) {
    parallel_for(c.n * c.bytes, kCopyGrain,
                 [&](int64_t begin, int64_t end) { memmove(c.y + begin, c.x + begin, size_t(end - begin)); });
    return kOk;
  }
  const int64_t ndim = int64_t(desc[0]);
  c.shape = to_sizes(desc + 1, ndim);
  c.x_strides = to_sizes(desc + 1 + ndim, ndim);
  c.y_strides = to_sizes(desc + 1 + 2 * ndim, ndim);
  copy(c);
  return kOk;
}

NEEDLE_EXPORT int32_t needle_cast(const void* a, double a_off, void* y, double y_off, int32_t dtypes,
                                  double n, const double* desc) noexcept {
  const DType from = main_dtype(dtypes), to = second_dtype(dtypes);
  if (from == to) return needle_copy(a, a_off, y, y_off, from, n, desc);
  const CastLoop loop = select_kernels(copy)->cast[from][to];
  const Operand in[1] = {{a, a_off, from, false}}, out{y, y_off, to, false};
  std::atomic<bool> failed{false};
  std::atomic<double> culprit{0};
  run<1>(in, out, n, desc, 2, [&](const void* const* p, void* q, int64_t m) {
    if (loop(p[0], q, m) != 0 && !failed.exchange(true)) culprit = first_unrepresentable(p[0], from, m);
  });
  if (!failed) return kOk;
  const double value = culprit;
  char text[32];
  snprintf(text, sizeof text,
           isinf(value)     ? (value > 0 ? "Infinity" : "-Infinity")
           : value != value ? "NaN"
                            : "%g",
           value);
  return fail(kInvalid, "%s has no %s value; remove NaN, infinities and values beyond 2^63 first", text,
              dtype_name(to));
}

NEEDLE_EXPORT int32_t needle_fill(void* y, double y_off, int32_t dtypes, double n,
                                  const double* desc) noexcept {
  const DType dtype = main_dtype(dtypes);
  Copy c;
  c.bytes = dtype_bytes(dtype);
  c.y = static_cast<char*>(y) + int64_t(y_off) * c.bytes;
  c.n = int64_t(n);
  char element[8];
  store_number(desc[0], dtype, false, element);
  const int64_t ndim = int64_t(desc[1]);
  if (ndim == 0) {
    parallel_for(c.n, kCopyGrain / c.bytes, [&](int64_t begin, int64_t end) {
      repeat(element, c.bytes, c.y + begin * c.bytes, end - begin);
    });
    return kOk;
  }
  c.x = element;
  c.shape = to_sizes(desc + 2, ndim);
  c.x_strides.assign(size_t(ndim), 0);
  c.y_strides = to_sizes(desc + 2 + ndim, ndim);
  copy(c);
  return kOk;
}
