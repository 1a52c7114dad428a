#pragma once
// The gate's decision: probabilities, the k experts of every token, who survives the capacity
// limit, the slot inside the expert and the weight of the route; and the way back to the logits.
//   k = 1   weight = probability of the expert, not renormalised;
//   k >= 2  weights of the surviving routes divided by their sum (at least epsilon);
//   k = 2   every first choice comes before any second choice: the slot of a second choice starts
//           at the number of first choices of that expert, counted before dropping;
//   k > 2, and Probability for any k: slots in token order.
// Experts are compared by their logits, which unlike probabilities no rounding makes equal. Ties go
// to the lower expert and to the earlier token, so the result is deterministic.
// Source: GShard (arXiv 2006.16668) and DeepSpeed deepspeed/moe/sharded_moe.py at edaa72212,
// top1gating, top2gating, topkgating. Safe to include from .cu files.

#include <cstdint>

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

inline constexpr std::int64_t kMaxExperts = 1024;  // bounds the counters kept on the stack

// Draws of random token selection are a function of these, the token's global index and the
// expert alone: they do not depend on how tokens are spread over ranks.
struct RouteContext {
  std::uint64_t seed = 0;
  std::int64_t step = 0, layer = 0;
  std::int64_t token_base = 0;  // global index of this rank's first token
};

// Shapes: T = tokens, E = experts, k as in Route.
struct RouteOperands {
  const void* logits = nullptr;        // wide [T, E]
  const std::int32_t* used = nullptr;  // [T] or null; 0: takes no expert, is not counted, still
                                       // enters the probability sums
  const double* uniform = nullptr;     // [T, E] or null; replaces the hashed draws of Random
  const double* noise = nullptr;       // [T, E] or null; added to the logits for the arg-max only:
                                       // k = 1 the choice, k = 2 the second choice, k > 2 refused
  void* probs = nullptr;               // out wide [T, E], softmax of the logits
  std::int32_t* expert = nullptr;      // out [T, k], -1 = dropped or unused
  std::int32_t* slot = nullptr;        // out [T, k] or null; position inside the expert,
                                       // -1 = dropped
  void* weight = nullptr;              // out wide [T, k], 0 = dropped
  void* stats = nullptr;               // out wide [2, E]: routes before dropping that the balance
                                       // loss counts (k = 2: first choices), probability sums
  std::int32_t* exp_counts = nullptr;  // out [E] or null; all k routes before dropping
  RouteContext context = {};
};

// Requires: k <= experts <= kMaxExperts; Random only with k = 1. Capacity 0 or None: none dropped.
void route(const Queue& queue, const Route& shape, const RouteOperands& operands);

// d_logits = gradient through the weights and through shape.aux_scale * balance_loss; the counts in
// the statistics carry no gradient.
struct RouteGradOperands {
  const void* probs = nullptr;           // wide [T, E]
  const std::int32_t* expert = nullptr;  // [T, k]
  const void* weight = nullptr;          // wide [T, k]
  const void* d_weight = nullptr;        // wide [T, k]
  const void* stats = nullptr;           // wide [2, E], of shape.tokens_counted tokens
  void* d_logits = nullptr;              // out wide [T, E]
};

void route_grad(const Queue& queue, const RouteGrad& shape, const RouteGradOperands& operands);

// E * sum_e (P_e / N) (C_e / N) for k = 1 and 2, E / k * sum_e for k > 2, with counts C,
// probability sums P (stats, fp64 or fp32 as the queue's wide type) and N tokens.
[[nodiscard]] double balance_loss(Dtype wide, const void* stats, std::int64_t experts,
                                  std::int64_t k, double tokens_global);

namespace cuda {
void route(const Queue& queue, const Route& shape, const RouteOperands& operands);
void route_grad(const Queue& queue, const RouteGrad& shape, const RouteGradOperands& operands);
}  // namespace cuda

namespace cpu {
template <class T>  // T: the data type; float and double exist
void route(const Route& shape, const RouteOperands& operands);
template <class T>
void route_grad(const RouteGrad& shape, const RouteGradOperands& operands);
}  // namespace cpu

}  // namespace imhotep::kernels
