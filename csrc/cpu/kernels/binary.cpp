// The loops of the binary and ternary elementwise ops: one struct per line of scalar_ops.h, one table row per
// struct.
#include "loops.h"

namespace {

#define OP2(name, cost, ...)      \
  struct name##_op {              \
    template <typename T>         \
    static inline T f(T a, T b) { \
      return T(__VA_ARGS__);      \
    }                             \
  };
#define PREDICATE2(name, cost, ...)  \
  struct name##_op {                 \
    template <typename T>            \
    static inline bool f(T a, T b) { \
      return __VA_ARGS__;            \
    }                                \
  };
#define OP3(name, cost, ...)           \
  struct name##_op {                   \
    template <typename T>              \
    static inline T f(T a, T b, T c) { \
      return T(__VA_ARGS__);           \
    }                                  \
  };
#define SELECT(name, cost, ...)              \
  struct name##_op {                         \
    template <typename T>                    \
    static inline T f(uint8_t c, T a, T b) { \
      return __VA_ARGS__;                    \
    }                                        \
  };
NEEDLE_BINARY_SAME(OP2)
NEEDLE_BINARY_BOOL(PREDICATE2)
NEEDLE_TERNARY_SAME(OP3)
NEEDLE_TERNARY_SELECT(SELECT)

}  // namespace

#define FLOAT2(name, cost, ...) {binary_vectors<name##_op, float>, binary_vectors<name##_op, double>},
#define NUMBER2(name, cost, ...)                                                         \
  {binary_vectors<name##_op, float>, binary_vectors<name##_op, double>,                  \
   binary_plain<name##_op, int32_t, int32_t>, binary_plain<name##_op, int64_t, int64_t>, \
   binary_plain<name##_op, uint8_t, uint8_t>},
#define BOOL2(name, cost, ...)                                                           \
  {binary_plain<name##_op, float, uint8_t>, binary_plain<name##_op, double, uint8_t>,    \
   binary_plain<name##_op, int32_t, uint8_t>, binary_plain<name##_op, int64_t, uint8_t>, \
   binary_plain<name##_op, uint8_t, uint8_t>},
#define FLOAT3(name, cost, ...) {ternary_vectors<name##_op, float>, ternary_vectors<name##_op, double>},
#define NUMBER3(name, cost, ...)                                                           \
  {ternary_vectors<name##_op, float>, ternary_vectors<name##_op, double>,                  \
   ternary_plain<name##_op, int32_t, int32_t>, ternary_plain<name##_op, int64_t, int64_t>, \
   ternary_plain<name##_op, uint8_t, uint8_t>},
#define SELECT3(name, cost, ...)                                                           \
  {ternary_plain<name##_op, uint8_t, float>, ternary_plain<name##_op, uint8_t, double>,    \
   ternary_plain<name##_op, uint8_t, int32_t>, ternary_plain<name##_op, uint8_t, int64_t>, \
   ternary_plain<name##_op, uint8_t, uint8_t>},

extern "C" const BinaryKernels NEEDLE_ISA_NAME(binary) = {
    {NEEDLE_BINARY_FLOAT(FLOAT2) NEEDLE_BINARY_NUMBER(NUMBER2) NEEDLE_BINARY_BOOL(BOOL2)},
    {NEEDLE_TERNARY_FLOAT(FLOAT3) NEEDLE_TERNARY_NUMBER(NUMBER3) NEEDLE_TERNARY_SELECT(SELECT3)}};
