#include "tests/executor/plans/plan_cover.h"

#include <fmt/format.h>

#include <map>
#include <random>
#include <set>

namespace imhotep::test {
namespace {

using Choice = std::vector<MoeLayerPlan>;

std::vector<int> divisors(int n) {
  std::vector<int> list;
  for (int d = 1; d <= n; ++d) {
    if (n % d == 0) list.push_back(d);
  }
  return list;
}

Plan base_plan(const PlanSpace& space, int tensor) {
  Plan plan;
  plan.model = space.model;
  plan.workload.sequence = space.sequence;
  plan.workload.global_batch = space.global_batch;
  plan.workload.optimizer.learning_rate = 3e-3;
  plan.workload.optimizer.warmup_steps = 1;
  plan.cluster = "local";
  plan.world = space.world;
  plan.tensor = tensor;
  plan.data = space.world / tensor;
  plan.ranks_per_node = space.ranks_per_node;
  plan.accumulation = space.accumulation;
  plan.micro_batch = space.global_batch / space.accumulation / plan.data;
  return plan;
}

// All ways to lay out each MoE layer under this tensor degree and rank order.
std::vector<Choice> layer_choices(const PlanSpace& space, const Plan& plan) {
  std::vector<Choice> layers;
  for (int layer = 0; layer < space.model.layers; ++layer) {
    const int experts = space.model.experts_at(layer);
    if (experts == 0) continue;
    Choice choices;
    for (const int expert : divisors(experts)) {
      for (const int slicing : divisors(space.world)) {
        if (space.world % (expert * slicing) != 0) continue;
        for (const auto exchange : {ExchangeAlgorithm::Flat, ExchangeAlgorithm::Hierarchical,
                                    ExchangeAlgorithm::Coordinated, ExchangeAlgorithm::AllGather}) {
          Plan one = plan;
          one.model.layers = space.model.moe_interval;
          one.model.experts.slots = {experts};
          const MoeLayerPlan moe{.layer = space.model.moe_interval - 1,
                                 .experts = experts,
                                 .expert = expert,
                                 .slicing = slicing,
                                 .replica = space.world / (expert * slicing),
                                 .exchange = exchange};
          one.moe_layers = {moe};
          if (!check_degrees(one).feasible) continue;
          choices.push_back(moe);
          choices.back().layer = layer;
        }
      }
    }
    layers.push_back(std::move(choices));
  }
  return layers;
}

struct Head {
  Plan plan;
  std::vector<Choice> layers;
};

// Everything but the layers' choices.
std::vector<Head> heads(const PlanSpace& space) {
  std::vector<Head> list;
  for (const int tensor : divisors(space.world)) {
    if (space.model.heads % tensor != 0) continue;
    for (const RankOrder order : {RankOrder::Consecutive, RankOrder::Strided}) {
      Plan plan = base_plan(space, tensor);
      plan.rank_order = order;
      const std::vector<Choice> layers = layer_choices(space, plan);
      for (const int zero : {0, 1}) {
        for (const Recompute recompute : {Recompute::None, Recompute::Full}) {
          plan.zero = zero;
          plan.recompute = recompute;
          list.push_back({plan, layers});
        }
      }
    }
  }
  return list;
}

std::int64_t combinations(const Head& head) {
  std::int64_t count = 1;
  for (const Choice& choices : head.layers) count *= static_cast<std::int64_t>(choices.size());
  return count;
}

Plan nth_plan(const Head& head, std::int64_t n) {
  Plan plan = head.plan;
  for (const Choice& choices : head.layers) {
    const auto size = static_cast<std::int64_t>(choices.size());
    plan.moe_layers.push_back(choices[n % size]);
    n /= size;
  }
  return plan;
}

// The choices a plan holds, as text: one a dimension.
std::vector<std::string> choices_of(const Plan& plan, bool layer_as_one) {
  std::vector<std::string> list = {fmt::format("tensor{}", plan.tensor),
                                   fmt::format("zero{}", plan.zero),
                                   fmt::format("recompute{}", static_cast<int>(plan.recompute)),
                                   fmt::format("order{}", static_cast<int>(plan.rank_order))};
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    const std::vector<std::string> parts = {fmt::format("expert{}", moe.expert),
                                            fmt::format("slicing{}", moe.slicing),
                                            name_of(moe.exchange)};
    if (layer_as_one) {
      list.push_back(fmt::format("layer{}:{}", moe.layer, fmt::join(parts, ":")));
      continue;
    }
    for (const std::string& part : parts)
      list.push_back(fmt::format("layer{}:{}", moe.layer, part));
  }
  return list;
}

}  // namespace

std::int64_t count_plans(const PlanSpace& space) {
  std::int64_t count = 0;
  for (const Head& head : heads(space)) count += combinations(head);
  return count;
}

std::vector<Plan> all_plans(const PlanSpace& space, std::int64_t first, std::int64_t step) {
  std::vector<Plan> plans;
  std::int64_t next = first;  // counted from the head's first plan
  for (const Head& head : heads(space)) {
    const std::int64_t count = combinations(head);
    for (; next < count; next += step) plans.push_back(nth_plan(head, next));
    next -= count;
  }
  return plans;
}

PairwiseCover pairwise_cover(const PlanSpace& space, std::uint64_t seed, std::size_t most) {
  constexpr int kCandidates = 40;       // the best of so many random plans is taken
  constexpr int kFruitlessRounds = 60;  // until so many rounds in a row add nothing
  std::mt19937_64 random(seed);
  const std::vector<Head> list = heads(space);
  std::set<std::pair<std::string, std::string>> seen;
  const auto new_pairs = [&](const Plan& plan) {
    std::vector<std::pair<std::string, std::string>> pairs;
    const std::vector<std::string> choices = choices_of(plan, space.layer_as_one);
    for (std::size_t i = 0; i < choices.size(); ++i) {
      for (std::size_t j = i + 1; j < choices.size(); ++j) {
        if (!seen.count({choices[i], choices[j]})) pairs.emplace_back(choices[i], choices[j]);
      }
    }
    return pairs;
  };
  PairwiseCover cover;
  for (int fruitless = 0; fruitless < kFruitlessRounds && cover.plans.size() < most;) {
    Plan best;
    std::vector<std::pair<std::string, std::string>> best_pairs;
    for (int c = 0; c < kCandidates; ++c) {
      const Head& head = list[random() % list.size()];
      const Plan plan = nth_plan(head, static_cast<std::int64_t>(random() % combinations(head)));
      auto pairs = new_pairs(plan);
      if (pairs.size() > best_pairs.size()) {
        best = plan;
        best_pairs = std::move(pairs);
      }
    }
    fruitless = best_pairs.empty() ? fruitless + 1 : 0;
    if (best_pairs.empty()) continue;
    seen.insert(best_pairs.begin(), best_pairs.end());
    cover.plans.push_back(best);
  }
  cover.pairs = static_cast<std::int64_t>(seen.size());
  return cover;
}

std::string plan_label(const Plan& plan) {
  std::string text =
      fmt::format("tensor {} data {} zero {} recompute {} {}", plan.tensor, plan.data, plan.zero,
                  name_of(plan.recompute), name_of(plan.rank_order));
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    text += fmt::format(", {}: {}x{}x{} {}", moe.experts, moe.expert, moe.slicing, moe.replica,
                        name_of(moe.exchange));
  }
  return text;
}

}  // namespace imhotep::test
