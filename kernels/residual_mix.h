#pragma once
// Residual MoE: y = x + c0 * moe + c1 * mlp, (c0, c1) = softmax of two logits of each token.
// c0 belongs to the routed experts, c1 to the dense residual MLP.
// Source: DeepSpeed deepspeed/moe/layer.py (softmax over the last axis, coefficient with bias).
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

struct ResidualMixOperands {
  const void* x = nullptr;       // data [rows, hidden]; may be y
  const void* moe = nullptr;     // data [rows, hidden]
  const void* mlp = nullptr;     // data [rows, hidden]
  const void* logits = nullptr;  // wide [rows, 2]
  void* y = nullptr;             // out data [rows, hidden]
};

void residual_mix(const Queue& queue, const ResidualMix& shape,
                  const ResidualMixOperands& operands);

// The gradient of x is dy itself.
struct ResidualMixGradOperands {
  const void* dy = nullptr;      // data [rows, hidden]
  const void* moe = nullptr;     // data [rows, hidden]
  const void* mlp = nullptr;     // data [rows, hidden]
  const void* logits = nullptr;  // wide [rows, 2]
  void* d_moe = nullptr;         // out data [rows, hidden]; may be moe
  void* d_mlp = nullptr;         // out data [rows, hidden]; may be mlp
  void* d_logits = nullptr;      // out wide [rows, 2]
};

void residual_mix_grad(const Queue& queue, const ResidualMixGrad& shape,
                       const ResidualMixGradOperands& operands);

namespace cpu {
template <class T>
void residual_mix(const ResidualMix& shape, const ResidualMixOperands& operands);
template <class T>
void residual_mix_grad(const ResidualMixGrad& shape, const ResidualMixGradOperands& operands);
}  // namespace cpu

namespace cuda {
void residual_mix(const Queue& queue, const ResidualMix& shape,
                  const ResidualMixOperands& operands);
void residual_mix_grad(const Queue& queue, const ResidualMixGrad& shape,
                       const ResidualMixGradOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
