// The emulated CUDA runtime: see api.h. Two devices, whose memory is the host's and starts as NaN.
#include "api.h"

#include <stdio.h>
#include <stdlib.h>
#include <map>
#include <mutex>
#include <string>

#include "../../common.h"
#include "state.h"

namespace needle_emulate {
namespace {

constexpr int kDevices = 2;
constexpr size_t kMemory = size_t(16) << 30;

struct Allocation {
  int device;
  size_t bytes;
};

std::mutex memory_lock;
std::map<void*, Allocation> allocations;
// Host threads do not share these, as if each were a process of its own: tests that run side by side do not
// meet.
thread_local cudaError_t last_error = cudaSuccess, sticky_error = cudaSuccess;
thread_local std::string error_text;
thread_local size_t held[kDevices];
thread_local size_t capacity = kMemory;
thread_local int device = 0;

struct Order {
  bool random = false;
  uint64_t seed = 1;
  Order() {
    const char* text = getenv("NEEDLE_EMULATE");
    random = text && strncmp(text, "random", 6) == 0;
    if (random && text[6] == ':') seed = strtoull(text + 7, nullptr, 10);
  }
};
const Order& chosen_order() {
  static const Order order;
  return order;
}

cudaError_t status() { return sticky_error; }

}  // namespace

void set_error(cudaError_t error, const char* text) {
  last_error = error;
  error_text = text;
}

void set_sticky(cudaError_t error, const char* text) {
  last_error = sticky_error = error;
  error_text = text;
}

bool is_sticky() { return status() != cudaSuccess; }
bool random_order() { return chosen_order().random; }
uint64_t random_seed() { return chosen_order().seed; }

}  // namespace needle_emulate

using namespace needle_emulate;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevices;
#ifdef __x86_64__
  if (!__builtin_cpu_supports("fma")) *count = 0;  // the kernels are compiled for it
#endif
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int index) {
  if (index < 0 || index >= kDevices) return cudaErrorInvalidDevice;
  device = index;
  return status();
}

cudaError_t cudaGetDevice(int* index) {
  *index = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index < 0 || index >= kDevices) return cudaErrorInvalidDevice;
  snprintf(properties->name, sizeof properties->name, "emulated GPU %d", index);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 7;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 5;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = int(kSharedOptIn);
      break;
  }
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** p, size_t bytes) {
  *p = nullptr;
  if (is_sticky()) return status();
  if (bytes == 0) return cudaSuccess;
  std::lock_guard<std::mutex> lock(memory_lock);
  if (bytes > capacity || held[device] > capacity - bytes) return cudaErrorMemoryAllocation;
  // As aligned as cudaMalloc's memory; the end is exact, so that a sanitizer sees it.
  if (posix_memalign(p, 512, bytes) != 0) return cudaErrorMemoryAllocation;
  memset(*p, 0xff, bytes);
  held[device] += bytes;
  allocations[*p] = {device, bytes};
  return cudaSuccess;
}

cudaError_t cudaFree(void* p) {
  if (!p) return cudaSuccess;
  std::lock_guard<std::mutex> lock(memory_lock);
  const auto found = allocations.find(p);
  if (found == allocations.end()) return cudaErrorInvalidValue;
  held[found->second.device] -= found->second.bytes;
  allocations.erase(found);
  free(p);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  std::lock_guard<std::mutex> lock(memory_lock);
  *total = capacity;
  *free_bytes = held[device] < capacity ? capacity - held[device] : 0;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) {
  *p = calloc(bytes, 1);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaHostGetDevicePointer(void** on_device, void* host, unsigned) {
  *on_device = host;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* p) {
  free(p);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  if (is_sticky()) return status();
  memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
  if (is_sticky()) return status();
  memset(p, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return status();
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return status(); }
cudaError_t cudaStreamDestroy(cudaStream_t) { return status(); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return status();
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return status(); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return status(); }
cudaError_t cudaEventDestroy(cudaEvent_t) { return status(); }

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = sticky_error;
  return error;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidConfiguration:
    case cudaErrorLaunchFailure: {
      static thread_local std::string copy;
      copy = error_text;
      return copy.c_str();
    }
    default:
      return "invalid value";
  }
}

// For tests: how many kernels have been launched, how much memory each device has (0: as at first), and a
// device as good as new after a fault.
NEEDLE_EXPORT int32_t needle_emulate_launches() noexcept;
NEEDLE_EXPORT int32_t needle_emulate_launches() noexcept { return int32_t(launch_count()); }

NEEDLE_EXPORT int32_t needle_emulate_memory(double bytes) noexcept;
NEEDLE_EXPORT int32_t needle_emulate_memory(double bytes) noexcept {
  std::lock_guard<std::mutex> lock(memory_lock);
  capacity = bytes > 0 ? size_t(bytes) : kMemory;
  return 0;
}

NEEDLE_EXPORT int32_t needle_emulate_reset() noexcept;
NEEDLE_EXPORT int32_t needle_emulate_reset() noexcept {
  last_error = sticky_error = cudaSuccess;
  return 0;
}
