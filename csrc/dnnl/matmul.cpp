// Matrix products through oneDNN: dnnl_sgemm for large ones, the matmul primitive for medium ones, where the
// second factor is transposed, for batches and for a fused bias; bfloat16 always by the primitive. The choice
// depends on the shape alone. Small and thin products, other dtypes, strides that BLAS cannot express and
// empty products go to our own kernels: cpu/matmul.cpp, compiled under the names needle_cpu_*.
#include <algorithm>
#include <cstring>

#include "../common.h"
#include "../include/needle.h"
#include "gemm.h"
#include "primitive.h"

extern "C" {
decltype(needle_matmul) needle_cpu_matmul;
decltype(needle_linear) needle_cpu_linear;
}

namespace needle::onednn {
namespace {

enum Op : int64_t { kMatmul = 1, kLinear = 2 };

constexpr double kMediumProduct = 512.0 * 512.0 * 512.0;  // multiply-adds

// Where our own kernels are as fast or faster: small products, few rows, large products over a short inner
// size (640x100x10000: 1.6 times), and few columns of which up to 4 lie beyond whole vectors
// (640x400x100: 1.13 times).
bool ours(DType dtype, int64_t m, int64_t n, int64_t k) {
  if (dtype != kFloat32) return k == 0;
  constexpr double kSmallProduct = 80.0 * 80.0 * 80.0;
  const double work = double(m) * double(n) * double(k);
  if (n <= 192 && n % 16 > 0 && n % 16 <= 4 && work <= kMediumProduct) return true;
  return m <= 32 || work <= kSmallProduct || (k <= 256 && work > kMediumProduct);
}

// Whether the matmul primitive is faster than sgemm: for products of medium size, and where a large second
// factor is transposed, which sgemm repacks slowly.
bool takes_primitive(bool b_transposed, int64_t m, int64_t n, int64_t k) {
  return double(m) * double(n) * double(k) <= kMediumProduct || (b_transposed && n * k >= 65536);
}

// A matrix as BLAS describes it: stored as it is ('N') or transposed ('T'), with the distance between its
// rows or columns in memory.
struct Stored {
  char form = 0;  // 0: neither
  int64_t ld = 0;
};

Stored stored(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride) {
  if ((col_stride == 1 || cols == 1) && (rows == 1 || row_stride >= cols)) {
    return {'N', rows == 1 ? cols : row_stride};
  }
  if ((row_stride == 1 || rows == 1) && (cols == 1 || col_stride >= rows)) {
    return {'T', cols == 1 ? rows : col_stride};
  }
  return {};
}

int64_t row_stride(Stored s) { return s.form == 'N' ? s.ld : 1; }
int64_t col_stride(Stored s) { return s.form == 'N' ? 1 : s.ld; }

struct Product {
  dnnl_data_type_t type;
  int64_t m, n, k;
  Stored a, b;
  // The batch: `count` products, with these strides (0: the same matrix every time).
  int64_t count, a_step, b_step;
};

Argument argument(int index, dnnl_query_t query, int query_index, const Layout& user, bool output) {
  return {index, query, query_index, user.get(), output};
}

dnnl_status_t create(Primitive* primitive, const Product& p, bool bias) {
  const dnnl_dims_t as = {p.a_step == 0 ? 1 : p.count, p.m, p.k},
                    bs = {p.b_step == 0 ? 1 : p.count, p.k, p.n};
  const dnnl_dims_t cs = {p.count, p.m, p.n}, ones = {1, 1, p.n};
  const dnnl_dims_t at = {p.a_step == 0 ? p.m * p.k : p.a_step, row_stride(p.a), col_stride(p.a)};
  const dnnl_dims_t bt = {p.b_step == 0 ? p.k * p.n : p.b_step, row_stride(p.b), col_stride(p.b)};
  const dnnl_dims_t ct = {p.m * p.n, p.n, 1}, one_strides = {p.n, p.n, 1};
  const int skip = p.count == 1 ? 1 : 0;  // a single product is two-dimensional
  const Layout a(p.type, 3 - skip, as + skip, at + skip), b(p.type, 3 - skip, bs + skip, bt + skip);
  const Layout c(p.type, 3 - skip, cs + skip, ct + skip),
      row(p.type, 3 - skip, ones + skip, one_strides + skip);
  dnnl_primitive_desc_t desc = nullptr;
  const dnnl_status_t status = dnnl_matmul_primitive_desc_create(
      &desc, engine(), a.get(), b.get(), bias ? row.get() : nullptr, c.get(), attributes());
  if (status != dnnl_success) return status;
  const Argument arguments[] = {
      argument(DNNL_ARG_SRC, dnnl_query_src_md, 0, a, false),
      argument(DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0, b, false),
      argument(DNNL_ARG_DST, dnnl_query_dst_md, 0, c, true),
      argument(DNNL_ARG_BIAS, dnnl_query_weights_md, 1, row, false),
  };
  return primitive->create(desc, arguments, bias ? 4 : 3);
}

int32_t run(const Product& p, const void* a, const void* b, const void* bias, void* c) {
  const Key key = {{bias == nullptr ? kMatmul : kLinear, thread_count(), p.m, p.n, p.k, p.a.form, p.a.ld,
                    p.b.form, p.b.ld, p.count, p.a_step, p.b_step, p.type}};
  bool fresh = false;
  Primitive* primitive = find(key, &fresh);
  if (fresh) {
    const dnnl_status_t status = create(primitive, p, bias != nullptr);
    if (status != dnnl_success) {
      forget(key);
      return check(status, "matmul");
    }
  }
  void* const data[] = {const_cast<void*>(a), const_cast<void*>(b), c, const_cast<void*>(bias)};
  return primitive->run(data);
}

}  // namespace

int32_t gemm(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, const float* a,
             int64_t lda, const float* b, int64_t ldb, bool add, float* c) {
  if (!add && takes_primitive(b_transposed && !a_transposed, m, n, k)) {
    const char a_form = a_transposed ? 'T' : 'N', b_form = b_transposed ? 'T' : 'N';
    return run({dnnl_f32, m, n, k, {a_form, lda}, {b_form, ldb}, 1, 0, 0}, a, b, nullptr, c);
  }
  return check(dnnl_sgemm(a_transposed ? 'T' : 'N', b_transposed ? 'T' : 'N', m, n, k, 1.0f, a, lda, b, ldb,
                          add ? 1.0f : 0.0f, c, n),
               "sgemm");
}

namespace {

constexpr int kMaxBatchDims = 16;

// The batch dimensions with neighbours merged where both factors allow it; sizes of 1 are dropped.
struct Batch {
  int ndim = 0;
  int64_t size[kMaxBatchDims], a[kMaxBatchDims], b[kMaxBatchDims];
};

Batch merged(int ndim, const double* shape, const double* a_strides, const double* b_strides) {
  Batch batch;
  for (int i = 0; i < ndim; i++) {
    const auto size = static_cast<int64_t>(shape[i]);
    const auto sa = static_cast<int64_t>(a_strides[i]), sb = static_cast<int64_t>(b_strides[i]);
    if (size == 1) continue;
    const int last = batch.ndim - 1;
    if (last >= 0 && batch.a[last] == sa * size && batch.b[last] == sb * size) {
      batch.size[last] *= size, batch.a[last] = sa, batch.b[last] = sb;
    } else {
      batch.size[batch.ndim] = size, batch.a[batch.ndim] = sa, batch.b[batch.ndim++] = sb;
    }
  }
  return batch;
}

int32_t multiply(const Product& p, const void* a, const void* b, void* c) {
  if (p.count > 1 || p.type != dnnl_f32) return run(p, a, b, nullptr, c);
  return gemm(p.a.form == 'T', p.b.form == 'T', p.m, p.n, p.k, static_cast<const float*>(a), p.a.ld,
              static_cast<const float*>(b), p.b.ld, false, static_cast<float*>(c));
}

}  // namespace
}  // namespace needle::onednn

