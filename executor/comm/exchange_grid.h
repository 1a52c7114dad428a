#pragma once
// State of a hierarchical exchange at one rank. Internal to executor/comm.
//
// The rank is member `local` of its node. Rows from local peer l for member (n, local) of node n
// pass through it: block (l, n) of the middle, stored source-major. Their counts travel with the
// counts exchange, in the same two steps, and are kept until the next one.

#include <vector>

#include "executor/comm/exchange.h"

namespace imhotep::executor {

struct Exchange::Grid {
  Grid(NodeGrid grid, Communicator& inside_group, Communicator& across_group,
       std::int64_t local_experts);

  NodeGrid nodes;
  Communicator& inside;
  Communicator& across;
  std::vector<std::int32_t> counts;  // [per_node, nodes, local experts] passing through
  std::vector<std::int64_t> begin;   // [per_node * nodes + 1]: first row of each block
  std::vector<std::int32_t> sent;    // as announced by the last counts exchange
  // What a member of the node, or of the equals on all nodes, has to do with: rows at home, rows
  // in the middle by either neighbourhood, rows at the experts.
  PieceLists home, middle_inside, middle_across, away;
};

}  // namespace imhotep::executor
