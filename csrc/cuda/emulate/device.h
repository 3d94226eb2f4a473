// What CUDA gives to device code, for g++: thread indices, vectors, barriers, warp operations, atomics and
// shared memory, on the cooperative threads of launch.cpp. Included by platform.h; api.h has the host's side.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
// clang-format off
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
// clang-format on
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace needle_emulate {

// Where the thread that runs now stands. Set whenever a thread is resumed.
struct Position {
  uint3 thread, block;
  dim3 block_dim, grid_dim;
};
extern Position position;

enum Barrier : int { kBlockBarrier, kWarpBarrier };

// Waits until all threads of the block, or those of `mask` in the warp, are at the same line.
void wait(Barrier barrier, unsigned mask, const char* file, int line);

// Every thread of `mask` gives a value; afterwards slot(lane) has what a lane gave.
void exchange(unsigned mask, uint64_t value, const char* file, int line);
uint64_t slot(unsigned lane);
unsigned lane_id();

// The block's memory for one declaration of shared memory (`key` tells them apart), or for the dynamic kind.
void* shared(const void* key, size_t bytes);
void* dynamic_shared();

// Stops the thread and reports `text` as the fault of this launch.
[[noreturn, gnu::format(printf, 1, 2)]] void fault(const char* text, ...);

template <typename T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8, "warp operations move up to 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  return bits;
}
template <typename T>
T from_bits(uint64_t bits) {
  T value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// The value of lane `from`, or the thread's own where that is outside its segment of `width` lanes.
template <typename T>
T shuffle(unsigned mask, T value, int from, int low, int high, const char* file, int line) {
  exchange(mask, to_bits(value), file, line);
  if (from < low || from > high) return value;
  if (!(mask >> from & 1)) fault("%s:%d: shuffle from lane %d, which is not in the mask", file, line, from);
  return from_bits<T>(slot(unsigned(from)));
}
template <typename T>
T shuffle_index(unsigned mask, T value, int from, const char* file, int line, int width = 32) {
  const int low = int(lane_id()) / width * width;
  return shuffle(mask, value, low + (from & (width - 1)), low, low + width - 1, file, line);
}
template <typename T>
T shuffle_up(unsigned mask, T value, unsigned by, const char* file, int line, int width = 32) {
  const int low = int(lane_id()) / width * width;
  return shuffle(mask, value, int(lane_id()) - int(by), low, low + width - 1, file, line);
}
template <typename T>
T shuffle_down(unsigned mask, T value, unsigned by, const char* file, int line, int width = 32) {
  const int low = int(lane_id()) / width * width;
  return shuffle(mask, value, int(lane_id() + by), low, low + width - 1, file, line);
}
template <typename T>
T shuffle_xor(unsigned mask, T value, int lanes, const char* file, int line, int width = 32) {
  const int low = int(lane_id()) / width * width;
  return shuffle(mask, value, int(lane_id()) ^ lanes, 0, low + width - 1, file, line);
}
inline unsigned ballot(unsigned mask, bool vote, const char* file, int line) {
  exchange(mask, vote, file, line);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; lane++) {
    if (mask >> lane & 1 && slot(lane)) votes |= 1u << lane;
  }
  return votes;
}

}  // namespace needle_emulate

#define threadIdx (::needle_emulate::position.thread)
#define blockIdx (::needle_emulate::position.block)
#define blockDim (::needle_emulate::position.block_dim)
#define gridDim (::needle_emulate::position.grid_dim)
constexpr int warpSize = 32;

#define __syncthreads() \
  ::needle_emulate::wait(::needle_emulate::kBlockBarrier, 0xffffffffu, __FILE__, __LINE__)
#define NEEDLE_SYNCWARP(mask) ::needle_emulate::wait(::needle_emulate::kWarpBarrier, mask, __FILE__, __LINE__)
#define __syncwarp(...) NEEDLE_SYNCWARP(0xffffffffu __VA_OPT__(&(__VA_ARGS__)))
// A width may follow the last argument, as in CUDA.
#define __shfl_sync(mask, value, lane, ...) \
  ::needle_emulate::shuffle_index(mask, value, lane, __FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_up_sync(mask, value, by, ...) \
  ::needle_emulate::shuffle_up(mask, value, by, __FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_down_sync(mask, value, by, ...) \
  ::needle_emulate::shuffle_down(mask, value, by, __FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __shfl_xor_sync(mask, value, lanes, ...) \
  ::needle_emulate::shuffle_xor(mask, value, lanes, __FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define __ballot_sync(mask, vote) ::needle_emulate::ballot(mask, vote, __FILE__, __LINE__)
#define __any_sync(mask, vote) (__ballot_sync(mask, vote) != 0)
#define __all_sync(mask, vote) (__ballot_sync(mask, !(vote)) == 0)

inline void __threadfence() {}
inline void __threadfence_system() {}
inline unsigned __activemask() { return 1u << ::needle_emulate::lane_id(); }

// One thread runs at a time and stops at barriers alone, so that plain reads and writes are atomic.
template <typename T, typename U>
inline T atomicAdd(T* p, U value) {
  const T old = *p;
  *p = T(old + value);
  return old;
}
template <typename T, typename U>
inline T atomicMax(T* p, U value) {
  const T old = *p;
  if (T(value) > old) *p = T(value);
  return old;
}
template <typename T, typename U>
inline T atomicMin(T* p, U value) {
  const T old = *p;
  if (T(value) < old) *p = T(value);
  return old;
}
template <typename T, typename U>
inline T atomicOr(T* p, U value) {
  const T old = *p;
  *p = T(old | T(value));
  return old;
}
template <typename T, typename U>
inline T atomicExch(T* p, U value) {
  const T old = *p;
  *p = T(value);
  return old;
}
template <typename T, typename U, typename V>
inline T atomicCAS(T* p, U expected, V value) {
  const T old = *p;
  if (old == T(expected)) *p = T(value);
  return old;
}

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return uint64_t((unsigned __int128)(a)*b >> 64); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline float __ldg(const float* p) { return *p; }
inline double __ldg(const double* p) { return *p; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float __int_as_float(int x) { return ::needle_emulate::from_bits<float>(unsigned(x)); }
inline float __uint_as_float(unsigned x) { return ::needle_emulate::from_bits<float>(x); }
inline int __float_as_int(float x) { return int(unsigned(::needle_emulate::to_bits(x))); }
inline unsigned __float_as_uint(float x) { return unsigned(::needle_emulate::to_bits(x)); }
inline int64_t __double_as_longlong(double x) { return int64_t(::needle_emulate::to_bits(x)); }
inline double __longlong_as_double(int64_t x) { return ::needle_emulate::from_bits<double>(uint64_t(x)); }

#define NEEDLE_SHARED(T, name, dims) \
  static const char name##_key = 0;  \
  typedef T name##_type dims;        \
  name##_type& name = *static_cast<name##_type*>(::needle_emulate::shared(&name##_key, sizeof(name##_type)))
#define NEEDLE_DYN_SHARED(T, name) T* const name = static_cast<T*>(::needle_emulate::dynamic_shared())
