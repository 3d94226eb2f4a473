// cuBLAS and cuDNN, loaded at run time where they are: this library links and works without them. Which
// folders are searched, and whether at all, TypeScript says (needle_device_libraries); without a word none is
// loaded. The prototypes are those of NVIDIA's headers with enums as int and handles as void*.
#pragma once
#include <string>

#include "device.h"

namespace needle {

#define NEEDLE_CUBLAS_FUNCTIONS(X)                                                                        \
  X(int, cublasCreate_v2, (void** handle))                                                                \
  X(int, cublasSetStream_v2, (void* handle, cudaStream_t stream))                                         \
  X(int, cublasSetWorkspace_v2, (void* handle, void* workspace, size_t bytes))                            \
  X(int, cublasGemmStridedBatchedEx,                                                                      \
    (void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int a_type, \
     int lda, long long a_step, const void* b, int b_type, int ldb, long long b_step, const void* beta,   \
     void* c, int c_type, int ldc, long long c_step, int count, int compute_type, int algorithm))         \
  X(const char*, cublasGetStatusString, (int status))

#define NEEDLE_CUDNN_FUNCTIONS(X)                                                             \
  X(size_t, cudnnGetVersion, ())                                                              \
  X(int, cudnnCreate, (void** handle))                                                        \
  X(int, cudnnSetStream, (void* handle, cudaStream_t stream))                                 \
  X(const char*, cudnnGetErrorString, (int status))                                           \
  X(int, cudnnBackendCreateDescriptor, (int type, void** descriptor))                         \
  X(int, cudnnBackendDestroyDescriptor, (void* descriptor))                                   \
  X(int, cudnnBackendSetAttribute,                                                            \
    (void* descriptor, int name, int type, int64_t count, const void* values))                \
  X(int, cudnnBackendGetAttribute,                                                            \
    (void* const descriptor, int name, int type, int64_t most, int64_t* count, void* values)) \
  X(int, cudnnBackendFinalize, (void* descriptor))                                            \
  X(int, cudnnBackendExecute, (void* handle, void* plan, void* pack))

#define NEEDLE_MEMBER(result, name, arguments) result(*name) arguments;
struct Cublas {
  NEEDLE_CUBLAS_FUNCTIONS(NEEDLE_MEMBER)
};
struct Cudnn {
  NEEDLE_CUDNN_FUNCTIONS(NEEDLE_MEMBER)
};
#undef NEEDLE_MEMBER

// The functions of a library, or null where it cannot be used.
const Cublas* cublas();
const Cudnn* cudnn();

// Stops using a library that was loaded but does not work, for the reason `why`.
void give_up_cublas(const std::string& why);
void give_up_cudnn(const std::string& why);

// Which libraries are used, from where, or why not.
std::string libraries();

}  // namespace needle
