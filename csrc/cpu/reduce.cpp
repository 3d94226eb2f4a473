// Reductions over any dims of strided tensors, and the extremes of one dim with their positions. Work is
// split by outputs where there are enough of them, else the reduced elements are split too and the parts
// combined in order: results depend on shapes and the number of threads alone.
#include <math.h>
#include <algorithm>

#include "../common.h"
#include "kernels/reduce.h"

namespace needle {
namespace {

const ReduceKernels& kernels() {
  static const ReduceKernels* const table = select_kernels(reduce);
  return *table;
}

constexpr int kMaxDims = 64;
constexpr int64_t kMaxLine = 2048;  // accumulators of a task stand on the stack
constexpr int64_t kMinColumns = 256;

struct Dim {
  int64_t size, stride, out_stride;
};

// Which kernel takes the elements of a task, and into how many accumulators.
enum Shape {
  kRow,      // one output: its elements, or a part of them
  kRows,     // several outputs along `line`, each with its elements along one dim
  kColumns,  // several outputs along `line`, whose elements are contiguous
};

// The kept and the reduced dims as few as possible, and how their work is split.
struct Plan {
  Dim keep[kMaxDims], gone[kMaxDims];
  int nkeep = 0, ngone = 0;
  int64_t outputs = 1, reduced = 1;
  Shape shape = kRow;
  Dim line{1, 1, 1};             // taken out of `keep`
  int64_t tiles = 1, width = 1;  // pieces of `line`
  int64_t lines = 1;             // outputs divided by the size of `line`
  int64_t parts = 1;             // pieces of the reduced elements
  int64_t threads = 1;
  const double* attributes = nullptr;
};

void append(Dim* dims, int& n, Dim d) {
  if (d.size == 1) return;
  if (n > 0 && dims[n - 1].stride == d.stride * d.size && dims[n - 1].out_stride == d.out_stride * d.size) {
    dims[n - 1] = {dims[n - 1].size * d.size, d.stride, d.out_stride};
  } else {
    dims[n++] = d;
  }
}

// False where there are too many dims.
bool make_plan(Plan& p, const double* desc) {
  const int nkeep = int(desc[0]), ngone = int(desc[1]);
  if (nkeep > kMaxDims || ngone > kMaxDims) return false;
  const double *shape = desc + 2, *strides = shape + nkeep;
  int64_t out_strides[kMaxDims];
  for (int d = nkeep - 1; d >= 0; d--) {
    out_strides[d] = p.outputs;
    p.outputs *= int64_t(shape[d]);
  }
  for (int d = 0; d < nkeep; d++) {
    append(p.keep, p.nkeep, {int64_t(shape[d]), int64_t(strides[d]), out_strides[d]});
  }
  shape = strides + nkeep, strides = shape + ngone;
  p.attributes = strides + ngone;
  // The order of reduced dims is free: widest stride outermost, so that they merge.
  Dim dims[kMaxDims];
  for (int d = 0; d < ngone; d++) {
    dims[d] = {int64_t(shape[d]), int64_t(strides[d]), 0};
    p.reduced *= dims[d].size;
  }
  std::sort(dims, dims + ngone, [](const Dim& a, const Dim& b) { return a.stride > b.stride; });
  for (int d = 0; d < ngone; d++) append(p.gone, p.ngone, dims[d]);
  if (p.ngone == 0) p.gone[p.ngone++] = {1, 1, 0};
  if (p.outputs == 0 || p.reduced == 0) return true;

  p.threads = std::max<int64_t>(
      1, std::min<int64_t>(thread_count(), int64_t(double(p.outputs) * double(p.reduced) / (2 * kGrain))));
  int line = -1;
  if (p.gone[p.ngone - 1].stride != 1) {
    for (int d = 0; d < p.nkeep && line < 0; d++) {
      if (p.keep[d].stride == 1) line = d, p.shape = kColumns;
    }
  }
  if (line < 0 && p.ngone == 1 && p.outputs >= 4 * p.threads) line = p.nkeep - 1, p.shape = kRows;
  p.lines = p.outputs;
  if (line >= 0) {
    p.line = p.keep[line];
    std::copy(p.keep + line + 1, p.keep + p.nkeep, p.keep + line);
    p.nkeep--;
    p.lines = p.outputs / p.line.size;
    const int64_t wanted = (p.threads + p.lines - 1) / p.lines, unit = p.shape == kRows ? 1 : 64;
    p.tiles = p.shape == kRows ? wanted : std::max<int64_t>(1, std::min(wanted, p.line.size / kMinColumns));
    p.tiles = std::max(p.tiles, (p.line.size + kMaxLine - 1) / kMaxLine);
    p.width = ((p.line.size + p.tiles - 1) / p.tiles + unit - 1) / unit * unit;
    p.tiles = (p.line.size + p.width - 1) / p.width;
  }
  const int64_t tasks = p.lines * p.tiles;
  if (p.shape != kRows && tasks < 4 * p.threads && tasks % p.threads != 0) {
    p.parts = std::min((p.threads + tasks - 1) / tasks * (tasks == 1 ? 1 : 4), p.reduced);
  }
  return true;
}

// Bytes that `reduce` needs for the results of parts.
size_t part_bytes(const Plan& p) { return p.parts > 1 ? size_t(p.outputs * p.parts) * 8 : 0; }

template <typename A>
struct Task {
  const ReduceKernel* kernel;
  const char* x;
  int64_t bytes;  // of an element of x
  A identity;
  A (*combine)(A, A);
  const double* shift;  // per output, or null
  void* parts;          // part_bytes
};

// Runs f(pointer, count, stride) over the reduced positions [begin, end) of the line that starts at x.
template <typename F>
void each_run(const Plan& p, const char* x, int64_t bytes, int64_t begin, int64_t end, const F& f) {
  const Dim& inner = p.gone[p.ngone - 1];
  int64_t index[kMaxDims];
  int64_t rest = begin / inner.size, first = begin % inner.size, offset = 0;
  for (int d = p.ngone - 2; d >= 0; d--) {
    index[d] = rest % p.gone[d].size;
    rest /= p.gone[d].size;
    offset += index[d] * p.gone[d].stride;
  }
  for (int64_t at = begin; at < end;) {
    const int64_t count = std::min(inner.size - first, end - at);
    f(x + (offset + first * inner.stride) * bytes, count, inner.stride);
    at += count;
    first = 0;
    for (int d = p.ngone - 2; d >= 0; d--) {
      offset += p.gone[d].stride;
      if (++index[d] < p.gone[d].size) break;
      offset -= p.gone[d].stride * p.gone[d].size;
      index[d] = 0;
    }
  }
}

// Where line number `i` starts, in x and among the outputs.
void locate(const Plan& p, int64_t i, int64_t& offset, int64_t& out) {
  offset = out = 0;
  for (int d = p.nkeep - 1; d >= 0; d--) {
    const int64_t at = i % p.keep[d].size;
    i /= p.keep[d].size;
    offset += at * p.keep[d].stride;
    out += at * p.keep[d].out_stride;
  }
}

// Calls sink(output, accumulator) for every output.
template <typename A, typename Sink>
void reduce(const Plan& p, const Task<A>& t, const Sink& sink) {
  if (p.outputs == 0) return;
  if (p.reduced == 0) {
    for (int64_t i = 0; i < p.outputs; i++) sink(i, t.identity);
    return;
  }
  A* parts = static_cast<A*>(t.parts);
  parallel_tasks(p.lines * p.tiles * p.parts, p.threads, [&](int64_t first, int64_t last) {
    A local[kMaxLine];
    double local_shift[kMaxLine];
    const double* shift = t.shift ? local_shift : nullptr;
    for (int64_t task = first; task < last; task++) {
      const int64_t part = task % p.parts, tile = task / p.parts % p.tiles;
      const int64_t column = tile * p.width, count = std::min(p.width, p.line.size - column);
      const int64_t begin = p.reduced / p.parts * part + p.reduced % p.parts * part / p.parts;
      const int64_t end = p.reduced / p.parts * (part + 1) + p.reduced % p.parts * (part + 1) / p.parts;
      int64_t offset, out;
      locate(p, task / p.parts / p.tiles, offset, out);
      out += column * p.line.out_stride;
      for (int64_t j = 0; j < count; j++) {
        local[j] = t.identity;
        if (shift) local_shift[j] = t.shift[out + j * p.line.out_stride];
      }
      const char* x = t.x + (offset + column * p.line.stride) * t.bytes;
      if (p.shape == kRows) {
        t.kernel->rows(x, count, p.line.stride, p.gone[0].size, p.gone[0].stride, shift, local);
      } else {
        each_run(p, x, t.bytes, begin, end, [&](const char* run, int64_t n, int64_t stride) {
          if (p.shape == kRow) t.kernel->row(run, n, stride, shift, local);
          else t.kernel->columns(run, n, stride, count, shift, local);
        });
      }
      for (int64_t j = 0; j < count; j++) {
        const int64_t o = out + j * p.line.out_stride;
        if (p.parts > 1) parts[part * p.outputs + o] = local[j];
        else sink(o, local[j]);
      }
    }
  });
  if (p.parts == 1) return;
  for (int64_t o = 0; o < p.outputs; o++) {
    A total = parts[o];
    for (int64_t k = 1; k < p.parts; k++) total = t.combine(total, parts[k * p.outputs + o]);
    sink(o, total);
  }
}

template <typename A>
A add(A a, A b) {
  return a + b;
}
template <typename A>
A multiply(A a, A b) {
  return a * b;
}
template <typename A>
A larger(A a, A b) {
  return (b > a) | (b != b) ? b : a;
}
template <typename A>
A smaller(A a, A b) {
  return (b < a) | (b != b) ? b : a;
}

int32_t too_many_dims() { return fail(kInvalid, "tensors of more than %d dims have no kernel", kMaxDims); }

int32_t no_kernel(int32_t dtypes) {
  return fail(kInvalid, "there is no kernel for %s", dtype_name(main_dtype(dtypes)));
}

// One reduction of x into y, sink(y, i, accumulator) storing a result.
template <typename T, typename A, typename Sink>
int32_t run(const ReduceKernel& kernel, const T* x, T* y, const double* desc, A identity, A (*combine)(A, A),
            const Sink& sink) {
  Plan plan;
  if (!make_plan(plan, desc)) return too_many_dims();
  void* parts = scratch(kScratchReduce, part_bytes(plan));
  if (!parts) return out_of_memory();
  const Task<A> task{&kernel, reinterpret_cast<const char*>(x), sizeof(T), identity, combine, nullptr, parts};
  const double count = double(plan.reduced);
  reduce(plan, task, [&](int64_t i, A a) { y[i] = sink(a, count); });
  return kOk;
}

struct Args {
  const void* x;
  double x_off;
  void* y;
  double y_off;
  const double* desc;
};

template <typename T, typename A, typename Sink>
int32_t run(const ReduceKernel& kernel, const Args& a, A identity, A (*combine)(A, A), const Sink& sink) {
  return run<T, A>(kernel, at<T>(a.x, a.x_off), at<T>(a.y, a.y_off), a.desc, identity, combine, sink);
}

template <typename T, typename A>
T plain(A a, double) {
  return T(a);
}

int32_t sums(const ReduceKernel (&table)[3], const Args& a, int32_t dtypes, int identity,
             double (*combine)(double, double), int64_t (*combine_int)(int64_t, int64_t)) {
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return run<float>(table[kReduceFloat], a, double(identity), combine, plain<float, double>);
    case kFloat64:
      return run<double>(table[kReduceDouble], a, double(identity), combine, plain<double, double>);
    case kInt64:
      return run<int64_t>(table[kReduceInt64], a, int64_t(identity), combine_int, plain<int64_t, int64_t>);
    default:
      return no_kernel(dtypes);
  }
}

template <bool Largest>
int32_t extremes(const Args& a, int32_t dtypes) {
  const ReduceKernel* table = Largest ? kernels().max : kernels().min;
  const auto f = Largest ? larger<double> : smaller<double>;
  const auto i = Largest ? larger<int64_t> : smaller<int64_t>;
  const double none = Largest ? -INFINITY : INFINITY;
  const int64_t least = Largest ? INT64_MIN : INT64_MAX;
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return run<float>(table[kReduceFloat], a, none, f, plain<float, double>);
    case kFloat64:
      return run<double>(table[kReduceDouble], a, none, f, plain<double, double>);
    case kInt64:
      return run<int64_t>(table[kReduceInt64], a, least, i, plain<int64_t, int64_t>);
    case kInt32:
      return run<int32_t>(table[kReduceInt32], a, least, i, plain<int32_t, int64_t>);
    case kUint8:
    case kBool:
      return run<uint8_t>(table[kReduceUint8], a, least, i, plain<uint8_t, int64_t>);
    default:
      return no_kernel(dtypes);
  }
}

