// Convolution and its gradients through oneDNN, float32 and bfloat16, on channels-last data; weights lie as
// (K, C/groups, R, S) and are reordered to the primitive's layout at each call, which costs under 1 %. In
// float32 a convolution with a single output pixel is a dense layer over the weights that meet the input, and
// runs as one matrix product.
// float64, empty tensors and shapes for which oneDNN has no fast kernel go to cpu/conv.cpp, compiled as
// needle_cpu_*. desc: [N, C, H, W, K, R, S, P, Q, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups].
#include <cstring>

#include "../common.h"
#include "../include/needle.h"
#include "conv_rows.h"
#include "gemm.h"
#include "primitive.h"

extern "C" {
decltype(needle_conv2d) needle_cpu_conv2d;
decltype(needle_conv2d_input) needle_cpu_conv2d_input;
decltype(needle_conv2d_weight) needle_cpu_conv2d_weight;
}

namespace needle::onednn {
namespace {

enum Op : int64_t { kForward = 3, kForwardBias = 4, kInput = 5, kWeight = 6 };

struct Shape {
  int64_t N, C, H, W, K, R, S, P, Q, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
  dnnl_data_type_t type;

  Shape(const double* desc, DType dtype) : type(type_of(dtype)) {
    int64_t* const fields[] = {&N, &C,        &H,        &W,     &K,     &R,     &S,     &P,
                               &Q, &stride_h, &stride_w, &pad_h, &pad_w, &dil_h, &dil_w, &groups};
    for (int64_t* field : fields) *field = static_cast<int64_t>(*desc++);
  }
  bool empty() const { return N * C * H * W * K * R * S * P * Q == 0; }
  // One output pixel, and no more input pixels than weights that may meet them.
  bool dense() const { return type == dnnl_f32 && P * Q == 1 && groups == 1 && H * W <= R * S; }
  // Weight gradients over few pixels and many channels: our im2col product is 1.3 times as fast.
  bool deep() const { return type == dnnl_f32 && P * Q <= 16 && C * K >= 65536 && groups == 1; }
  // Where bfloat16 takes longer than float32, conversions included: images or channels too few for tiles, and
  // above all weight gradients over strided windows.
  bool declines(Op op) const {
    if (type != dnnl_bf16) return false;
    const bool strided = stride_h > 1 || stride_w > 1;
    return P * Q <= 4 || (P * Q <= 64 && C <= 8) || (op == kWeight && strided && P * Q <= 16);
  }
  // Input gradients of few channels: oneDNN computes 16 all the same, and ours is up to 6 times as fast.
  bool narrow() const { return type == dnnl_f32 && C <= 8 && K * R * S >= 256 && groups == 1; }
};

// The formats to try for the two activations, best first; `any` leaves the choice to oneDNN. Its brgemm
// kernels are taken for channels-last on both sides and win on large images. With one side free the older
// direct kernels are taken, which win by up to 1.6 times on small images. Both free gives blocked formats
// where nothing else runs.
struct Formats {
  dnnl_format_tag_t src, dst;
};
constexpr Formats kLast = {dnnl_nhwc, dnnl_nhwc}, kLastFree = {dnnl_nhwc, dnnl_format_tag_any};
constexpr Formats kFree = {dnnl_format_tag_any, dnnl_format_tag_any};
constexpr Formats kLarge[] = {kLast, kLastFree, kFree};
constexpr Formats kSmall[] = {kLastFree, kLast, kFree};

bool small_image(const Shape& s) { return s.P * s.Q <= 32; }

const Formats (&candidates(const Shape& s))[3] {
  return small_image(s) && s.groups == 1 && s.type == dnnl_f32 ? kSmall : kLarge;
}

bool is_kernel(const_dnnl_primitive_desc_t desc, const char* prefix) {
  const char* name = "";
  dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name);
  return std::strncmp(name, prefix, std::strlen(prefix)) == 0;
}

dnnl_status_t describe(Op op, const Shape& s, Formats formats, dnnl_primitive_desc_t* desc) {
  const dnnl_dims_t src_dims = {s.N, s.C, s.H, s.W}, dst_dims = {s.N, s.K, s.P, s.Q}, bias_dims = {s.K};
  const dnnl_dims_t dense_dims = {s.K, s.C, s.R, s.S};
  const dnnl_dims_t group_dims = {s.groups, s.K / s.groups, s.C / s.groups, s.R, s.S};
  const dnnl_dims_t strides = {s.stride_h, s.stride_w}, dilates = {s.dil_h - 1, s.dil_w - 1};
  const dnnl_dims_t before = {s.pad_h, s.pad_w};
  const dnnl_dims_t after = {(s.P - 1) * s.stride_h + (s.R - 1) * s.dil_h + 1 - s.H - s.pad_h,
                             (s.Q - 1) * s.stride_w + (s.S - 1) * s.dil_w + 1 - s.W - s.pad_w};
  const Layout src(s.type, 4, src_dims, formats.src), dst(s.type, 4, dst_dims, formats.dst),
      bias(s.type, 1, bias_dims, dnnl_a);
  const Layout weights(s.type, s.groups > 1 ? 5 : 4, s.groups > 1 ? group_dims : dense_dims,
                       dnnl_format_tag_any);
  dnnl_primitive_desc_t forward = nullptr;
  dnnl_status_t status = dnnl_convolution_forward_primitive_desc_create(
      &forward, engine(), dnnl_forward_training, dnnl_convolution_direct, src.get(), weights.get(),
      op == kForwardBias ? bias.get() : nullptr, dst.get(), strides, dilates, before, after, attributes());
  if (status != dnnl_success || op == kForward || op == kForwardBias) {
    *desc = forward;
    return status;
  }
  status = op == kInput ? dnnl_convolution_backward_data_primitive_desc_create(
                              desc, engine(), dnnl_convolution_direct, src.get(), weights.get(), dst.get(),
                              strides, dilates, before, after, forward, attributes())
                        : dnnl_convolution_backward_weights_primitive_desc_create(
                              desc, engine(), dnnl_convolution_direct, src.get(), weights.get(), nullptr,
                              dst.get(), strides, dilates, before, after, forward, attributes());
  // On small images the brgemm kernel for strided windows is up to 3.4 times as slow as the next in line.
  if (status == dnnl_success && small_image(s) && s.type == dnnl_f32 && is_kernel(*desc, "brgconv_strided")) {
    dnnl_primitive_desc_next_impl(*desc);
  }
  dnnl_primitive_desc_destroy(forward);
  return status;
}

// Whether oneDNN has nothing but its reference code or a plain im2col for this: our own kernels are faster.
bool slow(const_dnnl_primitive_desc_t desc) { return is_kernel(desc, "ref") || is_kernel(desc, "x64:gemm"); }

dnnl_status_t create(Primitive* primitive, Op op, const Shape& s) {
  dnnl_primitive_desc_t desc = nullptr;
  for (const Formats& formats : candidates(s)) {
    if (describe(op, s, formats, &desc) != dnnl_success) continue;
    if (!slow(desc)) break;
    dnnl_primitive_desc_destroy(desc);
    desc = nullptr;
  }
  if (desc == nullptr) return dnnl_unimplemented;
  const dnnl_dims_t src_dims = {s.N, s.C, s.H, s.W}, dst_dims = {s.N, s.K, s.P, s.Q}, bias_dims = {s.K};
  const dnnl_dims_t dense_dims = {s.K, s.C, s.R, s.S};
  const dnnl_dims_t group_dims = {s.groups, s.K / s.groups, s.C / s.groups, s.R, s.S};
  const Layout src(s.type, 4, src_dims, dnnl_nhwc), dst(s.type, 4, dst_dims, dnnl_nhwc),
      bias(s.type, 1, bias_dims, dnnl_a);
  const Layout weights(s.type, s.groups > 1 ? 5 : 4, s.groups > 1 ? group_dims : dense_dims,
                       s.groups > 1 ? dnnl_goihw : dnnl_oihw);
  switch (op) {
    case kForward:
    case kForwardBias: {
      const Argument arguments[] = {{DNNL_ARG_SRC, dnnl_query_src_md, 0, src.get(), false},
                                    {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0, weights.get(), false},
                                    {DNNL_ARG_DST, dnnl_query_dst_md, 0, dst.get(), true},
                                    {DNNL_ARG_BIAS, dnnl_query_weights_md, 1, bias.get(), false}};
      return primitive->create(desc, arguments, op == kForwardBias ? 4 : 3);
    }
    case kInput: {
      const Argument arguments[] = {{DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0, dst.get(), false},
                                    {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0, weights.get(), false},
                                    {DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md, 0, src.get(), true}};
      return primitive->create(desc, arguments, 3);
    }
    case kWeight: {
      const Argument arguments[] = {
          {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0, dst.get(), false},
          {DNNL_ARG_SRC, dnnl_query_src_md, 0, src.get(), false},
          {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md, 0, weights.get(), true}};
      return primitive->create(desc, arguments, 3);
    }
  }
  return dnnl_unimplemented;
}

// The primitive for a shape, or null where our own kernels are to be used.
Primitive* primitive_for(Op op, const Shape& s) {
  const Key key = {{op, thread_count(), s.N, s.C, s.H, s.W, s.K, s.R, s.S, s.P, s.Q, s.stride_h, s.stride_w,
                    s.pad_h, s.pad_w, s.dil_h, s.dil_w, s.groups, s.type}};
  bool fresh = false;
  Primitive* primitive = find(key, &fresh);
  // An entry that could not be created stays empty, so that the search is not repeated.
  if (fresh) create(primitive, op, s);
  return primitive->ready() ? primitive : nullptr;
}

// A convolution with one output pixel, as a dense layer. Where an input pixel lies in the kernel, or -1 where
// no weight meets it.
int64_t tap(int64_t pixel, int64_t pad, int64_t dilation, int64_t kernel) {
  const int64_t at = pixel + pad;
  return at % dilation == 0 && at / dilation < kernel ? at / dilation : -1;
}

// Weights as a matrix (K, H*W*C) over the input pixels, as wide as an image of x is long.
float* dense_weights(const Shape& s) {
  return static_cast<float*>(
      scratch(kScratchWeights, sizeof(float) * static_cast<size_t>(s.K * s.H * s.W * s.C)));
}

// Copies weights (K, C, R, S) to the matrix, or the matrix back (`gather` false); other taps of w stay as
// they are.
template <bool gather, typename Weights>
void move_weights(const Shape& s, Weights* w, float* matrix) {
  const int64_t row = s.H * s.W * s.C, taps = s.R * s.S;
  parallel_for(s.K, 1 + 16384 / row, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      for (int64_t h = 0; h < s.H; h++) {
        const int64_t r = tap(h, s.pad_h, s.dil_h, s.R);
        for (int64_t q = 0; q < s.W; q++) {
          const int64_t t = tap(q, s.pad_w, s.dil_w, s.S);
          float* const to = matrix + k * row + (h * s.W + q) * s.C;
          if (r < 0 || t < 0) {
            if (gather) std::memset(to, 0, sizeof(float) * static_cast<size_t>(s.C));
            continue;
          }
          Weights* const from = w + k * s.C * taps + r * s.S + t;
          for (int64_t c = 0; c < s.C; c++) {
            if constexpr (gather) {
              to[c] = from[c * taps];
            } else {
              from[c * taps] = to[c];
            }
          }
        }
      }
    }
  });
}

