#pragma once
// --ranks-per-node: node boundaries drawn by hand, so that ranks of one machine act as those of
// several, in the executor and in the simulator alike.

#include <optional>

#include "cli/arguments.h"
#include "core/spec/cluster.h"
#include "core/spec/plan.h"

namespace imhotep::cli {

void declare_ranks_per_node(Arguments& arguments, std::optional<std::int64_t>& value);

// The plan on nodes of that many ranks; unchanged without a value. Throws: Input when the plan's
// exchanges do not allow it.
void draw_nodes(Plan& plan, const std::optional<std::int64_t>& ranks_per_node);

// As many devices as before, or `ranks` if those are more, cut into nodes of that many.
void draw_nodes(ClusterSpec& cluster, std::int64_t ranks_per_node, std::int64_t ranks);

}  // namespace imhotep::cli
