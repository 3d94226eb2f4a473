// Stacks that take turns on one OS thread: what a kernel's threads run on. Hand-written for x86-64 (a switch
// costs a few nanoseconds), ucontext elsewhere.
#pragma once
#include <stddef.h>

namespace needle_emulate {

constexpr size_t kStackBytes = size_t(256) << 10;

struct Fiber {
  void* stack = nullptr;  // lowest address
  void* context = nullptr;
};

// Makes `fiber` start in `entry` on its next resume. Its stack is kept from one start to the next.
void prepare(Fiber& fiber, void (*entry)());

// Leaves the caller, whose place is kept in `from`, and goes on where `to` stopped.
void resume(Fiber& from, Fiber& to);

}  // namespace needle_emulate