using namespace needle;
using namespace needle::onednn;

NEEDLE_EXPORT int32_t needle_matmul(const void* a, double a_off, const void* b, double b_off, void* out,
                                    double out_off, int32_t dtypes, double count,
                                    const double* desc) noexcept {
  const auto m = static_cast<int64_t>(desc[0]), n = static_cast<int64_t>(desc[1]),
             k = static_cast<int64_t>(desc[2]);
  const Stored sa = stored(m, k, static_cast<int64_t>(desc[3]), static_cast<int64_t>(desc[4]));
  const Stored sb = stored(k, n, static_cast<int64_t>(desc[5]), static_cast<int64_t>(desc[6]));
  const int ndim = static_cast<int>(desc[7]);
  const DType dtype = main_dtype(dtypes);
  if (!supported(dtype) || count == 0 || ours(dtype, m, n, k) || sa.form == 0 || sb.form == 0 ||
      ndim > kMaxBatchDims) {
    return needle_cpu_matmul(a, a_off, b, b_off, out, out_off, dtypes, count, desc);
  }
  join_team();
  const int64_t bytes = dtype_bytes(dtype);
  const char* pa = at<char>(a, a_off * double(bytes));
  const char* pb = at<char>(b, b_off * double(bytes));
  char* pc = at<char>(out, out_off * double(bytes));
  Batch batch = merged(ndim, desc + 8, desc + 8 + ndim, desc + 8 + 2 * ndim);
  Product p = {type_of(dtype), m, n, k, sa, sb, 1, 0, 0};
  const int last = batch.ndim - 1;
  if (last >= 0 && (batch.a[last] != 0 || batch.b[last] != 0)) {
    batch.ndim = last;
    // One second factor for all: a single taller product.
    if (batch.b[last] == 0 && m == 1 && sa.form == 'N' && batch.a[last] >= k) {
      p.m = batch.size[last], p.a.ld = batch.a[last];
    } else if (batch.b[last] == 0 && sa.form == 'N' && batch.a[last] == m * sa.ld) {
      p.m *= batch.size[last];
    } else {
      p.count = batch.size[last], p.a_step = batch.a[last], p.b_step = batch.b[last];
    }
  }
  int64_t index[kMaxBatchDims] = {};
  for (;;) {
    if (const int32_t status = multiply(p, pa, pb, pc); status != kOk) return status;
    pc += p.count * p.m * n * bytes;
    int d = batch.ndim - 1;
    for (; d >= 0; d--) {
      pa += batch.a[d] * bytes, pb += batch.b[d] * bytes;
      if (++index[d] < batch.size[d]) break;
      pa -= batch.a[d] * batch.size[d] * bytes, pb -= batch.b[d] * batch.size[d] * bytes;
      index[d] = 0;
    }
    if (d < 0) return kOk;
  }
}

