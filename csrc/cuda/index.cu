// Reading and writing at positions given by int64 or int32 tensors. Where several elements are written to one
// place the last one counts: the largest source position of each place is found first.
#include "index.h"

namespace needle {
namespace {

template <typename T>
__global__ void gather(const T* x, Indices index, T* y, Geometry g, Split split, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < n; e += step) {
    int64_t o, k, c;
    split(e, &o, &k, &c);
    const int64_t i = index[e];
    y[e] = i < 0 ? T(0) : x[(o * g.size + i) * g.inner + c];
  }
}

template <typename T>
__global__ void index_select(const T* x, Indices index, T* y, Geometry g, Split split, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < n; e += step) {
    int64_t o, k, c;
    split(e, &o, &k, &c);
    const int64_t i = index[k];
    y[e] = i < 0 ? T() : x[(o * g.size + i) * g.inner + c];
  }
}

// Sixteen bytes that are moved at once.
struct alignas(16) Block {
  uint64_t half[2];
};

template <typename T>
int32_t launch_index_select(const Geometry& g, const Indices& index, const T* x, T* y) {
  const int64_t n = g.outer * g.count * g.inner;
  if (n == 0) return kOk;
  NEEDLE_LAUNCH((index_select<T>), grid_for(n), kThreads, 0, stream(), x, index, y, g,
                Split(g.outer, g.count, g.inner), n);
  return launched("starting a kernel");
}

// --- Writing: owner[place] = 1 + the last source position that is written there, 0: none ---

// An index per element: places are elements of y, `slices` false. An index per slice: places are slices.
__global__ void find_owners(Indices index, int32_t* owner, Geometry g, Split split, bool slices, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < n; e += step) {
    const int64_t i = index[e];
    if (i < 0) continue;
    int64_t o = 0, k = e, c = 0;
    if (!slices) split(e, &o, &k, &c);
    atomicMax(&owner[slices ? i : (o * g.size + i) * g.inner + c], int(k + 1));
  }
}

template <typename T>
__global__ void write(Indices index, const int32_t* owner, const T* src, T value, T* y, Geometry g,
                      Split split, bool slices, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < n; e += step) {
    int64_t o, k, c;
    split(e, &o, &k, &c);
    const int64_t i = index[slices ? k : e];
    if (i < 0) continue;
    const int64_t to = (o * g.size + i) * g.inner + c;
    if (!src) y[to] = value;
    else if (owner[slices ? i : to] == int32_t(k + 1)) y[to] = src[e];
  }
}

template <typename T>
int32_t write_all(const Geometry& g, const Indices& index, const T* x, const T* src, T value, T* y,
                  bool slices) {
  const int32_t status = copy_or_clear(x, y, size_t(g.elements()) * sizeof(T));
  const int64_t n = g.outer * g.count * g.inner;
  if (status != kOk || n == 0) return status;
  if (g.count >= int64_t(1) << 31) return fail(kInvalid, "more than 2^31 indices along a dim");
  const Split split(g.outer, g.count, g.inner);
  int32_t* owner = nullptr;
  if (src) {
    const int64_t places = slices ? g.size : g.elements(), indices = slices ? g.count : n;
    owner = static_cast<int32_t*>(scratch(kScratchTask, size_t(places) * sizeof(int32_t)));
    if (!owner) return out_of_memory();
    const int32_t cleared = copy_or_clear(nullptr, owner, size_t(places) * sizeof(int32_t));
    if (cleared != kOk) return cleared;
    NEEDLE_LAUNCH((find_owners), grid_for(indices), kThreads, 0, stream(), index, owner, g, split, slices,
                  indices);
  }
  NEEDLE_LAUNCH((write<T>), grid_for(n), kThreads, 0, stream(), index, owner, src, value, y, g, split, slices,
                n);
  return launched("starting a kernel");
}

int32_t write_any(const void* x, double x_off, const void* index, double index_off, const void* src,
                  double src_off, void* y, double y_off, int32_t dtypes, const double* desc, bool slices) {
  const Geometry g(desc);
  const DType dtype = main_dtype(dtypes);
  const Indices indices(index, index_off, second_dtype(dtypes), g.size);
  return with_element_bits(dtype, [&](auto zero) {
    typedef decltype(zero) T;
    T value = 0;
    store_number(desc[5], dtype, false, &value);
    return write_all(g, indices, at<T>(x, x_off), at<T>(src, src_off), value, at<T>(y, y_off), slices);
  });
}

// --- Positions in a flattened run of dims, and rows with a single 1 ---

