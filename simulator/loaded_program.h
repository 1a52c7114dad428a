#pragma once
// A program as the rank meets it that routing loads most: what the simulator prices, operation by
// operation, and what a measured step is compared with.

#include <map>
#include <tuple>
#include <vector>

#include "core/program/program.h"
#include "core/spec/plan.h"
#include "simulator/cost/routing.h"
#include "simulator/network/group_layout.h"

namespace imhotep::simulator {

struct LoadedOperation {
  program::Shape shape;
  GroupLayout layout;        // of its group; a group of one for computation
  Dtype dtype = Dtype::F32;  // of the program, for communication that of the buffer that moves
};

// Kind and skew of the routing, experts, expert degree, rows that are expected, routes of a rank's
// tokens and of them the capacity of an expert.
using Loads =
    std::map<std::tuple<RoutingKind, double, int, int, double, double, double>, RoutedLoad>;

// Loads that were computed before; not those of measured routing, which differ from layer to layer.
struct LoadMemory {
  const Loads* known = nullptr;  // older ones
  Loads found;
};

// One for each operation. Every routed operation of a layer meets the load that its first one
// expects (simulator/cost/routing.h), from plan.workload.routing.
// Throws: Error(Input) when a measured histogram does not fit its layer.
[[nodiscard]] std::vector<LoadedOperation> loaded_operations(const program::Program& program,
                                                             const Plan& plan,
                                                             LoadMemory* memory = nullptr);

// Ranks of a node that work at once.
[[nodiscard]] int busy_ranks(const Plan& plan);

}  // namespace imhotep::simulator
