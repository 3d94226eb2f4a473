// What the library says about itself, and everything about devices that is no op: finding and choosing them,
// memory, transfers, waiting, scratch memory, errors. The exported needle_device_* functions are the part of
// the C interface that lib/backends/cuda.ts alone calls, beside the ops of include/needle.h.
#include "device.h"
#include "dynlib.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <algorithm>
#include <string>
#ifndef NEEDLE_EMULATE
#include <dlfcn.h>
#endif

#ifndef NEEDLE_VERSION
#define NEEDLE_VERSION "0.0.0"
#endif

namespace needle {
namespace {

// Uploads go through two halves of pinned memory: the device reads one while the other is filled.
constexpr size_t kStagingBytes = size_t(4) << 20;

struct ScratchBlock {
  void* data = nullptr;
  size_t bytes = 0;
};

struct Device {
  bool open = false;
  cudaStream_t stream = nullptr;
  int multiprocessors = 1;
  Alarm* alarm = nullptr;            // as the host sees it
  Alarm* alarm_on_device = nullptr;  // as kernels do
  char* staging[2] = {};
  cudaEvent_t staged[2] = {};
  int next_staging = 0;
  ScratchBlock scratch[kScratchSlots];
  Deferred* deferred = nullptr;

  ~Device() {
    if (!stream) return;
    for (const ScratchBlock& block : scratch) cudaFree(block.data);
    for (int i = 0; i < 2; i++) {
      if (staged[i]) cudaEventDestroy(staged[i]);
      cudaFreeHost(staging[i]);
    }
    cudaFreeHost(alarm);
    cudaStreamDestroy(stream);
  }
};

// A host thread (a worker of the program) has streams, scratch memory and errors of its own.
thread_local Device devices[kMaxDevices];
thread_local char error_text[1024];
thread_local int current = 0;

Device& here() { return devices[current]; }

int32_t copy_text(const char* text, void* out, double capacity) {
  const size_t length = strlen(text);
  if (out && capacity > 0) memcpy(out, text, std::min(length, size_t(capacity)));
  return int32_t(length);
}

// fail() with CUDA's words for `error`; running out of memory keeps its own status.
int32_t fail_with(cudaError_t error, const char* what) {
  const bool memory = error == cudaErrorMemoryAllocation;
  return fail(memory ? kOutOfMemory : kInternal, "%s: %s (CUDA error %d)", what, cudaGetErrorString(error),
              int(error));
}

#define NEEDLE_TRY(call, what)                                             \
  do {                                                                     \
    const cudaError_t needle_error = (call);                               \
    if (needle_error != cudaSuccess) return fail_with(needle_error, what); \
  } while (false)

int32_t open_device(Device& d, int index) {
  NEEDLE_TRY(cudaSetDevice(index), "choosing the GPU");
  NEEDLE_TRY(cudaStreamCreateWithFlags(&d.stream, cudaStreamNonBlocking), "making a stream");
  NEEDLE_TRY(cudaDeviceGetAttribute(&d.multiprocessors, cudaDevAttrMultiProcessorCount, index),
             "asking for the number of multiprocessors");
  void* p = nullptr;
  NEEDLE_TRY(cudaHostAlloc(&p, sizeof(Alarm), cudaHostAllocMapped), "allocating pinned memory");
  d.alarm = static_cast<Alarm*>(p);
  d.alarm->fault = kNoFault;
  NEEDLE_TRY(cudaHostGetDevicePointer(&p, d.alarm, 0), "mapping pinned memory");
  d.alarm_on_device = static_cast<Alarm*>(p);
  for (int i = 0; i < 2; i++) {
    NEEDLE_TRY(cudaHostAlloc(&p, kStagingBytes, cudaHostAllocDefault), "allocating pinned memory");
    d.staging[i] = static_cast<char*>(p);
    NEEDLE_TRY(cudaEventCreateWithFlags(&d.staged[i], cudaEventDisableTiming), "making an event");
  }
  d.open = true;
  return kOk;
}

// The text of what a kernel raised, as a failure.
int32_t fail_for(const Alarm& a) {
  switch (a.fault) {
    case kNoFault:
      return kOk;
    case kZeroDivision:
      return fail(kInvalid, "Integer division by zero");
    case kNegativePower:
      return fail(kInvalid, "Integers to negative integer powers are not allowed");
    case kNoIntegerValue: {
      char text[32];
      snprintf(text, sizeof text, "%g", a.value);
      const char* special = a.value != a.value ? "NaN" : a.value > 0 ? "Infinity" : "-Infinity";
      return fail(kInvalid, "%s has no %s value; remove NaN, infinities and values beyond 2^63 first",
                  a.value - a.value == 0 ? text : special, dtype_name(DType(int(a.limit))));
    }
    case kIndexOutOfRange:
      return fail(kInvalid, "Index %.0f is out of range for size %.0f", a.value, a.limit);
    case kNoClass:
      return fail(
          kInvalid,
          "label %.0f is not in [0, %.0f); labels are class indices, and ignoreIndex marks rows to skip",
          a.value, a.limit);
    case kNoProbability:
      return fail(kInvalid,
                  "%g is no probability: they lie in [0, 1]; apply sigmoid first, or use "
                  "binaryCrossEntropyWithLogits",
                  a.value);
    default:
      return fail(kInternal, "A kernel raised an unknown fault");
  }
}

// Waits for everything on the current device; faults of kernels show here.
int32_t finish(const char* what) {
  NEEDLE_TRY(cudaStreamSynchronize(stream()), what);
  const Alarm raised = *here().alarm;
  here().alarm->fault = kNoFault;
  return fail_for(raised);
}

}  // namespace

int32_t fail(int32_t status, const char* format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(error_text, sizeof error_text, format, args);
  va_end(args);
  return status;
}

int32_t out_of_memory() { return fail(kOutOfMemory, "Out of GPU memory for the scratch space of a kernel"); }

int32_t fail_for(Fault fault) { return fail_for(Alarm{0, 0, fault}); }

int32_t too_many_dims(int64_t ndim) {
  return fail(kInvalid, "%lld dims that cannot be merged, at most %d on a GPU: make the tensors contiguous",
              static_cast<long long>(ndim), kMaxDims);
}

const char* dtype_name(DType dtype) {
  constexpr const char* names[] = {"float32", "float64", "float16", "bfloat16",
                                   "int32",   "int64",   "uint8",   "bool"};
  return uint32_t(dtype) < 8 ? names[dtype] : "unknown";
}

cudaStream_t stream() {
  Device& d = here();
  if (Deferred* const waiting = d.deferred) {
    d.deferred = nullptr;
    waiting->launch(*waiting);
  }
  return d.stream;
}
int current_device() { return current; }
Deferred*& deferred() { return here().deferred; }
int multiprocessors() { return here().multiprocessors; }
Alarm* alarm() { return here().alarm_on_device; }

int32_t launched(const char* what) {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? int32_t(kOk) : fail_with(error, what);
}

void* scratch(ScratchSlot slot, size_t bytes) {
  ScratchBlock& block = here().scratch[slot];
  if (block.data && block.bytes >= bytes) return block.data;
  // Work that uses the old block may be under way: cudaFree waits for it.
  if (block.data) cudaFree(block.data);
  block = {};
  constexpr size_t kUnit = size_t(2) << 20;
  const size_t size = (std::max(bytes, size_t(1)) + kUnit - 1) / kUnit * kUnit;
  if (cudaMalloc(&block.data, size) != cudaSuccess) {
    cudaGetLastError();
    block.data = nullptr;
    return nullptr;
  }
  block.bytes = size;
  return block.data;
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

NEEDLE_EXPORT int32_t needle_set_threads(int32_t) noexcept { return kOk; }

NEEDLE_EXPORT int32_t needle_info(void* text, double capacity) noexcept {
  int major = 0, minor = 0, runtime = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, current);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, current);
  cudaRuntimeGetVersion(&runtime);
  cudaDeviceProp properties;
  const bool known = cudaGetDeviceProperties(&properties, current) == cudaSuccess;
  std::string found = libraries();
  std::replace_if(found.begin(), found.end(), [](char c) { return c == '"' || c == '\\' || c < ' '; }, '_');
  char json[2048];
  snprintf(json, sizeof json,
           "{\"version\":\"%s\",\"isa\":\"sm_%d%d\",\"threads\":%d,"
           "\"library\":\"CUDA %d.%d on %s with %.1500s, Needle\"}",
           NEEDLE_VERSION, major, minor, multiprocessors(), runtime / 1000, runtime % 1000 / 10,
           known ? properties.name : "an unknown GPU", found.c_str());
  return copy_text(json, text, capacity);
}