__global__ void flatten(Indices index, const int64_t* lead, int64_t* y, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < n; e += step) {
    const int64_t given = index.raw(e), i = given < 0 ? given + index.size : given;
    const bool inside = i >= 0 && i < index.size;
    if (!inside) raise(index.alarm, kIndexOutOfRange, double(given), double(index.size));
    y[e] = (lead ? lead[e] : 0) * index.size + (inside ? i : 0);
  }
}

__global__ void one_hot(Indices index, int64_t* y, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < n; e += step) {
    const int64_t i = index[e];
    if (i >= 0) y[e * index.size + i] = 1;
  }
}

}  // namespace
}  // namespace needle

using namespace needle;

NEEDLE_EXPORT int32_t needle_gather(const void* x, double x_off, const void* index, double index_off, void* y,
                                    double y_off, int32_t dtypes, double, const double* desc) noexcept {
  const Geometry g(desc);
  const int64_t n = g.outer * g.count * g.inner;
  if (n == 0) return kOk;
  const Indices indices(index, index_off, second_dtype(dtypes), g.size);
  return with_element_bits(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    NEEDLE_LAUNCH((gather<T>), grid_for(n), kThreads, 0, stream(), at<T>(x, x_off), indices, at<T>(y, y_off),
                  g, Split(g.outer, g.count, g.inner), n);
    return launched("starting a kernel");
  });
}

NEEDLE_EXPORT int32_t needle_scatter(const void* x, double x_off, const void* index, double index_off,
                                     const void* src, double src_off, void* y, double y_off, int32_t dtypes,
                                     double, const double* desc) noexcept {
  return write_any(x, x_off, index, index_off, src, src_off, y, y_off, dtypes, desc, false);
}

NEEDLE_EXPORT int32_t needle_index_select(const void* x, double x_off, const void* index, double index_off,
                                          void* y, double y_off, int32_t dtypes, double,
                                          const double* desc) noexcept {
  Geometry g(desc);
  const Indices indices(index, index_off, second_dtype(dtypes), g.size);
  return with_element_bits(main_dtype(dtypes), [&](auto zero) {
    typedef decltype(zero) T;
    constexpr int64_t kLanes = int64_t(sizeof(Block) / sizeof(T));
    const T* const from = at<T>(x, x_off);
    T* const to = at<T>(y, y_off);
    if (g.inner % kLanes != 0 || !is_aligned(from, sizeof(Block)) || !is_aligned(to, sizeof(Block))) {
      return launch_index_select(g, indices, from, to);
    }
    g.inner /= kLanes;
    return launch_index_select(g, indices, reinterpret_cast<const Block*>(from),
                               reinterpret_cast<Block*>(to));
  });
}

NEEDLE_EXPORT int32_t needle_embedding(const void* weight, double weight_off, const void* index,
                                       double index_off, void* y, double y_off, int32_t dtypes, double n,
                                       const double* desc) noexcept {
  return needle_index_select(weight, weight_off, index, index_off, y, y_off, dtypes, n, desc);
}

NEEDLE_EXPORT int32_t needle_index_copy(const void* x, double x_off, const void* index, double index_off,
                                        const void* src, double src_off, void* y, double y_off,
                                        int32_t dtypes, double, const double* desc) noexcept {
  return write_any(x, x_off, index, index_off, src, src_off, y, y_off, dtypes, desc, true);
}

NEEDLE_EXPORT int32_t needle_index(const void* index, double index_off, const void* lead, double lead_off,
                                   void* y, double y_off, int32_t dtypes, double n,
                                   const double* desc) noexcept {
  if (n == 0) return kOk;
  const Indices indices(index, index_off, main_dtype(dtypes), int64_t(desc[0]));
  NEEDLE_LAUNCH((flatten), grid_for(int64_t(n)), kThreads, 0, stream(), indices, at<int64_t>(lead, lead_off),
                at<int64_t>(y, y_off), int64_t(n));
  return launched("starting a kernel");
}

NEEDLE_EXPORT int32_t needle_one_hot(const void* index, double index_off, void* y, double y_off,
                                     int32_t dtypes, double, const double* desc) noexcept {
  const int64_t n = int64_t(desc[0]), classes = int64_t(desc[1]);
  const Indices indices(index, index_off, main_dtype(dtypes), classes);
  int64_t* const to = at<int64_t>(y, y_off);
  const int32_t status = copy_or_clear(nullptr, to, size_t(n * classes) * sizeof(int64_t));
  if (status != kOk || n == 0) return status;
  NEEDLE_LAUNCH((one_hot), grid_for(n), kThreads, 0, stream(), indices, to, n);
  return launched("starting a kernel");
}
