// cuDNN for the emulated GPU, in the few functions of its graph interface that Needle calls: graphs of one
// convolution, computed by plain loops over strided tensors in host memory. Its heuristics name three
// engines, of which the first is not deterministic and the second rounds float32; using a wrong one fails,
// and so does what the real library would refuse. tests/cuda_libraries_test.ts compiles it, to see that
// Needle asks cuDNN for the right convolutions.
#include <stddef.h>
#include <string.h>
#include <map>
#include <memory>
#include <vector>

#include "fake_values.h"

namespace {

// Numbers as in cudnn_graph.h.
enum { kConvolution = 1, kEngine, kConfig, kHeuristics, kPlan, kGraph = 15, kPack, kTensor };
enum { kTypeInt64 = 3, kTypeDescriptor = 15 };
enum { kNondeterministic = 4, kTensorCore = 0, kModeA = 3 };
constexpr int64_t kWorkspace = 100;

struct Node;
typedef std::shared_ptr<Node> Ref;

struct Value {
  int type;
  std::vector<char> bytes;
  std::vector<Ref> nodes;
};

struct Node {
  int type;
  bool final = false;
  std::map<int, Value> values;
  int engine = -1;

  bool has(int name, size_t count) const {
    const auto found = values.find(name);
    return found != values.end() && found->second.bytes.size() == count * size_of(found->second.type);
  }
  template <typename T>
  T number(int name, size_t i = 0) const {
    T value;
    memcpy(&value, values.at(name).bytes.data() + i * sizeof(T), sizeof value);
    return value;
  }
  const Ref& node(int name) const { return values.at(name).nodes.at(0); }
  static size_t size_of(int type) {
    return type == 1 || type == 4 || type == 7 || type == 8 || type == 11 ? 4 : 8;
  }
};

int calls = 0;

struct Operation {
  int type, alpha, beta, convolution, x, w, y;
};
constexpr Operation kOperations[] = {{10, 700, 701, 702, 704, 703, 705},
                                     {11, 712, 713, 714, 716, 715, 717},
                                     {12, 706, 707, 708, 710, 709, 711}};

const Operation* operation_of(int type) {
  for (const Operation& o : kOperations) {
    if (o.type == type) return &o;
  }
  return nullptr;
}

bool whole(const Node& n) {
  switch (n.type) {
    case kTensor:
      return n.has(900, 1) && n.has(901, 1) && n.has(902, 4) && n.has(903, 4) && n.has(906, 1);
    case kConvolution:
      return n.has(100, 1) && n.has(101, 1) && n.has(106, 1) && n.number<int64_t>(106) == 2 &&
             n.has(102, 2) && n.has(103, 2) && n.has(104, 2) && n.has(105, 2) && n.number<int>(100) == 0 &&
             n.number<int>(101) == 1;
    case kGraph:
      return n.has(800, 1) && n.number<void*>(800) == &calls && n.has(801, 1);
    case kHeuristics:
      return n.has(200, 1) && n.has(201, 1);
    case kPlan:
      return n.has(400, 1) && n.has(401, 1);
    case kPack:
      return n.has(1000, 3) && n.has(1001, 3) && n.has(1003, 1) && n.number<void*>(1003) != nullptr;
    default:
      if (const Operation* const o = operation_of(n.type)) {
        return n.has(o->alpha, 1) && n.number<float>(o->alpha) == 1 && n.has(o->beta, 1) &&
               n.number<float>(o->beta) == 0 && n.has(o->convolution, 1) && n.has(o->x, 1) &&
               n.has(o->w, 1) && n.has(o->y, 1);
      }
      return false;
  }
}

// A four-dimensional tensor in memory.
struct Tensor {
  ValueType type;
  int64_t size[4], stride[4];
  char* data;