// Two passes: means in double, then squared deviations from them.
template <typename T>
int32_t variance(const ReduceKernel& sum, const ReduceKernel& deviations, const T* x, T* y, T* mean,
                 const double* desc) {
  Plan plan;
  if (!make_plan(plan, desc)) return too_many_dims();
  char* memory = static_cast<char*>(scratch(kScratchReduce, size_t(plan.outputs) * 8 + part_bytes(plan)));
  if (!memory) return out_of_memory();
  double* means = reinterpret_cast<double*>(memory);
  Task<double> task{
      &sum, reinterpret_cast<const char*>(x), sizeof(T), 0.0, add<double>, nullptr, means + plan.outputs};
  const double count = double(plan.reduced);
  reduce(plan, task, [&](int64_t i, double total) { mean[i] = T(means[i] = total / count); });
  task.kernel = &deviations;
  task.shift = means;
  const double divisor = std::max(0.0, count - plan.attributes[0]);
  reduce(plan, task, [&](int64_t i, double total) { y[i] = T(total / divisor); });
  return kOk;
}

// dx = g times the product of the other elements of the row: products of what is before and behind.
template <typename T>
int32_t prod_backward(const T* g, const T* x, T* dx, int64_t rows, int64_t columns) {
  parallel_for(rows, std::max<int64_t>(1, kGrain / (4 * columns + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const T* from = x + r * columns;
      T* to = dx + r * columns;
      double before = double(g[r]), behind = 1;
      for (int64_t c = 0; c < columns; c++) {
        to[c] = T(before);
        before *= double(from[c]);
      }
      before = double(g[r]);
      for (int64_t c = columns - 1; c >= 0; c--) {
        to[c] = T(double(to[c]) * behind);
        behind *= double(from[c]);
      }
    }
  });
  return kOk;
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_sum(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double,
                                 const double* desc) noexcept {
  return sums(kernels().sum, {x, x_off, y, y_off, desc}, dtypes, 0, add<double>, add<int64_t>);
}

NEEDLE_EXPORT int32_t needle_mean(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double,
                                  const double* desc) noexcept {
  const Args args{x, x_off, y, y_off, desc};
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return run<float>(kernels().sum[kReduceFloat], args, 0.0, add<double>,
                        [](double a, double count) { return float(a / count); });
    case kFloat64:
      return run<double>(kernels().sum[kReduceDouble], args, 0.0, add<double>,
                         [](double a, double count) { return a / count; });
    default:
      return no_kernel(dtypes);
  }
}

