// oneDNN primitives behind a cache by shape. A primitive is made once for a key (op, shapes, flags) together
// with its memory objects, its scratch memory and the reorders between the caller's layouts and its own;
// later calls only set data pointers. The cache belongs to the calling thread, since the memory objects hold
// the pointers of a call.
#pragma once

#include <oneapi/dnnl/dnnl.h>

#include <cstddef>
#include <cstdint>

#include "../common.h"

namespace needle::onednn {

// What makes one primitive differ from another. Unused places are zero.
struct Key {
  static constexpr int kPlaces = 24;
  int64_t place[kPlaces] = {};
  bool operator==(const Key& other) const;
};

// An owned memory descriptor.
class Layout {
 public:
  Layout() = default;
  Layout(dnnl_data_type_t type, int ndim, const dnnl_dims_t dims, dnnl_format_tag_t tag);
  Layout(dnnl_data_type_t type, int ndim, const dnnl_dims_t dims, const dnnl_dims_t strides);  // in elements
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  ~Layout();
  const_dnnl_memory_desc_t get() const { return desc_; }

 private:
  dnnl_memory_desc_t desc_ = nullptr;
};

// One tensor argument of a primitive: which it is, and how the caller's data lie.
struct Argument {
  int index;           // DNNL_ARG_SRC, ...
  dnnl_query_t query;  // asks the primitive for its own layout
  int query_index;
  const_dnnl_memory_desc_t user;
  bool output;
};

// A primitive that is ready to run on new data.
class Primitive {
 public:
  static constexpr int kMaxArguments = 4;

  Primitive() = default;
  Primitive(const Primitive&) = delete;
  Primitive& operator=(const Primitive&) = delete;
  ~Primitive();

  // Takes over `desc`; `arguments` in the order in which run() gets their data.
  dnnl_status_t create(dnnl_primitive_desc_t desc, const Argument* arguments, int count);
  bool ready() const { return primitive_ != nullptr; }
  // Runs on `data`, one pointer per argument; reports failures through fail().
  int32_t run(void* const* data);

 private:
  struct Port {
    dnnl_memory_t user = nullptr;
    dnnl_memory_t own = nullptr;  // null where the primitive works in the caller's layout
    dnnl_primitive_t reorder = nullptr;
    size_t bytes = 0;  // of `own`
    bool output = false;
  };
  dnnl_primitive_t primitive_ = nullptr;
  Port ports_[kMaxArguments];
  int count_ = 0;
  dnnl_memory_t scratchpad_ = nullptr;
  size_t scratchpad_bytes_ = 0;
  size_t total_bytes_ = 0;
  dnnl_exec_arg_t args_[kMaxArguments + 1];
};

dnnl_engine_t engine();

// Whether the kernels here take `dtype`: float32, and bfloat16 where the processor multiplies it (AVX512-BF16
// or AMX; elsewhere float32 is faster).
bool supported(DType dtype);

// Whether this processor has the tile multiplier of AMX for bfloat16.
bool has_amx();

inline dnnl_data_type_t type_of(DType dtype) { return dtype == kBfloat16 ? dnnl_bf16 : dnnl_f32; }

// Attributes shared by all primitives: scratch memory comes from us.
dnnl_primitive_attr_t attributes();

// Makes oneDNN use as many threads as our own kernels. Call it before every use of oneDNN.
void join_team();

// The cached primitive of a key, or a new empty one with *fresh = true, which the caller creates or forgets.
Primitive* find(const Key& key, bool* fresh);
void forget(const Key& key);

// Turns a oneDNN status into ours, with the text for needle_last_error.
int32_t check(dnnl_status_t status, const char* what);

}  // namespace needle::onednn