int32_t dense_forward(const Shape& s, const float* x, const float* w, const float* bias, float* y) {
  float* const matrix = dense_weights(s);
  if (matrix == nullptr) return out_of_memory();
  move_weights<true>(s, w, matrix);
  if (bias != nullptr) {
    for (int64_t i = 0; i < s.N; i++)
      std::memcpy(y + i * s.K, bias, sizeof(float) * static_cast<size_t>(s.K));
  }
  const int64_t row = s.H * s.W * s.C;
  return gemm(false, true, s.N, s.K, row, x, row, matrix, row, bias != nullptr, y);
}

int32_t dense_input(const Shape& s, const float* g, const float* w, float* dx) {
  float* const matrix = dense_weights(s);
  if (matrix == nullptr) return out_of_memory();
  move_weights<true>(s, w, matrix);
  const int64_t row = s.H * s.W * s.C;
  return gemm(false, false, s.N, row, s.K, g, s.K, matrix, row, false, dx);
}

int32_t dense_weight(const Shape& s, const float* g, const float* x, float* dw) {
  float* const matrix = dense_weights(s);
  if (matrix == nullptr) return out_of_memory();
  const int64_t row = s.H * s.W * s.C;
  if (const int32_t status = gemm(true, false, s.K, row, s.N, g, s.K, x, row, false, matrix); status != kOk) {
    return status;
  }
  std::memset(dw, 0, sizeof(float) * static_cast<size_t>(s.K * s.C * s.R * s.S));
  move_weights<false>(s, dw, matrix);
  return kOk;
}