  Tensor(const Node& n, const Node& pack) : data(nullptr) {
    const int code = n.number<int>(901);
    type = code == 0 ? kFloat32 : code == 2 ? kFloat16 : kBfloat16;
    for (size_t d = 0; d < 4; d++) {
      size[d] = n.number<int64_t>(902, d);
      stride[d] = n.number<int64_t>(903, d);
    }
    for (size_t i = 0; i < 3; i++) {
      if (pack.number<int64_t>(1000, i) == n.number<int64_t>(906)) data = pack.number<char*>(1001, i);
    }
  }
  bool valid(const Node& n) const { return data && uintptr_t(data) % uint64_t(n.number<int64_t>(900)) == 0; }
  int64_t at(int64_t a, int64_t b, int64_t c, int64_t d) const {
    return a * stride[0] + b * stride[1] + c * stride[2] + d * stride[3];
  }
  int64_t count() const { return size[0] * size[1] * size[2] * size[3]; }
};

int run(const Node& plan, const Node& pack) {
  const Node& config = *plan.node(401);
  const Node& op = *config.node(-1)->node(801);
  const Operation& o = *operation_of(op.type);
  const Node &xn = *op.node(o.x), &wn = *op.node(o.w), &yn = *op.node(o.y), &conv = *op.node(o.convolution);
  const Tensor x(xn, pack), w(wn, pack), y(yn, pack);
  if (!x.valid(xn) || !w.valid(wn) || !y.valid(yn) || x.type != w.type || x.type != y.type) return 2000;
  if (config.engine != (x.type == kFloat32 ? 2 : 1)) return 3000;
  memset(pack.number<void*>(1003), 0xff, size_t(kWorkspace));
  const int64_t dil_h = conv.number<int64_t>(102, 0), dil_w = conv.number<int64_t>(102, 1);
  const int64_t stride_h = conv.number<int64_t>(103, 0), stride_w = conv.number<int64_t>(103, 1);
  const int64_t pad_h = conv.number<int64_t>(105, 0), pad_w = conv.number<int64_t>(105, 1);
  const int64_t groups = x.size[1] / w.size[1], per_group = y.size[1] / groups;
  const Tensor& out = o.type == 10 ? y : o.type == 11 ? w : x;
  std::vector<double> sums(size_t(out.count()));  // the tensors fill their memory
  for (int64_t n = 0; n < y.size[0]; n++) {
    for (int64_t k = 0; k < y.size[1]; k++) {
      for (int64_t p = 0; p < y.size[2]; p++) {
        for (int64_t q = 0; q < y.size[3]; q++) {
          for (int64_t c = 0; c < w.size[1]; c++) {
            for (int64_t r = 0; r < w.size[2]; r++) {
              for (int64_t s = 0; s < w.size[3]; s++) {
                const int64_t h = p * stride_h + r * dil_h - pad_h, v = q * stride_w + s * dil_w - pad_w;
                if (h < 0 || h >= x.size[2] || v < 0 || v >= x.size[3]) continue;
                const int64_t xi = x.at(n, k / per_group * w.size[1] + c, h, v), wi = w.at(k, c, r, s),
                              yi = y.at(n, k, p, q);
                if (o.type == 10) sums[size_t(yi)] += load(x.data, x.type, xi) * load(w.data, w.type, wi);
                if (o.type == 11) sums[size_t(wi)] += load(x.data, x.type, xi) * load(y.data, y.type, yi);
                if (o.type == 12) sums[size_t(xi)] += load(y.data, y.type, yi) * load(w.data, w.type, wi);
              }
            }
          }
        }
      }
    }
  }
  for (int64_t i = 0; i < out.count(); i++) store(out.data, out.type, i, sums[size_t(i)]);
  calls++;
  return 0;
}

Node& at(void* descriptor) { return **static_cast<Ref*>(descriptor); }

}  // namespace

extern "C" {

int fake_calls() { return calls; }

size_t cudnnGetVersion() { return 90100; }
const char* cudnnGetErrorString(int) { return "the fake does not do that"; }
int cudnnCreate(void** handle) {
  *handle = &calls;
  return 0;
}
int cudnnSetStream(void* handle, void*) { return handle == &calls ? 0 : 2000; }

int cudnnBackendCreateDescriptor(int type, void** descriptor) {
  *descriptor = new Ref(new Node{type, type == kConfig || type == kEngine, {}, -1});
  return 0;
}
int cudnnBackendDestroyDescriptor(void* descriptor) {
  delete static_cast<Ref*>(descriptor);
  return 0;
}

int cudnnBackendSetAttribute(void* descriptor, int name, int type, int64_t count, const void* values) {
  Node& n = at(descriptor);
  if (n.final) return 2000;
  Value& value = n.values[name];
  value.type = type;
  const char* const bytes = static_cast<const char*>(values);
  value.bytes.assign(bytes, bytes + size_t(count) * Node::size_of(type));
  value.nodes.clear();
  for (int64_t i = 0; i < count && type == kTypeDescriptor; i++) {
    const Ref& node = *static_cast<Ref* const*>(values)[i];
    if (!node->final) return 2004;
    value.nodes.push_back(node);
  }
  return 0;
}

int cudnnBackendFinalize(void* descriptor) {
  Node& n = at(descriptor);
  if (n.final || !whole(n)) return 2000;
  n.final = true;
  return 0;
}

int cudnnBackendGetAttribute(void* const descriptor, int name, int type, int64_t most, int64_t* count,
                             void* values) {
  Node& n = at(descriptor);
  if (!n.final) return 2004;
  if (n.type == kHeuristics && name == 202) {
    // More are promised than given, as happens.
    const int first = n.number<int>(200) == kModeA ? 0 : 2, given = first == 0 ? 2 : 1;
    *count = most == 0 ? given + 1 : given;
    for (int64_t i = 0; i < most && i < given; i++) {
      Node& config = at(static_cast<void**>(values)[i]);
      config.engine = first + int(i);
      config.values[-1] = n.values.at(201);
    }
    return 0;
  }
  if (n.type == kConfig && name == 300 && most == 1) {
    at(*static_cast<void**>(values)).engine = n.engine;
    *count = 1;
    return 0;
  }
  if (n.type == kEngine && name == 1303 && type == 11) {
    const int notes[] = {kNondeterministic, kTensorCore};
    *count = n.engine < 2 ? 1 : 0;
    if (most > 0 && n.engine < 2) memcpy(values, notes + n.engine, sizeof(int));
    return 0;
  }
  if (n.type == kPlan && name == 402 && type == kTypeInt64 && most == 1) {
    memcpy(values, &kWorkspace, sizeof kWorkspace);
    *count = 1;
    return 0;
  }
  return 2000;
}

int cudnnBackendExecute(void* handle, void* plan, void* pack) {
  return handle == &calls && at(plan).final && at(pack).final ? run(at(plan), at(pack)) : 2004;
}

}  // extern "C"
