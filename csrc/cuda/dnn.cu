// Convolutions through cuDNN's graph interface: an operation graph of one convolution on channels-last
// tensors, the first engine that its heuristics name among those whose results are always the same bits and,
// in float32, that do not round operands (TF32). Plans are kept by shape. cuDNN wants filters channels-last
// too: ours are copied.
#include "dnn.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <map>
#include <vector>

#include "dynlib.h"
#include "halves.h"

namespace needle {
namespace {

// --- Of cudnn_graph.h ---

enum DescriptorType : int {
  kConvolution = 1,
  kEngine = 2,
  kEngineConfig = 3,
  kHeuristics = 4,
  kPlan = 5,
  kOperationForward = 10,
  kOperationWeight = 11,
  kOperationInput = 12,
  kGraph = 15,
  kPack = 16,
  kTensor = 17,
};

enum AttributeType : int {
  kTypeHandle = 0,
  kTypeDataType = 1,
  kTypeInt64 = 3,
  kTypeFloat = 4,
  kTypePointer = 6,
  kTypeMode = 7,
  kTypeHeuristics = 8,
  kTypeNote = 11,
  kTypeDescriptor = 15,
};

enum Attribute : int {
  kSumType = 100,
  kConvolutionMode = 101,
  kDilations = 102,
  kStrides = 103,
  kPaddingAfter = 104,
  kPaddingBefore = 105,
  kSpatialDims = 106,
  kHeuristicsMode = 200,
  kHeuristicsGraph = 201,
  kHeuristicsResults = 202,
  kConfigEngine = 300,
  kPlanHandle = 400,
  kPlanConfig = 401,
  kPlanWorkspace = 402,
  kGraphHandle = 800,
  kGraphOperations = 801,
  kTensorAlignment = 900,
  kTensorType = 901,
  kTensorDims = 902,
  kTensorStrides = 903,
  kTensorId = 906,
  kPackIds = 1000,
  kPackPointers = 1001,
  kPackWorkspace = 1003,
  kEngineNotes = 1303,
};

// Of an operation: its attributes alpha, beta, convolution, and its three tensors.
struct OperationAttributes {
  int type, alpha, beta, convolution, x, w, y;
};
constexpr OperationAttributes kOperations[] = {
    {kOperationForward, 700, 701, 702, 704, 703, 705},
    {kOperationInput, 706, 707, 708, 710, 709, 711},
    {kOperationWeight, 712, 713, 714, 716, 715, 717},
};

constexpr int kCrossCorrelation = 1, kModeA = 3, kModeFallback = 2, kNoDeviceMemory = 4004;
constexpr int kNoteTensorCore = 0, kNoteRoundsInputs = 1, kNoteNondeterministic = 4;

int cudnn_type(DType dtype) { return dtype == kFloat32 ? 0 : dtype == kFloat16 ? 2 : 9; }

// --- Descriptors ---

// A backend descriptor that goes when its owner does. `ok` turns false at the first call that fails.
class Descriptor {
 public:
  Descriptor(const Cudnn* dnn, int type) : dnn_(dnn) {
    ok_ = dnn->cudnnBackendCreateDescriptor(type, &descriptor_) == 0;
  }
  Descriptor(Descriptor&& other) noexcept : dnn_(other.dnn_), descriptor_(other.descriptor_), ok_(other.ok_) {
    other.descriptor_ = nullptr;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (descriptor_) dnn_->cudnnBackendDestroyDescriptor(descriptor_);
  }

  Descriptor& set(int name, int type, int64_t count, const void* values) {
    ok_ = ok_ && dnn_->cudnnBackendSetAttribute(descriptor_, name, type, count, values) == 0;
    return *this;
  }
  Descriptor& set(int name, const Descriptor& value) {
    ok_ = ok_ && value.ok_;
    return set(name, kTypeDescriptor, 1, &value.descriptor_);
  }
  Descriptor& set(int name, std::initializer_list<int64_t> values) {
    return set(name, kTypeInt64, int64_t(values.size()), values.begin());
  }
  Descriptor& set(int name, int type, int value) { return set(name, type, 1, &value); }
  bool finalize() { return ok_ = ok_ && dnn_->cudnnBackendFinalize(descriptor_) == 0; }

