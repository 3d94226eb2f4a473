// Batch norm and its gradients, with ReLU in the same pass where wanted. The backward pass computes again
// where the ReLU let values through: that is cheaper than reading a saved mask.
#include "norm.h"

namespace needle {
namespace {

// [outer, C, inner] with statistics per channel.
struct Batch {
  int64_t outer, c, inner;
  double eps;
  bool relu;
  double reduction[10];  // the descriptor of a reduction to channels

  explicit Batch(const double* desc)
      : outer(int64_t(desc[0])),
        c(int64_t(desc[1])),
        inner(int64_t(desc[2])),
        eps(desc[3]),
        relu(desc[4] != 0),
        reduction{1, 2, desc[1], desc[2], desc[0], desc[2], desc[1] * desc[2], 1} {}
  double per_channel() const { return double(outer) * double(inner); }
  Grouping grouping() const { return {outer * c * inner, c * inner, 0, c, inner}; }
};

template <typename T>
struct Given {
  const T *mean, *variance, *weight, *bias;
};

// The numbers of each channel from statistics: from `moments` where given, which `mean` and `variance` then
// get.
template <typename T>
__global__ void set_channels(int64_t c, double eps, const Moments* moments, T* mean, T* variance,
                             Given<T> given, Channel<T>* channels) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t j = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; j < c; j += step) {
    double m, v;
    if (moments) {
      m = moments[j].mean;
      v = moments[j].count > 0 ? moments[j].m2 / moments[j].count : 0.0;
      mean[j] = T(m);
      variance[j] = T(v);
    }
    m = double(moments ? mean[j] : given.mean[j]);
    v = double(moments ? variance[j] : given.variance[j]);
    const double scale = (given.weight ? double(given.weight[j]) : 1.0) / sqrt(v + eps);
    channels[j] = {T(m), T(scale), given.bias ? given.bias[j] : T(0), 0, 0};
  }
}

// The terms that come from the sums over the channel, and the gradients of weight and bias.
template <typename T>
__global__ void set_gradients(int64_t c, double eps, double count, const Dots* dots, Given<T> given,
                              Channel<T>* channels, T* dweight, T* dbias) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t j = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; j < c; j += step) {
    const double rstd = 1 / sqrt(double(given.variance[j]) + eps);
    const double scale = (given.weight ? double(given.weight[j]) : 1.0) * rstd;
    channels[j].slope = T(-scale * rstd * rstd * dots[j].dot / count);
    channels[j].level = T(-scale * dots[j].sum / count);
    dweight[j] = T(dots[j].dot * rstd);
    dbias[j] = T(dots[j].sum);
  }
}

// Without y the statistics alone.
template <typename S, typename T = ComputedType<S>>
int32_t batch_norm(const double* desc, const S* x, const T* weight, const T* bias, S* y, T* mean,
                   T* variance) {
  const Batch s(desc);
  if (s.c == 0) return kOk;
  Moments* moments;
  Channel<T>* channels;
  const bool room = lay_out(kScratchNorm, [&](Arena& arena) {
    moments = arena.take<Moments>(s.c);
    channels = arena.take<Channel<T>>(s.c);
  });
  if (!room) return out_of_memory();
  const int32_t status = reduce(Statistics<S>{x, moments}, s.reduction);
  if (status != kOk) return status;
  const Given<T> given{nullptr, nullptr, weight, bias};
  NEEDLE_LAUNCH((set_channels<T>), grid_for(s.c), kThreads, 0, stream(), s.c, s.eps, moments, mean, variance,
                given, channels);
  if (!y) return launched("starting a kernel");
  const int32_t applied = apply_grouped<S>(nullptr, x, y, s.grouping(), channels, Forward<T>{s.relu});
  return applied == kOk ? launched("starting a kernel") : applied;
}

template <typename S, typename T = ComputedType<S>>
int32_t batch_norm_eval(const double* desc, const S* x, const Given<T>& given, S* y) {
  const Batch s(desc);
  if (s.c == 0) return kOk;
  Channel<T>* const channels =
      static_cast<Channel<T>*>(scratch(kScratchNorm, size_t(s.c) * sizeof(Channel<T>)));
  if (!channels) return out_of_memory();
  NEEDLE_LAUNCH((set_channels<T>), grid_for(s.c), kThreads, 0, stream(), s.c, s.eps, nullptr, nullptr,
                nullptr, given, channels);
  const int32_t applied = apply_grouped<S>(nullptr, x, y, s.grouping(), channels, Forward<T>{s.relu});
  return applied == kOk ? launched("starting a kernel") : applied;
}