// The functions below are declared where they are defined: nothing but lib/backends/cuda.ts calls them.
#define NEEDLE_DEVICE_EXPORT(result, name, ...)                    \
  NEEDLE_EXPORT result needle_device_##name(__VA_ARGS__) noexcept; \
  NEEDLE_EXPORT result needle_device_##name(__VA_ARGS__) noexcept

// How many GPUs can be used, or -1 with the reason as the last error.
NEEDLE_DEVICE_EXPORT(int32_t, count, ) {
#ifndef NEEDLE_EMULATE
  // cudaGetDeviceCount says "insufficient driver" where there is none at all.
  if (!dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL)) {
    fail(kInvalid, "no NVIDIA driver: %s", dlerror());
    return -1;
  }
#endif
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return count;
  cudaGetLastError();
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (error == cudaErrorInsufficientDriver) {
    fail(kInvalid, "the NVIDIA driver supports CUDA %d.%d but this library needs %d.%d: update the driver",
         driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  } else {
    fail(kInvalid, "looking for GPUs: %s (CUDA error %d)", cudaGetErrorString(error), int(error));
  }
  return -1;
}

// Makes GPU `index` the one that the calling thread's next calls are about.
NEEDLE_DEVICE_EXPORT(int32_t, select, int32_t index) {
  if (index < 0 || index >= kMaxDevices) return fail(kInvalid, "no GPU has the index %d", index);
  Device& d = devices[index];
  if (!d.open) {
    const int32_t status = open_device(d, index);
    if (status != kOk) return status;
  }
  NEEDLE_TRY(cudaSetDevice(index), "choosing the GPU");
  current = index;
  return kOk;
}

