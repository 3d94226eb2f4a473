// One table that points at every function of the header, so that a kernel that was not written is an error of
// the linker, not of the first program that calls it. It is exported: the linker would drop an unused table.
#include "../common.h"

using Function = void (*)();

#define ADDRESS(symbol) reinterpret_cast<Function>(symbol),
extern "C" NEEDLE_API const Function needle_exports[];
const Function needle_exports[] = {NEEDLE_FOR_EACH_OP(ADDRESS)};
#undef ADDRESS
