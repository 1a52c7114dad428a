#pragma once
// Which ranks work together: what follows from a plan's degrees by arithmetic.
//
// World = tensor x data, tensor innermost: rank = data index * tensor + tensor index.
// Per MoE layer world = expert x slicing x replica, slicing innermost (RankOrder says the rest).
//
// The ranks of a tensor group hold the same tokens. Each is answerable for a share of them, so no
// token is dispatched twice:
//   flat, hierarchical, all-gather: the tokens are cut into `shares`; a rank sends its share to the
//   ranks
//     that hold the chosen experts, and results are all-gathered over `share_group`;
//   coordinated: a rank sends those of all its tokens whose expert sits at its own tensor index
//     (its lane), and the returned rows are all-gathered over `share_group`.
// Expert slicing: where slicing divides tensor, slicing peers hold the same tokens; each sends to
// its own slice only and partial results are summed over `slice_group`. Otherwise every row goes
// to all slicing peers (`copies`) and the partial rows are summed where they return.
// Source: DeepSpeed-MoE (arXiv 2201.05596), sections 5.2 and 5.3; docs/decisions/0002.

#include <cstdint>

#include "core/layout/members.h"
#include "core/spec/plan.h"

namespace imhotep {

struct RankPlace {
  int tensor = 0, data = 0;
};
[[nodiscard]] RankPlace rank_place(const Plan& plan, Rank rank);

struct ExpertPlace {
  int slice = 0, expert = 0, replica = 0;
};
[[nodiscard]] ExpertPlace expert_place(const Plan& plan, const MoeLayerPlan& moe, Rank rank);
[[nodiscard]] Rank rank_of(const Plan& plan, const MoeLayerPlan& moe, ExpertPlace place);

[[nodiscard]] Members world_group(const Plan& plan);
[[nodiscard]] Members tensor_group(const Plan& plan, Rank rank);
[[nodiscard]] Members data_group(const Plan& plan, Rank rank);
// Ranks that hold the same slice of the same experts: their gradients are summed.
[[nodiscard]] Members replica_group(const Plan& plan, const MoeLayerPlan& moe, Rank rank);

// How one rank takes part in the exchange of one MoE layer.
struct ExchangePlace {
  int lanes = 1, lane = 0;    // coordinated: experts of rank e belong to lane e % lanes
  int copies = 1;             // slicing peers that each get every row
  int shares = 1, share = 0;  // parts the tokens of a tensor group are cut into
  int own_index = 0;          // of this rank in `group`
  Members group;              // peers of the all-to-all, by expert rank, then copy
  Members share_group;        // all-gather of shares or lanes, by share; one rank: none needed
  Members slice_group;        // sum over slices at home; one rank: none needed
};
[[nodiscard]] ExchangePlace exchange_place(const Plan& plan, const MoeLayerPlan& moe, Rank rank);

// The tokens of share `index` of `shares`: parts of ceil(tokens / shares), so that they can be
// all-gathered as equal blocks; the last ones may be shorter or empty.
struct TokenRange {
  std::int64_t begin = 0, end = 0;
};
[[nodiscard]] TokenRange token_share(std::int64_t tokens, int shares, int index);

// Of a message of the all-gather exchange: rows for each expert, before the rows.
[[nodiscard]] inline std::int64_t gather_header_bytes(std::int64_t experts) {
  return (experts * std::int64_t{sizeof(std::int32_t)} + 7) / 8 * 8;
}

// Whether the algorithm can serve this layer; the reason when it cannot, else an empty string.
[[nodiscard]] std::string exchange_problem(const Plan& plan, const MoeLayerPlan& moe);

}  // namespace imhotep
