#include "simulator/loaded_program.h"

#include <algorithm>

namespace imhotep::simulator {
namespace {

// Communication moves a buffer that may be wider than the program's type.
Dtype dtype_of(const program::Program& program, const program::Operation& operation) {
  if (!operation.group.valid() || operation.inputs.size() == 0) return program.dtype;
  const program::Operand& moved = operation.inputs[0];
  return moved.valid() ? program[moved.buffer].dtype : program.dtype;
}

// Loads of the layers of one plan. Layers with as many experts, as widely spread, that expect as
// many rows carry the same load, unless it was measured for each.
class LayerLoads {
 public:
  LayerLoads(const Plan& plan, LoadMemory& memory) : plan_(plan), memory_(memory) {}

  // The gate of a layer, which comes before its other operations.
  void meet(int layer, const Route& gate) { gates_.emplace(layer, gate); }

  // `shared`: the rows are those of all ranks of the layer's expert group.
  const RoutedLoad& of(int layer, double mean_rows, bool shared) {
    if (shared) mean_rows /= degree_of(layer);
    const auto known = by_layer_.find(layer);
    if (known != by_layer_.end()) return known->second;
    return by_layer_.emplace(layer, load_of(layer, mean_rows)).first->second;
  }

 private:
  [[nodiscard]] int degree_of(int layer) const {
    for (const MoeLayerPlan& moe : plan_.moe_layers) {
      if (moe.layer == layer) return moe.expert;
    }
    return 1;
  }

  RoutedLoad load_of(int layer, double mean_rows) {
    int moe_index = 0;
    for (const MoeLayerPlan& moe : plan_.moe_layers) {
      if (moe.layer == layer) return load_of(moe, moe_index, mean_rows);
      ++moe_index;
    }
    return {};
  }

  RoutedLoad load_of(const MoeLayerPlan& moe, int moe_index, double mean_rows) {
    const RoutingSpec& routing = plan_.workload.routing;
    const auto found_gate = gates_.find(moe.layer);
    const Route gate = found_gate == gates_.end() ? Route{} : found_gate->second;
    const auto routes = static_cast<double>(gate.tokens * gate.k),
               capacity = static_cast<double>(gate.capacity);
    const auto compute = [&] {
      std::vector<double> shares = expert_shares(routing, moe.experts, moe_index);
      const double kept = capacity > 0 ? keep_within_capacity(shares, routes, capacity) : 1;
      RoutedLoad load = routed_load(shares, moe.expert, kept * mean_rows);
      load.factor *= kept;
      return load;
    };
    if (routing.kind == RoutingKind::Measured) return compute();
    const std::tuple key(routing.kind, routing.skew, moe.experts, moe.expert, mean_rows, routes,
                         capacity);
    if (memory_.known != nullptr) {
      const auto known = memory_.known->find(key);
      if (known != memory_.known->end()) return known->second;
    }
    const auto known = memory_.found.find(key);
    if (known != memory_.found.end()) return known->second;
    return memory_.found.emplace(key, compute()).first->second;
  }

  const Plan& plan_;
  LoadMemory& memory_;
  std::map<int, Route> gates_;
  std::map<int, RoutedLoad> by_layer_;
};

}  // namespace

int busy_ranks(const Plan& plan) { return std::min(plan.world, plan.ranks_per_node); }

std::vector<LoadedOperation> loaded_operations(const program::Program& program, const Plan& plan,
                                               LoadMemory* memory) {
  std::vector<GroupLayout> layouts;
  for (const program::Group& group : program.groups) {
    layouts.push_back(group_layout(group.members, plan.ranks_per_node));
  }
  LoadMemory own;
  LayerLoads loads(plan, memory != nullptr ? *memory : own);
  std::vector<LoadedOperation> all;
  all.reserve(program.operations.size());
  for (const program::Operation& operation : program.operations) {
    all.push_back(
        {.shape = operation.shape,
         .layout = operation.group.valid() ? layouts[operation.group.value] : GroupLayout{},
         .dtype = dtype_of(program, operation)});
    if (const auto* gate = std::get_if<Route>(&operation.shape)) loads.meet(operation.layer, *gate);
    const double rows = operation.layer < 0 ? 0 : routed_rows(operation.shape);
    if (rows <= 0) continue;
    all.back().shape = under_load(
        operation.shape, loads.of(operation.layer, rows, counts_whole_group(operation.shape)));
  }
  return all;
}

}  // namespace imhotep::simulator
