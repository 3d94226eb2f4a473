// What launch.cpp and api.cpp share: the error state of the emulated device and how threads are ordered.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "api.h"

namespace needle_emulate {

// Shared memory of a block that asks for more than is always there: the least of all supported devices.
constexpr size_t kSharedOptIn = 64 << 10;

// An error of one call, which cudaGetLastError takes away; and a fault, after which every call fails.
void set_error(cudaError_t error, const char* text);
void set_sticky(cudaError_t error, const char* text);
bool is_sticky();

// NEEDLE_EMULATE: `up` (the default) runs threads in order, `random` or `random:SEED` in a new order after
// every barrier.
bool random_order();
uint64_t random_seed();

// How many kernels this thread has launched.
unsigned launch_count();

}  // namespace needle_emulate