// Whether images are too narrow to be convolved one by one: see conv_rows.h.
bool joins(const Shape& s) {
  return s.type == dnnl_bf16 && has_amx() && s.groups == 1 && s.N > 1 && s.stride_w == 1 && s.S > 1 &&
         s.W <= 8 && s.Q <= 8 && s.pad_w <= s.dil_w * (s.S - 1);
}

// Runs the convolution of joined images on the data of single ones; declines as run() does.
int32_t run_joined(Op op, const Shape& s, void* const* data) {
  const Joined in(s.N, s.H, s.W + s.pad_w), out(s.N, s.P, s.W + s.pad_w);
  Shape wide = s;
  wide.N = in.count();
  wide.W = wide.Q = in.width();
  Primitive* primitive = primitive_for(op, wide);
  if (primitive == nullptr) return kDeclined;
  const int64_t x_pixel = s.C * 2, y_pixel = s.K * 2;
  const size_t x_bytes = (in.bytes(x_pixel) + 63) / 64 * 64;
  char* const x = static_cast<char*>(scratch(kScratchConv, x_bytes + out.bytes(y_pixel)));
  if (x == nullptr) return out_of_memory();
  char* const y = x + x_bytes;
  if (op == kWeight) {
    out.join(static_cast<const char*>(data[0]), s.Q, y_pixel, y);
    in.join(static_cast<const char*>(data[1]), s.W, x_pixel, x);
    void* const wide_data[] = {y, x, data[2]};
    return primitive->run(wide_data);
  }
  if (op == kInput) {
    out.join(static_cast<const char*>(data[0]), s.Q, y_pixel, y);
    void* const wide_data[] = {y, data[1], x};
    const int32_t status = primitive->run(wide_data);
    if (status == kOk) in.part(x, s.W, x_pixel, static_cast<char*>(data[2]));
    return status;
  }
  in.join(static_cast<const char*>(data[0]), s.W, x_pixel, x);
  void* const wide_data[] = {x, data[1], y, op == kForwardBias ? data[3] : nullptr};
  const int32_t status = primitive->run(wide_data);
  if (status == kOk) out.part(y, s.Q, y_pixel, static_cast<char*>(data[2]));
  return status;
}