// Memory on the current device, or null.
NEEDLE_DEVICE_EXPORT(void*, take, double bytes) {
  void* p = nullptr;
  const cudaError_t error = cudaMalloc(&p, size_t(bytes));
  if (error == cudaSuccess) return p;
  cudaGetLastError();
  fail_with(error, "allocating GPU memory");
  return nullptr;
}

NEEDLE_DEVICE_EXPORT(int32_t, give, void* p) {
  stream();  // launches what waits, which may need this memory
  NEEDLE_TRY(cudaFree(p), "freeing GPU memory");
  return kOk;
}

// Free and total bytes of the current device.
NEEDLE_DEVICE_EXPORT(int32_t, memory, void* free_and_total) {
  size_t free_bytes = 0, total = 0;
  NEEDLE_TRY(cudaMemGetInfo(&free_bytes, &total), "asking for GPU memory");
  double* out = static_cast<double*>(free_and_total);
  out[0] = double(free_bytes);
  out[1] = double(total);
  return kOk;
}

// Copies to the host; waits for all work before.
NEEDLE_DEVICE_EXPORT(int32_t, read, const void* p, double offset, void* to, double bytes) {
  if (bytes > 0) {
    NEEDLE_TRY(cudaMemcpyAsync(to, static_cast<const char*>(p) + int64_t(offset), size_t(bytes),
                               cudaMemcpyDeviceToHost, stream()),
               "reading from the GPU");
  }
  return finish("reading from the GPU");
}

// Copies within the device in stream order.
NEEDLE_DEVICE_EXPORT(int32_t, copy, void* to, double to_offset, const void* from, double from_offset,
                     double bytes) {
  if (bytes > 0) {
    NEEDLE_TRY(cudaMemcpyAsync(static_cast<char*>(to) + int64_t(to_offset),
                               static_cast<const char*>(from) + int64_t(from_offset), size_t(bytes),
                               cudaMemcpyDeviceToDevice, stream()),
               "copying on the GPU");
  }
  return kOk;
}

// Copies to the device in stream order. `from` can be changed as soon as this returns.
NEEDLE_DEVICE_EXPORT(int32_t, write, void* p, double offset, const void* from, double bytes) {
  Device& d = here();
  char* to = static_cast<char*>(p) + int64_t(offset);
  const char* source = static_cast<const char*>(from);
  const size_t total = size_t(bytes);
  for (size_t done = 0; done < total;) {
    const int i = d.next_staging;
    const size_t part = std::min(total - done, kStagingBytes);
    d.next_staging = 1 - i;
    NEEDLE_TRY(cudaEventSynchronize(d.staged[i]), "writing to the GPU");
    memcpy(d.staging[i], source + done, part);
    NEEDLE_TRY(cudaMemcpyAsync(to + done, d.staging[i], part, cudaMemcpyHostToDevice, stream()),
               "writing to the GPU");
    NEEDLE_TRY(cudaEventRecord(d.staged[i], d.stream), "writing to the GPU");
    done += part;
  }
  return kOk;
}

NEEDLE_DEVICE_EXPORT(int32_t, synchronize, ) { return finish("waiting for the GPU"); }
