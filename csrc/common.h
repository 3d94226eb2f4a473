// What every driver (a file that exports needle_* functions) shares: status codes and the error text, dtype
// codes, threads, scratch memory, and the choice of the ISA level. Kernels compiled per ISA level must not
// include this file: inline functions compiled for one level would be shared with all.
#pragma once
#include <stddef.h>
#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "include/needle.h"

#define NEEDLE_EXPORT extern "C" NEEDLE_API

namespace needle {

// Results of the exported functions; needle_last_error has the text of kOutOfMemory, kInvalid and kInternal.
// kDeclined: there is no code for these half types here, nothing was done; the caller widens to float32.
enum Status : int32_t { kOk = 0, kOutOfMemory = 1, kInvalid = 2, kInternal = 3, kDeclined = 4 };

// Stores the text for needle_last_error and returns `status`, so that `return fail(...)` does both.
[[gnu::format(printf, 2, 3)]] int32_t fail(int32_t status, const char* format, ...);

// fail() for a scratch() that returned null.
int32_t out_of_memory();

enum DType : int32_t {
  kFloat32 = NEEDLE_FLOAT32,
  kFloat64 = NEEDLE_FLOAT64,
  kFloat16 = NEEDLE_FLOAT16,
  kBfloat16 = NEEDLE_BFLOAT16,
  kInt32 = NEEDLE_INT32,
  kInt64 = NEEDLE_INT64,
  kUint8 = NEEDLE_UINT8,
  kBool = NEEDLE_BOOL,
};

inline bool is_half(DType dtype) { return dtype == kFloat16 || dtype == kBfloat16; }

// The parts of the packed `dtypes` argument.
inline DType main_dtype(int32_t dtypes) { return DType(dtypes & 0xff); }
inline DType second_dtype(int32_t dtypes) { return DType(dtypes >> 8 & 0xff); }
inline DType third_dtype(int32_t dtypes) { return DType(dtypes >> 16 & 0xff); }

// Bytes per element, 0 for an unknown code.
inline int64_t dtype_bytes(DType dtype) {
  constexpr int64_t bytes[] = {4, 8, 2, 2, 4, 8, 1, 1};
  return uint32_t(dtype) < 8 ? bytes[dtype] : 0;
}
const char* dtype_name(DType dtype);

// The first element of a tensor argument; null for an optional tensor that was left out.
template <typename T>
const T* at(const void* base, double offset) {
  return base ? static_cast<const T*>(base) + int64_t(offset) : nullptr;
}
template <typename T>
T* at(void* base, double offset) {
  return base ? static_cast<T*>(base) + int64_t(offset) : nullptr;
}

// Threads that a driver may use (needle_set_threads).
int thread_count();

#ifdef _OPENMP
// Around a parallel region: notices when another process holds a core. One thread of the team then waits for
// a core while the other spins, and short regions end late. For a while their parts are computed one after
// the other instead, with the same results.
class Region {
 public:
  Region();
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  // Whether to do without the team.
  bool alone() const { return alone_; }
  // To be called when the calling thread has done its part.
  void mine_done();

 private:
  int64_t start_, mine_;  // ns
  bool alone_;
};
#endif

// Runs f(begin, end) on balanced contiguous parts of [0, n), one part per thread, `threads` of them at most.
// One thread means a plain call: entering even a disabled OpenMP region costs more than a small op.
template <typename F>
void parallel_tasks(int64_t n, int64_t threads, const F& f) {
  if (n <= 0) return;
  if (threads > n) threads = n;
#ifdef _OPENMP
  if (threads > 1) {
    const auto run = [&](int64_t part, int64_t parts) {
      const int64_t begin = n / parts * part + n % parts * part / parts;
      const int64_t end = n / parts * (part + 1) + n % parts * (part + 1) / parts;
      if (begin < end) f(begin, end);
    };
    Region region;
    if (region.alone()) {
      for (int64_t part = 0; part < threads; part++) run(part, threads);
      return;
    }
#pragma omp parallel num_threads(int(threads))
    {
      run(omp_get_thread_num(), omp_get_num_threads());
      if (omp_get_thread_num() == 0) region.mine_done();
    }
    return;
  }
#endif
  f(int64_t(0), n);
}

// The same with as many threads as have `grain` items each (at least one). An item that costs as much as
// adding two floats needs a grain of about kGrain; c times as dear, kGrain / c.
constexpr int64_t kGrain = 8192;

template <typename F>
void parallel_for(int64_t n, int64_t grain, const F& f) {
  const int64_t wanted = grain > 1 ? n / grain : n, limit = thread_count();
  parallel_tasks(n, wanted < limit ? wanted : limit, f);
}

// Scratch memory of the calling thread: 64-byte aligned, contents undefined, valid until the same thread asks
// for more in the same slot. Null when memory is out: `return out_of_memory()`. A slot belongs to one level
// of a call chain; add one here where two live at once.
enum ScratchSlot : int {
  kScratchElementwise,
  kScratchGemm,
  kScratchConv,
  kScratchTask,
  kScratchReduce,
  kScratchNorm,
  kScratchPrimitive,
  kScratchWeights,
  kScratchSlots,
};
void* scratch(ScratchSlot slot, size_t bytes);

// The ISA level in use: 2, 3, 4 for x86-64-v2, v3, v4; 0 elsewhere. NEEDLE_ISA=v2|v3|v4 lowers it.
int isa_level();

// select_kernels(gemm) is the address of gemm_v2, gemm_v3, gemm_v4 or gemm_generic.
#ifdef __x86_64__
template <typename Table>
const Table* select_level(const Table* v2, const Table* v3, const Table* v4) {
  const int level = isa_level();
  return level >= 4 ? v4 : level == 3 ? v3 : v2;
}
#define select_kernels(family) ::needle::select_level(&family##_v2, &family##_v3, &family##_v4)
#else
#define select_kernels(family) (&family##_generic)
#endif

}  // namespace needle
