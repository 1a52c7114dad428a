#include "simulator/loaded_program.h"

#include <algorithm>
#include <map>

#include "simulator/cost/routing.h"

namespace imhotep::simulator {
namespace {

// Communication moves a buffer that may be wider than the program's type.
Dtype dtype_of(const program::Program& program, const program::Operation& operation) {
  if (!operation.group.valid() || operation.inputs.size() == 0) return program.dtype;
  const program::Operand& moved = operation.inputs[0];
  return moved.valid() ? program[moved.buffer].dtype : program.dtype;
}

RoutedLoad load_of(const Plan& plan, int layer, double mean_rows) {
  int moe_index = 0;
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    if (moe.layer == layer) {
      const auto shares = expert_shares(plan.workload.routing, moe.experts, moe_index);
      return routed_load(shares, moe.expert, mean_rows);
    }
    ++moe_index;
  }
  return {};
}

}  // namespace

int busy_ranks(const Plan& plan) { return std::min(plan.world, plan.ranks_per_node); }

std::vector<LoadedOperation> loaded_operations(const program::Program& program, const Plan& plan) {
  std::vector<GroupLayout> layouts;
  for (const program::Group& group : program.groups) {
    layouts.push_back(group_layout(group.members, plan.ranks_per_node));
  }
  std::map<int, RoutedLoad> loads;
  std::vector<LoadedOperation> all;
  all.reserve(program.operations.size());
  for (const program::Operation& operation : program.operations) {
    all.push_back(
        {.shape = operation.shape,
         .layout = operation.group.valid() ? layouts[operation.group.value] : GroupLayout{},
         .dtype = dtype_of(program, operation)});
    const double rows = operation.layer < 0 ? 0 : routed_rows(operation.shape);
    if (rows <= 0) continue;
    auto load = loads.find(operation.layer);
    if (load == loads.end()) {
      load = loads.emplace(operation.layer, load_of(plan, operation.layer, rows)).first;
    }
    all.back().shape = under_load(operation.shape, load->second);
  }
  return all;
}

}  // namespace imhotep::simulator
