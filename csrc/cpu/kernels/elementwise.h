// Which elementwise ops there are, and the per-level tables of their inner loops (unary.cpp, binary.cpp).
// Shared by the driver and the ISA files, so it holds plain data only. Every loop reads and writes n
// contiguous elements; the output may be exactly one of the inputs. Null where an op has no meaning for a
// dtype.
#pragma once
#include <stdint.h>

#include "../../scalar_ops.h"

// The columns of the tables; bool runs as uint8.
enum ElementColumn { kColumnFloat, kColumnDouble, kColumnInt32, kColumnInt64, kColumnUint8, kColumns };

typedef void (*UnaryLoop)(const void* x, void* y, int64_t n);
typedef void (*BinaryLoop)(const void* a, const void* b, void* y, int64_t n);
typedef void (*TernaryLoop)(const void* a, const void* b, const void* c, void* y, int64_t n);

#define NEEDLE_UNARY_SAME(X) NEEDLE_UNARY_FLOAT(X) NEEDLE_UNARY_NUMBER(X)
#define NEEDLE_BINARY_SAME(X) NEEDLE_BINARY_FLOAT(X) NEEDLE_BINARY_NUMBER(X)
#define NEEDLE_TERNARY_SAME(X) NEEDLE_TERNARY_FLOAT(X) NEEDLE_TERNARY_NUMBER(X)
#define NEEDLE_UNARY(X) NEEDLE_UNARY_SAME(X) NEEDLE_UNARY_BOOL(X)
#define NEEDLE_BINARY(X) NEEDLE_BINARY_SAME(X) NEEDLE_BINARY_BOOL(X)
#define NEEDLE_TERNARY(X) NEEDLE_TERNARY_SAME(X) NEEDLE_TERNARY_SELECT(X)

// Only the names of the lines below are used here.
#define NEEDLE_ENUMERATOR(name, cost, ...) kOp_##name,
enum UnaryOp { NEEDLE_UNARY(NEEDLE_ENUMERATOR) kUnaryOps };
enum BinaryOp { NEEDLE_BINARY(NEEDLE_ENUMERATOR) kBinaryOps };
enum TernaryOp { NEEDLE_TERNARY(NEEDLE_ENUMERATOR) kTernaryOps };
#undef NEEDLE_ENUMERATOR

struct UnaryKernels {
  UnaryLoop loops[kUnaryOps][kColumns];
};
struct BinaryKernels {
  BinaryLoop loops[kBinaryOps][kColumns];
  TernaryLoop ternary[kTernaryOps][kColumns];
};

extern "C" {
extern const UnaryKernels unary_v2, unary_v3, unary_v4, unary_generic;
extern const BinaryKernels binary_v2, binary_v3, binary_v4, binary_generic;
}
