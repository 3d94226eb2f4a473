// Optimiser steps and the unscaling of gradients. A model has many small parameters, and each comes in a call
// of its own: calls of one kind and with the same numbers are put off and go out in one launch, as soon as
// anything else wants the stream or the launch is full.
#include "optim.h"

#include <float.h>

namespace needle {
namespace {

enum Kind { kSgd, kMomentum, kAdam, kAmsgrad, kUnscale };

constexpr int kMostArrays = 5, kMostNumbers = 8;
// As many tensors as the 4 KiB of kernel arguments hold.
constexpr int kMostTensors = 64;

// One parameter with its gradient and state.
struct Tensors {
  void* arrays[kMostArrays];
  int64_t n;
};

struct Batch {
  Tensors tensors[kMostTensors];
  int first_block[kMostTensors + 1];
  int count;
};

// Elements that one block works on.
constexpr int64_t kChunk = 16 * kThreads;

template <int V, typename T, typename Rule>
NEEDLE_DEVICE void step_at(const Tensors& t, int64_t i, const Rule& rule) {
  Vector<T, V> v[Rule::kArrays];
  for (int k = 0; k < Rule::kArrays; k++) {
    v[k] = reinterpret_cast<const Vector<T, V>*>(static_cast<const T*>(t.arrays[k]) + i)[0];
  }
  for (int lane = 0; lane < V; lane++) {
    T x[Rule::kArrays];
    for (int k = 0; k < Rule::kArrays; k++) x[k] = v[k].lane[lane];
    rule(x, t);
    for (int k = 0; k < Rule::kArrays; k++) v[k].lane[lane] = x[k];
  }
  for (int k = 0; k < Rule::kArrays; k++) {
    if (k == Rule::kConstant) continue;
    reinterpret_cast<Vector<T, V>*>(static_cast<T*>(t.arrays[k]) + i)[0] = v[k];
  }
}

template <typename T, typename Rule>
__global__ void step(Batch batch, Rule rule) {
  constexpr int V = vector_lanes<T>();
  const int block = int(blockIdx.x);
  int low = 0, high = batch.count - 1;  // the last tensor whose first block is not behind this one
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (batch.first_block[middle] <= block) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const Tensors& t = batch.tensors[low];
  const int64_t begin = (block - batch.first_block[low]) * kChunk;
  const int64_t end = begin + kChunk < t.n ? begin + kChunk : t.n;
  bool aligned = true;
  for (int k = 0; k < Rule::kArrays; k++) {
    aligned = aligned && reinterpret_cast<uintptr_t>(t.arrays[k]) % (V * sizeof(T)) == 0;
  }
  const int64_t whole = aligned ? begin + (end - begin) / V * V : begin;
  for (int64_t i = begin + int64_t(threadIdx.x) * V; i < whole; i += kThreads * V) step_at<V, T>(t, i, rule);
  for (int64_t i = whole + threadIdx.x; i < end; i += kThreads) step_at<1, T>(t, i, rule);
}

// --- What waits ---

struct Queue : Deferred {
  Kind kind;
  DType dtype;
  double numbers[kMostNumbers];
  Batch batch;
};

template <typename T>
void launch(Queue& q) {
  const unsigned blocks = unsigned(q.batch.first_block[q.batch.count]);
  const auto with = [&](const auto& rule) {
    typedef std::decay_t<decltype(rule)> Rule;
    NEEDLE_LAUNCH((step<T, Rule>), blocks, kThreads, 0, stream(), q.batch, rule);
  };
  switch (q.kind) {
    case kSgd:
      return with(Sgd<T>(q.numbers));
    case kMomentum:
      return with(Momentum<T>(q.numbers));
    case kAdam:
      return with(Adam<T, false>(q.numbers));
    case kAmsgrad:
      return with(Adam<T, true>(q.numbers));
    case kUnscale:
      return with(Unscale<T>(q.numbers));
  }
}

void launch_queue(Deferred& deferred) {
  Queue& q = static_cast<Queue&>(deferred);
  if (q.dtype == kFloat64) {
    launch<double>(q);
  } else {
    launch<float>(q);
  }
  q.batch.count = 0;
}

thread_local Queue queues[kMaxDevices];

bool meet(const void* a, size_t a_bytes, const void* b, size_t b_bytes) {
  const uintptr_t p = reinterpret_cast<uintptr_t>(a), q = reinterpret_cast<uintptr_t>(b);
  return p < q + b_bytes && q < p + a_bytes;
}

// Whether a call must wait for one of those that wait: both change the same memory. (State belongs to one
// parameter, so that of parameters is enough to look at.)
bool follows(const Queue& q, const Tensors& t, size_t element) {
  for (int k = 0; k < q.batch.count; k++) {
    const Tensors& other = q.batch.tensors[k];
    if (meet(t.arrays[0], size_t(t.n) * element, other.arrays[0], size_t(other.n) * element)) return true;
  }
  return false;
}

int32_t enqueue(Kind kind, int32_t dtypes, double n, int numbers, const double* desc, const Tensors& t) {
  const DType dtype = main_dtype(dtypes);
  if (dtype != kFloat32 && dtype != kFloat64) {
    return fail(kInvalid, "an optimizer step takes float32 and float64, not %s", dtype_name(dtype));
  }
  if (n == 0) return kOk;
  const double blocks = ceil(n / double(kChunk));
  if (blocks > double(1 << 30)) return fail(kInvalid, "parameters of more than 2^42 elements have no kernel");
  Queue& q = queues[current_device()];
  const bool fits = deferred() == &q && q.batch.count < kMostTensors && q.kind == kind && q.dtype == dtype &&
                    std::equal(desc, desc + numbers, q.numbers) &&
                    q.batch.first_block[q.batch.count] + blocks < double(1 << 30) &&
                    !follows(q, t, size_t(dtype_bytes(dtype)));
  if (!fits) {
    stream();  // launches what waits
    q.launch = launch_queue;
    q.kind = kind;
    q.dtype = dtype;
    std::copy(desc, desc + numbers, q.numbers);
    q.batch.count = 0;
    q.batch.first_block[0] = 0;
    deferred() = &q;
  }
  q.batch.tensors[q.batch.count] = t;
  q.batch.first_block[q.batch.count + 1] = q.batch.first_block[q.batch.count] + int(blocks);
  q.batch.count++;
  return launched("starting a kernel");
}

// Where an array begins, whose elements are as wide as the main dtype's.
void* start(const void* base, double offset, int32_t dtypes) {
  const char* const p = static_cast<const char*>(base);
  return const_cast<char*>(p) + int64_t(offset) * dtype_bytes(main_dtype(dtypes));
}

}  // namespace
}  // namespace needle

