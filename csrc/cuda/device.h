// What the drivers of this folder share: the stream and state of the current device, launch results, errors
// that kernels raise, and coordinates of strided tensors. platform.h says how a file of kernels is written.
#pragma once
#include "platform.h"

#include "../common.h"

// Functions that kernels call, and those that the host calls too.
#define NEEDLE_DEVICE __device__ __forceinline__
#define NEEDLE_ANYWHERE __host__ __device__ __forceinline__

namespace needle {

// The calling thread's stream of its current device: everything is put there, in order. What was put off goes
// first, so libraries that know the stream are called behind a call of this function.
cudaStream_t stream();

constexpr int kMaxDevices = 64;
int current_device();

// Launches that wait for more to join them: the next call of stream() starts them. One kind of work at a time
// and device; the object stays its owner's.
struct Deferred {
  void (*launch)(Deferred& self);
};
Deferred*& deferred();  // the current device's, null where nothing waits

// How many multiprocessors the current device has.
int multiprocessors();

// The status of the launches since the last call; a failure is told as that of `what`.
int32_t launched(const char* what);

// Threads per block where nothing speaks for another number.
constexpr int kThreads = 256;

// Blocks for n threads of a loop that strides over the grid: enough to fill the device twice at most.
inline unsigned grid_for(int64_t n) {
  const int64_t needed = (n + kThreads - 1) / kThreads, most = int64_t(multiprocessors()) * 16;
  return unsigned(needed < 1 ? 1 : needed < most ? needed : most);
}

// --- Errors that only a kernel sees: texts in runtime.cu, with value and limit ---

enum Fault : int32_t {
  kNoFault,
  kZeroDivision,
  kNegativePower,
  kNoIntegerValue,   // limit: the dtype's code
  kIndexOutOfRange,  // limit: the size
  kNoClass,          // limit: the number of classes
  kNoProbability,
  kFaults,
};

// Lies in host memory that the device writes; the host looks at it where it waits for the device anyway.
struct Alarm {
  double value, limit;
  int32_t fault;
};

// The text of a fault as this call's failure, where the host sees it beforehand.
int32_t fail_for(Fault fault);

// The alarm of the current device, as a kernel argument.
Alarm* alarm();

NEEDLE_DEVICE void raise(Alarm* alarm, Fault fault, double value, double limit) {
  alarm->value = value;
  alarm->limit = limit;
  __threadfence_system();
  alarm->fault = fault;
}

// --- Vectors of elements that are read and written at once ---

template <typename T, int V>
struct alignas(sizeof(T) * V) Vector {
  T lane[V];
};

// Lanes of 16 bytes, or of 4 bytes for elements of one byte.
template <typename T>
NEEDLE_ANYWHERE constexpr int vector_lanes() {
  return sizeof(T) == 1 ? 4 : int(16 / sizeof(T));
}

inline bool is_aligned(const void* p, size_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

// --- Coordinates ---

constexpr int kMaxDims = 16;

int32_t too_many_dims(int64_t ndim);

// Division of numbers below 2^31 by a constant: a product and a shift (Granlund & Montgomery 1994).
struct Divisor {
  uint32_t divisor, magic, shift;

  void set(uint32_t d) {
    divisor = d;
    shift = 0;
    while (shift < 32 && (uint64_t(1) << shift) < d) shift++;
    magic = uint32_t(((uint64_t(1) << 32) * ((uint64_t(1) << shift) - d)) / d + 1);
  }
  NEEDLE_DEVICE uint32_t divide(uint32_t n) const { return (__umulhi(n, magic) + n) >> shift; }
};

// Where the elements of N tensors of one shape lie: strides in elements, dims from outermost to innermost.
template <int N>
struct Dims {
  int ndim = 0;
  Divisor size[kMaxDims];
  int64_t stride[N][kMaxDims];

  // Offsets of the element at a row-major position.
  NEEDLE_DEVICE void locate(uint32_t position, int64_t (&offset)[N]) const {
    for (int k = 0; k < N; k++) offset[k] = 0;
    for (int d = ndim - 1; d > 0; d--) {
      const uint32_t rest = size[d].divide(position), index = position - rest * size[d].divisor;
      for (int k = 0; k < N; k++) offset[k] += index * stride[k][d];
      position = rest;
    }
    if (ndim > 0) {
      for (int k = 0; k < N; k++) offset[k] += position * stride[k][0];
    }
  }
};

// The elementwise descriptor (ndim, shape, strides of each operand) as pieces of fewer than 2^31 elements:
// calls f(dims, n, offsets of the first element) for each.
template <int N, typename F>
int32_t each_piece(int64_t ndim, const double* shape, const double* strides, const F& f) {
  if (ndim > kMaxDims) return too_many_dims(ndim);
  constexpr int64_t kMost = int64_t(1) << 30;
  // The innermost dims that stay whole, and how much of the dim before them fits.
  int64_t whole = ndim, inner = 1;
  while (whole > 0 && inner * int64_t(shape[whole - 1]) <= kMost) inner *= int64_t(shape[--whole]);
  const int64_t split = whole - 1, chunk = split < 0 ? 1 : kMost / inner;
  int64_t outer = 1;
  for (int64_t d = 0; d < split; d++) outer *= int64_t(shape[d]);
  for (int64_t o = 0; o < outer; o++) {
    int64_t base[N] = {};
    for (int64_t d = split - 1, rest = o; d >= 0; d--) {
      const int64_t index = rest % int64_t(shape[d]);
      rest /= int64_t(shape[d]);
      for (int k = 0; k < N; k++) base[k] += index * int64_t(strides[k * ndim + d]);
    }
    const int64_t size = split < 0 ? 1 : int64_t(shape[split]);
    for (int64_t begin = 0; begin < size; begin += chunk) {
      const int64_t count = size - begin < chunk ? size - begin : chunk;
      Dims<N> dims;
      int64_t at[N];
      for (int k = 0; k < N; k++) at[k] = base[k];
      for (int64_t d = split < 0 ? 0 : split; d < ndim; d++, dims.ndim++) {
        dims.size[dims.ndim].set(uint32_t(d == split ? count : int64_t(shape[d])));
        for (int k = 0; k < N; k++) dims.stride[k][dims.ndim] = int64_t(strides[k * ndim + d]);
      }
      for (int k = 0; k < N && split >= 0; k++) at[k] += begin * int64_t(strides[k * ndim + split]);
      f(dims, uint32_t(count * inner), at);
    }
  }
  return kOk;
}

}  // namespace needle
