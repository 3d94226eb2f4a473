// Group norm and its gradients: statistics of the groups of channels of each sample, applied per sample and
// channel.
#include "norm.h"

namespace needle {
namespace {

// Samples of c channels at `length` positions; channels last, or each channel a run. Groups are `size`
// channels.
struct Groups {
  int64_t n, c, length, groups, size;
  double eps;
  bool last;
  double sets[14], channels[14];  // descriptors of reductions to groups and to channels

  explicit Groups(const double* desc)
      : n(int64_t(desc[0])),
        c(int64_t(desc[1])),
        length(int64_t(desc[2])),
        groups(int64_t(desc[3])),
        size(c / groups),
        eps(desc[4]),
        last(desc[5] != 0) {
    const double all = desc[1] * desc[2], per = double(size);
    const double channel_step = last ? 1 : desc[2], position_step = last ? desc[1] : 1;
    const double to_sets[14] = {2,   2,       desc[0],      desc[3],      all, per * channel_step,
                                per, desc[2], channel_step, position_step};
    const double to_channels[14] = {2, 1, desc[0], desc[1], all, channel_step, desc[2], position_step};
    std::copy(to_sets, to_sets + 14, sets);
    std::copy(to_channels, to_channels + 14, channels);
  }
  int64_t sample() const { return c * length; }
  Grouping grouping() const { return {n * sample(), sample(), c, c, last ? 1 : length}; }
};

// A thread per sample and channel.
template <typename T>
__global__ void set_channels(int64_t n, int64_t c, int64_t size, double eps, const Moments* moments,
                             const T* weight, const T* bias, T* mean, T* rstd, Channel<T>* channels) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x, groups = c / size;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n * c; i += step) {
    const int64_t j = i % c, set = i / c * groups + j / size;
    double r;
    if (moments) {
      const Moments m = moments[set];
      r = 1 / sqrt((m.count > 0 ? m.m2 / m.count : 0.0) + eps);
      if (j % size == 0) {
        mean[set] = T(m.mean);
        rstd[set] = T(r);
      }
      channels[i].mean = T(m.mean);
    } else {
      r = double(rstd[set]);
      channels[i].mean = mean[set];
    }
    channels[i].scale = T((weight ? double(weight[j]) : 1.0) * r);
    channels[i].shift = bias ? bias[j] : T(0);
  }
}

// A thread per sample and group: what its channels' sums add to the gradient of x.
template <typename T>
__global__ void set_gradients(int64_t n, int64_t c, int64_t size, double count, const T* rstd,
                              const Dots* dots, Channel<T>* channels) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x, groups = c / size;
  for (int64_t set = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; set < n * groups; set += step) {
    const int64_t first = set / groups * c + set % groups * size;
    double all = 0, along = 0;
    for (int64_t i = first; i < first + size; i++) {
      all += double(channels[i].scale) * dots[i].sum;
      along += double(channels[i].scale) * dots[i].dot;
    }
    const double r = double(rstd[set]);
    for (int64_t i = first; i < first + size; i++) {
      channels[i].slope = T(-r * r * along / count);
      channels[i].level = T(-all / count);
    }
  }
}

// Σ over samples of each channel's sums.
template <typename T>
struct SampleDots {
  typedef Dots Item;
  typedef Dots Part;
  typedef Dots Total;
  typedef int64_t Setting;
  const Dots* dots;
  const T* rstd;
  int64_t groups, size;
  T *dweight, *dbias;

  NEEDLE_DEVICE int64_t setting(int64_t j) const { return j / size; }
  NEEDLE_DEVICE Dots load(int64_t offset, int64_t sample, int64_t group) const {
    return {dots[offset].sum, dots[offset].dot * double(rstd[sample * groups + group])};
  }
  NEEDLE_DEVICE Dots start() const { return {0, 0}; }
  NEEDLE_DEVICE void add(Dots& part, const Dots (&item)[kRun], int n) const {
    for (int i = 0; i < kRun; i++) part = i < n ? merge(part, item[i]) : part;
  }
  NEEDLE_DEVICE Dots total(Dots part) const { return part; }
  static NEEDLE_DEVICE Dots merge(const Dots& a, const Dots& b) { return AddDots()(a, b); }
  NEEDLE_DEVICE void store(int64_t j, const Dots& d) const {
    dweight[j] = T(d.dot);
    dbias[j] = T(d.sum);
  }
};

