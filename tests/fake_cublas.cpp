// cuBLAS for the emulated GPU, in the few functions that Needle calls: plain loops over column-major matrices in host
// memory. tests/cuda_libraries_test.ts compiles it, to see that Needle asks cuBLAS for the right products.
#include <stddef.h>
#include <stdint.h>

#include "../csrc/cpu/halves.h"

namespace {

enum Type { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBfloat16 = 14 };

double load(const void* p, int type, int64_t i) {
  switch (type) {
    case kFloat32:
      return static_cast<const float*>(p)[i];
    case kFloat64:
      return static_cast<const double*>(p)[i];
    case kFloat16:
      return from_float16(static_cast<const uint16_t*>(p)[i]);
    default:
      return from_bfloat16(static_cast<const uint16_t*>(p)[i]);
  }
}

void store(void* p, int type, int64_t i, double x) {
  switch (type) {
    case kFloat32:
      static_cast<float*>(p)[i] = float(x);
      break;
    case kFloat64:
      static_cast<double*>(p)[i] = x;
      break;
    case kFloat16:
      static_cast<uint16_t*>(p)[i] = to_float16(round_to_odd(x));
      break;
    default:
      static_cast<uint16_t*>(p)[i] = to_bfloat16(round_to_odd(x));
  }
}

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
const char* cublasGetStatusString(int status) { return status == 3 ? "fake is full" : "fake does not do that"; }

int cublasGemmStridedBatchedEx(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
                               int a_type, int lda, long long a_step, const void* b, int b_type, int ldb,
                               long long b_step, const void* beta, void* c, int c_type, int ldc, long long c_step,
                               int count, int compute_type, int algorithm) {
  const bool wide = a_type == kFloat64;
  const bool known = a_type == kFloat32 || a_type == kFloat64 || a_type == kFloat16 || a_type == kBfloat16;
  if (handle != &calls || !known || a_type != b_type || a_type != c_type || algorithm != -1) return 7;
  if (compute_type != (wide ? 70 : 68) || (op_a | op_b) > 1 || m < 1 || n < 1 || k < 1 || count < 1) return 7;
  if (lda < (op_a ? k : m) || ldb < (op_b ? n : k) || ldc < m) return 7;
  calls++;
  const double scale = load(alpha, wide ? kFloat64 : kFloat32, 0), keep = load(beta, wide ? kFloat64 : kFloat32, 0);
  for (int64_t p = 0; p < count; p++) {
    for (int64_t j = 0; j < n; j++) {
      for (int64_t i = 0; i < m; i++) {
        double sum = 0;
        for (int64_t l = 0; l < k; l++) {
          sum += load(a, a_type, p * a_step + (op_a ? i * lda + l : l * lda + i)) *
                 load(b, b_type, p * b_step + (op_b ? l * ldb + j : j * ldb + l));
        }
        const int64_t at = p * c_step + j * ldc + i;
        store(c, c_type, at, scale * sum + (keep == 0 ? 0 : keep * load(c, c_type, at)));
      }
    }
  }
  return 0;
}

}  // extern "C"