  // How many values were given.
  int64_t get(int name, int type, int64_t most, void* values) const {
    int64_t count = 0;
    if (!ok_ || dnn_->cudnnBackendGetAttribute(descriptor_, name, type, most, &count, values) != 0) return 0;
    return count;
  }
  void* get() const { return descriptor_; }

 private:
  const Cudnn* dnn_;
  void* descriptor_ = nullptr;
  bool ok_ = false;
};

// --- Plans ---

constexpr int kFields = 16;  // of the descriptor of conv2d

// Device, op, dtype, descriptor.
typedef std::array<int64_t, 3 + kFields> Key;

struct Plan {
  std::vector<Descriptor> descriptors;  // the plan and its engine; none where cuDNN has no engine for this
  int64_t workspace = 0;
};

struct ConvolutionSizes {
  int64_t N, C, H, W, K, R, S, P, Q, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups;
};

ConvolutionSizes sizes_of(const Key& key) {
  const int64_t* const d = key.data() + 3;
  return {d[0], d[1], d[2],  d[3],  d[4],  d[5],  d[6],  d[7],
          d[8], d[9], d[10], d[11], d[12], d[13], d[14], d[15]};
}

enum TensorId : int64_t { kX = 1, kW = 2, kY = 3 };

// A tensor of four dims with the second one innermost in memory.
Descriptor tensor(const Cudnn* dnn, int64_t id, DType dtype, int64_t n, int64_t c, int64_t h, int64_t w) {
  Descriptor t(dnn, kTensor);
  t.set(kTensorType, kTypeDataType, cudnn_type(dtype)).set(kTensorDims, {n, c, h, w});
  t.set(kTensorStrides, {c * h * w, 1, c * w, c}).set(kTensorId, {id}).set(kTensorAlignment, {16});
  t.finalize();
  return t;
}

// Whether an engine may be used: its results must not depend on timing, nor on rounded operands.
bool allows(const Cudnn* dnn, const Descriptor& config, DType dtype) {
  const Descriptor engine(dnn, kEngine);
  void* place = engine.get();
  int notes[64];
  if (config.get(kConfigEngine, kTypeDescriptor, 1, &place) != 1) return false;
  const int64_t count = engine.get(kEngineNotes, kTypeNote, 64, notes);
  return std::none_of(notes, notes + std::min<int64_t>(count, 64), [&](int note) {
    return note == kNoteNondeterministic || note == kNoteRoundsInputs ||
           (note == kNoteTensorCore && dtype == kFloat32);
  });
}

// The plan of the first allowed engine that the heuristics of `mode` name.
bool plan_by(const Cudnn* dnn, void* handle, const Descriptor& graph, int mode, DType dtype, Plan& plan) {
  constexpr int64_t kMostWorkspace = int64_t(512) << 20;
  Descriptor heuristics(dnn, kHeuristics);
  heuristics.set(kHeuristicsGraph, graph).set(kHeuristicsMode, kTypeHeuristics, mode);
  if (!heuristics.finalize()) return false;
  const int64_t count = heuristics.get(kHeuristicsResults, kTypeDescriptor, 0, nullptr);
  std::vector<Descriptor> configs;
  std::vector<void*> places;
  for (int64_t i = 0; i < count; i++) {
    configs.emplace_back(dnn, kEngineConfig);
    places.push_back(configs.back().get());
  }
  const int64_t given = heuristics.get(kHeuristicsResults, kTypeDescriptor, count, places.data());
  for (int64_t i = 0; i < std::min(given, count); i++) {
    if (!allows(dnn, configs[size_t(i)], dtype)) continue;
    Descriptor candidate(dnn, kPlan);
    candidate.set(kPlanHandle, kTypeHandle, 1, &handle).set(kPlanConfig, configs[size_t(i)]);
    int64_t workspace = 0;
    if (!candidate.finalize() || candidate.get(kPlanWorkspace, kTypeInt64, 1, &workspace) != 1) continue;
    if (workspace > kMostWorkspace) continue;
    plan.descriptors.push_back(std::move(candidate));
    plan.descriptors.push_back(std::move(configs[size_t(i)]));
    plan.workspace = workspace;
    return true;
  }
  return false;
}

void make_plan(const Cudnn* dnn, void* handle, const Key& key, Plan& plan) {
  const ConvolutionSizes s = sizes_of(key);
  const DType dtype = DType(key[2]);
  const Descriptor x = tensor(dnn, kX, dtype, s.N, s.C, s.H, s.W);
  const Descriptor w = tensor(dnn, kW, dtype, s.K, s.C / s.groups, s.R, s.S);
  const Descriptor y = tensor(dnn, kY, dtype, s.N, s.K, s.P, s.Q);
  Descriptor convolution(dnn, kConvolution);
  convolution.set(kSumType, kTypeDataType, cudnn_type(kFloat32));
  convolution.set(kConvolutionMode, kTypeMode, kCrossCorrelation).set(kSpatialDims, {2});
  convolution.set(kPaddingBefore, {s.pad_h, s.pad_w}).set(kPaddingAfter, {s.pad_h, s.pad_w});
  convolution.set(kStrides, {s.stride_h, s.stride_w}).set(kDilations, {s.dil_h, s.dil_w});
  convolution.finalize();
  const OperationAttributes& as = kOperations[key[1]];
  const float one = 1, zero = 0;
  Descriptor operation(dnn, as.type);
  operation.set(as.alpha, kTypeFloat, 1, &one).set(as.beta, kTypeFloat, 1, &zero);
  operation.set(as.convolution, convolution).set(as.x, x).set(as.w, w).set(as.y, y);
  operation.finalize();
  Descriptor graph(dnn, kGraph);
  graph.set(kGraphHandle, kTypeHandle, 1, &handle).set(kGraphOperations, operation);
  if (!graph.finalize()) return;
  for (const int mode : {kModeA, kModeFallback}) {
    if (plan_by(dnn, handle, graph, mode, dtype, plan)) return;
  }
}

// The handle of the current device, made at first use, or null.
void* handle_of(const Cudnn* dnn) {
  static thread_local void* handles[kMaxDevices];
  void*& handle = handles[current_device()];
  if (handle) return handle;
  int status = dnn->cudnnCreate(&handle);
  if (status == 0) status = dnn->cudnnSetStream(handle, stream());
  if (status != 0) {
    handle = nullptr;
    give_up_cudnn(dnn->cudnnGetErrorString(status));
  }
  return handle;
}

const Plan& plan_of(const Cudnn* dnn, void* handle, const Key& key) {
  // Never destroyed: cuDNN may be gone when the thread ends.
  static thread_local std::map<Key, Plan>& plans = *new std::map<Key, Plan>;
  constexpr size_t kMost = 1024;  // beyond them shapes keep changing, and old ones hardly come back
  const auto found = plans.find(key);
  if (found != plans.end()) return found->second;
  if (plans.size() >= kMost) {
    cudaStreamSynchronize(stream());
    plans.clear();
  }
  Plan& plan = plans[key];
  make_plan(dnn, handle, key, plan);
  return plan;
}

// --- What is done around a plan ---

// Filters (outer, channels, area) to (outer, area, channels), or back.
template <typename Bits>
__global__ void transpose_filters(const Bits* w, Bits* packed, int64_t channels, int64_t area, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const int64_t rest = i / channels, c = i - rest * channels, outer = rest / area,
                  tap = rest - outer * area;
    packed[i] = w[(outer * channels + c) * area + tap];
  }
}

void launch_transpose(int64_t bytes, const char* w, char* packed, int64_t channels, int64_t area, int64_t n) {
  if (bytes == 2) {
    NEEDLE_LAUNCH((transpose_filters<uint16_t>), grid_for(n), kThreads, 0, stream(),
                  reinterpret_cast<const uint16_t*>(w), reinterpret_cast<uint16_t*>(packed), channels, area,
                  n);
  } else {
    NEEDLE_LAUNCH((transpose_filters<uint32_t>), grid_for(n), kThreads, 0, stream(),
                  reinterpret_cast<const uint32_t*>(w), reinterpret_cast<uint32_t*>(packed), channels, area,
                  n);
  }
}

// y (rows, channels) += bias (channels).
template <typename T>
__global__ void add_bias(const T* bias, T* y, int64_t channels, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    round_to(value_of(y[i]) + value_of(bias[i % channels]), &y[i]);
  }
}

