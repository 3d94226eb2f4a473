/* A library of its own, without OpenMP: it is loaded and called before any library that needs libgomp, which
 * reads its environment once, when it is loaded. Without a bound, a team whose core another process holds
 * spins for milliseconds at every barrier; with one that is shorter than what passes between two kernels, the
 * team falls asleep, and to wake it costs as much as a small kernel. What the user has set stays. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef _WIN32
#define NEEDLE_API __declspec(dllexport)
#else
#define NEEDLE_API __attribute__((visibility("default")))
#endif

NEEDLE_API int32_t needle_limit_spinning(void);

#if defined(__x86_64__) && !defined(_WIN32)
static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* 0.3 ms of spins. What a spin takes differs tenfold between processors. */
static int spin_count(void) {
  double best = 1;
  for (int round = 0; round < 5; round++) {
    const double start = seconds();
    for (int i = 0; i < 200; i++) __builtin_ia32_pause();
    const double once = (seconds() - start) / 200;
    if (once < best) best = once;
  }
  const double count = 0.3e-3 / (best > 0 ? best : 1e-9);
  return count < 5000 ? 5000 : count > 200000 ? 200000 : (int)count;
}
#else
static int spin_count(void) { return 10000; }
#endif

int32_t needle_limit_spinning(void) {
  if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return 0;
  char text[16];
  snprintf(text, sizeof text, "%d", spin_count());
#ifdef _WIN32
  return _putenv_s("GOMP_SPINCOUNT", text);
#else
  return setenv("GOMP_SPINCOUNT", text, 0);
#endif
}
