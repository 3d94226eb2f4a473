// Running sums and products along the middle dim of [outer, size, inner]; floats run in double. Long lines
// are cut into parts: what each part comes to, what comes before each part, then the elements.
#include <algorithm>

#include "elementwise.h"
#include "reduce.h"

namespace needle {
namespace {

struct Adding {
  static constexpr int start = 0;
  template <typename A>
  static NEEDLE_DEVICE A next(A a, A b) {
    return a + b;
  }
};

struct Multiplying {
  static constexpr int start = 1;
  template <typename A>
  static NEEDLE_DEVICE A next(A a, A b) {
    return a * b;
  }
};

struct Lines {
  int64_t lines, size, inner, part, parts;  // a part has `part` elements
  bool reverse;

  // Where element k in the order of the scan lies.
  NEEDLE_DEVICE int64_t at(int64_t line, int64_t k) const {
    return (line / inner * size + (reverse ? size - 1 - k : k)) * inner + line % inner;
  }
};

// Lines side by side: a thread per line and part. Without y it stores what the part comes to in `carry`; else
// it starts from there.
template <class Op, typename T>
__global__ void scan_columns(const T* x, T* y, typename Wide<T>::type* carry, Lines s) {
  typedef typename Wide<T>::type A;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < s.lines * s.parts; i += step) {
    const int64_t line = i % s.lines, begin = i / s.lines * s.part;
    const int64_t end = begin + s.part < s.size ? begin + s.part : s.size;
    A running = y && carry ? carry[i] : A(Op::start);
    for (int64_t k = begin; k < end; k += kRun) {
      T item[kRun];
      for (int j = 0; j < kRun; j++) item[j] = k + j < end ? x[s.at(line, k + j)] : T(Op::start);
      for (int j = 0; j < kRun; j++) {
        running = Op::next(running, A(item[j]));
        if (y && k + j < end) y[s.at(line, k + j)] = T(running);
      }
    }
    if (!y) carry[i] = running;
  }
}

// What comes before each part of each line, in place.
template <class Op, typename A>
__global__ void scan_parts(A* carry, int64_t lines, int64_t parts) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t line = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; line < lines; line += step) {
    A running = A(Op::start);
    for (int64_t p = 0; p < parts; p++) {
      const A own = carry[p * lines + line];
      carry[p * lines + line] = running;
      running = Op::next(running, own);
    }
  }
}

// Contiguous lines: a block per line and part, a tile of kThreads * kRun elements after the other.
template <class Op, typename T>
__global__ void scan_rows(const T* x, T* y, typename Wide<T>::type* carry, Lines s) {
  typedef typename Wide<T>::type A;
  NEEDLE_SHARED(T, tile, [kThreads * kRun]);
  NEEDLE_SHARED(A, totals, [kThreads / 32]);
  const int tid = int(threadIdx.x), lane = tid % 32, warp = tid / 32;
  const int64_t line = int64_t(blockIdx.x) % s.lines, begin = int64_t(blockIdx.x) / s.lines * s.part;
  const int64_t end = begin + s.part < s.size ? begin + s.part : s.size;
  A before = y && carry ? carry[blockIdx.x] : A(Op::start);
  for (int64_t first = begin; first < end; first += kThreads * kRun) {
    for (int j = 0; j < kRun; j++) {  // in runs of memory, then a piece for each thread
      const int64_t k = first + j * kThreads + tid;
      tile[j * kThreads + tid] = k < end ? x[s.at(line, k)] : T(Op::start);
    }
    __syncthreads();
    A own = A(Op::start);
    for (int j = 0; j < kRun; j++) own = Op::next(own, A(tile[tid * kRun + j]));
    // What the lanes up to this one come to, then the warps before this one.
    A up_to = own;
    for (int by = 1; by < 32; by *= 2) {
      const A other = A(__shfl_up_sync(0xffffffffu, up_to, by));
      if (lane >= by) up_to = Op::next(other, up_to);
    }
    if (lane == 31) totals[warp] = up_to;
    const A left = A(__shfl_up_sync(0xffffffffu, up_to, 1));
    __syncthreads();
    A running = before, all = before;
    for (int w = 0; w < kThreads / 32; w++) {
      if (w == warp) running = all;
      all = Op::next(all, totals[w]);
    }
    if (lane > 0) running = Op::next(running, left);
    for (int j = 0; j < kRun; j++) {
      running = Op::next(running, A(tile[tid * kRun + j]));
      tile[tid * kRun + j] = T(running);
    }
    before = all;
    __syncthreads();
    for (int j = 0; y && j < kRun; j++) {
      const int64_t k = first + j * kThreads + tid;
      if (k < end) y[s.at(line, k)] = tile[j * kThreads + tid];
    }
    __syncthreads();
  }
  if (!y && tid == 0) carry[blockIdx.x] = before;
}