// Runs a primitive on `data`, in the order of its arguments; declines where our own kernels are to be used.
int32_t run(Op op, const Shape& s, void* const* data) {
  if (s.declines(op)) return kDeclined;
  if (joins(s)) return run_joined(op, s, data);
  Primitive* primitive = primitive_for(op, s);
  return primitive == nullptr ? static_cast<int32_t>(kDeclined) : primitive->run(data);
}

// An element of a tensor of `dtype`; null for an optional tensor that was left out.
void* element(const void* base, double offset, DType dtype) {
  if (base == nullptr) return nullptr;
  return static_cast<char*>(const_cast<void*>(base)) + static_cast<int64_t>(offset) * dtype_bytes(dtype);
}

}  // namespace
}  // namespace needle::onednn

using namespace needle;
using namespace needle::onednn;

NEEDLE_EXPORT int32_t needle_conv2d(const void* x, double x_off, const void* w, double w_off,
                                    const void* bias, double bias_off, void* y, double y_off, int32_t dtypes,
                                    double count, const double* desc) noexcept {
  const DType dtype = main_dtype(dtypes);
  const Shape s(desc, dtype);
  if (supported(dtype) && !s.empty()) {
    join_team();
    if (s.dense()) {
      return dense_forward(s, at<float>(x, x_off), at<float>(w, w_off), at<float>(bias, bias_off),
                           at<float>(y, y_off));
    }
    void* const data[] = {element(x, x_off, dtype), element(w, w_off, dtype), element(y, y_off, dtype),
                          element(bias, bias_off, dtype)};
    const int32_t status = run(bias == nullptr ? kForward : kForwardBias, s, data);
    if (status != kDeclined) return status;
  }
  return needle_cpu_conv2d(x, x_off, w, w_off, bias, bias_off, y, y_off, dtypes, count, desc);
}

NEEDLE_EXPORT int32_t needle_conv2d_input(const void* g, double g_off, const void* w, double w_off, void* dx,
                                          double dx_off, int32_t dtypes, double count,
                                          const double* desc) noexcept {
  const DType dtype = main_dtype(dtypes);
  const Shape s(desc, dtype);
  if (supported(dtype) && !s.empty() && (s.dense() || !s.narrow())) {
    join_team();
    if (s.dense()) return dense_input(s, at<float>(g, g_off), at<float>(w, w_off), at<float>(dx, dx_off));
    void* const data[] = {element(g, g_off, dtype), element(w, w_off, dtype), element(dx, dx_off, dtype)};
    if (const int32_t status = run(kInput, s, data); status != kDeclined) return status;
  }
  return needle_cpu_conv2d_input(g, g_off, w, w_off, dx, dx_off, dtypes, count, desc);
}

NEEDLE_EXPORT int32_t needle_conv2d_weight(const void* g, double g_off, const void* x, double x_off, void* dw,
                                           double dw_off, int32_t dtypes, double count,
                                           const double* desc) noexcept {
  const DType dtype = main_dtype(dtypes);
  const Shape s(desc, dtype);
  if (supported(dtype) && !s.empty() && (s.dense() || !s.deep())) {
    join_team();
    if (s.dense()) return dense_weight(s, at<float>(g, g_off), at<float>(x, x_off), at<float>(dw, dw_off));
    void* const data[] = {element(g, g_off, dtype), element(x, x_off, dtype), element(dw, dw_off, dtype)};
    if (const int32_t status = run(kWeight, s, data); status != kDeclined) return status;
  }
  return needle_cpu_conv2d_weight(g, g_off, x, x_off, dw, dw_off, dtypes, count, desc);
}
