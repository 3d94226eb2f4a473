// One table that points at every function of the header, so that a kernel that was not written is an error of
// the linker, not of the first program that calls it.
#include "../common.h"

namespace {

using Function = void (*)();

#define ADDRESS(symbol) reinterpret_cast<Function>(symbol),
[[gnu::used]] const Function exports[] = {NEEDLE_FOR_EACH_OP(ADDRESS)};
#undef ADDRESS

}  // namespace
