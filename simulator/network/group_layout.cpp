#include "simulator/network/group_layout.h"

#include <algorithm>

namespace imhotep::simulator {

GroupLayout group_layout(const std::vector<Rank>& members, int ranks_per_node) {
  std::vector<int> nodes;
  for (const Rank member : members) nodes.push_back(member.value / std::max(ranks_per_node, 1));
  std::sort(nodes.begin(), nodes.end());
  GroupLayout layout{.size = static_cast<int>(members.size()), .nodes = 0, .per_node = 1};
  for (std::size_t first = 0; first < nodes.size();) {
    std::size_t end = first;
    while (end < nodes.size() && nodes[end] == nodes[first]) ++end;
    ++layout.nodes;
    layout.per_node = std::max(layout.per_node, static_cast<int>(end - first));
    first = end;
  }
  layout.nodes = std::max(layout.nodes, 1);
  return layout;
}

GroupLayout even_layout(int size, int nodes) {
  const int used = std::clamp(nodes, 1, std::max(size, 1));
  return {.size = size, .nodes = used, .per_node = (size + used - 1) / used};
}

}  // namespace imhotep::simulator
