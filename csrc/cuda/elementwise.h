// Runs a function object over the elements of tensors of one shape: contiguous ones 16 bytes at a time, all
// others through their coordinates. The kernels of elementwise.cu and of conversions are made of it.
#pragma once
#include <utility>

#include "../cpu/strided.h"
#include "device.h"

namespace needle {
namespace {

// An operand: a tensor, or a number where `p` is null.
template <typename T>
struct Argument {
  const T* p;
  T value;

  NEEDLE_DEVICE T at(int64_t i) const { return p ? p[i] : value; }

  template <int V>
  NEEDLE_DEVICE Vector<T, V> vector_at(int64_t i) const {
    if (p) return reinterpret_cast<const Vector<T, V>*>(p)[i];
    Vector<T, V> v;
    for (int lane = 0; lane < V; lane++) v.lane[lane] = value;
    return v;
  }
};

template <int V, typename R, typename Op, typename... T>
NEEDLE_DEVICE Vector<R, V> apply(const Op& op, const Vector<T, V>&... x) {
  Vector<R, V> y;
  for (int lane = 0; lane < V; lane++) y.lane[lane] = op(x.lane[lane]...);
  return y;
}

template <int V, typename R, typename Op, typename... T>
__global__ void flat(R* y, int64_t n, Op op, Argument<T>... in) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x,
                first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t whole = n / V;
  for (int64_t i = first; i < whole; i += step) {
    reinterpret_cast<Vector<R, V>*>(y)[i] = apply<V, R>(op, in.template vector_at<V>(i)...);
  }
  const int64_t i = whole * V + first;
  if (i < n) y[i] = op(in.at(i)...);
}

template <int N, size_t... I, typename R, typename Op, typename... T>
NEEDLE_DEVICE void apply_at(std::index_sequence<I...>, const int64_t (&at)[N], R* y, const Op& op,
                            const Argument<T>&... in) {
  y[at[N - 1]] = op(in.at(at[I])...);
}

template <typename R, typename Op, typename... T>
__global__ void strided(R* y, uint32_t n, Dims<sizeof...(T) + 1> dims, Op op, Argument<T>... in) {
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    int64_t at[sizeof...(T) + 1];
    dims.locate(i, at);
    apply_at(std::index_sequence_for<T...>(), at, y, op, in...);
  }
}

template <typename T>
Argument<T> argument(const void* base, double offset, DType dtype, bool saturate) {
  Argument<T> a{at<T>(base, offset), T(0)};
  if (!base) store_number(offset, dtype, saturate, &a.value);
  return a;
}

template <typename T>
Argument<T> moved(const Argument<T>& a, int64_t by) {
  return {a.p ? a.p + by : nullptr, a.value};
}

template <size_t... I, typename R, typename Op, typename... T>
void launch_strided(std::index_sequence<I...>, const Dims<sizeof...(T) + 1>& dims, uint32_t n,
                    const int64_t (&at)[sizeof...(T) + 1], R* y, const Op& op, const Argument<T>&... in) {
  NEEDLE_LAUNCH((strided<R, Op, T...>), grid_for(n), kThreads, 0, stream(), y + at[sizeof...(T)], n, dims, op,
                moved(in, at[I])...);
}

// The lanes that serve the widest of some types.
template <typename... T>
constexpr int lanes_for() {
  int lanes = 16;
  ((lanes = vector_lanes<T>() < lanes ? vector_lanes<T>() : lanes), ...);
  return lanes;
}

template <typename R, typename Op, typename... T>
int32_t run(R* y, double n, const double* desc, const Op& op, const Argument<T>&... in) {
  constexpr int N = sizeof...(T) + 1, V = lanes_for<T...>();
  const int64_t count = int64_t(n);
  if (count == 0) return kOk;
  const bool aligned = is_aligned(y, sizeof(R) * V) && (is_aligned(in.p, sizeof(T) * V) && ...);
  if ((!desc || desc[0] == 0) && aligned) {
    NEEDLE_LAUNCH((flat<V, R, Op, T...>), grid_for((count + V - 1) / V), kThreads, 0, stream(), y, count, op,
                  in...);
    return launched("starting a kernel");
  }
  const double flat_shape[1] = {n}, flat_strides[N] = {(in.p ? 1.0 : 0.0)..., 1.0};
  const bool plain = !desc || desc[0] == 0;
  const int64_t ndim = plain ? 1 : int64_t(desc[0]);
  const int32_t status =
      each_piece<N>(ndim, plain ? flat_shape : desc + 1, plain ? flat_strides : desc + 1 + ndim,
                    [&](const Dims<N>& dims, uint32_t m, const int64_t(&at)[N]) {
                      launch_strided(std::index_sequence_for<T...>(), dims, m, at, y, op, in...);
                    });
  return status == kOk ? launched("starting a kernel") : status;
}

int32_t no_kernel(DType dtype) { return fail(kInvalid, "no kernel for %s", dtype_name(dtype)); }

// Calls f with a zero of the element type of a dtype, among floats or among all.
template <typename F>
int32_t with_float(DType dtype, const F& f) {
  switch (dtype) {
    case kFloat32:
      return f(float(0));
    case kFloat64:
      return f(double(0));
    default:
      return no_kernel(dtype);
  }
}
template <typename F>
int32_t with_number(DType dtype, const F& f) {
  switch (dtype) {
    case kInt32:
      return f(int32_t(0));
    case kInt64:
      return f(int64_t(0));
    case kUint8:
    case kBool:
      return f(uint8_t(0));
    default:
      return with_float(dtype, f);
  }
}

}  // namespace
}  // namespace needle
