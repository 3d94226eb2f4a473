// Convolutions by cuDNN, where it is loaded (dynlib.h) and has a kernel for them.
#pragma once
#include "device.h"

namespace needle {

enum ConvolutionOp : int { kConvolve, kConvolveInput, kConvolveWeight };

// out = the op of `first` and `second`, in the order of its arguments (x, w; g, w; g, x), with the descriptor
// of conv2d and float32 or half tensors; `bias` for conv2d alone, else null. kDeclined where our own kernels
// have to do it.
int32_t dnn_convolve(ConvolutionOp op, DType dtype, const char* first, const char* second, const char* bias,
                     char* out, const double* desc);

}  // namespace needle
