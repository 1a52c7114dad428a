#pragma once
// Where everything sits: which experts and slices of a layer a rank holds, who works with whom, and
// what the exchange of a layer moves over which link.

#include <QString>
#include <vector>

#include "core/layout/groups.h"
#include "core/spec/plan.h"

namespace imhotep::gui {

struct RankLoad {
  int first_expert = 0, experts = 0;  // held
  int slice = 0, slices = 1;
  int replica = 0, replicas = 1;
  // One dispatch of a micro-batch (training) or of a decode step, expected under even routing.
  double bytes_inside = 0;   // sent to other ranks of its node
  double bytes_between = 0;  // sent to other nodes
};

// One MoE layer over all ranks.
struct LayerPlacement {
  int layer = 0, experts = 0;
  std::vector<RankLoad> ranks;
  // Bytes between nodes, [from][to]; inside a node on the diagonal. Empty: more than kMostNodes.
  std::vector<std::vector<double>> links;
};

inline constexpr int kMostNodes = 64;

// Cost: linear in ranks and peers of the exchange. Requires: an MoE layer of the plan.
[[nodiscard]] LayerPlacement place_layer(const Plan& plan, int moe_index);

enum class GroupKind { Tensor, Data, Exchange, Slicing, Replica };
inline constexpr int kGroupKinds = 5;
[[nodiscard]] QString group_name(GroupKind kind);
// Ranks that work with `rank`, itself included. Without an MoE layer (index -1): tensor and data.
[[nodiscard]] std::vector<int> group_of(const Plan& plan, int moe_index, GroupKind kind, int rank);

// "rank 5 on node 0, GPU 5: experts 10–11 of 64, slice 1 of 2, replica 1 of 1; sends 4.2 MB ..."
[[nodiscard]] QString describe_rank(const Plan& plan, const LayerPlacement* placed, int rank);

}  // namespace imhotep::gui
