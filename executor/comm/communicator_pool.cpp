#include "executor/comm/communicator_pool.h"

#include <algorithm>
#include <set>

#include "core/base/fail.h"

namespace imhotep::executor {

NodeGrid node_grid(const Members& group, int ranks_per_node) {
  std::map<int, std::vector<int>> nodes;
  for (std::size_t i = 0; i < group.size(); ++i) {
    nodes[group[i].value / ranks_per_node].push_back(static_cast<int>(i));
  }
  NodeGrid grid{.nodes = static_cast<int>(nodes.size()),
                .per_node = static_cast<int>(nodes.begin()->second.size()),
                .member = {}};
  for (const auto& [node, members] : nodes) {
    if (static_cast<int>(members.size()) != grid.per_node) {
      fail("hierarchical exchange: {} members of the group on node {}, {} on the first",
           members.size(), node, grid.per_node);
    }
    grid.member.insert(grid.member.end(), members.begin(), members.end());
  }
  return grid;
}

Members inside_node(const Members& group, const NodeGrid& grid, int node) {
  Members members;
  for (int l = 0; l < grid.per_node; ++l) members.push_back(group[grid.at(node, l)]);
  return members;
}

Members across_nodes(const Members& group, const NodeGrid& grid, int local) {
  Members members;
  for (int n = 0; n < grid.nodes; ++n) members.push_back(group[grid.at(n, local)]);
  return members;
}

namespace {

void add_grid_groups(const Members& group, int ranks_per_node, std::set<Members>& groups) {
  const NodeGrid grid = node_grid(group, ranks_per_node);
  for (int n = 0; n < grid.nodes; ++n) groups.insert(inside_node(group, grid, n));
  for (int l = 0; l < grid.per_node; ++l) groups.insert(across_nodes(group, grid, l));
}

}  // namespace

std::vector<Members> plan_groups(const Plan& plan) {
  std::set<Members> groups = {world_group(plan)}, gridded;
  for (int r = 0; r < plan.world; ++r) {
    const Rank rank(r);
    groups.insert(tensor_group(plan, rank));
    groups.insert(data_group(plan, rank));
    for (const MoeLayerPlan& moe : plan.moe_layers) {
      groups.insert(replica_group(plan, moe, rank));
      const ExchangePlace place = exchange_place(plan, moe, rank);
      if (!place.share_group.empty()) groups.insert(place.share_group);
      if (!place.slice_group.empty()) groups.insert(place.slice_group);
      groups.insert(place.group);
      if (moe.exchange == ExchangeAlgorithm::Hierarchical && gridded.insert(place.group).second) {
        add_grid_groups(place.group, plan.ranks_per_node, groups);
      }
    }
  }
  std::vector<Members> list;
  for (const Members& group : groups) {
    if (group.size() > 1) list.push_back(group);
  }
  return list;
}

void CommunicatorPool::prepare(const Plan& plan) {
  if (plan.world > bootstrap_.world()) {
    fail("the plan is made for {} ranks, but {} were started", plan.world, bootstrap_.world());
  }
  prepare(plan_groups(plan));
}

void CommunicatorPool::prepare(std::vector<Members> groups) {
  std::sort(groups.begin(), groups.end());
  const Rank own(bootstrap_.rank());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Members& group = groups[i];
    if (group.size() < 2 || communicators_.contains(group)) continue;
    if (std::find(group.begin(), group.end(), own) == group.end()) continue;
    constexpr std::size_t kTags = 32768;  // every MPI library has that many
    const int tag = static_cast<int>(i % kTags);
    communicators_[group] = make_ ? make_(group, tag) : bootstrap_.make_group(group, tag);
  }
}

Communicator& CommunicatorPool::get(const Members& members) {
  const auto found = communicators_.find(members);
  if (found != communicators_.end()) return *found->second;
  // A group of one needs nobody; its rank is another than this process's where every process runs
  // a plan of one rank for itself.
  if (members.size() != 1) {
    fail("rank {} has no communicator for a group of {} that begins with rank {}",
         bootstrap_.rank(), members.size(), members.empty() ? -1 : members.front().value);
  }
  return *(communicators_[members] =
               make_ ? make_(members, 0) : make_lone_communicator(members.front()));
}

}  // namespace imhotep::executor
