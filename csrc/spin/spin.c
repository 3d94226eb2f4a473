/* A library of its own, without OpenMP: it is loaded and called before any library that needs libgomp, which
 * reads its environment once, when it is loaded. Without a bound, a team whose core another process holds
 * spins for milliseconds at every barrier. What the user has set stays. */
#include <stdint.h>
#include <stdlib.h>

#ifdef _WIN32
#define NEEDLE_API __declspec(dllexport)
#else
#define NEEDLE_API __attribute__((visibility("default")))
#endif

NEEDLE_API int32_t needle_limit_spinning(void);

int32_t needle_limit_spinning(void) {
  if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return 0;
#ifdef _WIN32
  return _putenv_s("GOMP_SPINCOUNT", "10000");
#else
  return setenv("GOMP_SPINCOUNT", "10000", 0);
#endif
}
