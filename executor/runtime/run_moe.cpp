// Routing, row moves and experts: operands of core/program/operands.md to kernel operands.

#include "executor/runtime/operation.h"
#include "kernels/combine.h"
#include "kernels/dispatch.h"
#include "kernels/grouped_gemm.h"
#include "kernels/residual_mix.h"
#include "kernels/route.h"

namespace imhotep::executor {

void run(const OperationRun& o, const Route& shape) {
  const StepContext& c = o.context;
  kernels::route(o.queue, shape,
                 {.logits = o.in(0),
                  .used = o.in<std::int32_t>(1),
                  .probs = o.out(0),
                  .expert = o.out<std::int32_t>(1),
                  .weight = o.out(2),
                  .stats = o.out(3),
                  .context = {.seed = c.seed,
                              .step = c.step,
                              .layer = o.operation.layer,
                              .token_base = c.token_base}});
}

void run(const OperationRun& o, const RouteGrad& shape) {
  kernels::route_grad(o.queue, shape,
                      {.probs = o.in(0),
                       .expert = o.in<std::int32_t>(1),
                       .weight = o.in(2),
                       .d_weight = o.in(3),
                       .stats = o.in(4),
                       .d_logits = o.out(0)});
}

void run(const OperationRun& o, const PackOrder& shape) {
  kernels::pack_order(o.queue, shape,
                      {.expert = o.in<std::int32_t>(0),
                       .order = o.out<std::int32_t>(0),
                       .position = o.out<std::int32_t>(1),
                       .segments = o.out<std::int32_t>(2),
                       .counts = o.out<std::int32_t>(3)});
}

void run(const OperationRun& o, const ReceiveOrder& shape) {
  kernels::receive_order(o.queue, shape,
                         {.counts = o.in<std::int32_t>(0),
                          .expert_offsets = o.out<std::int32_t>(0),
                          .index = o.out<std::int32_t>(1),
                          .range = o.out<std::int32_t>(2)});
}

void run(const OperationRun& o, const GatherRows& shape) {
  kernels::gather_rows(o.queue, shape,
                       {.in = o.in(0),
                        .index = o.in<std::int32_t>(1),
                        .range = o.in<std::int32_t>(2),
                        .out = o.out(0)});
}

void run(const OperationRun& o, const Combine& shape) {
  kernels::combine(
      o.queue, shape,
      {.rows = o.in(0), .position = o.in<std::int32_t>(1), .weight = o.in(2), .y = o.out(0)});
}

void run(const OperationRun& o, const CombineGrad& shape) {
  kernels::combine_grad(o.queue, shape,
                        {.dy = o.in(0),
                         .rows = o.in(1),
                         .position = o.in<std::int32_t>(2),
                         .weight = o.in(3),
                         .d_rows = o.out(0),
                         .d_weight = o.out(1)});
}

void run(const OperationRun& o, const ScatterSum& shape) {
  kernels::scatter_sum(o.queue, shape,
                       {.rows = o.in(0), .position = o.in<std::int32_t>(1), .dn = o.out(0)});
}

void run(const OperationRun& o, const GroupedGemm& shape) {
  kernels::GroupedGemmOperands operands{.expert_offsets = o.in<std::int32_t>(2), .in = o.in(0)};
  if (shape.mode == GroupedMode::GradWeight) {
    operands.activation = o.in(1);
    operands.d_weight = o.out(0);
  } else {
    operands.weight = o.in(1);
    operands.bias = o.in(3);
    operands.out = o.out(0);
    operands.pre = shape.epilogue == Epilogue::GeluGrad ? const_cast<void*>(o.in(4)) : o.out(1);
  }
  kernels::grouped_gemm(o.queue, shape, operands);
}

void run(const OperationRun& o, const GroupedColumnSum& shape) {
  kernels::grouped_column_sum(
      o.queue, shape, {.expert_offsets = o.in<std::int32_t>(1), .in = o.in(0), .out = o.out(0)});
}

void run(const OperationRun& o, const ResidualMix& shape) {
  kernels::residual_mix(
      o.queue, shape,
      {.x = o.in(0), .moe = o.in(1), .mlp = o.in(2), .logits = o.in(3), .y = o.out(0)});
}

void run(const OperationRun& o, const ResidualMixGrad& shape) {
  kernels::residual_mix_grad(o.queue, shape,
                             {.dy = o.in(0),
                              .moe = o.in(1),
                              .mlp = o.in(2),
                              .logits = o.in(3),
                              .d_moe = o.out(0),
                              .d_mlp = o.out(1),
                              .d_logits = o.out(2)});
}

}  // namespace imhotep::executor
