// Philox4x32-10 (Salmon et al., SC 2011) and what is made of its words, as plain loops over small arrays that
// the compiler vectorises. Compiled once per ISA level.
#include "random.h"

#include "vec.h"

namespace {

constexpr int64_t kBlocks = 64;         // per tile
constexpr int64_t kTile = 4 * kBlocks;  // words per tile

// A tile of blocks, each lane in an array of its own.
struct Lanes {
  uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
};

void philox(PhiloxStream stream, Lanes& s) {
  for (int64_t j = 0; j < kBlocks; j++) {
    s.c0[j] = uint32_t(stream.first + uint64_t(j));
    s.c1[j] = uint32_t((stream.first + uint64_t(j)) >> 32);
    s.c2[j] = s.c3[j] = 0;
  }
  uint32_t k0 = uint32_t(stream.seed), k1 = uint32_t(stream.seed >> 32);
  for (int round = 0; round < 10; round++, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
    for (int64_t j = 0; j < kBlocks; j++) {
      const uint64_t p0 = uint64_t(0xd2511f53u) * s.c0[j], p1 = uint64_t(0xcd9e8d57u) * s.c2[j];
      const uint32_t n0 = uint32_t(p1 >> 32) ^ s.c1[j] ^ k0, n2 = uint32_t(p0 >> 32) ^ s.c3[j] ^ k1;
      s.c1[j] = uint32_t(p1);
      s.c3[j] = uint32_t(p0);
      s.c0[j] = n0;
      s.c2[j] = n2;
    }
  }
}

void interleave(const Lanes& s, uint32_t* __restrict y) {
  for (int64_t j = 0; j < kBlocks; j++) {
    y[4 * j] = s.c0[j];
    y[4 * j + 1] = s.c1[j];
    y[4 * j + 2] = s.c2[j];
    y[4 * j + 3] = s.c3[j];
  }
}

// Calls f(words, start, count) for tiles of the stream's first n words.
template <typename F>
inline void each_tile(PhiloxStream stream, int64_t n, const F& f) {
  Lanes lanes;
  uint32_t w[kTile];
  for (int64_t start = 0; start < n; start += kTile, stream.first += kBlocks) {
    philox(stream, lanes);
    interleave(lanes, w);
    f(w, start, n - start < kTile ? n - start : kTile);
  }
}

void words(PhiloxStream stream, int64_t n, uint32_t* y) {
  each_tile(stream, n, [&](const uint32_t* w, int64_t start, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[start + i] = w[i];
  });
}

void uniform(PhiloxStream stream, int64_t n, double low, float range, float* y) {
  each_tile(stream, n, [&](const uint32_t* w, int64_t start, int64_t count) {
    float* __restrict out = y + start;
    if (low == 0) {
      // Two factors of 24 bits: the product is rounded once, as it is in double.
      for (int64_t i = 0; i < count; i++) out[i] = float(int32_t(w[i] >> 8)) * 0x1p-24f * range;
    } else {
      const double r = double(range) * 0x1p-24;
      for (int64_t i = 0; i < count; i++) out[i] = float(low + double(int32_t(w[i] >> 8)) * r);
    }
  });
}

// ln(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1]: the polynomial of Cephes logf (Moshier), error below 1e-7
// relative.
inline float log1p_reduced(float f) {
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float z = f * f;
  return f + (p * f * z - 0.5f * z);
}

// -2 ln((w + 1) / 2^32), with full relative accuracy also where the logarithm is nearly 0.
inline float radius_squared(uint32_t w) {
  const uint32_t rest = 0xffffffffu - w;  // (2^32 - 1 - w) / 2^32 = 1 - u
  // A uint32 to float conversion from two exact halves: vector units convert signed integers only.
  const float near = float(int32_t(rest >> 8)) * 0x1p-24f + float(int32_t(rest & 0xff)) * 0x1p-32f;
  const float u = float(int32_t(w >> 8)) * 0x1p-24f + float(int32_t((w & 0xff) + 1)) * 0x1p-32f;
  // u = m 2^e with m in [sqrt(1/2), sqrt(2)).
  int32_t bits;
  __builtin_memcpy(&bits, &u, sizeof bits);
  const int32_t shifted = bits - 0x3f3504f3;
  const int32_t e = shifted >> 23;
  const int32_t mantissa = bits - int32_t(uint32_t(e) << 23);
  float m;
  __builtin_memcpy(&m, &mantissa, sizeof m);
  const float f = e == 0 ? -near : m - 1.0f;
  return -2.0f * (float(e) * 0.69314718055994530942f + log1p_reduced(f));
}

// Box and Muller on a tile: the even words give the radius, the odd ones the angle, w / 2^32 of a turn.
void normal_tile(const uint32_t* __restrict w, float mean, float std, float* __restrict y) {
  float radius[kTile / 2], c[kTile / 2], s[kTile / 2];
  for (int64_t j = 0; j < kTile / 2; j++) radius[j] = radius_squared(w[2 * j]);
  for (int64_t j = 0; j < kTile / 2; j++) radius[j] = std * __builtin_sqrtf(radius[j]);
  for (int64_t j = 0; j < kTile / 2; j++) {
    const uint32_t v = w[2 * j + 1];
    const uint32_t quarter = (v + 0x20000000u) >> 30;  // the nearest quarter turn
    const float x = float(int32_t(v - (quarter << 30))) * 1.46291807926715968105e-9f;  // 2 pi / 2^32
    const float z = x * x;
    const float sine = x + x * z * (-1.6666654611e-1f + z * (8.3321608736e-3f - z * 1.9515295891e-4f));
    const float cosine =
        1.0f - 0.5f * z +
        z * z * (4.166664568298827e-2f + z * (-1.388731625493765e-3f + z * 2.443315711809948e-5f));
    const float a = quarter & 1 ? sine : cosine, b = quarter & 1 ? cosine : sine;
    c[j] = (quarter + 1) & 2 ? -a : a;
    s[j] = quarter & 2 ? -b : b;
  }
  for (int64_t j = 0; j < kTile / 2; j++) {
    y[2 * j] = mean + radius[j] * c[j];
    y[2 * j + 1] = mean + radius[j] * s[j];
  }
}

void normal(PhiloxStream stream, int64_t n, float mean, float std, float* y) {
  each_tile(stream, n, [&](const uint32_t* w, int64_t start, int64_t count) {
    if (count == kTile) {
      normal_tile(w, mean, std, y + start);
    } else {
      float last[kTile];
      normal_tile(w, mean, std, last);
      for (int64_t i = 0; i < count; i++) y[start + i] = last[i];
    }
  });
}

template <typename T>
void scale(int64_t n, T factor, const T* __restrict x, const uint8_t* __restrict mask, T* __restrict y) {
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * (mask[i] ? factor : T(0));
}

void dropout(PhiloxStream stream, int64_t n, uint64_t threshold, float factor, const float* x, float* y,
             uint8_t* mask) {
  each_tile(stream, n, [&](const uint32_t* w, int64_t start, int64_t count) {
    uint8_t* __restrict m = mask + start;
    if (threshold == 0) {
      for (int64_t i = 0; i < count; i++) m[i] = 0;
    } else {
      const uint32_t last = uint32_t(threshold - 1);
      for (int64_t i = 0; i < count; i++) m[i] = w[i] <= last;
    }
    scale(count, factor, x + start, m, y + start);
  });
}

}  // namespace

extern "C" const RandomKernels NEEDLE_ISA_NAME(random) = {words,   uniform,      normal,
                                                          dropout, scale<float>, scale<double>};
