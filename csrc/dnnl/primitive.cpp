// The cache of oneDNN primitives, and how one runs: see primitive.h.
#include "primitive.h"

#include <omp.h>

#include <cstring>
#include <unordered_map>

namespace needle::onednn {
namespace {

// Beyond this many shapes the cache starts afresh; oneDNN keeps its own cache of compiled kernels underneath.
constexpr size_t kMaxPrimitives = 512;

struct Hash {
  size_t operator()(const Key& key) const {
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t v : key.place) h = (h ^ static_cast<uint64_t>(v)) * 0x100000001b3u;
    return h ^ (h >> 32);
  }
};

using Cache = std::unordered_map<Key, Primitive, Hash>;

Cache& cache() {
  thread_local Cache primitives;
  return primitives;
}

dnnl_stream_t stream() {
  struct Owner {
    dnnl_stream_t stream = nullptr;
    Owner() { dnnl_stream_create(&stream, engine(), dnnl_stream_default_flags); }
    ~Owner() { dnnl_stream_destroy(stream); }
  };
  thread_local Owner owner;
  return owner.stream;
}

bool has_isa(dnnl_cpu_isa_t isa) { return (dnnl_get_effective_cpu_isa() & isa) == isa; }

// The room for `bytes` in scratch memory. Threads write to neighbours, and kernels prefetch beyond their end:
// without a gap, cores take lines from each other (a weight gradient took 170 us instead of 120).
size_t room(size_t bytes) { return (bytes + 8191) / 4096 * 4096; }

}  // namespace

bool Key::operator==(const Key& other) const { return std::memcmp(place, other.place, sizeof place) == 0; }

Layout::Layout(dnnl_data_type_t type, int ndim, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
  dnnl_memory_desc_create_with_tag(&desc_, ndim, dims, type, tag);
}

Layout::Layout(dnnl_data_type_t type, int ndim, const dnnl_dims_t dims, const dnnl_dims_t strides) {
  dnnl_memory_desc_create_with_strides(&desc_, ndim, dims, type, strides);
}

Layout::~Layout() {
  if (desc_ != nullptr) dnnl_memory_desc_destroy(desc_);
}

dnnl_engine_t engine() {
  static const dnnl_engine_t cpu = [] {
    dnnl_engine_t e = nullptr;
    dnnl_engine_create(&e, dnnl_cpu, 0);
    return e;
  }();
  return cpu;
}

bool supported(DType dtype) {
  static const bool bfloat16 = has_isa(dnnl_cpu_isa_avx512_core_bf16);
  return dtype == kFloat32 || (dtype == kBfloat16 && bfloat16);
}

bool has_amx() {
  static const bool amx = has_isa(dnnl_cpu_isa_avx512_core_amx);
  return amx;
}

dnnl_primitive_attr_t attributes() {
  static const dnnl_primitive_attr_t shared = [] {
    dnnl_primitive_attr_t a = nullptr;
    if (dnnl_primitive_attr_create(&a) == dnnl_success) {
      dnnl_primitive_attr_set_scratchpad_mode(a, dnnl_scratchpad_mode_user);
    }
    return a;
  }();
  return shared;
}

void join_team() {
  const int threads = thread_count();
  if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
}

Primitive* find(const Key& key, bool* fresh) {
  Cache& primitives = cache();
  if (auto it = primitives.find(key); it != primitives.end()) {
    *fresh = false;
    return &it->second;
  }
  if (primitives.size() >= kMaxPrimitives) primitives.clear();
  *fresh = true;
  return &primitives[key];
}

void forget(const Key& key) { cache().erase(key); }

int32_t check(dnnl_status_t status, const char* what) {
  if (status == dnnl_success) return kOk;
  if (status == dnnl_out_of_memory) return fail(kOutOfMemory, "oneDNN %s: out of memory", what);
  return fail(kInternal, "oneDNN %s failed with status %d", what, static_cast<int>(status));
}