template <typename T>
void launch_add_bias(const char* bias, char* y, int64_t channels, int64_t n) {
  NEEDLE_LAUNCH((add_bias<T>), grid_for(n), kThreads, 0, stream(), reinterpret_cast<const T*>(bias),
                reinterpret_cast<T*>(y), channels, n);
}

int32_t execute(const Cudnn* dnn, void* handle, const Plan& plan, const void* x, const void* w,
                const void* y) {
  void* workspace = scratch(kScratchPrimitive, size_t(plan.workspace));
  if (!workspace) return out_of_memory();
  const void* const pointers[] = {x, w, y};
  Descriptor pack(dnn, kPack);
  pack.set(kPackPointers, kTypePointer, 3, pointers).set(kPackIds, {kX, kW, kY});
  pack.set(kPackWorkspace, kTypePointer, 1, &workspace);
  if (!pack.finalize()) return fail(kInternal, "cuDNN refuses the tensors of a convolution");
  stream();  // launches what waits
  const int status = dnn->cudnnBackendExecute(handle, plan.descriptors[0].get(), pack.get());
  if (status == 0) return kOk;
  return fail(status == kNoDeviceMemory ? kOutOfMemory : kInternal, "cuDNN: %s",
              dnn->cudnnGetErrorString(status));
}

}  // namespace

