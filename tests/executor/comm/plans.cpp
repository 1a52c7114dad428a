#include "tests/executor/comm/plans.h"

#include <fmt/format.h>

#include <vector>

#include "core/base/random.h"
#include "core/layout/groups.h"

using namespace imhotep;

namespace {

int pick(std::uint64_t seed, std::uint64_t what, int choices) {
  return static_cast<int>(hash(seed, what) % static_cast<std::uint64_t>(choices));
}

int pick_divisor(std::uint64_t seed, std::uint64_t what, int n) {
  std::vector<int> divisors;
  for (int d = 1; d <= n; ++d) {
    if (n % d == 0) divisors.push_back(d);
  }
  return divisors[pick(seed, what, static_cast<int>(divisors.size()))];
}

Plan random_ranks(std::uint64_t seed, int most_ranks) {
  Plan plan;
  plan.world = 1 + pick(seed, 1, most_ranks);
  plan.tensor = pick_divisor(seed, 2, plan.world);
  plan.data = plan.world / plan.tensor;
  plan.ranks_per_node = pick_divisor(seed, 3, plan.world);
  plan.rank_order = pick(seed, 4, 4) == 0 ? RankOrder::Strided : RankOrder::Consecutive;
  return plan;
}

MoeLayerPlan random_layer(std::uint64_t seed, int world) {
  MoeLayerPlan moe;
  moe.slicing = pick(seed, 10, 2) == 0 ? 1 : pick_divisor(seed, 11, world);
  moe.expert = pick_divisor(seed, 12, world / moe.slicing);
  moe.replica = world / moe.slicing / moe.expert;
  moe.experts = moe.expert * (1 + pick(seed, 13, 3));
  return moe;
}

}  // namespace

RandomPlan random_plan(std::uint64_t seed, int most_ranks, ExchangeAlgorithm exchange) {
  for (std::uint64_t attempt = 0; attempt < 500; ++attempt) {
    const std::uint64_t s = hash(seed, 77, attempt);
    Plan plan = random_ranks(s, most_ranks);
    MoeLayerPlan moe = random_layer(s, plan.world);
    moe.exchange = exchange;
    if (!exchange_problem(plan, moe).empty()) continue;
    moe.layer = 3;
    plan.moe_layers = {moe};
    return {.plan = plan, .found = true};
  }
  return {.plan = {}, .found = false};
}

Plan random_plan(std::uint64_t seed, int most_ranks) {
  Plan plan = random_ranks(seed, most_ranks);
  for (int l = 0; l < 3; ++l) {
    MoeLayerPlan moe = random_layer(hash(seed, 5, l), plan.world);
    moe.layer = 2 * l + 1;
    const auto first = static_cast<unsigned>(pick(seed, 20 + l, 4));
    for (unsigned a = 0; a < 4; ++a) {
      moe.exchange = static_cast<ExchangeAlgorithm>((first + a) % 4);
      if (exchange_problem(plan, moe).empty()) break;
    }
    plan.moe_layers.push_back(moe);
  }
  return plan;
}

std::string describe(const Plan& plan) {
  std::string text = fmt::format("world {} tensor {} per node {} {}", plan.world, plan.tensor,
                                 plan.ranks_per_node, name_of(plan.rank_order));
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    text += fmt::format(", {} experts: expert {} slicing {} replica {} {}", moe.experts, moe.expert,
                        moe.slicing, moe.replica, name_of(moe.exchange));
  }
  return text;
}
