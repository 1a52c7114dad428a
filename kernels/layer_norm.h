#pragma once
// Layer normalisation over the hidden dimension and its gradient, row by row.
// Source: Ba, Kiros, Hinton, "Layer Normalization" (2016), equation 4; eps inside the root.
// Safe to include from .cu files.

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

inline constexpr double kLayerNormEpsilon = 1e-5;

// y = gain * (x - mean) * rstd + bias.
struct LayerNormOperands {
  const void* x = nullptr;     // data [rows, hidden]
  const void* gain = nullptr;  // data [hidden]
  const void* bias = nullptr;  // data [hidden]
  void* y = nullptr;           // out data [rows, hidden]; may be x
  void* mean = nullptr;        // out wide [rows]
  void* rstd = nullptr;        // out wide [rows]: 1 / sqrt(variance + eps)
};
// Requires: hidden > 0.
void layer_norm(const Queue& queue, const LayerNorm& shape, const LayerNormOperands& operands);

struct LayerNormGradOperands {
  const void* dy = nullptr;    // data [rows, hidden]
  const void* x = nullptr;     // data [rows, hidden]: the forward input
  const void* gain = nullptr;  // data [hidden]
  const void* mean = nullptr;  // wide [rows], of the forward pass
  const void* rstd = nullptr;  // wide [rows], of the forward pass
  void* dx = nullptr;          // data [rows, hidden]: in/out if shape.accumulate, else out; may
                               // be dy if not shape.accumulate
  void* dgain = nullptr;       // in/out data [hidden], +=
  void* dbias = nullptr;       // in/out data [hidden], +=
};
// Requires: hidden > 0.
void layer_norm_grad(const Queue& queue, const LayerNormGrad& shape,
                     const LayerNormGradOperands& operands);

namespace cpu {
template <class T>
void layer_norm(const LayerNorm& shape, const LayerNormOperands& operands);
template <class T>
void layer_norm_grad(const LayerNormGrad& shape, const LayerNormGradOperands& operands);
}  // namespace cpu

namespace cuda {
void layer_norm(const Queue& queue, const LayerNorm& shape, const LayerNormOperands& operands);
void layer_norm_grad(const Queue& queue, const LayerNormGrad& shape,
                     const LayerNormGradOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
