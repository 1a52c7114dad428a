#pragma once
// What a MoE layer computes from its input before tokens reach experts, in one operation for the
// few rows of a decode step: the normalised rows, the gate's logits and, with a residual branch,
// its coefficient logits and the first product of its MLP:
//   n = norm(x), logits = n gate^T + noise, coefficients = n coefficient^T + bias,
//   mlp_hidden = gelu(n up^T + up_bias).
// Safe to include from .cu files.

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

struct NormGateOperands {
  const void* x = nullptr;                       // data [rows, hidden]
  const void *gain = nullptr, *shift = nullptr;  // data [hidden], of the norm
  const void* gate = nullptr;                    // wide [experts, hidden]
  // With shape.mlp > 0, else null:
  const void* coefficient = nullptr;       // wide [2, hidden]
  const void* coefficient_bias = nullptr;  // wide [2]
  const void* up = nullptr;                // data [mlp, hidden]
  const void* up_bias = nullptr;           // data [mlp]
  const void* noise = nullptr;             // wide [rows, experts] or null
  void* n = nullptr;                       // out data [rows, hidden]; not x
  void* logits = nullptr;                  // out wide [rows, experts]
  void* coefficients = nullptr;            // out wide [rows, 2], with mlp
  void* mlp_hidden = nullptr;              // out data [rows, mlp], with mlp
};
// CUDA: bf16, at most 128 rows, hidden % 8 == 0, hidden <= 4096.
void norm_gate(const Queue& queue, const NormGate& shape, const NormGateOperands& operands);

namespace cpu {
template <class T>
void norm_gate(const NormGate& shape, const NormGateOperands& operands);
}  // namespace cpu
namespace cuda {
void norm_gate(const Queue& queue, const NormGate& shape, const NormGateOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
