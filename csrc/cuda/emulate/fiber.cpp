// Switching between stacks: see fiber.h.
#include "fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace needle_emulate {
namespace {

void give_stack(Fiber& fiber) {
  if (!fiber.stack) {
    void* p = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) abort();  // no error can be given to anybody without a stack
    mprotect(p, 4096, PROT_NONE);
    fiber.stack = p;
  }
#ifdef __SANITIZE_ADDRESS__
  // An abandoned thread may have left its frames marked.
  ASAN_UNPOISON_MEMORY_REGION(static_cast<char*>(fiber.stack) + 4096, kStackBytes - 4096);
#endif
}

}  // namespace

#ifdef __x86_64__

extern "C" void needle_emulate_switch(void** from, void* to);
// The registers that a call preserves go onto the old stack and come from the new one.
__asm__(
    ".text\n"
    ".globl needle_emulate_switch\n"
    ".hidden needle_emulate_switch\n"
    ".type needle_emulate_switch, @function\n"
    "needle_emulate_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size needle_emulate_switch, .-needle_emulate_switch\n");

void prepare(Fiber& fiber, void (*entry)()) {
  give_stack(fiber);
  uintptr_t top = reinterpret_cast<uintptr_t>(fiber.stack) + kStackBytes;
  void** sp = reinterpret_cast<void**>(top & ~uintptr_t(15));
  *--sp = nullptr;  // where entry would return to; it keeps the stack aligned as after a call
  *--sp = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--sp = nullptr;
  fiber.context = sp;
}

void resume(Fiber& from, Fiber& to) { needle_emulate_switch(&from.context, to.context); }

#else

void prepare(Fiber& fiber, void (*entry)()) {
  give_stack(fiber);
  if (!fiber.context) fiber.context = malloc(sizeof(ucontext_t));
  ucontext_t* context = static_cast<ucontext_t*>(fiber.context);
  getcontext(context);
  context->uc_stack.ss_sp = static_cast<char*>(fiber.stack) + 4096;
  context->uc_stack.ss_size = kStackBytes - 4096;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
}

void resume(Fiber& from, Fiber& to) {
  if (!from.context) from.context = malloc(sizeof(ucontext_t));
  swapcontext(static_cast<ucontext_t*>(from.context), static_cast<ucontext_t*>(to.context));
}

#endif

}  // namespace needle_emulate
