// The part of the CUDA runtime that Needle's host code calls, over the emulation: devices whose memory is the
// host's, streams on which everything has happened at once, errors that stick after a fault.
#pragma once
#include <stddef.h>

#include "device.h"

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
};
enum cudaMemcpyKind : int {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3
};
enum cudaDeviceAttr : int {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaFuncAttribute : int { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum : unsigned {
  cudaStreamNonBlocking = 1,
  cudaEventDisableTiming = 2,
  cudaHostAllocDefault = 0,
  cudaHostAllocMapped = 2,
};
struct cudaDeviceProp {
  char name[256];
};
typedef struct needle_emulated_stream* cudaStream_t;
typedef struct needle_emulated_event* cudaEvent_t;

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMalloc(void** p, size_t bytes);
cudaError_t cudaFree(void* p);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned flags);
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned flags);
cudaError_t cudaFreeHost(void* p);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaGetLastError();
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
// What went wrong; after a fault with kernel, block, threads and source lines.
const char* cudaGetErrorString(cudaError_t error);

namespace needle_emulate {

typedef void (*Body)(const void* arguments);
void launch(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, Body body, const void* arguments);
void allow_shared(const char* kernel, size_t bytes);

template <typename F>
void launch_with(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, const F& f) {
  launch(kernel, grid, block, shared_bytes, [](const void* p) { (*static_cast<const F*>(p))(); }, &f);
}

}  // namespace needle_emulate

#define NEEDLE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ((void)(stream),                                                    \
   ::needle_emulate::launch_with(#kernel, grid, block, size_t(shared_bytes), [&] { kernel(__VA_ARGS__); }))
#define NEEDLE_ALLOW_SHARED(kernel, bytes) ::needle_emulate::allow_shared(#kernel, size_t(bytes))
