// Patterns are recognised in the order of issue, by family and by who reads whose output; the
// routed block, which has a dozen operations, by the names of its listing (mlp.cpp, moe.cpp).

#include "core/program/lower_decode.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "core/base/few_rows.h"

namespace imhotep::program {
namespace {

using Window = std::span<const Operation>;

constexpr std::string_view kRouted[] = {"ln2",        "gate",          "route",
                                        "pack",       "receive_order", "pack_rows",
                                        "experts_up", "experts_down",  "combine_rows"};
constexpr std::string_view kPlain[] = {"moe_residual"};
constexpr std::string_view kResidual[] = {"mlp_up", "mlp_down", "coefficient", "residual_mix"};

bool named(Window operations, std::span<const std::string_view> names) {
  return operations.size() >= names.size() &&
         std::equal(names.begin(), names.end(), operations.begin(),
                    [](std::string_view name, const Operation& op) { return op.name == name; });
}

class Lowering {
 public:
  explicit Lowering(Program& program) : p_(program) {}

  void run() {
    const std::vector<Operation> plain = std::move(p_.operations);
    p_.operations.clear();
    for (std::size_t i = 0; i < plain.size();) {
      const Window rest(plain.begin() + static_cast<std::ptrdiff_t>(i), plain.end());
      std::size_t taken = norm_product(rest);
      if (taken == 0) taken = routed(rest);
      if (taken == 0) {
        p_.operations.push_back(plain[i]);
        taken = 1;
      }
      i += taken;
    }
  }

 private:
  // Appends an operation in the place of `old`.
  void put(const Operation& old, const char* name, Shape shape, Operands inputs, Operands outputs) {
    Operation op = old;
    op.name = name;
    op.shape = std::move(shape);
    op.inputs = std::move(inputs);
    op.outputs = std::move(outputs);
    p_.operations.push_back(std::move(op));
  }

  static const char* fused_name(std::string_view product) {
    if (product == "qkv") return "ln1_qkv";
    if (product == "mlp_up") return "mlp_ln2_up";
    return "final_ln_head";
  }

  // How many operations were replaced.
  std::size_t norm_product(Window rest) {
    if (rest.size() < 2) return 0;
    const auto* norm = std::get_if<LayerNorm>(&rest[0].shape);
    const auto* product = std::get_if<Gemm>(&rest[1].shape);
    if (norm == nullptr || product == nullptr) return 0;
    const bool plain = product->transpose_b && !product->transpose_a && !product->accumulate &&
                       !product->wide && !product->wide_a && !product->wide_b;
    const bool fusable = product->epilogue == Epilogue::None ||
                         product->epilogue == Epilogue::Bias ||
                         product->epilogue == Epilogue::BiasGelu;
    const BufferId normed = rest[0].outputs[0].buffer;
    if (!plain || !fusable || !suits_few_rows(norm->rows, norm->hidden) ||
        rest[1].inputs[0].buffer != normed || read_later(rest.subspan(2), normed)) {
      return 0;
    }
    const bool bias = product->epilogue != Epilogue::None;
    put(rest[1], fused_name(rest[1].name),
        NormGemm{
            .rows = product->m, .n = product->n, .k = product->k, .epilogue = product->epilogue},
        {rest[0].inputs[0], rest[0].inputs[1], rest[0].inputs[2], rest[1].inputs[1],
         bias ? rest[1].inputs[2] : Operand{}},
        {rest[1].outputs[0]});
    return 2;
  }

  static bool read_later(Window rest, BufferId buffer) {
    return std::any_of(rest.begin(), rest.end(), [&](const Operation& op) {
      return std::any_of(op.inputs.begin(), op.inputs.end(),
                         [&](const Operand& in) { return in.buffer == buffer; });
    });
  }

