// Walks over strided tensors: the descriptor of elementwise calls, an odometer over its dims, and copies
// between strided memory and contiguous tiles.
#pragma once
#include <string.h>
#include <vector>

#include "../common.h"

namespace needle {

using Sizes = std::vector<int64_t>;

inline Sizes to_sizes(const double* values, int64_t count) { return Sizes(values, values + count); }

// Whether these strides are those of row-major memory.
inline bool is_dense(const Sizes& shape, const Sizes& strides) {
  int64_t step = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    if (strides[d] != step) return false;
    step *= shape[d];
  }
  return true;
}

// Coordinates of a row-major position.
inline void locate(const Sizes& shape, int64_t position, Sizes& index) {
  index.resize(shape.size());
  for (size_t d = shape.size(); d-- > 0;) {
    index[d] = position % shape[d];
    position /= shape[d];
  }
}

inline int64_t offset_of(const Sizes& index, const Sizes& strides) {
  int64_t offset = 0;
  for (size_t d = 0; d < index.size(); d++) offset += index[d] * strides[d];
  return offset;
}

// Calls row(offsets, begin, length) for the pieces of rows that make up `count` elements from position
// `position` on: offsets[k] is where a piece starts under strides[k], `begin` counts elements from
// `position`.
template <int K, typename Row>
void for_rows(const Sizes& shape, const Sizes* const (&strides)[K], int64_t position, int64_t count,
              const Row& row) {
  const size_t last = shape.size() - 1;
  const int64_t inner = shape[last];
  int64_t in_row = position % inner;
  Sizes index;
  locate(shape, position - in_row, index);
  int64_t offsets[K];
  for (int k = 0; k < K; k++) offsets[k] = offset_of(index, *strides[k]) + in_row * (*strides[k])[last];
  for (int64_t done = 0; done < count;) {
    const int64_t length = inner - in_row < count - done ? inner - in_row : count - done;
    row(offsets, done, length);
    done += length;
    for (int k = 0; k < K; k++) offsets[k] -= in_row * (*strides[k])[last];
    in_row = 0;
    for (size_t d = last; d-- > 0;) {
      const bool carry = ++index[d] == shape[d];
      for (int k = 0; k < K; k++) offsets[k] += (*strides[k])[d] * (carry ? 1 - shape[d] : 1);
      if (!carry) break;
      index[d] = 0;
    }
  }
}

// y[i] = x[i * step]
template <typename T>
void gather_row(const T* x, int64_t step, T* y, int64_t n) {
  if (step == 0) {
    const T value = *x;
    for (int64_t i = 0; i < n; i++) y[i] = value;
  } else if (step == 1) {
    if (n >= 32) {
      memcpy(y, x, size_t(n) * sizeof(T));
    } else {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; i++) y[i] = x[i];
    }
  } else {
    for (int64_t i = 0; i < n; i++) y[i] = x[i * step];
  }
}

template <typename T>
void scatter_row(const T* x, T* y, int64_t step, int64_t n) {
  if (step == 1) {
    memcpy(y, x, size_t(n) * sizeof(T));
  } else {
    for (int64_t i = 0; i < n; i++) y[i * step] = x[i];
  }
}

// The place of an element's width in a table over 1, 2, 4 and 8 bytes.
inline int log2_bytes(int64_t bytes) { return bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3; }

// Calls f with a zero of an unsigned type as wide as an element.
template <typename F>
void with_width(int64_t bytes, const F& f) {
  switch (bytes) {
    case 1:
      return f(uint8_t(0));
    case 2:
      return f(uint16_t(0));
    case 4:
      return f(uint32_t(0));
    default:
      return f(uint64_t(0));
  }
}

// Elements [position, position + count) of a strided tensor into contiguous memory, and back.
void gather(const Sizes& shape, const Sizes& strides, int64_t bytes, const void* base, int64_t position,
            int64_t count, void* tile);
void scatter(const Sizes& shape, const Sizes& strides, int64_t bytes, const void* tile, void* base,
             int64_t position, int64_t count);

// Writes `value` as one element. Integers wrap, or stop at their limits where `saturate` is set; beyond 64
// bits they stop in any case.
void store_number(double value, DType dtype, bool saturate, void* out);

// `count` times the element at `element`.
void repeat(const void* element, int64_t bytes, void* out, int64_t count);

}  // namespace needle
