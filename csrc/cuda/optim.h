// The rules by which optimisers change one element of a parameter and its state, as function objects: x has
// the element of each array, in the order of the op's arguments. Formulas are those of cpu/kernels/optim.cpp.
#pragma once
#include <float.h>

#include "device.h"

namespace needle {
namespace {

NEEDLE_DEVICE float root_of(float x) { return sqrtf(x); }
NEEDLE_DEVICE double root_of(double x) { return sqrt(x); }

// What a step stores: subnormal numbers become 0, as on the CPU.
NEEDLE_DEVICE float normal(float x) { return fabsf(x) < FLT_MIN ? 0.0f : x; }
NEEDLE_DEVICE double normal(double x) { return fabs(x) < DBL_MIN ? 0.0 : x; }

// The gradient with sign and coupled weight decay.
template <typename T>
struct Direction {
  T sign, weight_decay;
  NEEDLE_DEVICE T operator()(T grad, T param) const {
    const T d = sign * grad;
    return weight_decay != 0 ? d + weight_decay * param : d;
  }
};

// Arrays of a rule that it does not change: only the gradient, or none.
constexpr int kGradient = 1, kNothing = -1;

template <typename T>
struct Sgd {
  static constexpr int kArrays = 2, kConstant = kGradient;
  T lr;
  Direction<T> direction;

  explicit Sgd(const double* d) : lr(T(d[0])), direction{T(d[2] != 0 ? -1 : 1), T(d[1])} {}
  template <typename Tensors>
  NEEDLE_DEVICE void operator()(T (&x)[2], const Tensors&) const {
    x[0] = normal(x[0] - lr * direction(x[1], x[0]));
  }
};

template <typename T>
struct Momentum {
  static constexpr int kArrays = 3, kConstant = kGradient;
  T lr, momentum, undamped;
  bool nesterov, first;  // first: the buffer becomes the gradient
  Direction<T> direction;

  explicit Momentum(const double* d)
      : lr(T(d[0])),
        momentum(T(d[3])),
        undamped(T(1 - d[4])),
        nesterov(d[5] != 0),
        first(d[6] != 0),
        direction{T(d[2] != 0 ? -1 : 1), T(d[1])} {}
  template <typename Tensors>
  NEEDLE_DEVICE void operator()(T (&x)[3], const Tensors&) const {
    const T d = direction(x[1], x[0]), m = first ? d : momentum * x[2] + undamped * d;
    x[2] = normal(m);
    x[0] = normal(x[0] - lr * (nesterov ? d + momentum * m : m));
  }
};

// Adam and AdamW; with Largest it divides by the largest second moment so far.
template <typename T, bool Largest>
struct Adam {
  static constexpr int kArrays = Largest ? 5 : 4, kConstant = kGradient;
  T step_size, root, weight1, beta2, weight2, eps, shrink;
  Direction<T> direction;

  explicit Adam(const double* d)
      : step_size(T(d[0])),
        root(T(d[1])),
        weight1(T(1 - d[2])),
        beta2(T(d[3])),
        weight2(T(1 - d[3])),
        eps(T(d[4])),
        shrink(T(d[6])),
        direction{T(d[7] != 0 ? -1 : 1), T(d[5])} {}
  template <typename Tensors>
  NEEDLE_DEVICE void operator()(T (&x)[kArrays], const Tensors&) const {
    const T d = direction(x[1], x[0]);
    const T m = x[2] + weight1 * (d - x[2]), v = beta2 * x[3] + weight2 * d * d;
    T second = v;
    if constexpr (Largest) {
      second = v > x[4] || v != v ? v : x[4];
      x[4] = second;
    }
    x[2] = normal(m);
    x[3] = normal(v);
    x[0] = normal(shrink * x[0] - step_size * (m / (root_of(second) / root + eps)));
  }
};

// The gradient is the only array; the second is the flag, which all that find something set to the same.
template <typename T>
struct Unscale {
  static constexpr int kArrays = 1, kConstant = kNothing;
  T factor;

  explicit Unscale(const double* d) : factor(T(d[0])) {}
  template <typename Tensors>
  NEEDLE_DEVICE void operator()(T (&x)[1], const Tensors& tensors) const {
    if (!(fabs(x[0]) <= (sizeof(T) == 4 ? T(FLT_MAX) : T(DBL_MAX)))) {
      *static_cast<float*>(tensors.arrays[1]) = 1;
    }
    x[0] *= factor;
  }
};

}  // namespace
}  // namespace needle