  std::size_t routed(Window rest) {
    if (!named(rest, kRouted)) return 0;
    const Window after = rest.subspan(std::size(kRouted));
    const bool residual = named(after, kResidual);
    if (!residual && !named(after, kPlain)) return 0;
    const auto* up = std::get_if<GroupedGemm>(&rest[6].shape);
    const auto* route = std::get_if<Route>(&rest[2].shape);
    const auto* norm = std::get_if<LayerNorm>(&rest[0].shape);
    const auto* gate = std::get_if<Gemm>(&rest[1].shape);
    if (up == nullptr || route == nullptr || norm == nullptr || gate == nullptr) return 0;
    const bool wide_gate = p_.dtype != Dtype::Bf16 || gate->wide_b;
    if (!wide_gate || up->n % 8 != 0 || route->policy != DropPolicy::None ||
        !suits_few_experts(route->tokens, route->experts, route->k, norm->hidden)) {
      return 0;
    }
    const FewExpertsUp first{.tokens = route->tokens,
                             .experts = route->experts,
                             .k = route->k,
                             .hidden = norm->hidden,
                             .ffn = up->n,
                             .active = up->active};
    put_routed(rest, after, first, residual);
    return std::size(kRouted) + (residual ? std::size(kResidual) : std::size(kPlain));
  }

  // rest: ln2, gate, route, pack, receive_order, pack_rows, experts_up, experts_down, ...
  void put_routed(Window rest, Window after, const FewExpertsUp& s, bool residual) {
    const Operation &norm = rest[0], &gate = rest[1], &route = rest[2], &up = rest[6],
                    &down = rest[7];
    Operands gate_inputs{norm.inputs[0], norm.inputs[1], norm.inputs[2], gate.inputs[1]};
    Operands gate_outputs{norm.outputs[0], gate.outputs[0]};
    std::int64_t mlp = 0;
    if (residual) {
      const Operation &mlp_up = after[0], &coefficient = after[2];
      mlp = std::get<Gemm>(mlp_up.shape).n;
      gate_inputs = {norm.inputs[0],   norm.inputs[1],        norm.inputs[2],
                     gate.inputs[1],   coefficient.inputs[1], coefficient.inputs[2],
                     mlp_up.inputs[1], mlp_up.inputs[2]};
      gate_outputs = {norm.outputs[0], gate.outputs[0], coefficient.outputs[0], mlp_up.outputs[0]};
    }
    put(gate, residual ? "gate_mlp_up" : "gate",
        NormGate{.rows = s.tokens, .hidden = s.hidden, .experts = s.experts, .mlp = mlp},
        gate_inputs, gate_outputs);
    const Operand used = route.inputs.size() > 1 ? route.inputs[1] : Operand{};
    const Operand hidden = route_rows(up, s.tokens * s.k * s.ffn);
    put(up, "experts_up", s,
        {norm.outputs[0], gate.outputs[0], used, up.inputs[1], up.inputs[3], down.inputs[1]},
        {hidden, route.outputs[1], route.outputs[2], route.outputs[3]});
    Operands down_inputs{norm.inputs[0],   hidden,         route.outputs[1],
                         route.outputs[2], down.inputs[1], down.inputs[3]};
    if (residual) {
      const Operation &mlp_up = after[0], &mlp_down = after[1], &coefficient = after[2];
      down_inputs = {norm.inputs[0],     hidden,
                     route.outputs[1],   route.outputs[2],
                     down.inputs[1],     down.inputs[3],
                     mlp_up.outputs[0],  mlp_down.inputs[1],
                     mlp_down.inputs[2], coefficient.outputs[0]};
    }
    const Operation& last = residual ? after[3] : after[0];
    put(down, "experts_down",
        FewExpertsDown{.tokens = s.tokens,
                       .experts = s.experts,
                       .k = s.k,
                       .hidden = s.hidden,
                       .ffn = s.ffn,
                       .residual = residual,
                       .active = s.active},
        down_inputs, {last.outputs[0]});
  }

  Operand route_rows(const Operation& up, std::int64_t elements) {
    p_.buffers.push_back(
        {.name = "route_hidden", .layer = up.layer, .dtype = p_.dtype, .elements = elements});
    return {.buffer = BufferId(static_cast<std::int64_t>(p_.buffers.size()) - 1)};
  }

  Program& p_;
};

}  // namespace

Program lower_decode(Program program) {
  if (program.rows > kFewRows) return program;
  Lowering(program).run();
  for (Buffer& buffer : program.buffers) {
    buffer.first_use = buffer.last_use = -1;
    buffer.offset = 0;
  }
  place_buffers(program);
  return program;
}

}  // namespace imhotep::program
