#include "simulator/network/group_layout.h"

#include <algorithm>

namespace imhotep::simulator {

GroupLayout group_layout(const Members& members, int ranks_per_node) {
  const Members::Spread spread = members.spread(std::max(ranks_per_node, 1));
  return {.size = static_cast<int>(members.size()),
          .nodes = std::max(spread.nodes, 1),
          .per_node = std::max(spread.fullest, 1)};
}

GroupLayout even_layout(int size, int nodes) {
  const int used = std::clamp(nodes, 1, std::max(size, 1));
  return {.size = size, .nodes = used, .per_node = (size + used - 1) / used};
}

}  // namespace imhotep::simulator
