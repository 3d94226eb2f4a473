// One step of an optimiser on n contiguous elements: the arguments and the per-level table of the kernels in
// optim.cpp. Shared by the driver (cpu/optim.cpp) and the ISA file, so it holds plain data only.
#pragma once
#include <stdint.h>

template <typename T>
struct SgdArgs {
  T lr, weight_decay, sign;  // sign is -1 to maximise
  T momentum, undamped;      // undamped = 1 - dampening
  bool nesterov, first;      // first: the buffer becomes the gradient
};

template <typename T>
struct AdamArgs {
  T step_size, root;       // lr / (1 - beta1^t), sqrt(1 - beta2^t)
  T weight1, beta2;        // weight1 = 1 - beta1
  T weight2, eps;          // weight2 = 1 - beta2
  T weight_decay, shrink;  // coupled weight decay; factor of the parameter by decoupled weight decay
  T sign;
};

template <typename T>
struct OptimTable {
  void (*sgd)(int64_t n, const SgdArgs<T>& args, T* param, const T* grad);
  void (*momentum)(int64_t n, const SgdArgs<T>& args, T* param, const T* grad, T* buffer);
  void (*adam)(int64_t n, const AdamArgs<T>& args, T* param, const T* grad, T* exp_avg, T* exp_avg_sq);
  // Divides by the largest second moment so far.
  void (*amsgrad)(int64_t n, const AdamArgs<T>& args, T* param, const T* grad, T* exp_avg, T* exp_avg_sq,
                  T* largest);
  // grad *= factor; returns whether an element was infinite or NaN before.
  bool (*unscale)(int64_t n, T factor, T* grad);
};

struct OptimKernels {
  OptimTable<float> f32;
  OptimTable<double> f64;
};

extern "C" {
extern const OptimKernels optim_v2, optim_v3, optim_v4, optim_generic;
}
