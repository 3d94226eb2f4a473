// The C functions that the kernels call, for a module without a C library: bytes, memory, formatted text.
// Memory belongs to TypeScript (lib/backends/wasm_memory.ts), so that tensors and scratch space share one
// heap.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What TypeScript provides; imports.txt lists it.
extern "C" {
// A block of 64-byte aligned memory, or null.
void* host_allocate(size_t bytes);
void host_release(void* data, size_t bytes);
// Writes a number as text, with `digits` after the point (-1: as many as it takes); returns the length.
int host_number(double value, int digits, char* text);
// JavaScript's power, which differs from C's where the base is 1 or -1.
double host_pow(double x, double y);
}

namespace {

// Memory is copied and filled in pieces of this size; from kLong bytes on by one instruction, whose fixed
// cost short ranges would feel.
typedef uint8_t piece __attribute__((vector_size(16), aligned(1), may_alias));
constexpr size_t kPiece = sizeof(piece), kLong = 1024;

inline piece load(const char* p) { return *reinterpret_cast<const piece*>(p); }
inline void store(char* p, piece v) { *reinterpret_cast<piece*>(p) = v; }

constexpr size_t kHeader = 64;  // keeps blocks aligned

// Text that stops at its capacity but keeps counting.
struct Writer {
  char* text;
  size_t capacity, length = 0;

  void put(char c) {
    if (length + 1 < capacity) text[length] = c;
    length++;
  }
  void put(const char* s) {
    for (; *s; s++) put(*s);
  }
  void integer(int64_t value) {
    char digits[20];
    int n = 0;
    uint64_t rest = value < 0 ? -uint64_t(value) : uint64_t(value);
    do {
      digits[n++] = char('0' + rest % 10);
      rest /= 10;
    } while (rest > 0);
    if (value < 0) put('-');
    while (n > 0) put(digits[--n]);
  }
  void number(double value, int digits) {
    char digits_and_sign[400];
    digits_and_sign[host_number(value, digits, digits_and_sign)] = 0;
    put(digits_and_sign);
  }
};

}  // namespace

extern "C" {

void* memcpy(void* to, const void* from, size_t n) {
  char* q = static_cast<char*>(to);
  const char* p = static_cast<const char*>(from);
  if (n >= kLong) return __builtin_memcpy(to, from, n);
  size_t i = 0;
  for (; i + kPiece <= n; i += kPiece) store(q + i, load(p + i));
  if (i == n) return to;
  if (n >= kPiece) {
    store(q + n - kPiece, load(p + n - kPiece));  // overlaps what is done
    return to;
  }
  for (; i < n; i++) q[i] = p[i];
  return to;
}

void* memmove(void* to, const void* from, size_t n) { return __builtin_memmove(to, from, n); }

void* memset(void* to, int value, size_t n) {
  char* q = static_cast<char*>(to);
  if (n >= kLong) return __builtin_memset(to, value, n);
  const piece v = uint8_t(value) - piece{};
  size_t i = 0;
  for (; i + kPiece <= n; i += kPiece) store(q + i, v);
  for (; i < n; i++) q[i] = char(value);
  return to;
}

size_t strlen(const char* text) {
  size_t n = 0;
  while (text[n]) n++;
  return n;
}

// A block remembers its size in front of it.
void* malloc(size_t bytes) {
  if (bytes > SIZE_MAX - kHeader) return nullptr;
  char* data = static_cast<char*>(host_allocate(bytes + kHeader));
  if (!data) return nullptr;
  *reinterpret_cast<size_t*>(data) = bytes + kHeader;
  return data + kHeader;
}

// The compiler calls it for memory that is zeroed at once.
void* calloc(size_t count, size_t bytes) {
  void* data = malloc(count * bytes);
  return data ? memset(data, 0, count * bytes) : nullptr;
}

void free(void* data) {
  if (!data) return;
  char* block = static_cast<char*>(data) - kHeader;
  host_release(block, *reinterpret_cast<size_t*>(block));
}

int posix_memalign(void** data, size_t, size_t bytes) {
  *data = malloc(bytes);
  return *data ? 0 : 1;
}

// Exact, hence the same in both precisions.
float fmodf(float x, float y) { return float(fmod(double(x), double(y))); }

double pow(double x, double y) {
  const bool one = x == 1 || (x == -1 && isinf(y));
  return one ? 1 : host_pow(x, y);
}

int vsnprintf(char* text, size_t capacity, const char* format, va_list args) {
  Writer out{text, capacity};
  for (const char* f = format; *f; f++) {
    if (*f != '%') {
      out.put(*f);
      continue;
    }
    int digits = -1;
    if (*++f == '.') {
      for (digits = 0; *++f >= '0' && *f <= '9';) digits = 10 * digits + (*f - '0');
    }
    const bool wide = *f == 'l';
    while (*f == 'l') f++;
    switch (*f) {
      case 's':
        out.put(va_arg(args, const char*));
        break;
      case 'd':
        out.integer(wide ? va_arg(args, long long) : va_arg(args, int));
        break;
      case 'f':
      case 'g':
        out.number(va_arg(args, double), digits);
        break;
      default:
        out.put(*f);
    }
  }
  if (capacity > 0) text[out.length < capacity ? out.length : capacity - 1] = 0;
  return int(out.length);
}

int snprintf(char* text, size_t capacity, const char* format, ...) {
  va_list args;
  va_start(args, format);
  const int length = vsnprintf(text, capacity, format, args);
  va_end(args);
  return length;
}

}  // extern "C"
