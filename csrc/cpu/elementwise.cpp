// The elementwise ops: one exported function per line of scalar_ops.h. Each picks its loop by ISA level and
// dtype; tiles.h runs it. Halves are computed in float32, tile by tile, and rounded once.
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

// What halves are computed in.
DType wide(DType dtype) { return is_half(dtype) ? kFloat32 : dtype; }

// Numbers are not rounded to a half.
Operand operand(const void* memory, double offset, DType dtype, bool saturate) {
  return {memory, offset, memory == nullptr ? wide(dtype) : dtype, saturate};
}

// A float loop as one that reads and writes halves. Rows with numbers in them are no longer than a tile.
template <int N, typename Loop>
struct Widened {
  const Loop& loop;
  CastLoop widen[N], narrow;  // null: what the loop takes as it is
  int64_t bytes[N], y_bytes;

  Widened(const Operand* in, const Operand& y, DType dtype, const Loop& float_loop) : loop(float_loop) {
    const auto* casts = select_kernels(copy)->cast;
    for (int k = 0; k < N; k++) {
      bytes[k] = in[k].bytes;
      widen[k] = bytes[k] == 2 ? casts[dtype][kFloat32] : nullptr;
    }
    y_bytes = y.bytes;
    narrow = y_bytes == 2 ? casts[kFloat32][dtype] : nullptr;
  }

  void operator()(const void* const* p, void* y, int64_t n) const {
    alignas(64) float tiles[N + 1][kTile];
    for (int64_t i = 0; i < n; i += kTile) {
      const int64_t m = at_most(kTile, n - i);
      const void* q[N];
      for (int k = 0; k < N; k++) {
        q[k] = static_cast<const char*>(p[k]) + i * bytes[k];
        if (!widen[k]) continue;
        widen[k](q[k], tiles[k], m);
        q[k] = tiles[k];
      }
      char* const to = static_cast<char*>(y) + i * y_bytes;
      loop(q, narrow ? static_cast<void*>(tiles[N]) : to, m);
      if (narrow) narrow(tiles[N], to, m);
    }
  }
};

// Runs a loop of wide(dtype).
template <int N, typename Loop>
void run_as(DType dtype, const Operand* in, const Operand& y, double n, const double* desc, int64_t cost,
            const Loop& loop) {
  if (is_half(dtype)) {
    run<N>(in, y, n, desc, cost + 1, Widened<N, Loop>(in, y, dtype, loop));
  } else {
    run<N>(in, y, n, desc, cost, loop);
  }
}

int32_t no_kernel(DType dtype) { return fail(kInvalid, "no kernel for %s", dtype_name(dtype)); }

int32_t unary(UnaryOp op, int64_t cost, const void* x, double x_off, void* y, double y_off, int32_t dtypes,
              double n, const double* desc) {
  const DType dtype = main_dtype(dtypes);
  const UnaryLoop loop = pick(select_kernels(unary)->loops[op], wide(dtype));
  if (!loop) return no_kernel(dtype);
  const bool to_bool = op >= kOp_isnan;
  const Operand in[1] = {{x, x_off, dtype, false}}, out{y, y_off, to_bool ? kBool : dtype, false};
  run_as<1>(dtype, in, out, n, desc, cost,
            [loop](const void* const* p, void* to, int64_t m) { loop(p[0], to, m); });
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
  if (op == kOp_pow && !b && !desc && simple_power(b_off, wide(dtype), simple)) {
    return unary(simple, 1, a, a_off, y, y_off, dtypes, n, desc);
  }
  const BinaryLoop loop = pick(select_kernels(binary)->loops[op], wide(dtype));
  if (!loop) return no_kernel(dtype);
  const bool to_bool = op >= kOp_eq;
  const bool saturate = to_bool || op == kOp_maximum || op == kOp_minimum;
  const Operand in[2] = {operand(a, a_off, dtype, saturate), operand(b, b_off, dtype, saturate)};
  const Operand out{y, y_off, to_bool ? kBool : dtype, false};
  const bool partial = op == kOp_pow || op == kOp_floor_divide || op == kOp_remainder;
  if (!partial || wide(dtype) == kFloat32 || dtype == kFloat64) {
    run_as<2>(dtype, in, out, n, desc, cost,
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
  const TernaryLoop loop = pick(select_kernels(binary)->ternary[op], wide(dtype));
  if (!loop) return no_kernel(dtype);
  const bool saturate = op == kOp_clamp;
  const Operand in[3] = {operand(a, a_off, op == kOp_where ? kBool : dtype, saturate),
                         operand(b, b_off, dtype, saturate), operand(c, c_off, dtype, saturate)};
  const Operand out{y, y_off, dtype, false};
  run_as<3>(dtype, in, out, n, desc, cost,
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