using namespace needle;

#define START(name) start(name, name##_off, dtypes)

NEEDLE_EXPORT int32_t needle_sgd_step(void* param, double param_off, const void* grad, double grad_off,
                                      int32_t dtypes, double n, const double* desc) noexcept {
  return enqueue(kSgd, dtypes, n, 3, desc, {{START(param), START(grad)}, int64_t(n)});
}

NEEDLE_EXPORT int32_t needle_sgd_momentum_step(void* param, double param_off, const void* grad,
                                               double grad_off, void* momentum, double momentum_off,
                                               int32_t dtypes, double n, const double* desc) noexcept {
  return enqueue(kMomentum, dtypes, n, 7, desc, {{START(param), START(grad), START(momentum)}, int64_t(n)});
}

NEEDLE_EXPORT int32_t needle_adam_step(void* param, double param_off, const void* grad, double grad_off,
                                       void* exp_avg, double exp_avg_off, void* exp_avg_sq,
                                       double exp_avg_sq_off, int32_t dtypes, double n,
                                       const double* desc) noexcept {
  return enqueue(kAdam, dtypes, n, 8, desc,
                 {{START(param), START(grad), START(exp_avg), START(exp_avg_sq)}, int64_t(n)});
}

NEEDLE_EXPORT int32_t needle_amsgrad_step(void* param, double param_off, const void* grad, double grad_off,
                                          void* exp_avg, double exp_avg_off, void* exp_avg_sq,
                                          double exp_avg_sq_off, void* max_exp_avg_sq,
                                          double max_exp_avg_sq_off, int32_t dtypes, double n,
                                          const double* desc) noexcept {
  return enqueue(
      kAmsgrad, dtypes, n, 8, desc,
      {{START(param), START(grad), START(exp_avg), START(exp_avg_sq), START(max_exp_avg_sq)}, int64_t(n)});
}

NEEDLE_EXPORT int32_t needle_unscale(void* grad, double grad_off, void* found, double found_off,
                                     int32_t dtypes, double n, const double* desc) noexcept {
  return enqueue(kUnscale, dtypes, n, 1, desc, {{START(grad), at<float>(found, found_off)}, int64_t(n)});
}
