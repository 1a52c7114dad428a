#pragma once
// Plans of one world for one model: all of them, or a small set in which every pair of choices
// meets in some plan (pairwise cover).

#include <cstdint>
#include <vector>

#include "core/spec/plan.h"

namespace imhotep::test {

// What is varied: tensor degree, and per MoE layer (expert, slicing, exchange), ZeRO stage,
// recomputation, rank order. All plans have one accumulation count and one global batch, because
// the balance loss is defined on a micro-batch.
struct PlanSpace {
  ModelSpec model;
  int world = 8;
  int ranks_per_node = 4;
  std::int64_t accumulation = 2, global_batch = 16, sequence = 8;
  // What a cover pairs of a layer: its degrees and exchange as one choice, or each by itself.
  bool layer_as_one = true;
};

// Every legal plan, in a fixed order; or only every `step`-th, from the one called `first` on.
[[nodiscard]] std::int64_t count_plans(const PlanSpace& space);
[[nodiscard]] std::vector<Plan> all_plans(const PlanSpace& space, std::int64_t first = 0,
                                          std::int64_t step = 1);

// Greedy: random legal plans are drawn until each pair of choices that any legal plan holds has
// been seen, or `most` plans are there; plans that add no new pair are left out.
struct PairwiseCover {
  std::vector<Plan> plans;
  std::int64_t pairs = 0;  // distinct pairs covered
};
[[nodiscard]] PairwiseCover pairwise_cover(const PlanSpace& space, std::uint64_t seed,
                                           std::size_t most = SIZE_MAX);

[[nodiscard]] std::string plan_label(const Plan& plan);

}  // namespace imhotep::test
