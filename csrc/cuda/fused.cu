// Fused elementwise expressions: each thread runs a short program on a few elements at a time, so that
// intermediate results never see memory. The steps are the function objects of the single ops, hence the same
// bits. lib/lazy.ts makes the programs; csrc/cpu/fused.cpp documents their layout.
#include <string.h>

#include "elementwise.h"
#include "scalar.h"

namespace needle {
namespace {

constexpr int kInputs = 8, kOutputs = 4;
constexpr int kMostSteps = 16, kMostConstants = 3 * kMostSteps, kMostTiles = kMostSteps;
// Elements that a thread has at once.
constexpr int kLanes = 4;

// Every op has a number: its place in the header's list.
#define NUMBER(symbol) kNumber_##symbol,
enum OpNumber { NEEDLE_FOR_EACH_OP(NUMBER) };
#undef NUMBER

// Where a value is: `place` counts inputs, constants, outputs or tiles.
enum Kind : int8_t { kNone, kInput, kConstant, kOutput, kTile };
struct Value {
  Kind kind;
  int8_t place;
};

struct Step {
  int16_t op;
  bool narrow;  // computes in float32
  Value operands[3], result;
};

struct Tensor {
  char* p;
  DType dtype;  // float32, float64 or bool
  bool aligned;
};

struct Program {
  Tensor inputs[kInputs], outputs[kOutputs];
  double constants[kMostConstants];
  Step steps[kMostSteps];
  int step_count;
  int64_t n;
};

// --- Values are held as float, or as double where a step needs it; both hold every float32 and bool ---

template <typename E, typename T>
NEEDLE_DEVICE void load_as(const Tensor& t, int64_t i, int count, T (&x)[kLanes]) {
  const E* const p = reinterpret_cast<const E*>(t.p) + i;
  constexpr int V = vector_lanes<E>();
  if (t.aligned && count == kLanes) {
    for (int k = 0; k < kLanes; k += V) {
      const Vector<E, V> v = reinterpret_cast<const Vector<E, V>*>(p + k)[0];
      for (int lane = 0; lane < V; lane++) x[k + lane] = T(v.lane[lane]);
    }
  } else {
    for (int lane = 0; lane < kLanes; lane++) x[lane] = lane < count ? T(p[lane]) : T(0);
  }
}

template <typename E, typename T>
NEEDLE_DEVICE void store_as(const Tensor& t, int64_t i, int count, const T (&x)[kLanes]) {
  E* const p = reinterpret_cast<E*>(t.p) + i;
  constexpr int V = vector_lanes<E>();
  if (t.aligned && count == kLanes) {
    for (int k = 0; k < kLanes; k += V) {
      Vector<E, V> v;
      for (int lane = 0; lane < V; lane++) v.lane[lane] = E(x[k + lane]);
      reinterpret_cast<Vector<E, V>*>(p + k)[0] = v;
    }
  } else {
    for (int lane = 0; lane < kLanes; lane++) {
      if (lane < count) p[lane] = E(x[lane]);
    }
  }
}

template <typename T>
NEEDLE_DEVICE void load(const Tensor& t, int64_t i, int count, T (&x)[kLanes]) {
  if (t.dtype == kBool) return load_as<uint8_t>(t, i, count, x);
  if (sizeof(T) == 8 && t.dtype == kFloat64) return load_as<double>(t, i, count, x);
  load_as<float>(t, i, count, x);
}

template <typename T>
NEEDLE_DEVICE void store(const Tensor& t, int64_t i, int count, const T (&x)[kLanes]) {
  if (t.dtype == kBool) return store_as<uint8_t>(t, i, count, x);
  if (sizeof(T) == 8 && t.dtype == kFloat64) return store_as<double>(t, i, count, x);
  store_as<float>(t, i, count, x);
}

// y = op(a, b, c), computed in C.
template <typename C, typename T>
NEEDLE_DEVICE void apply_step(int op, const T (&a)[kLanes], const T (&b)[kLanes], const T (&c)[kLanes],
                              T (&y)[kLanes]) {
  switch (op) {
#define UNARY(name, ...)                                                     \
  case kNumber_needle_##name:                                                \
    for (int k = 0; k < kLanes; k++) y[k] = T(scalar::name##_op()(C(a[k]))); \
    return;
#define BINARY(name, ...)                                                             \
  case kNumber_needle_##name:                                                         \
    for (int k = 0; k < kLanes; k++) y[k] = T(scalar::name##_op()(C(a[k]), C(b[k]))); \
    return;
#define TERNARY(name, ...)                                                                     \
  case kNumber_needle_##name:                                                                  \
    for (int k = 0; k < kLanes; k++) y[k] = T(scalar::name##_op()(C(a[k]), C(b[k]), C(c[k]))); \
    return;
#define SELECT(name, ...)                                                                            \
  case kNumber_needle_##name:                                                                        \
    for (int k = 0; k < kLanes; k++) y[k] = T(scalar::name##_op()(uint8_t(a[k]), C(b[k]), C(c[k]))); \
    return;
    NEEDLE_UNARY_FLOAT(UNARY)
    NEEDLE_UNARY_NUMBER(UNARY)
    NEEDLE_UNARY_BOOL(UNARY)
    NEEDLE_BINARY_FLOAT(BINARY)
    NEEDLE_BINARY_NUMBER(BINARY)
    NEEDLE_BINARY_BOOL(BINARY)
    NEEDLE_TERNARY_FLOAT(TERNARY)
    NEEDLE_TERNARY_NUMBER(TERNARY)
    NEEDLE_TERNARY_SELECT(SELECT)
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) run_program(Program program) {
  T tiles[kMostTiles][kLanes];
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kLanes;
  for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kLanes; i < program.n; i += step) {
    const int count = program.n - i < kLanes ? int(program.n - i) : kLanes;
    for (int s = 0; s < program.step_count; s++) {
      const Step& now = program.steps[s];
      T x[3][kLanes], y[kLanes];
      NEEDLE_UNROLL for (int k = 0; k < 3; k++) {
        const Value from = now.operands[k];
        if (from.kind == kInput) {
          load(program.inputs[from.place], i, count, x[k]);
        } else if (from.kind == kOutput) {
          load(program.outputs[from.place], i, count, x[k]);  // what this thread wrote
        } else {
          for (int lane = 0; lane < kLanes; lane++) {
            x[k][lane] = from.kind == kTile       ? tiles[from.place][lane]
                         : from.kind == kConstant ? T(program.constants[from.place])
                                                  : T(0);
          }
        }
      }
      if (sizeof(T) == 8 && now.narrow) {
        apply_step<float>(now.op, x[0], x[1], x[2], y);
      } else {
        apply_step<T>(now.op, x[0], x[1], x[2], y);
      }
      if (now.result.kind == kOutput) {
        store(program.outputs[now.result.place], i, count, y);
      } else {
        for (int lane = 0; lane < kLanes; lane++) tiles[now.result.place][lane] = y[lane];
      }
    }
  }
}

// --- Reading programs ---

bool to_bool(int op) {
  switch (op) {
#define CASE(name, ...) case kNumber_needle_##name:
    NEEDLE_UNARY_BOOL(CASE)
    NEEDLE_BINARY_BOOL(CASE)
#undef CASE
    return true;
    default:
      return false;
  }
}

Tensor tensor(const void* base, double offset, DType dtype) {
  char* const p = const_cast<char*>(static_cast<const char*>(base)) + int64_t(offset) * dtype_bytes(dtype);
  return {p, dtype, is_aligned(p, dtype == kBool ? 4 : 16)};
}

// Fills `p` from a descriptor; `wide` tells whether anything is float64. False where the program is too large
// or of other dtypes.
bool read_program(const double* desc, const void* const* in, const double* in_off, void* const* out,
                  const double* out_off, Program& p, bool& wide) {
  const int inputs = int(desc[1]), constants = int(desc[2]), tiles = int(desc[4]);
  p.n = int64_t(desc[0]);
  p.step_count = int(desc[3]);
  // The first tiles of a program are those of its constants, which need none here.
  if (inputs > kInputs || constants > kMostConstants || p.step_count > kMostSteps ||
      tiles - constants > kMostTiles) {
    return false;
  }
  const double* d = desc + 5;
  Value values[kInputs + kMostConstants + kMostSteps];
  Value* v = values;
  wide = false;
  for (int k = 0; k < inputs; k++, v++) {
    const DType dtype = DType(int(*d++));
    if (dtype != kFloat32 && dtype != kFloat64 && dtype != kBool) return false;
    wide = wide || dtype == kFloat64;
    p.inputs[k] = tensor(in[k], in_off[k], dtype);
    *v = {kInput, int8_t(k)};
  }
  for (int k = 0; k < constants; k++, v++, d += 3) {
    p.constants[k] = DType(int(d[0])) == kFloat32 ? double(float(d[1])) : d[1];
    *v = {kConstant, int8_t(k)};
  }
  for (int j = 0; j < p.step_count; j++, v++, d += 6) {
    Step& s = p.steps[j];
    const DType dtype = DType(int(d[1]));
    if (dtype != kFloat32 && dtype != kFloat64) return false;
    s.op = int16_t(d[0]);
    s.narrow = dtype == kFloat32;
    wide = wide || !s.narrow;
    for (int k = 0; k < 3; k++) s.operands[k] = d[2 + k] < 0 ? Value{kNone, 0} : values[int(d[2 + k])];
    // A small number as exponent: the op that a power alone would be too.
    if (s.op == kNumber_needle_pow && s.operands[1].kind == kConstant) {
      const double exponent = p.constants[s.operands[1].place];
      if (exponent == 2) s.op = kNumber_needle_square;
      if (exponent == -1) s.op = kNumber_needle_reciprocal;
    }
    const int destination = int(d[5]);
    if (destination >= 0) {
      s.result = {kTile, int8_t(destination - constants)};
    } else {
      const int k = -1 - destination;
      if (k >= kOutputs) return false;
      p.outputs[k] = tensor(out[k], out_off[k], to_bool(s.op) ? kBool : dtype);
      s.result = {kOutput, int8_t(k)};
    }
    *v = s.result;
  }
  return true;
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_fused(const void* in0, double in0_off, const void* in1, double in1_off,
                                   const void* in2, double in2_off, const void* in3, double in3_off,
                                   const void* in4, double in4_off, const void* in5, double in5_off,
                                   const void* in6, double in6_off, const void* in7, double in7_off,
                                   void* out0, double out0_off, void* out1, double out1_off, void* out2,
                                   double out2_off, void* out3, double out3_off,
                                   const double* desc) noexcept {
  const void* in[kInputs] = {in0, in1, in2, in3, in4, in5, in6, in7};
  const double in_off[kInputs] = {in0_off, in1_off, in2_off, in3_off, in4_off, in5_off, in6_off, in7_off};
  void* out[kOutputs] = {out0, out1, out2, out3};
  const double out_off[kOutputs] = {out0_off, out1_off, out2_off, out3_off};
  Program program;
  memset(&program, 0, sizeof program);
  bool wide;
  if (!read_program(desc, in, in_off, out, out_off, program, wide)) {
    return fail(kInvalid, "no such program");
  }
  if (program.n == 0) return kOk;
  const unsigned blocks = grid_for((program.n + kLanes - 1) / kLanes);
  if (wide) {
    NEEDLE_LAUNCH((run_program<double>), blocks, kThreads, 0, stream(), program);
  } else {
    NEEDLE_LAUNCH((run_program<float>), blocks, kThreads, 0, stream(), program);
  }
  return launched("starting a kernel");
}