NEEDLE_EXPORT int32_t needle_prod(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double,
                                  const double* desc) noexcept {
  return sums(kernels().prod, {x, x_off, y, y_off, desc}, dtypes, 1, multiply<double>, multiply<int64_t>);
}

NEEDLE_EXPORT int32_t needle_prod_backward(const void* g, double g_off, const void* x, double x_off, void* dx,
                                           double dx_off, int32_t dtypes, double,
                                           const double* desc) noexcept {
  const int64_t rows = int64_t(desc[0]), columns = int64_t(desc[1]);
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return prod_backward(at<float>(g, g_off), at<float>(x, x_off), at<float>(dx, dx_off), rows, columns);
    case kFloat64:
      return prod_backward(at<double>(g, g_off), at<double>(x, x_off), at<double>(dx, dx_off), rows, columns);
    default:
      return no_kernel(dtypes);
  }
}

NEEDLE_EXPORT int32_t needle_amax(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double,
                                  const double* desc) noexcept {
  return extremes<true>({x, x_off, y, y_off, desc}, dtypes);
}

NEEDLE_EXPORT int32_t needle_amin(const void* x, double x_off, void* y, double y_off, int32_t dtypes, double,
                                  const double* desc) noexcept {
  return extremes<false>({x, x_off, y, y_off, desc}, dtypes);
}

