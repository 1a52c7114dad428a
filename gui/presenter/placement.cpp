#include "gui/presenter/placement.h"

#include <algorithm>

#include "core/base/dtype.h"
#include "core/base/units.h"
#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

// Tokens of a data rank in one program.
double tokens_of(const Plan& plan) {
  if (plan.workload.kind == WorkloadKind::Training) {
    return static_cast<double>(plan.micro_batch * plan.workload.sequence);
  }
  return static_cast<double>(plan.sequences_per_rank());
}

int node_of(const Plan& plan, int rank) { return rank / plan.ranks_per_node; }

QString sent_text(double bytes) { return bytes > 0 ? qt(format_bytes(bytes)) : QString("nothing"); }

}  // namespace

LayerPlacement place_layer(const Plan& plan, int moe_index) {
  const MoeLayerPlan& moe = plan.moe_layers.at(static_cast<std::size_t>(moe_index));
  LayerPlacement placed{.layer = moe.layer, .experts = moe.experts};
  placed.ranks.resize(static_cast<std::size_t>(plan.world));
  const int nodes = (plan.world + plan.ranks_per_node - 1) / plan.ranks_per_node;
  if (nodes <= kMostNodes) placed.links.assign(nodes, std::vector<double>(nodes, 0));
  const double row_bytes =
      static_cast<double>(plan.model.hidden) * static_cast<double>(bytes_of(plan.dtype));
  for (int rank = 0; rank < plan.world; ++rank) {
    RankLoad& load = placed.ranks[rank];
    const ExpertPlace place = expert_place(plan, moe, Rank(rank));
    load.experts = moe.experts / moe.expert;
    load.first_expert = place.expert * load.experts;
    load.slice = place.slice;
    load.slices = moe.slicing;
    load.replica = place.replica;
    load.replicas = moe.replica;
    const ExchangePlace exchange = exchange_place(plan, moe, Rank(rank));
    // Coordinated: one lane of all tokens; else the share this rank answers for.
    const double tokens = tokens_of(plan) / std::max(exchange.lanes, exchange.shares);
    const double sent = tokens * plan.model.top_k * exchange.copies * row_bytes;
    const double each = sent / static_cast<double>(exchange.group.size());
    for (const Rank peer : exchange.group) {
      if (peer.value == rank) continue;
      const int from = node_of(plan, rank), to = node_of(plan, peer.value);
      (from == to ? load.bytes_inside : load.bytes_between) += each;
      if (!placed.links.empty()) placed.links[from][to] += each;
    }
  }
  return placed;
}

QString group_name(GroupKind kind) {
  constexpr const char* kNames[kGroupKinds] = {"tensor", "data", "exchange", "slicing", "replica"};
  return kNames[static_cast<int>(kind)];
}

std::vector<int> group_of(const Plan& plan, int moe_index, GroupKind kind, int rank) {
  Members members;
  const MoeLayerPlan* moe =
      moe_index < 0 ? nullptr : &plan.moe_layers.at(static_cast<std::size_t>(moe_index));
  switch (kind) {
    case GroupKind::Tensor:
      members = tensor_group(plan, Rank(rank));
      break;
    case GroupKind::Data:
      members = data_group(plan, Rank(rank));
      break;
    case GroupKind::Exchange:
      if (moe != nullptr) members = exchange_place(plan, *moe, Rank(rank)).group;
      break;
    case GroupKind::Slicing:
      if (moe != nullptr) {
        ExpertPlace place = expert_place(plan, *moe, Rank(rank));
        for (place.slice = 0; place.slice < moe->slicing; ++place.slice) {
          members.push_back(rank_of(plan, *moe, place));
        }
      }
      break;
    case GroupKind::Replica:
      if (moe != nullptr) members = replica_group(plan, *moe, Rank(rank));
      break;
  }
  std::vector<int> ranks;
  for (const Rank member : members) ranks.push_back(member.value);
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

QString describe_rank(const Plan& plan, const LayerPlacement* placed, int rank) {
  const RankPlace place = rank_place(plan, Rank(rank));
  QString text = QString("Rank %1 on node %2, %3 %4: tensor index %5 of %6, data index %7 of %8")
                     .arg(rank)
                     .arg(node_of(plan, rank))
                     .arg(plan.device == DeviceKind::Cuda ? "GPU" : "core")
                     .arg(rank % plan.ranks_per_node)
                     .arg(place.tensor)
                     .arg(plan.tensor)
                     .arg(place.data)
                     .arg(plan.data);
  if (placed == nullptr) return text + ".";
  const RankLoad& load = placed->ranks.at(static_cast<std::size_t>(rank));
  text += QString(". Layer %1: ").arg(placed->layer);
  text += load.experts == 1 ? QString("expert %1").arg(load.first_expert)
                            : QString("experts %1–%2")
                                  .arg(load.first_expert)
                                  .arg(load.first_expert + load.experts - 1);
  text += QString(" of %1").arg(placed->experts);
  if (load.slices > 1) text += QString(", slice %1 of %2").arg(load.slice).arg(load.slices);
  if (load.replicas > 1) text += QString(", replica %1 of %2").arg(load.replica).arg(load.replicas);
  return text + QString("; a dispatch sends %1 inside the node and %2 to other nodes.")
                    .arg(sent_text(load.bytes_inside), sent_text(load.bytes_between));
}

}  // namespace imhotep::gui
