#include "core/layout/groups.h"

#include <algorithm>
#include <map>

#include "core/base/fail.h"

namespace imhotep {

RankPlace rank_place(const Plan& plan, Rank rank) {
  return {.tensor = rank.value % plan.tensor, .data = rank.value / plan.tensor};
}

ExpertPlace expert_place(const Plan& plan, const MoeLayerPlan& moe, Rank rank) {
  const int block = rank.value / moe.slicing;
  const bool consecutive = plan.rank_order == RankOrder::Consecutive;
  return {.slice = rank.value % moe.slicing,
          .expert = consecutive ? block % moe.expert : block / moe.replica,
          .replica = consecutive ? block / moe.expert : block % moe.replica};
}

Rank rank_of(const Plan& plan, const MoeLayerPlan& moe, ExpertPlace place) {
  const int block = plan.rank_order == RankOrder::Consecutive
                        ? place.replica * moe.expert + place.expert
                        : place.expert * moe.replica + place.replica;
  return Rank(block * moe.slicing + place.slice);
}

Members world_group(const Plan& plan) {
  Members members;
  for (int r = 0; r < plan.world; ++r) members.emplace_back(r);
  return members;
}

Members tensor_group(const Plan& plan, Rank rank) {
  Members members;
  const int first = rank.value / plan.tensor * plan.tensor;
  for (int t = 0; t < plan.tensor; ++t) members.emplace_back(first + t);
  return members;
}

Members data_group(const Plan& plan, Rank rank) {
  Members members;
  for (int d = 0; d < plan.data; ++d)
    members.emplace_back(d * plan.tensor + rank.value % plan.tensor);
  return members;
}

Members replica_group(const Plan& plan, const MoeLayerPlan& moe, Rank rank) {
  Members members;
  ExpertPlace place = expert_place(plan, moe, rank);
  for (place.replica = 0; place.replica < moe.replica; ++place.replica) {
    members.push_back(rank_of(plan, moe, place));
  }
  return members;
}

namespace {

// Slicing peers sit inside one tensor group, so that they hold the same tokens.
bool sliced_together(const Plan& plan, const MoeLayerPlan& moe) {
  return plan.tensor % moe.slicing == 0;
}

void add_share_groups(const Plan& plan, const MoeLayerPlan& moe, Rank rank, int shares,
                      ExchangePlace& place) {
  const int tensor_first = rank.value / plan.tensor * plan.tensor;
  const int stride = plan.tensor / shares;
  for (int q = 0; q < shares; ++q) {
    place.share_group.emplace_back(tensor_first + q * stride + rank.value % stride);
  }
  if (stride != moe.slicing) fail("slicing {} in a stride of {}", moe.slicing, stride);
  const int slice_first = rank.value / moe.slicing * moe.slicing;
  for (int s = 0; s < moe.slicing; ++s) place.slice_group.emplace_back(slice_first + s);
}

}  // namespace

ExchangePlace exchange_place(const Plan& plan, const MoeLayerPlan& moe, Rank rank) {
  ExchangePlace place;
  const ExpertPlace own = expert_place(plan, moe, rank);
  const int tensor_index = rank.value % plan.tensor;
  if (!sliced_together(plan, moe)) {
    place.copies = moe.slicing;
    place.shares = plan.tensor;
    place.share = tensor_index;
    for (int e = 0; e < moe.expert; ++e) {
      for (int s = 0; s < moe.slicing; ++s) {
        place.group.push_back(
            rank_of(plan, moe, {.slice = s, .expert = e, .replica = own.replica}));
      }
    }
    place.share_group = tensor_group(plan, rank);
    place.slice_group = {rank};
  } else {
    const int parts = plan.tensor / moe.slicing;
    const bool coordinated = moe.exchange == ExchangeAlgorithm::Coordinated;
    place.lanes = coordinated ? parts : 1;
    place.lane = coordinated ? tensor_index / moe.slicing : 0;
    place.shares = coordinated ? 1 : parts;
    place.share = coordinated ? 0 : tensor_index / moe.slicing;
    for (int e = place.lane; e < moe.expert; e += place.lanes) {
      place.group.push_back(
          rank_of(plan, moe, {.slice = own.slice, .expert = e, .replica = own.replica}));
    }
    add_share_groups(plan, moe, rank, parts, place);
  }
  const auto found = std::find(place.group.begin(), place.group.end(), rank);
  place.own_index = static_cast<int>(found - place.group.begin());
  return place;
}

TokenRange token_share(std::int64_t tokens, int shares, int index) {
  const std::int64_t part = (tokens + shares - 1) / shares;
  return {.begin = std::min(tokens, part * index), .end = std::min(tokens, part * (index + 1))};
}

namespace {

// Every group must cover several nodes, with equally many of its ranks, more than one, on each.
std::string hierarchical_problem(const Plan& plan, const MoeLayerPlan& moe) {
  for (int r = 0; r < plan.world; ++r) {
    const ExpertPlace own = expert_place(plan, moe, Rank(r));
    // One rank a group is enough; slicing peers that each get every row share one.
    if (own.expert > 0 || (own.slice > 0 && !sliced_together(plan, moe))) continue;
    std::map<int, int> per_node;
    for (const Rank peer : exchange_place(plan, moe, Rank(r)).group) {
      ++per_node[peer.value / plan.ranks_per_node];
    }
    const int first = per_node.begin()->second;
    if (per_node.size() < 2 || first < 2) {
      return "the hierarchical exchange needs groups with several ranks on several nodes";
    }
    for (const auto& [node, count] : per_node) {
      if (count != first) return "the hierarchical exchange needs equally many ranks on every node";
    }
  }
  return {};
}

}  // namespace

std::string exchange_problem(const Plan& plan, const MoeLayerPlan& moe) {
  if (moe.exchange == ExchangeAlgorithm::Coordinated) {
    const int parts = sliced_together(plan, moe) ? plan.tensor / moe.slicing : 1;
    if (parts < 2) return "the coordinated exchange needs tensor degree > slicing degree";
    if (moe.expert % parts != 0) {
      return fmt::format("the coordinated exchange needs expert degree divisible by {}", parts);
    }
    if (plan.rank_order == RankOrder::Strided && moe.replica > 1) {
      return "the coordinated exchange needs consecutive rank order";
    }
  }
  if (moe.exchange == ExchangeAlgorithm::AllGather) {
    if (plan.device == DeviceKind::Cuda) return "the all-gather exchange runs on CPU ranks only";
    if (moe.expert * (sliced_together(plan, moe) ? 1 : moe.slicing) < 2) {
      return "the all-gather exchange needs groups of several ranks";
    }
  }
  if (moe.exchange == ExchangeAlgorithm::Hierarchical) return hierarchical_problem(plan, moe);
  return {};
}

}  // namespace imhotep
