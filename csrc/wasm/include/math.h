// The mathematical functions that the kernels call, for the build without a C library. Roots and rounding are
// instructions; the rest is imported (imports.txt; lib/backends/wasm.ts provides JavaScript's own), in double
// precision also for floats: a float function is the double one rounded.
#pragma once

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define M_PI 3.14159265358979323846

#define isinf(x) __builtin_isinf(x)
#define isnan(x) __builtin_isnan(x)

#ifdef __cplusplus
extern "C" {
#endif

double exp(double x);
double expm1(double x);
double log(double x);
double log1p(double x);
double log2(double x);
double sin(double x);
double cos(double x);
double tan(double x);
double asin(double x);
double acos(double x);
double atan(double x);
double sinh(double x);
double cosh(double x);
double tanh(double x);
double erf(double x);
double atan2(double y, double x);
double fmod(double x, double y);
float fmodf(float x, float y);
double pow(double x, double y);

static inline double sqrt(double x) { return __builtin_sqrt(x); }
static inline float sqrtf(float x) { return __builtin_sqrtf(x); }
static inline double fabs(double x) { return __builtin_fabs(x); }
static inline float fabsf(float x) { return __builtin_fabsf(x); }
static inline double floor(double x) { return __builtin_floor(x); }
static inline double ceil(double x) { return __builtin_ceil(x); }
static inline float floorf(float x) { return __builtin_floorf(x); }
static inline float ceilf(float x) { return __builtin_ceilf(x); }
static inline double rint(double x) { return __builtin_rint(x); }
static inline float rintf(float x) { return __builtin_rintf(x); }

static inline float expf(float x) { return (float)exp(x); }
static inline float expm1f(float x) { return (float)expm1(x); }
static inline float logf(float x) { return (float)log(x); }
static inline float log1pf(float x) { return (float)log1p(x); }
static inline float sinf(float x) { return (float)sin(x); }
static inline float cosf(float x) { return (float)cos(x); }
static inline float tanf(float x) { return (float)tan(x); }
static inline float asinf(float x) { return (float)asin(x); }
static inline float acosf(float x) { return (float)acos(x); }
static inline float atanf(float x) { return (float)atan(x); }
static inline float sinhf(float x) { return (float)sinh(x); }
static inline float coshf(float x) { return (float)cosh(x); }
static inline float tanhf(float x) { return (float)tanh(x); }
static inline float erff(float x) { return (float)erf(x); }
static inline float atan2f(float y, float x) { return (float)atan2(y, x); }
static inline float powf(float x, float y) { return (float)pow(x, y); }

#ifdef __cplusplus
}
// math.h of C++ overloads these.
static inline float sqrt(float x) { return sqrtf(x); }
static inline float exp(float x) { return expf(x); }
static inline float log(float x) { return logf(x); }
static inline float log1p(float x) { return log1pf(x); }
static inline float tanh(float x) { return tanhf(x); }
static inline float fabs(float x) { return fabsf(x); }
static inline float ceil(float x) { return ceilf(x); }
static inline float fmod(float x, float y) { return fmodf(x, y); }
#endif
