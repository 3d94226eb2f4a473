// Fused elementwise expressions: a short program that runs tile by tile, so that intermediate results stay in
// L1 and memory is read and written once. The steps are the loops of the single ops, hence the same bits.
// lib/lazy.ts makes the programs.
#include "kernels/elementwise.h"

#include <atomic>

#include "../common.h"
#include "tiles.h"

namespace needle {
namespace {

constexpr int kInputs = 8, kOutputs = 4;
constexpr int kLargestProgram = 96;  // values: inputs, constants and results together

// Every op has a number: its place in the header's list.
#define NUMBER(symbol) kNumber_##symbol,
enum OpNumber { NEEDLE_FOR_EACH_OP(NUMBER) };
#undef NUMBER

struct Step {
  int arity = 0;  // 0: not an elementwise op
  int op = 0;
  int64_t cost = 1;
  UnaryLoop unary = nullptr;
  BinaryLoop binary = nullptr;
  TernaryLoop ternary = nullptr;
  int a = -1, b = -1, c = -1;
};

Step step_of(int number) {
  Step s;
  switch (number) {
#define UNARY(name, price, ...)  \
  case kNumber_needle_##name:    \
    s.arity = 1, s.cost = price; \
    s.op = kOp_##name;           \
    return s;
#define BINARY(name, price, ...) \
  case kNumber_needle_##name:    \
    s.arity = 2, s.cost = price; \
    s.op = kOp_##name;           \
    return s;
#define TERNARY(name, price, ...) \
  case kNumber_needle_##name:     \
    s.arity = 3, s.cost = price;  \
    s.op = kOp_##name;            \
    return s;
    NEEDLE_UNARY(UNARY)
    NEEDLE_BINARY(BINARY)
    NEEDLE_TERNARY(TERNARY)
    default:
      return s;
  }
}

bool to_bool(const Step& s) {
  return (s.arity == 1 && s.op >= kOp_isnan) || (s.arity == 2 && s.op >= kOp_eq);
}

// A value of the program and where its elements are while tile [i, i + m) is worked on.
struct Value {
  char* base = nullptr;  // of inputs and outputs; null: in a tile of its own thread
  int64_t bytes = 0;
  int64_t tile = 0;  // which tile
  const double* constant = nullptr;
  DType dtype = kFloat32;
};

struct Program {
  Value values[kLargestProgram];
  Step steps[kLargestProgram];
  int first_result = 0, step_count = 0, constant_count = 0, tile_count = 0;
  int64_t n = 0, cost = 0;

  void run(int64_t begin, int64_t end, Tile* tiles) const {
    // One step without numbers needs no tiles.
    const int64_t length = tile_count == 0 ? end - begin : kTile;
    for (int k = 0; k < first_result; k++) {
      const Value& v = values[k];
      if (!v.constant) continue;
      char element[8];
      store_number(*v.constant, v.dtype, false, element);
      repeat(element, v.bytes, tiles[v.tile].bytes, at_most(length, end - begin));
    }
    for (int64_t i = begin; i < end; i += length) {
      const int64_t m = at_most(length, end - i);
      const auto at = [&](int k) -> char* {
        const Value& v = values[k];
        return v.base ? v.base + i * v.bytes : tiles[v.tile].bytes;
      };
      for (int j = 0; j < step_count; j++) {
        const Step& s = steps[j];
        char* y = at(first_result + j);
        if (s.arity == 1) {
          s.unary(at(s.a), y, m);
        } else if (s.arity == 2) {
          s.binary(at(s.a), at(s.b), y, m);
        } else {
          s.ternary(at(s.a), at(s.b), at(s.c), y, m);
        }
      }
    }
  }
};

// Reads the descriptor: [n, inputs, constants, steps, tiles; a dtype per input; a dtype, a value and a tile
// per constant; per step: op number, dtype, operands a, b, c (numbers of values, -1: none), destination (a
// tile, or -1 - k for output k)]. Values are numbered: inputs, constants, results of the steps.
bool read_program(const double* desc, const void* const* in, const double* in_off, void* const* out,
                  const double* out_off, Program& p) {
  p.n = int64_t(desc[0]);
  const int inputs = int(desc[1]), constants = int(desc[2]);
  p.step_count = int(desc[3]);
  p.constant_count = constants;
  p.tile_count = int(desc[4]);
  p.first_result = inputs + constants;
  if (inputs > kInputs || p.first_result + p.step_count > kLargestProgram) return false;
  const double* d = desc + 5;
  Value* v = p.values;
  for (int k = 0; k < inputs; k++, v++) {
    v->dtype = DType(int(*d++));
    v->bytes = dtype_bytes(v->dtype);
    v->base = static_cast<char*>(const_cast<void*>(in[k])) + int64_t(in_off[k]) * v->bytes;
  }
  for (int k = 0; k < constants; k++, v++, d += 3) {
    v->dtype = DType(int(d[0]));
    v->bytes = dtype_bytes(v->dtype);
    v->constant = d + 1;
    v->tile = int64_t(d[2]);
  }
  for (int j = 0; j < p.step_count; j++, v++, d += 6) {
    Step s = step_of(int(d[0]));
    const DType dtype = DType(int(d[1]));
    if (s.arity == 0 || (dtype != kFloat32 && dtype != kFloat64)) return false;
    const int column = dtype == kFloat32 ? kColumnFloat : kColumnDouble;
    s.a = int(d[2]), s.b = int(d[3]), s.c = int(d[4]);
    v->dtype = to_bool(s) ? kBool : dtype;
    UnaryOp simple;
    if (s.arity == 2 && s.op == kOp_pow && p.values[s.b].constant &&
        simple_power(*p.values[s.b].constant, dtype, simple)) {
      s.arity = 1, s.cost = 1;
      s.op = simple;
    }
    if (s.arity == 1) s.unary = select_kernels(unary)->loops[s.op][column];
    if (s.arity == 2) s.binary = select_kernels(binary)->loops[s.op][column];
    if (s.arity == 3) s.ternary = select_kernels(binary)->ternary[s.op][column];
    if (!s.unary && !s.binary && !s.ternary) return false;
    p.steps[j] = s;
    p.cost += s.cost;
    v->bytes = dtype_bytes(v->dtype);
    const int destination = int(d[5]);
    if (destination >= 0) {
      v->tile = destination;
    } else {
      const int k = -1 - destination;
      if (k >= kOutputs) return false;
      v->base = static_cast<char*>(out[k]) + int64_t(out_off[k]) * v->bytes;
    }
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
  if (!read_program(desc, in, in_off, out, out_off, program)) return fail(kInvalid, "no such program");
  std::atomic<bool> exhausted{false};
  parallel_for(program.n, kGrain / program.cost, [&](int64_t begin, int64_t end) {
    Tile* tiles = nullptr;
    if (program.tile_count > 0) {
      tiles = static_cast<Tile*>(scratch(kScratchElementwise, size_t(program.tile_count) * sizeof(Tile)));
      if (!tiles) {
        exhausted = true;
        return;
      }
    }
    program.run(begin, end, tiles);
  });
  return exhausted ? out_of_memory() : kOk;
}
