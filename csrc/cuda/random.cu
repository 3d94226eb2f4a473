// Random tensors by Philox: each element is a function of (seed, offset, its position), the same as on the
// CPU. lib/ops/random.ts says which words make which element. A thread makes one block of four words.
#include <math.h>

#include "device.h"

namespace needle {
namespace {

struct Stream {
  uint64_t seed, first;
};

struct Words {
  uint32_t w[4];
};

// Block `index` of the stream: Philox4x32-10 (Salmon et al., SC 2011).
NEEDLE_DEVICE Words philox(Stream s, uint64_t index) {
  const uint64_t counter = s.first + index;
  uint32_t c0 = uint32_t(counter), c1 = uint32_t(counter >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = uint32_t(s.seed), k1 = uint32_t(s.seed >> 32);
  for (int round = 0; round < 10; round++, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
    const uint64_t p0 = uint64_t(0xd2511f53u) * c0, p1 = uint64_t(0xcd9e8d57u) * c2;
    const uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c1 = uint32_t(p1);
    c3 = uint32_t(p0);
    c0 = n0;
    c2 = n2;
  }
  return {{c0, c1, c2, c3}};
}

NEEDLE_DEVICE double unit53(uint32_t a, uint32_t b) {
  return (double(a >> 5) * 0x1p26 + double(b >> 6)) * 0x1p-53;
}

// Runs f(words, i, count) for the `count` elements from i on that a block of words makes, Each words per
// element.
template <int Each, typename F>
__global__ void draw(Stream stream, int64_t n, F f) {
  constexpr int kElements = 4 / Each;
  const int64_t blocks = (n + kElements - 1) / kElements, step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t b = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; b < blocks; b += step) {
    const int64_t i = b * kElements;
    f(philox(stream, uint64_t(b)), i, n - i < kElements ? int(n - i) : kElements);
  }
}

template <int Each, typename F>
int32_t launch(const double* desc, double n, const F& f) {
  if (n == 0) return kOk;
  const Stream s{uint64_t(desc[0]), uint64_t(desc[1])};
  NEEDLE_LAUNCH((draw<Each, F>), grid_for(int64_t(n) * Each / 4 + 1), kThreads, 0, stream(), s, int64_t(n),
                f);
  return launched("starting a kernel");
}

struct Uniform32 {
  float* y;
  double low;
  float range;

  NEEDLE_DEVICE void operator()(const Words& s, int64_t i, int count) const {
    for (int j = 0; j < count; j++) {
      const float unit = float(int32_t(s.w[j] >> 8)) * 0x1p-24f;
      // Two factors of 24 bits: the product is rounded once, as it is in double.
      y[i + j] = low == 0 ? unit * range : float(low + double(unit) * double(range));
    }
  }
};

struct Uniform64 {
  double* y;
  double low, range;

  NEEDLE_DEVICE void operator()(const Words& s, int64_t i, int count) const {
    for (int j = 0; j < count; j++) {
      // Two roundings on every machine: not to be fused into one.
      volatile double product = unit53(s.w[2 * j], s.w[2 * j + 1]) * range;
      y[i + j] = low + product;
    }
  }
};

// Box & Muller (1958): the even words of a pair give the radius, the odd ones the angle.
struct Normal32 {
  float* y;
  float mean, std;

  NEEDLE_DEVICE void operator()(const Words& s, int64_t i, int count) const {
    for (int j = 0; j < count; j += 2) {
      // ln u with relative accuracy also where u is nearly 1.
      const uint32_t w = s.w[j];
      const float near = float(0xffffffffu - w) * 0x1p-32f;
      const float logarithm = w > 0x80000000u ? log1pf(-near) : logf(float(double(w) + 1) * 0x1p-32f);
      const float radius = std * sqrtf(-2 * logarithm);
      // Of a turn, the part beyond the nearest quarter, which sine and cosine take without loss.
      const uint32_t v = s.w[j + 1], quarter = (v + 0x20000000u) >> 30;
      const float angle = float(int32_t(v - (quarter << 30))) * 1.46291807926715968105e-9f;  // 2 pi / 2^32
      const float sine = sinf(angle), cosine = cosf(angle);
      const float a = quarter & 1 ? sine : cosine, b = quarter & 1 ? cosine : sine;
      y[i + j] = mean + radius * ((quarter + 1) & 2 ? -a : a);
      if (j + 1 < count) y[i + j + 1] = mean + radius * (quarter & 2 ? -b : b);
    }
  }
};

struct Normal64 {
  double* y;
  double mean, std;

  NEEDLE_DEVICE void operator()(const Words& s, int64_t i, int count) const {
    const double radius = sqrt(-2 * log(unit53(s.w[0], s.w[1]) + 0x1p-53));
    const double angle = 2 * 3.14159265358979323846 * unit53(s.w[2], s.w[3]);
    y[i] = mean + std * (radius * cos(angle));
    if (count > 1) y[i + 1] = mean + std * (radius * sin(angle));
  }
};

template <typename T, bool Truth>
struct Integers {
  T* y;
  int64_t low;
  uint64_t range;

  NEEDLE_DEVICE void operator()(const Words& s, int64_t i, int count) const {
    for (int j = 0; j < count; j++) {
      // The high 64 bits of (w1 2^32 + w0) range.
      const uint64_t word = uint64_t(s.w[2 * j + 1]) << 32 | s.w[2 * j];
      const int64_t value = low + int64_t(__umul64hi(word, range));
      y[i + j] = Truth ? T(value != 0) : T(value);
    }
  }
};

// P: the type of the probabilities, where they are a tensor.
template <typename T, typename P>
struct Bernoulli {
  T* y;
  const P* p;
  uint64_t limit;

