// Depthwise convolution, one channel in and one out per group: loops over taps with the channels innermost,
// since a matrix product per channel would have one column.
#pragma once
#include <algorithm>
#include <cstring>

#include "../common.h"
#include "conv_patches.h"
#include "gemm_split.h"

namespace needle {
namespace {

// The pixels that pixel `at` meets through one tap along an axis, or -1: from the output to the input.
inline int64_t meets(int64_t at, int64_t stride, int64_t pad, int64_t dilation, int64_t tap, int64_t size) {
  const int64_t h = at * stride - pad + tap * dilation;
  return h >= 0 && h < size ? h : -1;
}

// Calls f(n, p, q) for the pixels of `images` images of this size, split over threads.
template <typename F>
void each_pixel(int64_t images, int64_t rows, int64_t cols, double work, const F& f) {
  const int64_t threads =
      std::max<int64_t>(1, std::min<int64_t>(thread_count(), int64_t(work / (2 * kGrain))));
  parallel_tasks(images * rows, threads, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      for (int64_t q = 0; q < cols; q++) f(row / rows, row % rows, q);
    }
  });
}

// The weights (C, 1, R, S) as (R, S, C).
template <typename T>
T* depthwise_weights(const Conv& s, const T* w) {
  const int64_t area = s.R * s.S;
  T* out = static_cast<T*>(scratch(kScratchConv, size_t(s.C * area) * sizeof(T)));
  if (!out) return nullptr;
  for (int64_t c = 0; c < s.C; c++) {
    for (int64_t t = 0; t < area; t++) out[t * s.C + c] = w[c * area + t];
  }
  return out;
}

template <typename T>
int32_t depthwise_forward(const Conv& s, const T* x, const T* w, const T* bias, T* y) {
  const auto multiply_add = gemm_table<T>().multiply_add;
  const T* taps = depthwise_weights(s, w);
  if (!taps) return out_of_memory();
  const size_t bytes = size_t(s.C) * sizeof(T);
  each_pixel(s.N, s.P, s.Q, double(s.N * s.P * s.Q) * double(s.C * s.R * s.S),
             [&](int64_t n, int64_t p, int64_t q) {
               T* out = y + ((n * s.P + p) * s.Q + q) * s.C;
               if (bias) std::memcpy(out, bias, bytes);
               else std::memset(out, 0, bytes);
               for (int64_t r = 0; r < s.R; r++) {
                 const int64_t h = meets(p, s.stride_h, s.pad_h, s.dil_h, r, s.H);
                 for (int64_t t = 0; h >= 0 && t < s.S; t++) {
                   const int64_t v = meets(q, s.stride_w, s.pad_w, s.dil_w, t, s.W);
                   if (v >= 0)
                     multiply_add(s.C, x + ((n * s.H + h) * s.W + v) * s.C, taps + (r * s.S + t) * s.C, out);
                 }
               }
             });
  return kOk;
}

template <typename T>
int32_t depthwise_input(const Conv& s, const T* grad, const T* w, T* dx) {
  const auto multiply_add = gemm_table<T>().multiply_add;
  const T* taps = depthwise_weights(s, w);
  if (!taps) return out_of_memory();
  each_pixel(s.N, s.H, s.W, double(s.N * s.P * s.Q) * double(s.C * s.R * s.S),
             [&](int64_t n, int64_t h, int64_t v) {
               T* out = dx + ((n * s.H + h) * s.W + v) * s.C;
               std::memset(out, 0, size_t(s.C) * sizeof(T));
               for (int64_t r = 0; r < s.R; r++) {
                 const int64_t row = h + s.pad_h - r * s.dil_h, p = row / s.stride_h;
                 if (row < 0 || row % s.stride_h != 0 || p >= s.P) continue;
                 for (int64_t t = 0; t < s.S; t++) {
                   const int64_t col = v + s.pad_w - t * s.dil_w, q = col / s.stride_w;
                   if (col < 0 || col % s.stride_w != 0 || q >= s.Q) continue;
                   multiply_add(s.C, grad + ((n * s.P + p) * s.Q + q) * s.C, taps + (r * s.S + t) * s.C, out);
                 }
               }
             });
  return kOk;
}

template <typename T>
int32_t depthwise_weight(const Conv& s, const T* grad, const T* x, T* dw) {
  const auto multiply_add = gemm_table<T>().multiply_add;
  const int64_t area = s.R * s.S, rows = s.N * s.P, size = area * s.C;
  const double work = double(rows * s.Q) * double(size);
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(thread_count(), int64_t(work / (2 * kGrain))));
  T* sums = static_cast<T*>(scratch(kScratchWeights, size_t(parts * size) * sizeof(T)));
  if (!sums) return out_of_memory();
  parallel_tasks(parts, parts, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; part++) {
      T* sum = sums + part * size;
      std::memset(sum, 0, size_t(size) * sizeof(T));
      for (int64_t row = rows * part / parts; row < rows * (part + 1) / parts; row++) {
        for (int64_t q = 0; q < s.Q; q++) {
          const T* g = grad + (row * s.Q + q) * s.C;
          for (int64_t r = 0; r < s.R; r++) {
            const int64_t h = meets(row % s.P, s.stride_h, s.pad_h, s.dil_h, r, s.H);
            for (int64_t t = 0; h >= 0 && t < s.S; t++) {
              const int64_t v = meets(q, s.stride_w, s.pad_w, s.dil_w, t, s.W);
              if (v >= 0)
                multiply_add(s.C, g, x + ((row / s.P * s.H + h) * s.W + v) * s.C, sum + (r * s.S + t) * s.C);
            }
          }
        }
      }
    }
  });
  for (int64_t c = 0; c < s.C; c++) {
    for (int64_t t = 0; t < area; t++) {
      T sum = 0;
      for (int64_t part = 0; part < parts; part++) sum += sums[part * size + t * s.C + c];
      dw[c * area + t] = sum;
    }
  }
  return kOk;
}

}  // namespace
}  // namespace needle
