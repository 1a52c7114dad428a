// The block is recognised by the names of its listing (mlp.cpp, moe.cpp), some of which are there
// only with several ranks.

#include "core/program/lower_routed.h"

#include <algorithm>
#include <string_view>

#include "core/base/few_rows.h"

namespace imhotep::program {

// Pointers into the plain listing; null where an operation is absent.
struct RoutedLowering::Block {
  const Operation *norm = nullptr, *gate = nullptr, *route = nullptr, *pack = nullptr;
  const Operation *dispatch = nullptr, *up = nullptr, *down = nullptr, *slice_sum = nullptr;
  const Operation *mlp_up = nullptr, *mlp_down = nullptr, *mlp_sum = nullptr;
  const Operation *coefficient = nullptr, *last = nullptr;
  std::size_t taken = 0;  // 0: not a routed block

  [[nodiscard]] bool residual() const { return mlp_up != nullptr; }

  explicit Block(std::span<const Operation> rest) : rest_(rest) {
    bool whole =
        need("ln2", norm) && need("gate", gate) && need("route", route) && need("pack", pack);
    maybe("dispatch_counts");
    whole = whole && need("receive_order") && need("pack_rows");
    dispatch = maybe("dispatch");
    maybe("group_rows");
    whole = whole && need("experts_up", up) && need("experts_down", down);
    maybe("ungroup_rows");
    maybe("combine");
    whole = whole && need("combine_rows");
    slice_sum = maybe("slice_sum");
    last = maybe("moe_residual");
    if (last == nullptr) {
      whole = whole && need("mlp_up", mlp_up) && need("mlp_down", mlp_down);
      mlp_sum = maybe("mlp_sum");
      whole = whole && need("coefficient", coefficient) && need("residual_mix", last);
    }
    taken = whole ? at_ : 0;
  }

 private:
  const Operation* maybe(std::string_view name) {
    return at_ < rest_.size() && name == rest_[at_].name ? &rest_[at_++] : nullptr;
  }
  bool need(std::string_view name, const Operation*& place) {
    place = maybe(name);
    return place != nullptr;
  }
  bool need(std::string_view name) { return maybe(name) != nullptr; }