  NEEDLE_DEVICE void operator()(const Words& s, int64_t i, int count) const {
    for (int j = 0; j < count; j++) {
      y[i + j] = p ? T(double(s.w[j]) * 0x1p-32 < double(p[i + j])) : T(s.w[j] < limit);
    }
  }
};

template <typename T>
struct Dropout {
  const T* x;
  T* y;
  uint8_t* mask;
  uint64_t limit;
  T scale;

  NEEDLE_DEVICE void operator()(const Words& s, int64_t i, int count) const {
    for (int j = 0; j < count; j++) {
      const bool keep = s.w[j] < limit;
      mask[i + j] = keep;
      y[i + j] = x[i + j] * (keep ? scale : T(0));
    }
  }
};

template <typename T>
__global__ void masked_scale(const T* x, const uint8_t* mask, T* y, int64_t n, T scale) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    y[i] = x[i] * (mask[i] ? scale : T(0));
  }
}

// w 2^-32 < p exactly where w < threshold(p).
uint64_t threshold(double p) {
  const double t = ceil(p * 0x1p32);
  return t >= 0x1p32 ? uint64_t(1) << 32 : t > 0 ? uint64_t(t) : 0;
}

// Calls f with a zero of the element type of a dtype code.
template <typename F>
int32_t with_type(DType dtype, const F& f) {
  switch (dtype) {
    case kFloat32:
      return f(float{});
    case kFloat64:
      return f(double{});
    case kInt32:
      return f(int32_t{});
    case kInt64:
      return f(int64_t{});
    case kUint8:
    case kBool:
      return f(uint8_t{});
    default:
      return fail(kInternal, "no kernel for %s", dtype_name(dtype));
  }
}

template <typename T>
int32_t dropout(const void* x, double x_off, void* y, double y_off, void* mask, double mask_off, double n,
                const double* desc) {
  const double p = desc[2];
  return launch<1>(desc, n,
                   Dropout<T>{at<T>(x, x_off), at<T>(y, y_off), at<uint8_t>(mask, mask_off), threshold(1 - p),
                              T(p < 1 ? 1 / (1 - p) : 0)});
}

template <typename T>
int32_t launch_masked_scale(const void* x, double x_off, const void* mask, double mask_off, void* y,
                            double y_off, double n, const double* desc) {
  if (n == 0) return kOk;
  NEEDLE_LAUNCH((masked_scale<T>), grid_for(int64_t(n)), kThreads, 0, stream(), at<T>(x, x_off),
                at<uint8_t>(mask, mask_off), at<T>(y, y_off), int64_t(n), T(desc[0]));
  return launched("starting a kernel");
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_uniform(void* y, double y_off, int32_t dtypes, double n,
                                     const double* desc) noexcept {
  const double low = desc[2], range = desc[3] - low;
  if (main_dtype(dtypes) == kFloat32) {
    return launch<1>(desc, n, Uniform32{at<float>(y, y_off), low, float(range)});
  }
  return launch<2>(desc, n, Uniform64{at<double>(y, y_off), low, range});
}

NEEDLE_EXPORT int32_t needle_normal(void* y, double y_off, int32_t dtypes, double n,
                                    const double* desc) noexcept {
  const double mean = desc[2], std = desc[3];
  if (main_dtype(dtypes) == kFloat32) {
    return launch<1>(desc, n, Normal32{at<float>(y, y_off), float(mean), float(std)});
  }
  return launch<2>(desc, n, Normal64{at<double>(y, y_off), mean, std});
}

NEEDLE_EXPORT int32_t needle_random_integers(void* y, double y_off, int32_t dtypes, double n,
                                             const double* desc) noexcept {
  const DType dtype = main_dtype(dtypes);
  const int64_t low = int64_t(desc[2]);
  const uint64_t range = uint64_t(desc[3]);
  if (dtype == kBool) return launch<2>(desc, n, Integers<uint8_t, true>{at<uint8_t>(y, y_off), low, range});
  return with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    return launch<2>(desc, n, Integers<T, false>{at<T>(y, y_off), low, range});
  });
}

NEEDLE_EXPORT int32_t needle_bernoulli(const void* p, double p_off, void* y, double y_off, int32_t dtypes,
                                       double n, const double* desc) noexcept {
  return with_type(second_dtype(dtypes), [&](auto zero) {
    using T = decltype(zero);
    const uint64_t limit = threshold(desc[2]);
    if (p && main_dtype(dtypes) == kFloat64) {
      return launch<1>(desc, n, Bernoulli<T, double>{at<T>(y, y_off), at<double>(p, p_off), limit});
    }
    return launch<1>(desc, n, Bernoulli<T, float>{at<T>(y, y_off), at<float>(p, p_off), limit});
  });
}

NEEDLE_EXPORT int32_t needle_dropout(const void* x, double x_off, void* y, double y_off, void* mask,
                                     double mask_off, int32_t dtypes, double n, const double* desc) noexcept {
  return main_dtype(dtypes) == kFloat32 ? dropout<float>(x, x_off, y, y_off, mask, mask_off, n, desc)
                                        : dropout<double>(x, x_off, y, y_off, mask, mask_off, n, desc);
}

NEEDLE_EXPORT int32_t needle_masked_scale(const void* x, double x_off, const void* mask, double mask_off,
                                          void* y, double y_off, int32_t dtypes, double n,
                                          const double* desc) noexcept {
  return main_dtype(dtypes) == kFloat32
             ? launch_masked_scale<float>(x, x_off, mask, mask_off, y, y_off, n, desc)
             : launch_masked_scale<double>(x, x_off, mask, mask_off, y, y_off, n, desc);
}
