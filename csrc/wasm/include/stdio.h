// Formatted text, for the build without a C library: %s, %d, %lld and, with any precision, %g and %f.
#pragma once
#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
[[gnu::format(printf, 3, 4)]] int snprintf(char* text, size_t capacity, const char* format, ...);
[[gnu::format(printf, 3, 0)]] int vsnprintf(char* text, size_t capacity, const char* format, va_list args);
#ifdef __cplusplus
}
#endif
