// The elementwise ops: one exported function per line of scalar_ops.h. Each picks its loop by ISA level and
// dtype; tiles.h runs it.
#include "kernels/elementwise.h"

#include <atomic>

#include "../common.h"
#include "tiles.h"

namespace needle {
namespace {

int column_of(DType dtype) {
  switch (dtype) {
    case kFloat32:
      return kColumnFloat;
    case kFloat64:
      return kColumnDouble;
    case kInt32:
      return kColumnInt32;
    case kInt64:
      return kColumnInt64;
    case kUint8:
    case kBool:
      return kColumnUint8;
    default:
      return -1;
  }
}

template <typename Loop>
Loop pick(const Loop (&row)[kColumns], DType dtype) {
  const int column = column_of(dtype);
  return column < 0 ? nullptr : row[column];
}

int32_t no_kernel(DType dtype) { return fail(kInvalid, "no kernel for %s", dtype_name(dtype)); }

int32_t unary(UnaryOp op, int64_t cost, const void* x, double x_off, void* y, double y_off, int32_t dtypes,
              double n, const double* desc) {
  const DType dtype = main_dtype(dtypes);
  const UnaryLoop loop = pick(select_kernels(unary)->loops[op], dtype);
  if (!loop) return no_kernel(dtype);
  const bool to_bool = op >= kOp_isnan;
  const Operand in[1] = {{x, x_off, dtype, false}}, out{y, y_off, to_bool ? kBool : dtype, false};
  run<1>(in, out, n, desc, cost, [loop](const void* const* p, void* to, int64_t m) { loop(p[0], to, m); });
  return kOk;
}

// Why integers b cannot be the second operand, or null.
template <typename T>
const char* refuse(BinaryOp op, const void* b, int64_t n) {
  const T* p = static_cast<const T*>(b);
  bool bad = false;
  if (op == kOp_pow) {
    for (int64_t i = 0; i < n; i++) bad |= p[i] < T(0);
    return bad ? "Integers to negative integer powers are not allowed" : nullptr;
  }
  for (int64_t i = 0; i < n; i++) bad |= p[i] == T(0);
  return bad ? "Integer division by zero" : nullptr;
}

const char* refuse_integers(BinaryOp op, DType dtype, const void* b, int64_t n) {
  switch (dtype) {
    case kInt32:
      return refuse<int32_t>(op, b, n);
    case kInt64:
      return refuse<int64_t>(op, b, n);
    default:
      return refuse<uint8_t>(op, b, n);
  }
}

int32_t binary(BinaryOp op, int64_t cost, const void* a, double a_off, const void* b, double b_off, void* y,
               double y_off, int32_t dtypes, double n, const double* desc) {
  const DType dtype = main_dtype(dtypes);
  if (dtype == kBool && op == kOp_add) op = kOp_maximum;
  UnaryOp simple;
  // The descriptor of a strided call has strides for b, so only contiguous calls change to a unary op.
  if (op == kOp_pow && !b && !desc && simple_power(b_off, dtype, simple)) {
    return unary(simple, 1, a, a_off, y, y_off, dtypes, n, desc);
  }
  const BinaryLoop loop = pick(select_kernels(binary)->loops[op], dtype);
  if (!loop) return no_kernel(dtype);
  const bool to_bool = op >= kOp_eq;
  const bool saturate = to_bool || op == kOp_maximum || op == kOp_minimum;
  const Operand in[2] = {{a, a_off, dtype, saturate}, {b, b_off, dtype, saturate}};
  const Operand out{y, y_off, to_bool ? kBool : dtype, false};
  const bool partial = op == kOp_pow || op == kOp_floor_divide || op == kOp_remainder;
  if (!partial || dtype == kFloat32 || dtype == kFloat64) {
    run<2>(in, out, n, desc, cost,
           [loop](const void* const* p, void* to, int64_t m) { loop(p[0], p[1], to, m); });
    return kOk;
  }
  std::atomic<const char*> reason{nullptr};
  run<2>(in, out, n, desc, cost, [&](const void* const* p, void* to, int64_t m) {
    if (const char* text = refuse_integers(op, dtype, p[1], m)) {
      reason = text;
    } else {
      loop(p[0], p[1], to, m);
    }
  });
  return reason ? fail(kInvalid, "%s", reason.load()) : kOk;
}

int32_t ternary(TernaryOp op, int64_t cost, const void* a, double a_off, const void* b, double b_off,
                const void* c, double c_off, void* y, double y_off, int32_t dtypes, double n,
                const double* desc) {
  const DType dtype = main_dtype(dtypes);
  const TernaryLoop loop = pick(select_kernels(binary)->ternary[op], dtype);
  if (!loop) return no_kernel(dtype);
  const bool saturate = op == kOp_clamp;
  const Operand in[3] = {{a, a_off, op == kOp_where ? kBool : dtype, saturate},
                         {b, b_off, dtype, saturate},
                         {c, c_off, dtype, saturate}};
  const Operand out{y, y_off, dtype, false};
  run<3>(in, out, n, desc, cost,
         [loop](const void* const* p, void* to, int64_t m) { loop(p[0], p[1], p[2], to, m); });
  return kOk;
}

}  // namespace
}  // namespace needle

using namespace needle;

#define UNARY(name, cost, ...)                                                                            \
  NEEDLE_EXPORT int32_t needle_##name(const void* a, double a_off, void* y, double y_off, int32_t dtypes, \
                                      double n, const double* desc) noexcept {                            \
    return unary(kOp_##name, cost, a, a_off, y, y_off, dtypes, n, desc);                                  \
  }
NEEDLE_UNARY(UNARY)

#define BINARY(name, cost, ...)                                                                              \
  NEEDLE_EXPORT int32_t needle_##name(const void* a, double a_off, const void* b, double b_off, void* y,     \
                                      double y_off, int32_t dtypes, double n, const double* desc) noexcept { \
    return binary(kOp_##name, cost, a, a_off, b, b_off, y, y_off, dtypes, n, desc);                          \
  }
NEEDLE_BINARY(BINARY)

#define TERNARY(name, cost, ...)                                                                          \
  NEEDLE_EXPORT int32_t needle_##name(const void* a, double a_off, const void* b, double b_off,           \
                                      const void* c, double c_off, void* y, double y_off, int32_t dtypes, \
                                      double n, const double* desc) noexcept {                            \
    return ternary(kOp_##name, cost, a, a_off, b, b_off, c, c_off, y, y_off, dtypes, n, desc);            \
  }
NEEDLE_TERNARY(TERNARY)
