// Fused operations of a decode step: operands of core/program/operands.md to kernels.

#include "core/program/lower_stack.h"
#include "executor/runtime/operation.h"
#include "kernels/decode_stack.h"
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

void run(const OperationRun& o, const DecodeStack& shape) {
  std::vector<kernels::DecodeLayerOperands> layers;
  for (std::size_t i = 0; i < shape.layers.size(); ++i) {
    const auto in = [&](std::size_t k) {
      return o.in(program::kStackFirst + i * program::kStackInputs + k);
    };
    const std::size_t out = 1 + i * program::kStackOutputs;
    layers.push_back({.gain1 = in(0),
                      .shift1 = in(1),
                      .qkv = in(2),
                      .qkv_bias = in(3),
                      .proj = in(4),
                      .proj_bias = in(5),
                      .gain2 = in(6),
                      .shift2 = in(7),
                      .up = in(8),
                      .up_bias = in(9),
                      .down = in(10),
                      .down_bias = in(11),
                      .gate = in(12),
                      .coefficient = in(13),
                      .coefficient_bias = in(14),
                      .experts_up = in(15),
                      .experts_up_bias = in(16),
                      .experts_down = in(17),
                      .experts_down_bias = in(18),
                      .noise = in(19),
                      .expert = o.out<std::int32_t>(out + 2),
                      .weight = o.out(out + 3),
                      .stats = o.out(out + 4),
                      .k_pages = o.out(out),
                      .v_pages = o.out(out + 1)});
  }
  kernels::decode_stack(o.queue, shape,
                        {.x = o.in(0),
                         .positions = o.in<std::int32_t>(1),
                         .sequences = o.in<std::int32_t>(2),
                         .block_table = o.in<std::int32_t>(3),
                         .used = o.in<std::int32_t>(4),
                         .layers = layers.data(),
                         .y = o.out(0)});
}

}  // namespace imhotep::executor
