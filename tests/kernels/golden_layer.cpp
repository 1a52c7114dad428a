// A whole MoE layer, forward and backward, composed of kernel families as a program composes them.

#include "tests/kernels/golden_layer.h"
#include "kernels/combine.h"
#include "kernels/dispatch.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/residual_mix.h"
#include "kernels/route.h"

namespace imhotep::golden {
namespace {

const kernels::Queue kQueue;

// ---- the expert or dense MLP over rows grouped by `offsets`

struct MlpRun {
  std::vector<std::int32_t> offsets;
  Floats in, pre, activated, out;
};

GroupedGemm product(const MlpRun& run, GroupedMode mode, std::int64_t n, std::int64_t k) {
  GroupedGemm shape{.mode = mode, .rows = {run.offsets.back(), 0}, .n = n, .k = k};
  shape.experts = static_cast<std::int64_t>(run.offsets.size()) - 1;
  return shape;
}

void forward(const Layer& layer, const Mlp& mlp, MlpRun& run) {
  const std::int64_t rows = run.offsets.back(), h = layer.hidden, f = layer.ffn;
  run.pre.resize(rows * f);
  run.activated.resize(rows * f);
  run.out.resize(rows * h);
  GroupedGemm up = product(run, GroupedMode::Forward, f, h);
  const bool fused = !layer.activation.value;
  up.epilogue = fused ? Epilogue::BiasGelu : Epilogue::Bias;
  kernels::grouped_gemm(kQueue, up,
                        {.expert_offsets = run.offsets.data(),
                         .in = run.in.data(),
                         .weight = mlp.up.weight.value.data(),
                         .bias = mlp.up.bias.value.data(),
                         .pre = run.pre.data(),
                         .out = fused ? run.activated.data() : run.pre.data()});
  for (std::size_t i = 0; i < run.pre.size() && !fused; ++i) {
    run.activated[i] = static_cast<float>(layer.activation.value(run.pre[i]));
  }
  GroupedGemm down = product(run, GroupedMode::Forward, h, f);
  down.epilogue = Epilogue::Bias;
  kernels::grouped_gemm(kQueue, down,
                        {.expert_offsets = run.offsets.data(),
                         .in = run.activated.data(),
                         .weight = mlp.down.weight.value.data(),
                         .bias = mlp.down.bias.value.data(),
                         .out = run.out.data()});
}

// Gradients of one linear layer's parameters; returns the gradient of its input, or with `pre` of
// what GELU turned into that input.
Floats linear_backward(const MlpRun& run, Linear& linear, const Floats& in, const Floats& d,
                       std::int64_t n, const Floats* pre = nullptr) {
  const std::int64_t rows = run.offsets.back();
  const auto k = static_cast<std::int64_t>(linear.weight.value.size()) /
                 static_cast<std::int64_t>(linear.bias.value.size());
  Floats d_in(rows * k);
  kernels::grouped_gemm(kQueue, product(run, GroupedMode::GradWeight, n, k),
                        {.expert_offsets = run.offsets.data(),
                         .in = d.data(),
                         .activation = in.data(),
                         .d_weight = linear.weight.grad.data()});
  kernels::grouped_column_sum(kQueue,
                              {{rows, 0}, static_cast<std::int64_t>(run.offsets.size()) - 1, n},
                              {run.offsets.data(), d.data(), linear.bias.grad.data()});
  GroupedGemm input = product(run, GroupedMode::GradInput, n, k);
  if (pre != nullptr) input.epilogue = Epilogue::GeluGrad;
  Floats activated = pre != nullptr ? *pre : Floats{};
  kernels::grouped_gemm(kQueue, input,
                        {.expert_offsets = run.offsets.data(),
                         .in = d.data(),
                         .weight = linear.weight.value.data(),
                         .pre = activated.data(),
                         .out = d_in.data()});
  return d_in;
}

Floats backward(const Layer& layer, Mlp& mlp, const MlpRun& run, const Floats& d_out) {
  const bool gelu = !layer.activation.value;
  Floats d =
      linear_backward(run, mlp.down, run.activated, d_out, layer.hidden, gelu ? &run.pre : nullptr);
  if (!gelu) {
    for (std::size_t i = 0; i < d.size(); ++i) {
      d[i] = static_cast<float>(d[i] * layer.activation.slope(run.pre[i]));
    }
  }
  return linear_backward(run, mlp.up, run.in, d, layer.ffn);
}

// ---- the layer

struct Run {
  Floats logits, moe, coefficients, y, d_weight, dx;
  std::vector<std::int32_t> order, position, segments;
  MlpRun routed, dense;
};

void dispatch(const Layer& layer, const Routing& routing, Run& run) {
  const std::int64_t routes = layer.tokens * layer.k;
  std::vector<std::int32_t> counts(layer.experts), index(routes), range(2);
  run.order.resize(routes);
  run.position.resize(routes);
  run.segments.resize(2);
  kernels::pack_order(
      kQueue,
      {.tokens = layer.tokens, .experts = layer.experts, .k = layer.k, .token_end = layer.tokens},
      {.expert = routing.expert.data(),
       .order = run.order.data(),
       .position = run.position.data(),
       .segments = run.segments.data(),
       .counts = counts.data()});
  run.routed.offsets.resize(layer.experts + 1);
  kernels::receive_order(kQueue, {1, layer.experts, {routes, 0}},
                         {counts.data(), run.routed.offsets.data(), index.data(), range.data()});
  run.routed.in.resize(run.segments[1] * layer.hidden);
  kernels::gather_rows(kQueue, {{routes, 0}, layer.hidden},
                       {.in = layer.x.data(),
                        .index = run.order.data(),
                        .range = run.segments.data(),
                        .out = run.routed.in.data()});
}

void mix(const Layer& layer, Run& run) {
  run.dense.offsets = {0, static_cast<std::int32_t>(layer.tokens)};
  run.dense.in = layer.x;
  forward(layer, layer.dense, run.dense);
  run.coefficients.resize(layer.tokens * 2);
  kernels::gemm(kQueue,
                {.m = layer.tokens,
                 .n = 2,
                 .k = layer.hidden,
                 .transpose_b = true,
                 .epilogue = Epilogue::Bias,
                 .wide = true},
                {.a = layer.x.data(),
                 .b = layer.coefficient.weight.value.data(),
                 .bias = layer.coefficient.bias.value.data(),
                 .c = run.coefficients.data()});
  kernels::residual_mix(kQueue, {layer.tokens, layer.hidden},
                        {.x = run.y.data(),
                         .moe = run.moe.data(),
                         .mlp = run.dense.out.data(),
                         .logits = run.coefficients.data(),
                         .y = run.y.data()});
}

Routing layer_forward(Case& fields, const Layer& layer, Run& run) {
  run.logits.resize(layer.tokens * layer.experts);
  kernels::gemm(
      kQueue,
      {.m = layer.tokens, .n = layer.experts, .k = layer.hidden, .transpose_b = true, .wide = true},
      {.a = layer.x.data(), .b = layer.gate.value.data(), .c = run.logits.data()});
  Routing routing = check_routing(fields, layer.tokens, layer.experts, layer.k, run.logits);
  dispatch(layer, routing, run);
  forward(layer, layer.routed, run.routed);
  run.moe.resize(layer.x.size());
  kernels::combine(kQueue, {layer.tokens, layer.k, 1, layer.hidden},
                   {.rows = run.routed.out.data(),
                    .position = run.position.data(),
                    .weight = routing.weight.data(),
                    .y = run.moe.data()});
  run.y.resize(layer.x.size());
  if (layer.residual) {
    mix(layer, run);
  } else {
    run.y = run.moe;
  }
  return routing;
}

void add_to(Floats& sum, const Floats& part) {
  kernels::add(kQueue, {static_cast<std::int64_t>(sum.size())}, {part.data(), sum.data()});
}

// Returns the gradient of the MoE branch; adds the dense branch's to dx.
Floats mix_backward(Layer& layer, Run& run) {
  if (!layer.residual) return layer.upstream;
  Floats d_moe(layer.x.size()), d_mlp(layer.x.size()), d_logits(layer.tokens * 2);
  kernels::residual_mix_grad(kQueue, {layer.tokens, layer.hidden},
                             {.dy = layer.upstream.data(),
                              .moe = run.moe.data(),
                              .mlp = run.dense.out.data(),
                              .logits = run.coefficients.data(),
                              .d_moe = d_moe.data(),
                              .d_mlp = d_mlp.data(),
                              .d_logits = d_logits.data()});
  add_to(run.dx, backward(layer, layer.dense, run.dense, d_mlp));
  add_to(run.dx, linear_backward(run.dense, layer.coefficient, layer.x, d_logits, 2));
  return d_moe;
}

void gate_backward(Layer& layer, const Routing& routing, Run& run) {
  Floats d_logits(run.logits.size());
  kernels::route_grad(kQueue,
                      {.tokens = layer.tokens,
                       .experts = layer.experts,
                       .k = layer.k,
                       .aux_scale = layer.aux,
                       .tokens_counted = static_cast<double>(layer.tokens)},
                      {.probs = routing.probs.data(),
                       .expert = routing.expert.data(),
                       .weight = routing.weight.data(),
                       .d_weight = run.d_weight.data(),
                       .stats = routing.stats.data(),
                       .d_logits = d_logits.data()});
  kernels::gemm(kQueue,
                {.m = layer.experts,
                 .n = layer.hidden,
                 .k = layer.tokens,
                 .transpose_a = true,
                 .accumulate = true},
                {.a = d_logits.data(), .b = layer.x.data(), .c = layer.gate.grad.data()});
  kernels::gemm(kQueue,
                {.m = layer.tokens, .n = layer.hidden, .k = layer.experts, .accumulate = true},
                {.a = d_logits.data(), .b = layer.gate.value.data(), .c = run.dx.data()});
}

void layer_backward(Layer& layer, const Routing& routing, Run& run) {
  run.dx.assign(layer.x.size(), 0);
  const Floats d_moe = mix_backward(layer, run);
  Floats d_rows(run.routed.out.size());
  run.d_weight.resize(layer.tokens * layer.k);
  kernels::combine_grad(kQueue, {layer.tokens, layer.k, 1, layer.hidden},
                        {.dy = d_moe.data(),
                         .rows = run.routed.out.data(),
                         .position = run.position.data(),
                         .weight = routing.weight.data(),
                         .d_rows = d_rows.data(),
                         .d_weight = run.d_weight.data()});
  const Floats d_in = backward(layer, layer.routed, run.routed, d_rows);
  kernels::scatter_sum(kQueue, {layer.tokens, layer.k, 1, layer.hidden, true},
                       {.rows = d_in.data(), .position = run.position.data(), .dn = run.dx.data()});
  gate_backward(layer, routing, run);
}

// A tensor whose gradient is zero everywhere (an expert without tokens) still has a scale.
void compare(const std::string& name, const Parameter& parameter) {
  if (parameter.given) expect_close(name, parameter.grad, parameter.expected, 1e-5, 1e-2);
}

void compare(const std::string& name, const Linear& linear) {
  compare(name + ".weight", linear.weight);
  compare(name + ".bias", linear.bias);
}

}  // namespace

void check_layer_case(Case& fields) {
  Layer layer = read_layer(fields);
  Run run;
  const Routing routing = layer_forward(fields, layer, run);
  const auto size = static_cast<std::int64_t>(layer.x.size());
  expect_close("y", run.y, fields.floats("y", size), 1e-5, 1e-2);
  if (!layer.backward) return;
  layer_backward(layer, routing, run);
  expect_close("dx", run.dx, fields.floats("dx", size), 1e-5, 1e-2);
  compare("gate", layer.gate);
  compare("experts.a", layer.routed.up);
  compare("experts.b", layer.routed.down);
  compare("mlp.a", layer.dense.up);
  compare("mlp.b", layer.dense.down);
  compare("coefficient", layer.coefficient);
}

}  // namespace imhotep::golden
