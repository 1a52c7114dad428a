#pragma once
// Random plans, and ranks whose memory holds values that follow from tensor name and place alone.

#include <cstring>
#include <string>
#include <vector>

#include "core/base/content_hash.h"
#include "core/base/random.h"
#include "core/spec/plan.h"
#include "executor/checkpoint/checkpoint.h"
#include "executor/checkpoint/tensor_table.h"

namespace imhotep::executor {

inline ModelSpec random_model(std::uint64_t seed) {
  static const char* const kExperts[] = {"2x1,4x1", "4x1,8x1", "2", "0", "8x2"};
  ModelSpec model;
  model.name = "random";
  model.layers = 4;
  model.hidden = hash(seed, 1) % 2 == 0 ? 16 : 32;
  model.heads = 4;
  model.vocab = 200;
  model.context = 8;
  model.experts = ExpertList::parse(kExperts[hash(seed, 2) % 5]);
  model.residual = hash(seed, 3) % 2 == 0;
  return model;
}

// Degrees drawn at random until they are possible.
inline Plan random_plan(const ModelSpec& model, std::uint64_t seed) {
  Workload workload;
  workload.sequence = 8;
  for (std::uint64_t trial = 0;; ++trial) {
    const auto draw = [&](std::uint64_t what) { return 1 << hash(seed, trial, what) % 3; };
    Plan plan = single_rank_plan(model, workload);
    plan.tensor = draw(1);
    plan.data = draw(2);
    plan.world = plan.tensor * plan.data;
    plan.zero = static_cast<int>(hash(seed, trial, 3) % 2);
    plan.rank_order = draw(4) == 1 ? RankOrder::Strided : RankOrder::Consecutive;
    plan.micro_batch = 1;
    plan.accumulation = workload.global_batch / plan.data;
    std::uint64_t what = 5;
    for (MoeLayerPlan& moe : plan.moe_layers) {
      moe.expert = draw(what++);
      moe.slicing = draw(what++);
      moe.replica = std::max(1, plan.world / (moe.expert * moe.slicing));
    }
    if (check_degrees(plan).feasible) return plan;
  }
}

template <class T>
T expected_value(const std::string& tensor, std::int64_t index) {
  return static_cast<T>(uniform(fnv1a(tensor), static_cast<std::uint64_t>(index)) - 0.5);
}

// Memory of one rank, of type T.
template <class T>
struct RankMemory {
  RankMemory(const Plan& plan, int rank) : layout(weight_layout(plan, Rank(rank))) {
    for (const Region& region : layout.regions) {
      const std::int64_t shard = plan.zero == 1 ? region.shard_elements() : region.elements;
      const std::int64_t begin = plan.zero == 1 ? shard * region.own_index : 0;
      begins.push_back(begin);
      weights.emplace_back(region.elements, T(0));
      first.emplace_back(shard, T(0));
      second.emplace_back(shard, T(0));
    }
  }

  template <class Pointer>
  std::vector<RegionMemory<Pointer>> regions() {
    std::vector<RegionMemory<Pointer>> out;
    for (std::size_t r = 0; r < weights.size(); ++r) {
      out.push_back({.weights = weights[r].data(),
                     .first_moment = first[r].data(),
                     .second_moment = second[r].data(),
                     .shard_begin = begins[r],
                     .shard_end = begins[r] + static_cast<std::int64_t>(first[r].size())});
    }
    return out;
  }

  // Calls visit(stored value, expected value) for every element held.
  template <class Visit>
  void for_each_value(Visit&& visit) {
    for (std::size_t r = 0; r < weights.size(); ++r) {
      const auto size = static_cast<std::int64_t>(first[r].size());
      for_each_piece(layout.regions[r], [&](const TensorPiece& piece) {
        for (std::int64_t i = 0; i < piece.count; ++i) {
          const std::int64_t at = piece.region_first + i, in_file = piece.file_first + i;
          visit(weights[r][at], expected_value<T>(piece.name, in_file));
          const std::int64_t in_shard = at - begins[r];
          if (in_shard < 0 || in_shard >= size) continue;
          visit(first[r][in_shard], expected_value<T>(piece.name + ".m", in_file));
          visit(second[r][in_shard], expected_value<T>(piece.name + ".v", in_file));
        }
      });
    }
  }
  void fill() {
    for_each_value([](T& stored, T expected) { stored = expected; });
  }
  [[nodiscard]] std::int64_t wrong_values() {
    std::int64_t wrong = 0;
    for_each_value([&](const T& stored, T expected) {
      wrong += std::memcmp(&stored, &expected, sizeof(T)) != 0 ? 1 : 0;
    });
    return wrong;
  }

  WeightLayout layout;
  std::vector<std::vector<T>> weights, first, second;
  std::vector<std::int64_t> begins;
};

}  // namespace imhotep::executor
