// What a library says about itself and keeps between calls: the error text, the number of threads, the ISA
// level, scratch memory. Nothing here runs when the library is loaded.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <algorithm>
#include <atomic>
#ifdef _OPENMP
#include <chrono>
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "../common.h"

#ifndef NEEDLE_VERSION
#define NEEDLE_VERSION "0.0.0"
#endif
#ifndef NEEDLE_LIBRARY
#define NEEDLE_LIBRARY "cpu"
#endif

namespace needle {
namespace {

// Of the thread that called and will ask: workers of one program share the library.
thread_local char error_text[1024];

std::atomic<int> threads{0};

int default_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

int detect_level() {
#ifdef __x86_64__
  int level = 2;
  // Every feature a compiler may use at that level, not just the vector registers.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
      __builtin_cpu_supports("bmi2")) {
    level = 3;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512cd")) {
      level = 4;
    }
  }
  const char* forced = getenv("NEEDLE_ISA");
  if (forced && forced[0] == 'v' && forced[1] >= '2' && forced[1] < '0' + level && !forced[2]) {
    level = forced[1] - '0';
  }
  return level;
#else
  return 0;
#endif
}

constexpr size_t kHugePage = size_t(2) << 20;

// Grows only; given back when its thread ends.
struct Block {
  void* data = nullptr;
  size_t bytes = 0;
  ~Block() { free(data); }
};
thread_local Block blocks[kScratchSlots];

#ifdef _OPENMP
int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// How regions of the team of a thread went lately. A late one counts as much as four in time; after two late
// ones the thread does without its team, for longer each time that this did not help.
struct Lateness {
  static constexpr int64_t kLate = 150000, kShortest = 10000000, kLongest = 160000000;  // ns
  static constexpr int kOnce = 4, kLimit = 8;
  int score = 0;
  int64_t period = kShortest, until = 0;

  void add(bool late, int64_t time) {
    if (!late) {
      if (score > 0 && --score == 0) period = kShortest;
      return;
    }
    score += kOnce;
    if (score < kLimit) return;
    score = kOnce;
    until = time + period;
    period = std::min(2 * period, kLongest);
  }
};
thread_local Lateness lateness;
#endif

int32_t copy_text(const char* text, void* out, double capacity) {
  const size_t length = strlen(text);
  if (out && capacity > 0) {
    const size_t room = capacity < double(length) ? size_t(capacity) : length;
    memcpy(out, text, room);
  }
  return int32_t(length);
}

}  // namespace

int32_t fail(int32_t status, const char* format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(error_text, sizeof error_text, format, args);
  va_end(args);
  return status;
}

int32_t out_of_memory() { return fail(kOutOfMemory, "Out of memory for the scratch space of a kernel"); }

const char* dtype_name(DType dtype) {
  constexpr const char* names[] = {"float32", "float64", "float16", "bfloat16",
                                   "int32",   "int64",   "uint8",   "bool"};
  return uint32_t(dtype) < 8 ? names[dtype] : "unknown";
}

int thread_count() {
  int n = threads.load(std::memory_order_relaxed);
  if (n == 0) {
    n = default_threads();
    threads.store(n, std::memory_order_relaxed);
  }
  return n;
}

#ifdef _OPENMP
Region::Region() : start_(now()), mine_(start_), alone_(start_ < lateness.until) {}

void Region::mine_done() { mine_ = now(); }

Region::~Region() {
  if (alone_) return;
  const int64_t end = now();
  lateness.add(end - mine_ > Lateness::kLate + (mine_ - start_), end);
}
#endif

void* scratch(ScratchSlot slot, size_t bytes) {
  Block& block = blocks[slot];
  if (block.bytes >= bytes && block.data) return block.data;
  free(block.data);
  block.data = nullptr;
  block.bytes = 0;
  const bool huge = bytes >= kHugePage;
  const size_t unit = huge ? kHugePage : 4096;
  if (bytes > SIZE_MAX - unit) return nullptr;
  const size_t size = (bytes + unit - 1) / unit * unit + (bytes == 0 ? unit : 0);
  void* data = nullptr;
  if (posix_memalign(&data, huge ? kHugePage : 64, size) != 0) return nullptr;
#ifdef MADV_HUGEPAGE
  if (huge) madvise(data, size, MADV_HUGEPAGE);
#endif
  block.data = data;
  block.bytes = size;
  return data;
}

int isa_level() {
  static const int level = detect_level();
  return level;
}

}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_abi_hash(void* text16) noexcept {
  memcpy(text16, NEEDLE_ABI_HASH, 16);
  return kOk;
}

NEEDLE_EXPORT int32_t needle_last_error(void* text, double capacity) noexcept {
  return copy_text(error_text, text, capacity);
}

NEEDLE_EXPORT int32_t needle_set_threads(int32_t n) noexcept {
  threads.store(n > 0 ? n : default_threads(), std::memory_order_relaxed);
  return kOk;
}

#ifndef __wasm__
// Not part of the header: it is about tensors in memory of the system alone.
NEEDLE_EXPORT int32_t needle_large_pages(void* data, double bytes) noexcept;

NEEDLE_EXPORT int32_t needle_large_pages(void* data, double bytes) noexcept {
#ifdef MADV_HUGEPAGE
  if (madvise(data, size_t(bytes), MADV_HUGEPAGE) != 0) return kInvalid;
#else
  (void)data, (void)bytes;
#endif
  return kOk;
}
#endif

NEEDLE_EXPORT int32_t needle_info(void* text, double capacity) noexcept {
  constexpr const char* levels[] = {"generic", "", "v2", "v3", "v4"};
  char json[256];
  snprintf(json, sizeof json, "{\"version\":\"%s\",\"isa\":\"%s\",\"threads\":%d,\"library\":\"%s\"}",
           NEEDLE_VERSION, levels[isa_level()], thread_count(), NEEDLE_LIBRARY);
  return copy_text(json, text, capacity);
}
