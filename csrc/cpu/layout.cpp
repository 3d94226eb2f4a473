// Kernels that put tensors into frames (pad) or cut matrices at a diagonal (triangle). Elements are moved as
// bits of their size; rows are split over threads. `fill` and the strided copies are in copy.cpp.
#include <string.h>

#include "../common.h"

namespace needle {
namespace {

enum PadMode : int { kConstant, kReflect, kReplicate, kCircular };

// A padding as the descriptor gives it: dims from outermost to innermost in the memory of y.
struct Padding {
  PadMode mode;
  int64_t ndim;
  const double *size, *before, *after, *stride;

  explicit Padding(const double* desc) : mode(PadMode(int(desc[0]))), ndim(int64_t(desc[2])) {
    size = desc + 3;
    before = size + ndim;
    after = before + ndim;
    stride = after + ndim;
  }
  int64_t padded(int64_t d) const { return int64_t(size[d] + before[d] + after[d]); }
};

// Where element i of a padded dim comes from, or -1.
int64_t source(PadMode mode, int64_t i, int64_t size) {
  if (i >= 0 && i < size) return i;
  switch (mode) {
    case kReplicate:
      return i < 0 ? 0 : size - 1;
    case kCircular:
      return i < 0 ? i + size : i - size;
    case kReflect:
      return i < 0 ? -i : 2 * (size - 1) - i;
    default:
      return -1;
  }
}

template <typename T>
void fill_run(T* y, int64_t n, T value) {
  for (int64_t i = 0; i < n; i++) y[i] = value;
}

template <typename T>
void pad_row(const Padding& p, const T* x, T* y, T value) {
  const int64_t d = p.ndim - 1, size = int64_t(p.size[d]), before = int64_t(p.before[d]),
                after = int64_t(p.after[d]), stride = int64_t(p.stride[d]);
  if (p.mode == kConstant) {
    fill_run(y, before, value);
    fill_run(y + before + size, after, value);
  } else {
    for (int64_t i = -before; i < 0; i++) y[before + i] = x[source(p.mode, i, size) * stride];
    for (int64_t i = size; i < size + after; i++) y[before + i] = x[source(p.mode, i, size) * stride];
  }
  if (stride == 1) {
    if (size > 0) memcpy(y + before, x, size_t(size) * sizeof(T));
  } else {
    for (int64_t i = 0; i < size; i++) y[before + i] = x[i * stride];
  }
}

template <typename T>
int32_t pad(const Padding& p, const T* x, T* y, T value) {
  if (p.ndim == 0) {
    *y = *x;
    return kOk;
  }
  const int64_t width = p.padded(p.ndim - 1);
  int64_t rows = 1;
  for (int64_t d = 0; d < p.ndim - 1; d++) rows *= p.padded(d);
  if (width == 0) return kOk;
  parallel_for(rows, kGrain / width + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      int64_t rest = row, from = 0;
      bool inside = true;
      for (int64_t d = p.ndim - 2; d >= 0; d--) {
        const int64_t padded = p.padded(d);
        const int64_t i = source(p.mode, rest % padded - int64_t(p.before[d]), int64_t(p.size[d]));
        rest /= padded;
        if (i < 0) {
          inside = false;
          break;
        }
        from += i * int64_t(p.stride[d]);
      }
      if (inside) {
        pad_row(p, x + from, y + row * width, value);
      } else {
        fill_run(y + row * width, width, value);
      }
    }
  });
  return kOk;
}

// Pads elements of type T, moved as `Bits`. Integers wrap, by way of `Wide`.
template <typename Bits, typename T, typename Wide = T>
int32_t pad_as(const void* x, double x_off, void* y, double y_off, const double* desc) {
  const T value = T(Wide(desc[1]));
  Bits bits;
  memcpy(&bits, &value, sizeof bits);
  return pad<Bits>(Padding(desc), at<Bits>(x, x_off), at<Bits>(y, y_off), bits);
}

template <typename T>
int32_t triangle(const T* x, T* y, int64_t n, const double* desc) {
  const int64_t rows = int64_t(desc[0]), columns = int64_t(desc[1]), diagonal = int64_t(desc[2]);
  const bool upper = desc[3] != 0;
  if (n == 0) return kOk;
  parallel_for(n / columns, kGrain / columns + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      // The first column that is past the diagonal (upper: that is not before it).
      int64_t cut = r % rows + diagonal + (upper ? 0 : 1);
      cut = cut < 0 ? 0 : cut > columns ? columns : cut;
      const T* in = x + r * columns;
      T* out = y + r * columns;
      if (upper) {
        fill_run(out, cut, T(0));
        memcpy(out + cut, in + cut, size_t(columns - cut) * sizeof(T));
      } else {
        memcpy(out, in, size_t(cut) * sizeof(T));
        fill_run(out + cut, columns - cut, T(0));
      }
    }
  });
  return kOk;
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_pad(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double n,
                                 const double* desc) noexcept {
  if (n == 0) return kOk;
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return pad_as<uint32_t, float>(x, x_off, y, y_off, desc);
    case kFloat64:
      return pad_as<uint64_t, double>(x, x_off, y, y_off, desc);
    case kInt32:
      return pad_as<uint32_t, int32_t, int64_t>(x, x_off, y, y_off, desc);
    case kInt64:
      return pad_as<uint64_t, int64_t>(x, x_off, y, y_off, desc);
    case kUint8:
      return pad_as<uint8_t, uint8_t, int64_t>(x, x_off, y, y_off, desc);
    case kBool:
      return pad_as<uint8_t, bool>(x, x_off, y, y_off, desc);
    default:
      return fail(kInternal, "no kernel for %s", dtype_name(main_dtype(dtypes)));
  }
}

NEEDLE_EXPORT int32_t needle_triangle(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                      double n, const double* desc) noexcept {
  const int64_t count = int64_t(n);
  switch (dtype_bytes(main_dtype(dtypes))) {
    case 1:
      return triangle(at<uint8_t>(x, x_off), at<uint8_t>(y, y_off), count, desc);
    case 4:
      return triangle(at<uint32_t>(x, x_off), at<uint32_t>(y, y_off), count, desc);
    case 8:
      return triangle(at<uint64_t>(x, x_off), at<uint64_t>(y, y_off), count, desc);
    default:
      return fail(kInternal, "no kernel for %s", dtype_name(main_dtype(dtypes)));
  }
}