template <typename T>
int32_t group_norm(const double* desc, const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd) {
  const Groups s(desc);
  if (s.n * s.c == 0) return kOk;
  Moments* moments;
  Channel<T>* channels;
  const bool room = lay_out(kScratchNorm, [&](Arena& arena) {
    moments = arena.take<Moments>(s.n * s.groups);
    channels = arena.take<Channel<T>>(s.n * s.c);
  });
  if (!room) return out_of_memory();
  const int32_t status = reduce(Statistics<T>{x, moments}, s.sets);
  if (status != kOk) return status;
  NEEDLE_LAUNCH((set_channels<T>), grid_for(s.n * s.c), kThreads, 0, stream(), s.n, s.c, s.size, s.eps,
                moments, weight, bias, mean, rstd, channels);
  const int32_t applied = apply_grouped<T>(nullptr, x, y, s.grouping(), channels, Forward<T>{false});
  return applied == kOk ? launched("starting a kernel") : applied;
}

template <typename T>
int32_t group_norm_backward(const double* desc, const T* g, const T* x, const T* mean, const T* rstd,
                            const T* weight, T* dx, T* dweight, T* dbias) {
  const Groups s(desc);
  if (s.c == 0) return kOk;
  Dots* dots;
  Channel<T>* channels;
  const bool room = lay_out(kScratchNorm, [&](Arena& arena) {
    dots = arena.take<Dots>(s.n * s.c);
    channels = arena.take<Channel<T>>(s.n * s.c);
  });
  if (!room) return out_of_memory();
  if (s.n > 0) {
    NEEDLE_LAUNCH((set_channels<T>), grid_for(s.n * s.c), kThreads, 0, stream(), s.n, s.c, s.size, s.eps,
                  nullptr, weight, nullptr, const_cast<T*>(mean), const_cast<T*>(rstd), channels);
    const int32_t status = reduce(ChannelDots<T>{g, x, channels, false, dots}, s.channels);
    if (status != kOk) return status;
    NEEDLE_LAUNCH((set_gradients<T>), grid_for(s.n * s.groups), kThreads, 0, stream(), s.n, s.c, s.size,
                  double(s.size * s.length), rstd, dots, channels);
    const int32_t applied = apply_grouped<T>(g, x, dx, s.grouping(), channels, Backward<T>{false});
    if (applied != kOk) return applied;
  }
  const double over_samples[] = {1, 1, desc[1], 1, desc[0], desc[1]};
  return reduce(SampleDots<T>{dots, rstd, s.groups, s.size, dweight, dbias}, over_samples);
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_group_norm(const void* x, double x_off, const void* weight, double weight_off,
                                        const void* bias, double bias_off, void* y, double y_off, void* mean,
                                        double mean_off, void* rstd, double rstd_off, int32_t dtypes, double,
                                        const double* desc) noexcept {
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return group_norm(desc, at<T>(x, x_off), at<T>(weight, weight_off), at<T>(bias, bias_off),
                      at<T>(y, y_off), at<T>(mean, mean_off), at<T>(rstd, rstd_off));
  });
}

NEEDLE_EXPORT int32_t needle_group_norm_backward(const void* g, double g_off, const void* x, double x_off,
                                                 const void* mean, double mean_off, const void* rstd,
                                                 double rstd_off, const void* weight, double weight_off,
                                                 void* dx, double dx_off, void* dweight, double dweight_off,
                                                 void* dbias, double dbias_off, int32_t dtypes, double,
                                                 const double* desc) noexcept {
  return with_float(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    return group_norm_backward(desc, at<T>(g, g_off), at<T>(x, x_off), at<T>(mean, mean_off),
                               at<T>(rstd, rstd_off), at<T>(weight, weight_off), at<T>(dx, dx_off),
                               at<T>(dweight, dweight_off), at<T>(dbias, dbias_off));
  });
}
