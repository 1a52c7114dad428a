#pragma once
// Where the ranks of a group sit: all that the network model asks of them.

#include "core/layout/members.h"

namespace imhotep::simulator {

struct GroupLayout {
  int size = 1;
  int nodes = 1;
  int per_node = 1;  // ranks on the fullest node
  bool operator==(const GroupLayout&) const = default;
};

// Ranks r with equal r / ranks_per_node share a node.
[[nodiscard]] GroupLayout group_layout(const Members& members, int ranks_per_node);
// `size` ranks spread evenly over `nodes`.
[[nodiscard]] GroupLayout even_layout(int size, int nodes);

}  // namespace imhotep::simulator