NEEDLE_EXPORT int32_t needle_linear(const void* x, double x_off, const void* w, double w_off,
                                    const void* bias, double bias_off, void* y, double y_off, int32_t dtypes,
                                    double count, const double* desc) noexcept {
  const auto rows = static_cast<int64_t>(desc[0]), in = static_cast<int64_t>(desc[1]);
  const auto out = static_cast<int64_t>(desc[2]);
  const DType dtype = main_dtype(dtypes);
  if (!supported(dtype) || count == 0 || ours(dtype, rows, out, in)) {
    return needle_cpu_linear(x, x_off, w, w_off, bias, bias_off, y, y_off, dtypes, count, desc);
  }
  join_team();
  if (bias == nullptr && dtype == kFloat32) {
    return gemm(false, true, rows, out, in, at<float>(x, x_off), in, at<float>(w, w_off), in, false,
                at<float>(y, y_off));
  }
  const auto bytes = static_cast<double>(dtype_bytes(dtype));
  const char* px = at<char>(x, x_off * bytes);
  const char* pw = at<char>(w, w_off * bytes);
  const char* pb = at<char>(bias, bias_off * bytes);
  return run({type_of(dtype), rows, out, in, {'N', in}, {'T', in}, 1, 0, 0}, px, pw, pb,
             at<char>(y, y_off * bytes));
}
