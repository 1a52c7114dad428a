#include "core/layout/groups.h"

#include <algorithm>

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

Members world_group(const Plan& plan) { return {Rank(0), {.count = plan.world}}; }

Members tensor_group(const Plan& plan, Rank rank) {
  return {Rank(rank.value / plan.tensor * plan.tensor), {.count = plan.tensor}};
}

Members data_group(const Plan& plan, Rank rank) {
  return {Rank(rank.value % plan.tensor), {.count = plan.data, .stride = plan.tensor}};
}

Members replica_group(const Plan& plan, const MoeLayerPlan& moe, Rank rank) {
  ExpertPlace place = expert_place(plan, moe, rank);
  place.replica = 0;
  const bool consecutive = plan.rank_order == RankOrder::Consecutive;
  const int stride = consecutive ? moe.expert * moe.slicing : moe.slicing;
  return {rank_of(plan, moe, place), {.count = moe.replica, .stride = stride}};
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
  place.share_group = {Rank(tensor_first + rank.value % stride),
                       {.count = shares, .stride = stride}};
  if (stride != moe.slicing) fail("slicing {} in a stride of {}", moe.slicing, stride);
  const int slice_first = rank.value / moe.slicing * moe.slicing;
  place.slice_group = {Rank(slice_first), {.count = moe.slicing}};
}

}  // namespace

ExchangePlace exchange_place(const Plan& plan, const MoeLayerPlan& moe, Rank rank) {
  ExchangePlace place;
  const ExpertPlace own = expert_place(plan, moe, rank);
  const int tensor_index = rank.value % plan.tensor;
  const bool consecutive = plan.rank_order == RankOrder::Consecutive;
  const int between_experts = consecutive ? moe.slicing : moe.replica * moe.slicing;
  if (!sliced_together(plan, moe)) {
    place.copies = moe.slicing;
    place.shares = plan.tensor;
    place.share = tensor_index;
    place.group = {rank_of(plan, moe, {.replica = own.replica}),
                   {.count = moe.expert, .stride = between_experts},
                   {.count = moe.slicing}};
    place.share_group = tensor_group(plan, rank);
    place.slice_group = {rank};
  } else {
    const int parts = plan.tensor / moe.slicing;
    const bool coordinated = moe.exchange == ExchangeAlgorithm::Coordinated;
    place.lanes = coordinated ? parts : 1;
    place.lane = coordinated ? tensor_index / moe.slicing : 0;
    place.shares = coordinated ? 1 : parts;
    place.share = coordinated ? 0 : tensor_index / moe.slicing;
    const int peers = (moe.expert - place.lane + place.lanes - 1) / place.lanes;
    place.group = {
        rank_of(plan, moe, {.slice = own.slice, .expert = place.lane, .replica = own.replica}),
        {.count = std::max(0, peers), .stride = place.lanes * between_experts}};
    add_share_groups(plan, moe, rank, parts, place);
  }
  place.own_index = static_cast<int>(place.group.index_of(rank));
  return place;
}

TokenRange token_share(std::int64_t tokens, int shares, int index) {
  const std::int64_t part = (tokens + shares - 1) / shares;
  return {.begin = std::min(tokens, part * index), .end = std::min(tokens, part * (index + 1))};
}

namespace {

// Every group must cover several nodes, with equally many of its ranks, more than one, on each.
std::string hierarchical_problem(const Plan& plan, const MoeLayerPlan& moe) {
  // One rank a group is enough; slicing peers that each get every row share one.
  const int slices = sliced_together(plan, moe) ? moe.slicing : 1;
  for (int g = 0; g < moe.replica * slices; ++g) {
    const Rank rank = rank_of(plan, moe, {.slice = g % slices, .replica = g / slices});
    const Members group = exchange_place(plan, moe, rank).group;
    const Members::Spread spread = group.spread(plan.ranks_per_node);
    if (spread.nodes < 2 || spread.first < 2) {
      return "the hierarchical exchange needs groups with several ranks on several nodes";
    }
    if (static_cast<std::size_t>(spread.fullest) * static_cast<std::size_t>(spread.nodes) !=
        group.size()) {
      return "the hierarchical exchange needs equally many ranks on every node";
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