NEEDLE_EXPORT int32_t needle_any(const void* x, double x_off, void* y, double y_off, int32_t, double,
                                 const double* desc) noexcept {
  return run<uint8_t>(kernels().max[kReduceUint8], {x, x_off, y, y_off, desc}, int64_t(0), larger<int64_t>,
                      plain<uint8_t, int64_t>);
}

NEEDLE_EXPORT int32_t needle_all(const void* x, double x_off, void* y, double y_off, int32_t, double,
                                 const double* desc) noexcept {
  return run<uint8_t>(kernels().min[kReduceUint8], {x, x_off, y, y_off, desc}, int64_t(1), smaller<int64_t>,
                      plain<uint8_t, int64_t>);
}

NEEDLE_EXPORT int32_t needle_var(const void* x, double x_off, void* y, double y_off, void* mean,
                                 double mean_off, int32_t dtypes, double, const double* desc) noexcept {
  const ReduceKernels& k = kernels();
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return variance(k.sum[kReduceFloat], k.deviations[kReduceFloat], at<float>(x, x_off),
                      at<float>(y, y_off), at<float>(mean, mean_off), desc);
    case kFloat64:
      return variance(k.sum[kReduceDouble], k.deviations[kReduceDouble], at<double>(x, x_off),
                      at<double>(y, y_off), at<double>(mean, mean_off), desc);
    default:
      return no_kernel(dtypes);
  }
}

NEEDLE_EXPORT int32_t needle_l2_norm(const void* x, double x_off, void* y, double y_off, int32_t dtypes,
                                     double, const double* desc) noexcept {
  const Args args{x, x_off, y, y_off, desc};
  switch (main_dtype(dtypes)) {
    case kFloat32:
      return run<float>(kernels().squares[kReduceFloat], args, 0.0, add<double>,
                        [](double a, double) { return float(sqrt(a)); });
    case kFloat64:
      return run<double>(kernels().squares[kReduceDouble], args, 0.0, add<double>,
                         [](double a, double) { return sqrt(a); });
    default:
      return no_kernel(dtypes);
  }
}