  std::span<const Operation> rest_;
  std::size_t at_ = 0;
};

// Sizes of the fused operations.
struct RoutedLowering::Widths {
  std::int64_t own = 0, tokens = 0;  // of this rank, of all that share the work
  std::int64_t experts = 0, k = 1, hidden = 0, ffn = 0, mlp = 0;
  std::int64_t first_expert = 0, held = 0;
  std::int64_t own_begin = 0, own_end = kAllTokens;  // whose x is added here
  double active = 0;
};

namespace {

// Whether one kind of sharing explains all the communication of the block: none, sums over one
// group of slices, or a flat exchange of tokens that each go to one rank.
bool simple_sharing(const Program& p, const PackOrder& pack, const Operation* dispatch,
                    const Operation* slice_sum, const Operation* mlp_sum, bool residual) {
  if (pack.copies != 1 || pack.lanes != 1) return false;
  if (dispatch != nullptr) {
    const auto* rows = std::get_if<ExchangeRows>(&dispatch->shape);
    return rows != nullptr && rows->algorithm == ExchangeAlgorithm::Flat && slice_sum == nullptr &&
           mlp_sum == nullptr;
  }
  if (slice_sum == nullptr) return mlp_sum == nullptr;
  if (!residual) return true;
  return mlp_sum != nullptr &&
         p.groups[mlp_sum->group.value].members == p.groups[slice_sum->group.value].members;
}

}  // namespace

std::size_t RoutedLowering::operator()(std::span<const Operation> rest) {
  const Block block(rest);
  if (block.taken == 0) return 0;
  const auto* up = std::get_if<GroupedGemm>(&block.up->shape);
  const auto* route = std::get_if<Route>(&block.route->shape);
  const auto* norm = std::get_if<LayerNorm>(&block.norm->shape);
  const auto* gate = std::get_if<Gemm>(&block.gate->shape);
  const auto* pack = std::get_if<PackOrder>(&block.pack->shape);
  if (up == nullptr || route == nullptr || norm == nullptr || gate == nullptr || pack == nullptr ||
      !simple_sharing(p_, *pack, block.dispatch, block.slice_sum, block.mlp_sum,
                      block.residual())) {
    return 0;
  }
  Widths w{.own = route->tokens,
           .tokens = route->tokens,
           .experts = route->experts,
           .k = route->k,
           .hidden = norm->hidden,
           .ffn = up->n,
           .mlp = block.residual() ? std::get<Gemm>(block.mlp_up->shape).n : 0,
           .held = up->experts,
           .active = up->active};
  if (block.dispatch != nullptr) {
    const Group& group = p_.groups[block.dispatch->group.value];
    w.tokens = w.own * static_cast<std::int64_t>(group.members.size());
    w.first_expert = group.own_index * w.held;
    w.own_begin = group.own_index * w.own;
    w.own_end = w.own_begin + w.own;
  } else if (block.slice_sum != nullptr && !block.down->inputs[3].valid()) {
    w.own_end = 0;  // biases and x come from the first slice
  }
  const bool wide_gate = p_.dtype != Dtype::Bf16 || gate->wide_b;
  if (!wide_gate || w.ffn % 8 != 0 || w.mlp % 8 != 0 || route->policy != DropPolicy::None ||
      !suits_few_experts(w.tokens, w.experts, w.k, w.hidden)) {
    return 0;
  }
  lower(block, w);
  return block.taken;
}

// Appends an operation in the place of `old`.
void RoutedLowering::put(const Operation& old, const char* name, Shape shape, Operands inputs,
                         Operands outputs) {
  Operation op = old;
  op.name = name;
  op.shape = shape;
  op.inputs = inputs;
  op.outputs = outputs;
  p_.operations.push_back(op);
}

// A buffer of that type and layer for that many elements: `old` itself where it has as many.
Operand RoutedLowering::like(Operand old, std::int64_t elements, const char* name) {
  const Buffer& model = p_[old.buffer];
  if (model.elements == elements) return old;
  const Buffer fresh{
      .name = name, .layer = model.layer, .dtype = model.dtype, .elements = elements};
  p_.buffers.push_back(fresh);
  return {.buffer = BufferId(static_cast<std::int64_t>(p_.buffers.size()) - 1)};
}

Operand RoutedLowering::gathered_used(const Block& block, std::int64_t tokens) {
  const Operand used = block.route->inputs.size() > 1 ? block.route->inputs[1] : Operand{};
  if (!used.valid() || block.dispatch == nullptr) return used;
  const auto [found, added] = used_.try_emplace(block.dispatch->group.value);
  if (added) {
    p_.buffers.push_back({.name = "used_all", .dtype = Dtype::I32, .elements = tokens});
    found->second.buffer = BufferId(static_cast<std::int64_t>(p_.buffers.size()) - 1);
    put(*block.dispatch, "gather_used", AllGather{p_[used.buffer].elements}, {used},
        {found->second});
  }
  return found->second;
}

void RoutedLowering::lower(const Block& block, const Widths& w) {
  const Operation &norm = *block.norm, &gate = *block.gate, &route = *block.route, &up = *block.up,
                  &down = *block.down;
  const bool residual = block.residual(), spread = block.dispatch != nullptr;
  const Operand used = gathered_used(block, w.tokens);
  Operand x = norm.inputs[0];
  if (spread) {
    const Operand all = like(norm.outputs[0], w.tokens * w.hidden, "block_in_all");
    put(*block.dispatch, "gather_block", AllGather{w.own * w.hidden}, {x}, {all});
    x = all;
  }
  const Operand n = like(norm.outputs[0], w.tokens * w.hidden, "n2_all");
  const Operand logits = like(gate.outputs[0], w.tokens * w.experts, "gate_logits_all");
  Operands gate_inputs{x, norm.inputs[1], norm.inputs[2], gate.inputs[1]};
  Operands gate_outputs{n, logits};
  Operand mix, hidden;
  if (residual) {
    const Operation &mlp_up = *block.mlp_up, &coefficient = *block.coefficient;
    mix = like(coefficient.outputs[0], 2 * w.tokens, "coefficient_all");
    hidden = like(mlp_up.outputs[0], w.tokens * w.mlp, "mlp_hidden_all");
    for (const Operand& in :
         {coefficient.inputs[1], coefficient.inputs[2], mlp_up.inputs[1], mlp_up.inputs[2]}) {
      gate_inputs.add(in);
    }
    gate_outputs.add(mix);
    gate_outputs.add(hidden);
  }
  put(gate, residual ? "gate_mlp_up" : "gate",
      NormGate{.rows = w.tokens, .hidden = w.hidden, .experts = w.experts, .mlp = w.mlp},
      gate_inputs, gate_outputs);

  const Operand route_hidden = like(up.outputs[0], w.tokens * w.k * w.ffn, "route_hidden");
  const Operand expert = like(route.outputs[1], w.tokens * w.k, "route_expert_all");
  const Operand weight = like(route.outputs[2], w.tokens * w.k, "route_weight_all");
  FewExpertsUp first{.tokens = w.tokens,
                     .experts = w.experts,
                     .k = w.k,
                     .hidden = w.hidden,
                     .ffn = w.ffn,
                     .active = w.active,
                     .first_expert = w.first_expert,
                     .local = w.held};
  if (spread) first.own_begin = w.own_begin, first.own_end = w.own_end;
  put(up, "experts_up", first, {n, logits, used, up.inputs[1], up.inputs[3], down.inputs[1]},
      {route_hidden, expert, weight, route.outputs[3]});

  Operands down_inputs{x, route_hidden, expert, weight, down.inputs[1], down.inputs[3]};
  if (residual) {
    for (const Operand& in : {hidden, block.mlp_down->inputs[1], block.mlp_down->inputs[2], mix}) {
      down_inputs.add(in);
    }
  }
  const Operand out = block.last->outputs[0];
  const Operand sum = spread ? like(out, w.tokens * w.hidden, "block_out_all") : out;
  put(down, "experts_down",
      FewExpertsDown{.tokens = w.tokens,
                     .experts = w.held,
                     .k = w.k,
                     .hidden = w.hidden,
                     .ffn = w.ffn,
                     .residual = residual,
                     .active = w.active,
                     .own_begin = w.own_begin,
                     .own_end = w.own_end,
                     .sliced = block.slice_sum != nullptr},
      down_inputs, {sum});
  if (spread) {
    put(*block.dispatch, "scatter_block", ReduceScatter{w.own * w.hidden}, {sum}, {out});
  } else if (block.slice_sum != nullptr) {
    put(*block.slice_sum, "block_sum", AllReduce{w.own * w.hidden}, {out}, {out});
  }
}

}  // namespace imhotep::program
