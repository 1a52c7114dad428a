// Fused operations of a decode step: operands of core/program/operands.md to kernels.

#include "executor/runtime/operation.h"
#include "kernels/few_experts.h"
#include "kernels/norm_gate.h"
#include "kernels/norm_gemm.h"

namespace imhotep::executor {

void run(const OperationRun& o, const NormGemm& shape) {
  kernels::norm_gemm(o.queue, shape,
                     {.x = o.in(0),
                      .gain = o.in(1),
                      .shift = o.in(2),
                      .b = o.in(3),
                      .bias = o.in(4),
                      .c = o.out(0)});
}

void run(const OperationRun& o, const NormGate& shape) {
  kernels::norm_gate(o.queue, shape,
                     {.x = o.in(0),
                      .gain = o.in(1),
                      .shift = o.in(2),
                      .gate = o.in(3),
                      .coefficient = o.in(4),
                      .coefficient_bias = o.in(5),
                      .up = o.in(6),
                      .up_bias = o.in(7),
                      .noise = o.in(8),
                      .n = o.out(0),
                      .logits = o.out(1),
                      .coefficients = o.out(2),
                      .mlp_hidden = o.out(3)});
}

void run(const OperationRun& o, const FewExpertsUp& shape) {
  kernels::few_experts_up(o.queue, shape,
                          {.n = o.in(0),
                           .logits = o.in(1),
                           .used = o.in<std::int32_t>(2),
                           .up = o.in(3),
                           .up_bias = o.in(4),
                           .down = o.in(5),
                           .hidden = o.out(0),
                           .expert = o.out<std::int32_t>(1),
                           .weight = o.out(2),
                           .stats = o.out(3)});
}

void run(const OperationRun& o, const FewExpertsDown& shape) {
  kernels::few_experts_down(o.queue, shape,
                            {.x = o.in(0),
                             .expert_hidden = o.in(1),
                             .expert = o.in<std::int32_t>(2),
                             .weight = o.in(3),
                             .down = o.in(4),
                             .down_bias = o.in(5),
                             .mlp_hidden = o.in(6),
                             .mlp_down = o.in(7),
                             .mlp_bias = o.in(8),
                             .coefficients = o.in(9),
                             .y = o.out(0)});
}

}  // namespace imhotep::executor
