// The elementwise ops: one exported function per line of scalar_ops.h. Whatever is contiguous goes straight to the
// kernels; numbers, broadcast and strided operands go through tiles that stay in L1. Threads split the row-major
// order of the result.
#include "kernels/elementwise.h"

#include <atomic>

#include "../common.h"
#include "strided.h"

namespace needle {
namespace {

// Elements per tile; four tiles of the widest type fit L1.
constexpr int64_t kTile = 1024;
// Rows from this length on are passed to the kernel as they lie.
constexpr int64_t kLongRow = 256;

struct Tile {
  alignas(64) char bytes[kTile * 8];
};

// A tensor argument; as a number it stands for as many equal elements as needed.
struct Operand {
  char* base;
  int64_t bytes;
  bool number;
  char element[8];

  Operand(const void* memory, double offset, DType dtype, bool saturate)
      : base(nullptr), bytes(dtype_bytes(dtype)), number(memory == nullptr), element{} {
    if (number) {
      store_number(offset, dtype, saturate, element);
    } else {
      base = static_cast<char*>(const_cast<void*>(memory)) + int64_t(offset) * bytes;
    }
  }
};

int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

// All operands contiguous, or numbers.
template <int N, typename Kernel>
void run_flat(const Operand* in, const Operand& y, int64_t n, int64_t grain, const Kernel& kernel) {
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    Tile tiles[N];
    int64_t step = end - begin;
    for (int k = 0; k < N; k++) {
      if (!in[k].number) continue;
      step = at_most(step, kTile);
      repeat(in[k].element, in[k].bytes, tiles[k].bytes, step);
    }
    for (int64_t i = begin; i < end; i += step) {
      const void* p[N];
      for (int k = 0; k < N; k++) p[k] = in[k].number ? tiles[k].bytes : in[k].base + i * in[k].bytes;
      kernel(p, y.base + i * y.bytes, at_most(step, end - i));
    }
  });
}

// How the walk reads an operand, or writes the result.
struct Way {
  Sizes strides;
  bool dense;  // row-major throughout
  int64_t inner;
};

template <int N, typename Kernel>
void run_strided(const Operand* in, const Operand& y, const double* desc, int64_t grain, const Kernel& kernel) {
  const int64_t ndim = int64_t(desc[0]);
  const Sizes shape = to_sizes(desc + 1, ndim);
  Way ways[N + 1];
  for (int k = 0; k <= N; k++) {
    ways[k].strides = to_sizes(desc + 1 + ndim * (k + 1), ndim);
    ways[k].dense = is_dense(shape, ways[k].strides);
    ways[k].inner = ways[k].strides.back();
  }
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  const int64_t row = shape.back();
  const bool long_rows = row >= kLongRow;
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    Tile tiles[N + 1];
    int64_t held[N];  // where in an operand the element comes from that its tile repeats; -1: none
    for (int k = 0; k < N; k++) {
      held[k] = -1;
      if (in[k].number) repeat(in[k].element, in[k].bytes, tiles[k].bytes, kTile);
    }
    Sizes index;
    for (int64_t position = begin, m; position < end; position += m) {
      m = at_most(kTile, end - position);
      if (long_rows) {
        m = at_most(m, row - position % row);
        locate(shape, position, index);
      }
      const void* p[N];
      for (int k = 0; k < N; k++) {
        const Way& way = ways[k];
        char* tile = tiles[k].bytes;
        if (in[k].number) {
          p[k] = tile;
        } else if (way.dense) {
          p[k] = in[k].base + position * in[k].bytes;
        } else if (long_rows && way.inner == 1) {
          p[k] = in[k].base + offset_of(index, way.strides) * in[k].bytes;
        } else if (long_rows && way.inner == 0) {
          const int64_t offset = offset_of(index, way.strides);
          if (held[k] != offset) repeat(in[k].base + offset * in[k].bytes, in[k].bytes, tile, kTile);
          held[k] = offset;
          p[k] = tile;
        } else {
          gather(shape, way.strides, in[k].bytes, in[k].base, position, m, tile);
          p[k] = tile;
        }
      }
      const Way& out = ways[N];
      if (out.dense) {
        kernel(p, y.base + position * y.bytes, m);
      } else if (long_rows && out.inner == 1) {
        kernel(p, y.base + offset_of(index, out.strides) * y.bytes, m);
      } else {
        kernel(p, tiles[N].bytes, m);
        scatter(shape, out.strides, y.bytes, tiles[N].bytes, y.base, position, m);
      }
    }
  });
}

template <int N, typename Kernel>
void run(const Operand* in, const Operand& y, double n, const double* desc, int64_t cost, const Kernel& kernel) {
  const int64_t grain = kGrain / cost;
  if (desc && desc[0] > 0) {
    run_strided<N>(in, y, desc, grain, kernel);
  } else {
    run_flat<N>(in, y, int64_t(n), grain, kernel);
  }
}

int column_of(DType dtype) {
  switch (dtype) {
    case kFloat32: return kColumnFloat;
    case kFloat64: return kColumnDouble;
    case kInt32: return kColumnInt32;
    case kInt64: return kColumnInt64;
    case kUint8:
    case kBool: return kColumnUint8;
    default: return -1;
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
    case kInt32: return refuse<int32_t>(op, b, n);
    case kInt64: return refuse<int64_t>(op, b, n);
    default: return refuse<uint8_t>(op, b, n);
  }
}

// A power with a small number as exponent is a cheaper op of the same meaning; false: there is none.
bool simple_power(double exponent, DType dtype, UnaryOp& op) {
  if (dtype != kFloat32 && dtype != kFloat64) return false;
  if (exponent == 2) return op = kOp_square, true;
  if (exponent == -1) return op = kOp_reciprocal, true;
  return false;
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

#define BINARY(name, cost, ...)                                                                            \
  NEEDLE_EXPORT int32_t needle_##name(const void* a, double a_off, const void* b, double b_off, void* y,   \
                                      double y_off, int32_t dtypes, double n, const double* desc) noexcept { \
    return binary(kOp_##name, cost, a, a_off, b, b_off, y, y_off, dtypes, n, desc);                        \
  }
NEEDLE_BINARY(BINARY)

#define TERNARY(name, cost, ...)                                                                          \
  NEEDLE_EXPORT int32_t needle_##name(const void* a, double a_off, const void* b, double b_off,           \
                                      const void* c, double c_off, void* y, double y_off, int32_t dtypes, \
                                      double n, const double* desc) noexcept {                            \
    return ternary(kOp_##name, cost, a, a_off, b, b_off, c, c_off, y, y_off, dtypes, n, desc);            \
  }
NEEDLE_TERNARY(TERNARY)