template <class Op, typename T>
int32_t scan(const T* x, T* y, const double* desc, bool reverse) {
  typedef typename Wide<T>::type A;
  const int64_t size = int64_t(desc[1]), inner = int64_t(desc[2]), lines = int64_t(desc[0]) * inner;
  if (lines == 0 || size == 0) return kOk;
  const bool rows = inner == 1 && size >= 256;
  const int64_t least = rows ? 4 * kThreads * kRun : 256;  // elements worth a part of their own
  const int64_t wanted = int64_t(multiprocessors()) * (rows ? 8 : 2048);
  const int64_t most = std::max<int64_t>(1, std::min((size + least - 1) / least, wanted / lines));
  const int64_t unit = rows ? kThreads * kRun : kRun;
  Lines s{lines, size, inner, ((size + most - 1) / most + unit - 1) / unit * unit, 1, reverse};
  s.parts = (size + s.part - 1) / s.part;
  if (rows && lines * s.parts > kMaxBlocks) return too_many_blocks();
  A* carry = nullptr;
  const auto pass = [&](T* to) {
    if (rows) {
      NEEDLE_LAUNCH((scan_rows<Op, T>), unsigned(lines * s.parts), kThreads, 0, stream(), x, to, carry, s);
    } else {
      NEEDLE_LAUNCH((scan_columns<Op, T>), grid_for(lines * s.parts), kThreads, 0, stream(), x, to, carry, s);
    }
  };
  if (s.parts > 1) {
    carry = static_cast<A*>(scratch(kScratchReduce, size_t(lines * s.parts) * sizeof(A)));
    if (!carry) return out_of_memory();
    pass(nullptr);
    NEEDLE_LAUNCH((scan_parts<Op, A>), grid_for(lines), kThreads, 0, stream(), carry, lines, s.parts);
  }
  pass(y);
  return launched("starting a kernel");
}

template <class Op>
int32_t scan_any(const void* x, double x_off, void* y, double y_off, int32_t dtypes, const double* desc,
                 bool reverse) {
  if (main_dtype(dtypes) == kInt64) {
    return scan<Op>(at<int64_t>(x, x_off), at<int64_t>(y, y_off), desc, reverse);
  }
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return scan<Op>(at<T>(x, x_off), at<T>(y, y_off), desc, reverse);
  });
}

// dx_k = (x_0 ... x_{k-1}) s_k, where s_k = g_k + x_{k+1} s_{k+1}. A thread does a line: in a tree, products
// that overflow would make NaN of zeros.
template <typename T>
__global__ void cumprod_backward(const T* g, const T* x, T* dx, Lines s) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t line = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; line < s.lines; line += step) {
    double sum = 0, product = 1, next = 0;
    for (int64_t k = s.size - 1; k >= 0; k--) {
      const int64_t i = s.at(line, k);
      sum = double(g[i]) + (k + 1 < s.size ? next * sum : 0.0);
      next = double(x[i]);
      dx[i] = T(sum);
    }
    for (int64_t k = 0; k < s.size; k++) {
      const int64_t i = s.at(line, k);
      dx[i] = T(double(dx[i]) * product);
      product *= double(x[i]);
    }
  }
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_cumsum(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                    double, const double* desc) noexcept {
  return scan_any<Adding>(x, x_off, y, y_off, dtypes, desc, desc[3] != 0);
}

NEEDLE_EXPORT int32_t needle_cumprod(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                     double, const double* desc) noexcept {
  return scan_any<Multiplying>(x, x_off, y, y_off, dtypes, desc, false);
}

NEEDLE_EXPORT int32_t needle_cumprod_backward(const void* g, double g_off, const void* x, double x_off,
                                              void* dx, double dx_off, int32_t dtypes, double,
                                              const double* desc) noexcept {
  const int64_t size = int64_t(desc[1]), inner = int64_t(desc[2]), lines = int64_t(desc[0]) * inner;
  if (lines == 0 || size == 0) return kOk;
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    const Lines s{lines, size, inner, size, 1, false};
    NEEDLE_LAUNCH((cumprod_backward<T>), grid_for(lines), kThreads, 0, stream(), at<T>(g, g_off),
                  at<T>(x, x_off), at<T>(dx, dx_off), s);
    return launched("starting a kernel");
  });
}
