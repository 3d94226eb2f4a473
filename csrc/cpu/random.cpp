// Random tensors by Philox: each element is a function of (seed, offset, its position), so that neither the
// number of threads nor the ISA level changes the stream. lib/ops/random.ts says which words make which
// element.
#include <math.h>

#include "../common.h"
#include "kernels/random.h"

namespace needle {
namespace {

const RandomKernels& kernels() {
  static const RandomKernels* const table = select_kernels(random);
  return *table;
}

// Words are made in tiles of this size where a kernel has no loop of its own.
constexpr int64_t kWords = 1024;

PhiloxStream stream_of(const double* desc) { return {uint64_t(desc[0]), uint64_t(desc[1])}; }

// Runs f(stream, begin, end) on parts of [0, n) that begin at whole blocks; an element takes `each` words.
template <typename F>
void parallel_draw(const double* desc, int64_t n, int64_t each, int64_t grain, const F& f) {
  // Even elements per unit, so that pairs of normals stay together.
  const int64_t unit = 4, units = (n + unit - 1) / unit;
  parallel_for(units, grain / unit, [&](int64_t begin, int64_t end) {
    PhiloxStream stream = stream_of(desc);
    stream.first += uint64_t(begin * each);
    f(stream, begin * unit, end * unit < n ? end * unit : n);
  });
}

// Runs f(words, i) for each element i, with its two words.
template <typename F>
void each_pair(const double* desc, int64_t n, const F& f) {
  parallel_draw(desc, n, 2, kGrain / 8, [&](PhiloxStream stream, int64_t begin, int64_t end) {
    uint32_t w[kWords];
    for (int64_t i = begin; i < end; i += kWords / 2, stream.first += kWords / 4) {
      const int64_t count = end - i < kWords / 2 ? end - i : kWords / 2;
      kernels().words(stream, 2 * count, w);
      for (int64_t j = 0; j < count; j++) f(w + 2 * j, i + j);
    }
  });
}

// Runs f(words, i, count) for runs of elements with a word each.
template <typename F>
void each_run(const double* desc, int64_t n, const F& f) {
  parallel_draw(desc, n, 1, kGrain / 4, [&](PhiloxStream stream, int64_t begin, int64_t end) {
    uint32_t w[kWords];
    for (int64_t i = begin; i < end; i += kWords, stream.first += kWords / 4) {
      const int64_t count = end - i < kWords ? end - i : kWords;
      kernels().words(stream, count, w);
      f(w, i, count);
    }
  });
}

double unit53(uint32_t a, uint32_t b) { return (double(a >> 5) * 0x1p26 + double(b >> 6)) * 0x1p-53; }

// Stores through the element type of a dtype code.
template <typename F>
int32_t with_type(DType dtype, const F& f) {
  switch (dtype) {
    case kFloat32:
      f(float{});
      return kOk;
    case kFloat64:
      f(double{});
      return kOk;
    case kInt32:
      f(int32_t{});
      return kOk;
    case kInt64:
      f(int64_t{});
      return kOk;
    case kUint8:
      f(uint8_t{});
      return kOk;
    case kBool:
      f(uint8_t{});
      return kOk;
    default:
      return fail(kInternal, "no kernel for %s", dtype_name(dtype));
  }
}

// w 2^-32 < p exactly where w < threshold(p).
uint64_t threshold(double p) {
  const double t = ceil(p * 0x1p32);
  return t >= 0x1p32 ? uint64_t(1) << 32 : t > 0 ? uint64_t(t) : 0;
}

double keep_scale(double p) { return p < 1 ? 1 / (1 - p) : 0; }

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_uniform(void* y, double y_off, int32_t dtypes, double n,
                                     const double* desc) noexcept {
  const double low = desc[2], high = desc[3];
  if (main_dtype(dtypes) == kFloat32) {
    float* out = at<float>(y, y_off);
    parallel_draw(desc, int64_t(n), 1, kGrain / 4, [&](PhiloxStream stream, int64_t begin, int64_t end) {
      kernels().uniform(stream, end - begin, low, float(high - low), out + begin);
    });
  } else {
    double* out = at<double>(y, y_off);
    const double range = high - low;
    each_pair(desc, int64_t(n), [&](const uint32_t* w, int64_t i) {
      // Two roundings on every machine: not to be fused into one.
      volatile double product = unit53(w[0], w[1]) * range;
      out[i] = low + product;
    });
  }
  return kOk;
}

NEEDLE_EXPORT int32_t needle_normal(void* y, double y_off, int32_t dtypes, double n,
                                    const double* desc) noexcept {
  const double mean = desc[2], std = desc[3];
  if (main_dtype(dtypes) == kFloat32) {
    float* out = at<float>(y, y_off);
    parallel_draw(desc, int64_t(n), 1, kGrain / 8, [&](PhiloxStream stream, int64_t begin, int64_t end) {
      kernels().normal(stream, end - begin, float(mean), float(std), out + begin);
    });
    return kOk;
  }
  double* out = at<double>(y, y_off);
  // Elements 2j and 2j + 1 share the radius, from the words of the first, and the angle, from those of the
  // second.
  parallel_draw(desc, int64_t(n), 2, kGrain / 32, [&](PhiloxStream stream, int64_t begin, int64_t end) {
    uint32_t w[kWords];
    for (int64_t i = begin; i < end; i += kWords / 2, stream.first += kWords / 4) {
      const int64_t count = end - i < kWords / 2 ? end - i : kWords / 2;
      kernels().words(stream, 2 * (count + count % 2), w);
      for (int64_t j = 0; j < count; j += 2) {
        const uint32_t* v = w + 2 * j;
        const double radius = sqrt(-2 * log(unit53(v[0], v[1]) + 0x1p-53));
        const double angle = 2 * M_PI * unit53(v[2], v[3]);
        out[i + j] = mean + std * (radius * cos(angle));
        if (j + 1 < count) out[i + j + 1] = mean + std * (radius * sin(angle));
      }
    }
  });
  return kOk;
}

NEEDLE_EXPORT int32_t needle_random_integers(void* y, double y_off, int32_t dtypes, double n,
                                             const double* desc) noexcept {
  const int64_t low = int64_t(desc[2]);
  const uint64_t range = uint64_t(desc[3]);
  return with_type(main_dtype(dtypes), [&](auto zero) {
    using T = decltype(zero);
    T* out = at<T>(y, y_off);
    const bool truth = main_dtype(dtypes) == kBool;
    each_pair(desc, int64_t(n), [&](const uint32_t* w, int64_t i) {
      // The high 64 bits of (w1 2^32 + w0) range.
      const uint64_t low_part = (uint64_t(w[0]) * (range & 0xffffffff)) >> 32;
      const uint64_t mid = uint64_t(w[1]) * (range & 0xffffffff) + low_part;
      const uint64_t mid2 = uint64_t(w[0]) * (range >> 32) + (mid & 0xffffffff);
      const uint64_t high = uint64_t(w[1]) * (range >> 32) + (mid >> 32) + (mid2 >> 32);
      const int64_t value = low + int64_t(high);
      out[i] = truth ? T(value != 0) : T(value);
    });
  });
}

NEEDLE_EXPORT int32_t needle_bernoulli(const void* p, double p_off, void* y, double y_off, int32_t dtypes,
                                       double n, const double* desc) noexcept {
  const float* p32 = main_dtype(dtypes) == kFloat32 ? at<float>(p, p_off) : nullptr;
  const double* p64 = main_dtype(dtypes) == kFloat64 ? at<double>(p, p_off) : nullptr;
  const uint64_t limit = threshold(desc[2]);
  return with_type(second_dtype(dtypes), [&](auto zero) {
    using T = decltype(zero);
    T* out = at<T>(y, y_off);
    each_run(desc, int64_t(n), [&](const uint32_t* w, int64_t i, int64_t count) {
      if (p32) {
        for (int64_t j = 0; j < count; j++) out[i + j] = T(double(w[j]) * 0x1p-32 < double(p32[i + j]));
      } else if (p64) {
        for (int64_t j = 0; j < count; j++) out[i + j] = T(double(w[j]) * 0x1p-32 < p64[i + j]);
      } else {
        for (int64_t j = 0; j < count; j++) out[i + j] = T(w[j] < limit);
      }
    });
  });
}

NEEDLE_EXPORT int32_t needle_dropout(const void* x, double x_off, void* y, double y_off, void* mask,
                                     double mask_off, int32_t dtypes, double n, const double* desc) noexcept {
  const uint64_t limit = threshold(1 - desc[2]);
  const double scale = keep_scale(desc[2]);
  uint8_t* m = at<uint8_t>(mask, mask_off);
  if (main_dtype(dtypes) == kFloat32) {
    const float* in = at<float>(x, x_off);
    float* out = at<float>(y, y_off);
    parallel_draw(desc, int64_t(n), 1, kGrain / 4, [&](PhiloxStream stream, int64_t begin, int64_t end) {
      kernels().dropout(stream, end - begin, limit, float(scale), in + begin, out + begin, m + begin);
    });
  } else {
    const double* in = at<double>(x, x_off);
    double* out = at<double>(y, y_off);
    each_run(desc, int64_t(n), [&](const uint32_t* w, int64_t i, int64_t count) {
      for (int64_t j = 0; j < count; j++) m[i + j] = w[j] < limit;
      kernels().scale_f64(count, scale, in + i, m + i, out + i);
    });
  }
  return kOk;
}

NEEDLE_EXPORT int32_t needle_masked_scale(const void* x, double x_off, const void* mask, double mask_off,
                                          void* y, double y_off, int32_t dtypes, double n,
                                          const double* desc) noexcept {
  const uint8_t* m = at<uint8_t>(mask, mask_off);
  if (main_dtype(dtypes) == kFloat32) {
    const float* in = at<float>(x, x_off);
    float* out = at<float>(y, y_off);
    parallel_for(int64_t(n), kGrain, [&](int64_t begin, int64_t end) {
      kernels().scale_f32(end - begin, float(desc[0]), in + begin, m + begin, out + begin);
    });
  } else {
    const double* in = at<double>(x, x_off);
    double* out = at<double>(y, y_off);
    parallel_for(int64_t(n), kGrain, [&](int64_t begin, int64_t end) {
      kernels().scale_f64(end - begin, desc[0], in + begin, m + begin, out + begin);
    });
  }
  return kOk;
}
