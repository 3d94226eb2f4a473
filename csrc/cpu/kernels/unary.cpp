// The loops of the unary elementwise ops: one struct per line of scalar_ops.h, one table row per struct.
#include "loops.h"

namespace {

#define OP(name, cost, ...)  \
  struct name##_op {         \
    template <typename T>    \
    static inline T f(T x) { \
      return T(__VA_ARGS__); \
    }                        \
  };
#define PREDICATE(name, cost, ...) \
  struct name##_op {               \
    template <typename T>          \
    static inline bool f(T x) {    \
      return __VA_ARGS__;          \
    }                              \
  };
NEEDLE_UNARY_SAME(OP)
NEEDLE_UNARY_BOOL(PREDICATE)

}  // namespace

#define FLOAT(name, cost, ...) {unary_vectors<name##_op, float>, unary_vectors<name##_op, double>},
#define NUMBER(name, cost, ...)                                                        \
  {unary_vectors<name##_op, float>, unary_vectors<name##_op, double>,                  \
   unary_plain<name##_op, int32_t, int32_t>, unary_plain<name##_op, int64_t, int64_t>, \
   unary_plain<name##_op, uint8_t, uint8_t>},
#define BOOL(name, cost, ...)                                                          \
  {unary_plain<name##_op, float, uint8_t>, unary_plain<name##_op, double, uint8_t>,    \
   unary_plain<name##_op, int32_t, uint8_t>, unary_plain<name##_op, int64_t, uint8_t>, \
   unary_plain<name##_op, uint8_t, uint8_t>},

extern "C" const UnaryKernels NEEDLE_ISA_NAME(unary) = {
    {NEEDLE_UNARY_FLOAT(FLOAT) NEEDLE_UNARY_NUMBER(NUMBER) NEEDLE_UNARY_BOOL(BOOL)}};
