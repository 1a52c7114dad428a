#pragma once
// What the planner is asked: a model and a workload on a cluster, and what is already decided.

#include <optional>
#include <string_view>
#include <vector>

#include "core/spec/cluster.h"
#include "core/spec/plan.h"

namespace imhotep::planner {

// Degrees chosen by hand; what is absent is searched. Lists hold a value for every MoE layer in
// model order, 0 where that layer is free; an empty list leaves all of them free.
struct FixedDegrees {
  std::optional<int> tensor, data, zero;
  std::optional<std::int64_t> micro_batch, accumulation;
  std::optional<Recompute> recompute;
  std::optional<ExchangeAlgorithm> exchange;
  std::optional<RankOrder> rank_order;
  std::vector<int> expert, slicing, replica;
};

// "tensor=2,expert=4,slicing=1". Keys: tensor data expert slicing replica exchange zero micro_batch
// accumulation recompute rank_order. The values of expert, slicing and replica are one number for
// all MoE layers, a list with one for each ("2,2,1"), or pairs "2x4,1x8": degree 2 for the layers
// of 4 experts, degree 1 for those of 8. Where no layer has that many experts, the second number
// counts layers instead, as in expert lists.
// Throws: Error(Input) naming the part that cannot be read, with the nearest known key.
[[nodiscard]] FixedDegrees parse_fixed_degrees(std::string_view text, const ModelSpec& model);

// How many tokens a data rank's KV cache holds: no step takes longer for it, so of several the
// largest that memory holds is chosen; smaller ones than the batch needs are no plans.
struct KvBudget {
  bool fill = false;                 // as much as memory leaves, programs of a server counted
  std::vector<std::int64_t> tokens;  // or one of these, ascending
  [[nodiscard]] bool any() const { return fill || !tokens.empty(); }
};

struct Request {
  ModelSpec model;
  ClusterSpec cluster;
  Workload workload;
  Dtype dtype = Dtype::F32;
  ExecutionStyle style = ExecutionStyle::Imhotep;
  std::vector<int> worlds;  // device counts to try
  FixedDegrees fixed;
  KvBudget kv;  // generation; nothing: what the batch needs
};

// Powers of two up to the cluster, and the cluster itself.
[[nodiscard]] std::vector<int> default_worlds(const ClusterSpec& cluster);

// Ranks of `world` that share a node. Ranks on processor cores may outnumber the cores.
[[nodiscard]] int ranks_per_node(const ClusterSpec& cluster, int world);

// Memory of one rank; the ranks of a node share the memory of its processors.
[[nodiscard]] std::int64_t rank_memory_bytes(const ClusterSpec& cluster, int world);

}  // namespace imhotep::planner
