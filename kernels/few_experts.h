#pragma once
// The experts of a MoE layer for the few tokens of a decode step, without packing rows: every
// route (token, choice) has a row of its own, and only the weights of chosen experts are read.
//   up    chooses experts as kernels/route.h does without dropping, then
//         hidden[route] = gelu(n[token] up[expert]^T + up_bias[expert])
//   down  y = x + c0 * sum over choices of weight * (hidden[route] down[expert]^T + bias[expert])
//               + c1 * (mlp_hidden mlp_down^T + mlp_bias), (c0, c1) = softmax(coefficients);
//         without a residual branch c0 = 1 and the last term is absent.
// Where ranks share the work, each holds some experts or a slice of all of them, the numbers of
// experts that `up` writes count those held, and `down` writes partial sums (core/base/shapes.h).
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/few_rows.h"
#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

// Shapes: T = tokens, E = experts.
struct FewExpertsUpOperands {
  const void* n = nullptr;             // data [T, hidden]
  const void* logits = nullptr;        // wide [T, E]
  const std::int32_t* used = nullptr;  // [T] or null, as in RouteOperands
  const void* up = nullptr;            // data [held, ffn, hidden]
  const void* up_bias = nullptr;       // data [held, ffn]
  const void* down = nullptr;      // data [held, hidden, ffn]: what follows will read it; or null
  void* hidden = nullptr;          // out data [T, k, ffn]; rows of unused tokens are not written
  std::int32_t* expert = nullptr;  // out [T, k]: among those held; -1 = unused or not held
  void* weight = nullptr;          // out wide [T, k]
  void* stats = nullptr;           // out wide [2, E], as in RouteOperands
};
// CUDA: bf16 and suits_few_experts (core/base/few_rows.h); the choice goes by logits where the
// CPU's goes by probabilities, which differs only where rounding makes probabilities equal.
void few_experts_up(const Queue& queue, const FewExpertsUp& shape,
                    const FewExpertsUpOperands& operands);

struct FewExpertsDownOperands {
  const void* x = nullptr;               // data [T, hidden]
  const void* expert_hidden = nullptr;   // data [T, k, ffn]
  const std::int32_t* expert = nullptr;  // [T, k], -1 = none
  const void* weight = nullptr;          // wide [T, k]
  const void* down = nullptr;            // data [E, hidden, ffn]
  const void* down_bias = nullptr;       // data [E, hidden], or null
  // With shape.residual, else null:
  const void* mlp_hidden = nullptr;    // data [T, ffn]
  const void* mlp_down = nullptr;      // data [hidden, ffn]
  const void* mlp_bias = nullptr;      // data [hidden], or null
  const void* coefficients = nullptr;  // wide [T, 2]
  void* y = nullptr;                   // out data [T, hidden]; none of the other operands
};
void few_experts_down(const Queue& queue, const FewExpertsDown& shape,
                      const FewExpertsDownOperands& operands);

namespace cpu {
template <class T>
void few_experts_up(const FewExpertsUp& shape, const FewExpertsUpOperands& operands);
template <class T>
void few_experts_down(const FewExpertsDown& shape, const FewExpertsDownOperands& operands);
}  // namespace cpu
namespace cuda {
void few_experts_up(const Queue& queue, const FewExpertsUp& shape,
                    const FewExpertsUpOperands& operands);
void few_experts_down(const Queue& queue, const FewExpertsDown& shape,
                      const FewExpertsDownOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