int32_t dnn_convolve(ConvolutionOp op, DType dtype, const char* first, const char* second, const char* bias,
                     char* out, const double* desc) {
  if (dtype != kFloat32 && !is_half(dtype)) return kDeclined;
  const Cudnn* const dnn = cudnn();
  if (!dnn) return kDeclined;
  Key key{current_device(), op, dtype};
  for (int i = 0; i < kFields; i++) key[size_t(3 + i)] = int64_t(desc[i]);
  const ConvolutionSizes s = sizes_of(key);
  const int64_t bytes = dtype_bytes(dtype), filters = s.K * (s.C / s.groups) * s.R * s.S;
  if (s.N * filters * s.H * s.W * s.P * s.Q == 0) return kDeclined;
  if (!is_aligned(first, 16) || !is_aligned(second, 16) || !is_aligned(out, 16)) return kDeclined;
  void* const handle = handle_of(dnn);
  if (!handle) return kDeclined;
  const Plan& plan = plan_of(dnn, handle, key);
  if (plan.descriptors.empty()) return kDeclined;

  const char* const weights = op == kConvolveWeight ? out : second;
  const int64_t channels = s.C / s.groups, area = s.R * s.S;
  const bool same = area == 1 || channels == 1;  // both orders are one
  char* packed = nullptr;
  if (!same) {
    packed = static_cast<char*>(scratch(kScratchWeights, size_t(filters * bytes)));
    if (!packed) return out_of_memory();
    if (op != kConvolveWeight) launch_transpose(bytes, weights, packed, channels, area, filters);
  }
  const void* const w = same ? weights : packed;
  const int32_t status = op == kConvolve        ? execute(dnn, handle, plan, first, w, out)
                         : op == kConvolveInput ? execute(dnn, handle, plan, out, w, first)
                                                : execute(dnn, handle, plan, second, w, first);
  if (status != kOk) return status;
  // Back: the same transposition with channels and area in each other's place.
  if (op == kConvolveWeight && !same) launch_transpose(bytes, packed, out, area, channels, filters);
  if (bias) {
    const int64_t n = s.N * s.P * s.Q * s.K;
    if (dtype == kFloat32) launch_add_bias<float>(bias, out, s.K, n);
    else if (dtype == kFloat16) launch_add_bias<Float16>(bias, out, s.K, n);
    else launch_add_bias<Bfloat16>(bias, out, s.K, n);
  }
  return launched("starting a kernel");
}

}  // namespace needle
