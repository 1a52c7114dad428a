#include "simulator/loaded_program.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "simulator/cost/routing.h"

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
  explicit LayerLoads(const Plan& plan) : plan_(plan) {}

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
    const bool alike = plan_.workload.routing.kind != RoutingKind::Measured;
    const std::tuple key(moe.experts, moe.expert, alike ? -1 : moe_index, mean_rows);
    const auto known = alike_.find(key);
    if (known != alike_.end()) return known->second;
    std::vector<double> shares = expert_shares(plan_.workload.routing, moe.experts, moe_index);
    double kept = 1;
    const auto gate = gates_.find(moe.layer);
    if (gate != gates_.end() && gate->second.capacity > 0) {
      kept = keep_within_capacity(shares, static_cast<double>(gate->second.tokens * gate->second.k),
                                  static_cast<double>(gate->second.capacity));
    }
    RoutedLoad load = routed_load(shares, moe.expert, kept * mean_rows);
    load.factor *= kept;
    return alike_.emplace(key, load).first->second;
  }

  const Plan& plan_;
  std::map<int, Route> gates_;
  std::map<int, RoutedLoad> by_layer_;
  std::map<std::tuple<int, int, int, double>, RoutedLoad> alike_;
};

}  // namespace

int busy_ranks(const Plan& plan) { return std::min(plan.world, plan.ranks_per_node); }

std::vector<LoadedOperation> loaded_operations(const program::Program& program, const Plan& plan) {
  std::vector<GroupLayout> layouts;
  for (const program::Group& group : program.groups) {
    layouts.push_back(group_layout(group.members, plan.ranks_per_node));
  }
  LayerLoads loads(plan);
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