template <typename S, typename T = ComputedType<S>>
int32_t batch_norm_backward(const double* desc, const S* g, const S* x, const Given<T>& given, S* dx,
                            T* dweight, T* dbias) {
  const Batch s(desc);
  if (s.c == 0) return kOk;
  Dots* dots;
  Channel<T>* channels;
  const bool room = lay_out(kScratchNorm, [&](Arena& arena) {
    dots = arena.take<Dots>(s.c);
    channels = arena.take<Channel<T>>(s.c);
  });
  if (!room) return out_of_memory();
  NEEDLE_LAUNCH((set_channels<T>), grid_for(s.c), kThreads, 0, stream(), s.c, s.eps, nullptr, nullptr,
                nullptr, given, channels);
  const int32_t status = reduce(ChannelDots<S>{g, x, channels, s.relu, dots}, s.reduction);
  if (status != kOk) return status;
  const double count = s.per_channel() > 1 ? s.per_channel() : 1;
  NEEDLE_LAUNCH((set_gradients<T>), grid_for(s.c), kThreads, 0, stream(), s.c, s.eps, count, dots, given,
                channels, dweight, dbias);
  const int32_t applied = apply_grouped<S>(g, x, dx, s.grouping(), channels, Backward<T>{s.relu});
  return applied == kOk ? launched("starting a kernel") : applied;
}

template <typename T>
__global__ void update_running_stats(int64_t c, double momentum, double unbiased, T* running_mean,
                                     T* running_var, const T* mean, const T* variance) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t j = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; j < c; j += step) {
    running_mean[j] = T((1 - momentum) * double(running_mean[j]) + momentum * double(mean[j]));
    running_var[j] = T((1 - momentum) * double(running_var[j]) + momentum * (double(variance[j]) * unbiased));
  }
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_batch_norm(const void* x, double x_off, const void* weight, double weight_off,
                                        const void* bias, double bias_off, void* y, double y_off, void* mean,
                                        double mean_off, void* variance, double variance_off, int32_t dtypes,
                                        double, const double* desc) noexcept {
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) S;
    typedef ComputedType<S> T;
    return batch_norm(desc, at<S>(x, x_off), at<T>(weight, weight_off), at<T>(bias, bias_off),
                      at<S>(y, y_off), at<T>(mean, mean_off), at<T>(variance, variance_off));
  });
}

NEEDLE_EXPORT int32_t needle_batch_norm_stats(const void* x, double x_off, void* mean, double mean_off,
                                              void* variance, double variance_off, int32_t dtypes, double,
                                              const double* desc) noexcept {
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) S;
    typedef ComputedType<S> T;
    return batch_norm<S, T>(desc, at<S>(x, x_off), nullptr, nullptr, nullptr, at<T>(mean, mean_off),
                            at<T>(variance, variance_off));
  });
}

NEEDLE_EXPORT int32_t needle_batch_norm_backward(const void* g, double g_off, const void* x, double x_off,
                                                 const void* mean, double mean_off, const void* variance,
                                                 double variance_off, const void* weight, double weight_off,
                                                 const void* bias, double bias_off, void* dx, double dx_off,
                                                 void* dweight, double dweight_off, void* dbias,
                                                 double dbias_off, int32_t dtypes, double,
                                                 const double* desc) noexcept {
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) S;
    typedef ComputedType<S> T;
    const Given<T> given{at<T>(mean, mean_off), at<T>(variance, variance_off), at<T>(weight, weight_off),
                         at<T>(bias, bias_off)};
    return batch_norm_backward(desc, at<S>(g, g_off), at<S>(x, x_off), given, at<S>(dx, dx_off),
                               at<T>(dweight, dweight_off), at<T>(dbias, dbias_off));
  });
}

NEEDLE_EXPORT int32_t needle_batch_norm_eval(const void* x, double x_off, const void* mean, double mean_off,
                                             const void* variance, double variance_off, const void* weight,
                                             double weight_off, const void* bias, double bias_off, void* y,
                                             double y_off, int32_t dtypes, double,
                                             const double* desc) noexcept {
  return with_stored(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) S;
    typedef ComputedType<S> T;
    const Given<T> given{at<T>(mean, mean_off), at<T>(variance, variance_off), at<T>(weight, weight_off),
                         at<T>(bias, bias_off)};
    return batch_norm_eval(desc, at<S>(x, x_off), given, at<S>(y, y_off));
  });
}

NEEDLE_EXPORT int32_t needle_update_running_stats(void* running_mean, double running_mean_off,
                                                  void* running_var, double running_var_off, const void* mean,
                                                  double mean_off, const void* variance, double variance_off,
                                                  int32_t dtypes, double, const double* desc) noexcept {
  const int64_t c = int64_t(desc[0]);
  if (c == 0) return kOk;
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    NEEDLE_LAUNCH((update_running_stats<T>), grid_for(c), kThreads, 0, stream(), c, desc[1], desc[2],
                  at<T>(running_mean, running_mean_off), at<T>(running_var, running_var_off),
                  at<T>(mean, mean_off), at<T>(variance, variance_off));
    return launched("starting a kernel");
  });
}
