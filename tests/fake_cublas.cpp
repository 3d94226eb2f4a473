// cuBLAS for the emulated GPU, in the few functions that Needle calls: plain loops over column-major matrices
// in host memory. tests/cuda_libraries_test.ts compiles it, to see that Needle asks cuBLAS for the right
// products.
#include <stddef.h>

#include "fake_values.h"

namespace {

int calls = 0;

}  // namespace

extern "C" {

int fake_calls() { return calls; }

int cublasCreate_v2(void** handle) {
  *handle = &calls;
  return 0;
}
int cublasSetStream_v2(void* handle, void*) { return handle == &calls ? 0 : 7; }
int cublasSetWorkspace_v2(void* handle, void*, size_t) { return handle == &calls ? 0 : 7; }
const char* cublasGetStatusString(int) { return "the fake does not do that"; }

int cublasGemmStridedBatchedEx(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha,
                               const void* a, int a_type, int lda, long long a_step, const void* b,
                               int b_type, int ldb, long long b_step, const void* beta, void* c, int c_type,
                               int ldc, long long c_step, int count, int compute_type, int algorithm) {
  if (a_type != 0 && a_type != 1 && a_type != 2 && a_type != 14) return 7;
  const ValueType type = a_type == 14 ? kBfloat16 : ValueType(a_type),
                  sum_type = a_type == 1 ? kFloat64 : kFloat32;
  if (handle != &calls || a_type != b_type || a_type != c_type || algorithm != -1) return 7;
  if (compute_type != (a_type == 1 ? 70 : 68) || (op_a | op_b) > 1) return 7;
  if (m < 1 || n < 1 || k < 1 || count < 1) return 7;
  if (lda < (op_a ? k : m) || ldb < (op_b ? n : k) || ldc < m) return 7;
  calls++;
  const double scale = load(alpha, sum_type, 0), keep = load(beta, sum_type, 0);
  for (int64_t p = 0; p < count; p++) {
    for (int64_t j = 0; j < n; j++) {
      for (int64_t i = 0; i < m; i++) {
        double sum = 0;
        for (int64_t l = 0; l < k; l++) {
          sum += load(a, type, p * a_step + (op_a ? i * lda + l : l * lda + i)) *
                 load(b, type, p * b_step + (op_b ? l * ldb + j : j * ldb + l));
        }
        const int64_t at = p * c_step + j * ldc + i;
        store(c, type, at, scale * sum + (keep == 0 ? 0 : keep * load(c, type, at)));
      }
    }
  }
  return 0;
}

}  // extern "C"
