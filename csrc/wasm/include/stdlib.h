// Memory of the module, for the build without a C library: TypeScript manages it
// (lib/backends/wasm_memory.ts).
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
// 64-byte aligned, whatever alignment is asked for; null where memory is out.
void* malloc(size_t bytes);
void* calloc(size_t count, size_t bytes);
void free(void* data);
int posix_memalign(void** data, size_t alignment, size_t bytes);
#ifdef __cplusplus
}
#endif
