// Runs the threads of a launch, block by block, as fibers of the calling thread: each runs until it reaches a
// barrier or its end. When all have stopped, barriers whose threads are complete open; where none is, or
// where threads wait at different lines, the launch faults and says who waits where.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "api.h"
#include "fiber.h"
#include "state.h"

namespace needle_emulate {

Position position;

namespace {

constexpr unsigned kMostThreads = 1024, kWarp = 32;
constexpr size_t kSharedLimit = 48 << 10;

enum State : int { kFresh, kReady, kWaiting, kDone };

struct Thread {
  State state;
  int fiber;  // -1: none
  Barrier barrier;
  unsigned mask;
  const char* file;
  int line;
  // What an exchange gives; shown to the others from when its barrier opens until the thread's next one does.
  uint64_t given, shown;
};

struct SharedBlock {
  const void* key;
  void* data;
  size_t bytes;
  bool filled;
};

std::mutex one_launch;
Body body;
const void* body_arguments;
const char* kernel_name;
dim3 block_size, grid_size;
thread_local unsigned launches = 0;  // by this host thread
unsigned threads_per_block;
Thread threads[kMostThreads];
std::vector<unsigned> order;
size_t cursor;  // in order
int running;    // the thread that runs
Fiber scheduler;
std::vector<Fiber> fibers;
std::vector<int> idle_fibers;
std::vector<SharedBlock> shared_blocks;
size_t dynamic_bytes;
size_t shared_limit;
bool faulted;
std::vector<std::pair<std::string, size_t>> allowed;
const char dynamic_key = 0;

uint64_t random_state;
unsigned random_below(unsigned n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return unsigned((random_state >> 11) % n);
}

uint3 place(unsigned thread) {
  return {thread % block_size.x, thread / block_size.x % block_size.y, thread / block_size.x / block_size.y};
}

// The fault of the launch, after kernel and block; only the first counts.
void report(const char* text) {
  if (faulted) return;
  faulted = true;
  char whole[700];
  snprintf(whole, sizeof whole, "kernel %s, block (%u, %u, %u): %s", kernel_name, position.block.x,
           position.block.y, position.block.z, text);
  set_sticky(cudaErrorLaunchFailure, whole);
}

void run(unsigned thread) {
  running = int(thread);
  position.thread = place(thread);
}

// What every fiber does: runs one thread after the other; where a thread that already has a fiber is next,
// the scheduler goes on.
void fiber_main() {
  for (;;) {
    const int fiber = threads[running].fiber;
    body(body_arguments);
    threads[running].state = kDone;
    threads[running].fiber = -1;
    while (cursor < order.size() && threads[order[cursor]].state > kReady) cursor++;
    if (cursor < order.size() && threads[order[cursor]].state == kFresh) {
      const unsigned next = order[cursor++];
      threads[next].fiber = fiber;
      threads[next].state = kReady;
      run(next);
    } else {
      idle_fibers.push_back(fiber);
      resume(fibers[size_t(fiber)], scheduler);
    }
  }
}

int idle_fiber() {
  if (idle_fibers.empty()) {
    fibers.emplace_back();
    prepare(fibers.back(), fiber_main);
    return int(fibers.size()) - 1;
  }
  const int fiber = idle_fibers.back();
  idle_fibers.pop_back();
  return fiber;
}

void stop_here() {
  const int thread = running;
  resume(fibers[size_t(threads[thread].fiber)], scheduler);
}

const char* base_name(const char* file) {
  const char* name = file;
  for (const char* p = file; *p; p++) {
    if (*p == '/') name = p + 1;
  }
  return name;
}

void describe(char* out, size_t capacity, unsigned thread) {
  const Thread& t = threads[thread];
  if (t.state == kDone) {
    snprintf(out, capacity, "thread %u has left the kernel", thread);
  } else {
    snprintf(out, capacity, "thread %u waits at %s:%d%s", thread, base_name(t.file), t.line,
             t.barrier == kWarpBarrier ? " for its warp" : "");
  }
}

void report_divergence(unsigned a, unsigned b) {
  char first[200], second[200], text[440];
  describe(first, sizeof first, a);
  describe(second, sizeof second, b);
  snprintf(text, sizeof text, "divergent barrier: %s, but %s", first, second);
  report(text);
}

bool together(const Thread& a, const Thread& b) {
  return b.state == kWaiting && a.barrier == b.barrier && a.line == b.line && a.mask == b.mask &&
         (a.file == b.file || strcmp(base_name(a.file), base_name(b.file)) == 0);
}

// Opens the barriers whose threads are all there; whether there was one. Otherwise a and b disagree.
bool open_barriers(unsigned& a, unsigned& b) {
  bool opened = false;
  for (unsigned t = 0; t < threads_per_block; t++) {
    if (threads[t].state != kWaiting) continue;
    const bool warp = threads[t].barrier == kWarpBarrier;
    const unsigned first = warp ? t / kWarp * kWarp : 0;
    const unsigned end = warp && first + kWarp < threads_per_block ? first + kWarp : threads_per_block;
    bool whole = true;
    for (unsigned o = first; o < end && whole; o++) {
      if (warp && !(threads[t].mask >> (o - first) & 1)) continue;
      if (together(threads[t], threads[o])) continue;
      whole = false;
      a = t;
      b = o;
    }
    if (!whole) continue;
    const unsigned mask = threads[t].mask;
    for (unsigned o = first; o < end; o++) {
      if (warp && !(mask >> (o - first) & 1)) continue;
      threads[o].state = kReady;
      threads[o].shown = threads[o].given;
    }
    opened = true;
  }
  return opened;
}

void run_block() {
  for (unsigned t = 0; t < threads_per_block; t++) threads[t] = {kFresh, -1, kBlockBarrier, 0, "", 0, 0, 0};
  for (SharedBlock& b : shared_blocks) b.filled = false;
  for (;;) {
    if (random_order()) {
      for (unsigned i = threads_per_block; i > 1; i--) std::swap(order[i - 1], order[random_below(i)]);
    }
    for (cursor = 0; cursor < order.size();) {
      const unsigned t = order[cursor++];
      if (threads[t].state > kReady) continue;
      if (threads[t].fiber < 0) threads[t].fiber = idle_fiber();
      threads[t].state = kReady;
      run(t);
      resume(scheduler, fibers[size_t(threads[t].fiber)]);
      if (faulted) return;
    }
    bool done = true;
    for (unsigned t = 0; t < threads_per_block; t++) done &= threads[t].state == kDone;
    if (done) return;
    unsigned a = 0, b = 0;
    if (!open_barriers(a, b)) return report_divergence(a, b);
  }
}

// Fibers of an abandoned launch start anew.
void abandon_fibers() {
  idle_fibers.clear();
  for (size_t i = 0; i < fibers.size(); i++) {
    prepare(fibers[i], fiber_main);
    idle_fibers.push_back(int(i));
  }
}

const char* refusal(dim3 grid, dim3 block, size_t shared_bytes, size_t limit) {
  const uint64_t count = uint64_t(block.x) * block.y * block.z;
  if (count == 0 || count > kMostThreads || block.z > 64) return "a block has 1 to 1024 threads, 64 in z";
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return "a grid has at least one block";
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return "too many blocks in a grid";
  return shared_bytes > limit ? "more dynamic shared memory than allowed" : nullptr;
}

}  // namespace

void wait(Barrier barrier, unsigned mask, const char* file, int line) {
  Thread& t = threads[running];
  const unsigned lane = unsigned(running) % kWarp;
  if (barrier == kWarpBarrier && !(mask >> lane & 1)) {
    fault("%s:%d: thread %d is not in the mask %08x", base_name(file), line, running, mask);
  }
  t.barrier = barrier;
  t.mask = mask;
  t.file = file;
  t.line = line;
  t.state = kWaiting;
  stop_here();
}

void exchange(unsigned mask, uint64_t value, const char* file, int line) {
  threads[running].given = value;
  wait(kWarpBarrier, mask, file, line);
}

uint64_t slot(unsigned lane) {
  const unsigned first = unsigned(running) / kWarp * kWarp;
  return first + lane < threads_per_block ? threads[first + lane].shown : 0;
}

unsigned lane_id() { return unsigned(running) % kWarp; }

void* shared(const void* key, size_t bytes) {
  for (SharedBlock& b : shared_blocks) {
    if (b.key != key) continue;
    if (!b.filled) memset(b.data, 0xff, b.bytes);
    b.filled = true;
    return b.data;
  }
  size_t total = bytes;
  for (const SharedBlock& b : shared_blocks) total += b.bytes;
  if (total > shared_limit)
    fault("%zu bytes of shared memory, more than the %zu there are", total, shared_limit);
  void* data = malloc(bytes > 0 ? bytes : 1);
  memset(data, 0xff, bytes);
  shared_blocks.push_back({key, data, bytes, true});
  return data;
}

void* dynamic_shared() { return shared(&dynamic_key, dynamic_bytes); }

void fault(const char* text, ...) {
  char whole[400];
  va_list arguments;
  va_start(arguments, text);
  vsnprintf(whole, sizeof whole, text, arguments);
  va_end(arguments);
  report(whole);
  stop_here();
  abort();  // a faulted launch is never resumed
}

void allow_shared(const char* kernel, size_t bytes) {
  std::lock_guard<std::mutex> lock(one_launch);
  for (auto& entry : allowed) {
    if (entry.first == kernel) {
      entry.second = bytes;
      return;
    }
  }
  allowed.emplace_back(kernel, bytes);
}

unsigned launch_count() { return launches; }

void launch(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, Body f, const void* arguments) {
  std::lock_guard<std::mutex> lock(one_launch);
  if (is_sticky()) return;
  launches++;
  shared_limit = kSharedLimit;
  for (const auto& entry : allowed) {
    if (entry.first == kernel && entry.second > shared_limit) shared_limit = entry.second;
  }
  if (shared_limit > kSharedOptIn) shared_limit = kSharedOptIn;
  if (const char* why = refusal(grid, block, shared_bytes, shared_limit)) {
    char text[400];
    snprintf(text, sizeof text, "invalid configuration of kernel %s: %s", kernel, why);
    set_error(cudaErrorInvalidConfiguration, text);
    return;
  }
  body = f;
  body_arguments = arguments;
  kernel_name = kernel;
  block_size = position.block_dim = block;
  grid_size = position.grid_dim = grid;
  threads_per_block = block.x * block.y * block.z;
  dynamic_bytes = shared_bytes;
  faulted = false;
  order.resize(threads_per_block);
  for (unsigned t = 0; t < threads_per_block; t++) order[t] = t;
  random_state = 0x9e3779b97f4a7c15u ^ (random_seed() * 0xd1342543de82ef95u | 1);
  for (unsigned z = 0; z < grid.z && !faulted; z++) {
    for (unsigned y = 0; y < grid.y && !faulted; y++) {
      for (unsigned x = 0; x < grid.x && !faulted; x++) {
        position.block = {x, y, z};
        run_block();
      }
    }
  }
  if (faulted) abandon_fibers();
  for (const SharedBlock& b : shared_blocks) free(b.data);
  shared_blocks.clear();
}

}  // namespace needle_emulate
