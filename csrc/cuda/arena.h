// Several arrays in one block of scratch memory.
#pragma once
#include "device.h"

namespace needle {
namespace {

// Hands out pieces of a block; without a block it only counts.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
  template <typename T>
  T* take(int64_t n) {
    T* const piece = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (size_t(n) * sizeof(T) + 15) & ~size_t(15);
    return piece;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

// Lays out `memory` (a function of an Arena) in scratch memory; false when memory is out.
template <typename F>
bool lay_out(ScratchSlot slot, const F& memory) {
  Arena counting(nullptr);
  memory(counting);
  void* const base = scratch(slot, counting.used());
  if (!base) return false;
  Arena real(base);
  memory(real);
  return true;
}

}  // namespace
}  // namespace needle