Primitive::~Primitive() {
  for (int i = 0; i < count_; i++) {
    if (ports_[i].reorder != nullptr) dnnl_primitive_destroy(ports_[i].reorder);
    if (ports_[i].own != nullptr) dnnl_memory_destroy(ports_[i].own);
    if (ports_[i].user != nullptr) dnnl_memory_destroy(ports_[i].user);
  }
  if (scratchpad_ != nullptr) dnnl_memory_destroy(scratchpad_);
  if (primitive_ != nullptr) dnnl_primitive_destroy(primitive_);
}

dnnl_status_t Primitive::create(dnnl_primitive_desc_t desc, const Argument* arguments, int count) {
  dnnl_status_t status = dnnl_primitive_create(&primitive_, desc);
  count_ = count;
  for (int i = 0; i < count && status == dnnl_success; i++) {
    const Argument& a = arguments[i];
    Port& port = ports_[i];
    port.output = a.output;
    status = dnnl_memory_create(&port.user, a.user, engine(), DNNL_MEMORY_NONE);
    const_dnnl_memory_desc_t own = dnnl_primitive_desc_query_md(desc, a.query, a.query_index);
    if (status == dnnl_success && !dnnl_memory_desc_equal(own, a.user)) {
      port.bytes = dnnl_memory_desc_get_size(own);
      total_bytes_ += room(port.bytes);
      status = dnnl_memory_create(&port.own, own, engine(), DNNL_MEMORY_NONE);
      dnnl_primitive_desc_t reorder = nullptr;
      if (status == dnnl_success) {
        status = dnnl_reorder_primitive_desc_create(&reorder, a.output ? own : a.user, engine(),
                                                    a.output ? a.user : own, engine(), nullptr);
      }
      if (status == dnnl_success) status = dnnl_primitive_create(&port.reorder, reorder);
      if (reorder != nullptr) dnnl_primitive_desc_destroy(reorder);
    }
    args_[i] = {a.index, port.own != nullptr ? port.own : port.user};
  }
  if (status == dnnl_success) {
    const_dnnl_memory_desc_t pad = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    scratchpad_bytes_ = dnnl_memory_desc_get_size(pad);
    total_bytes_ += scratchpad_bytes_;
    status = dnnl_memory_create(&scratchpad_, pad, engine(), DNNL_MEMORY_NONE);
    args_[count] = {DNNL_ARG_SCRATCHPAD, scratchpad_};
  }
  dnnl_primitive_desc_destroy(desc);
  if (status != dnnl_success && primitive_ != nullptr) {
    dnnl_primitive_destroy(primitive_);
    primitive_ = nullptr;
  }
  return status;
}

int32_t Primitive::run(void* const* data) {
  char* scratch_memory = nullptr;
  if (total_bytes_ > 0) {
    scratch_memory = static_cast<char*>(scratch(kScratchPrimitive, total_bytes_));
    if (scratch_memory == nullptr) return out_of_memory();
  }
  dnnl_status_t status = dnnl_success;
  for (int i = 0; i < count_ && status == dnnl_success; i++) {
    Port& port = ports_[i];
    status = dnnl_memory_set_data_handle(port.user, data[i]);
    if (port.own == nullptr) continue;
    if (status == dnnl_success) status = dnnl_memory_set_data_handle(port.own, scratch_memory);
    scratch_memory += room(port.bytes);
    if (port.output || status != dnnl_success) continue;
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, port.user}, {DNNL_ARG_TO, port.own}};
    status = dnnl_primitive_execute(port.reorder, stream(), 2, args);
  }
  if (status == dnnl_success && scratchpad_bytes_ > 0) {
    status = dnnl_memory_set_data_handle(scratchpad_, scratch_memory);
  }
  if (status == dnnl_success) status = dnnl_primitive_execute(primitive_, stream(), count_ + 1, args_);
  for (int i = 0; i < count_ && status == dnnl_success; i++) {
    const Port& port = ports_[i];
    if (!port.output || port.own == nullptr) continue;
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, port.own}, {DNNL_ARG_TO, port.user}};
    status = dnnl_primitive_execute(port.reorder, stream(), 2, args);
  }
  return check(status, "primitive");
}

}  // namespace needle::onednn
