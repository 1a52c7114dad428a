#include "tests/core/random_plans.h"

#include <doctest/doctest.h>

#include <numeric>
#include <random>

#include "core/layout/groups.h"

namespace imhotep::test {
namespace {

using Generator = std::mt19937_64;

template <class T>
T one_of(Generator& generator, const std::vector<T>& values) {
  return values[generator() % values.size()];
}

int divisor_of(Generator& generator, int number) {
  std::vector<int> divisors;
  for (int d = 1; d <= number; ++d) {
    if (number % d == 0) divisors.push_back(d);
  }
  return one_of(generator, divisors);
}

ModelSpec random_model(Generator& generator) {
  ModelSpec model;
  model.name = "random";
  model.layers = 2 + static_cast<int>(generator() % 4);
  model.heads = one_of<int>(generator, {1, 2, 4, 6, 8});
  model.hidden = model.heads * one_of<int>(generator, {8, 12});
  model.vocab = one_of<int>(generator, {100, 128, 300});
  model.context = one_of<int>(generator, {7, 16});
  model.moe_interval = 1 + static_cast<int>(generator() % 2);
  model.residual = generator() % 2 == 0;
  for (int slot = 0; slot < model.layers / model.moe_interval; ++slot) {
    model.experts.slots.push_back(one_of<int>(generator, {0, 1, 2, 3, 4, 6, 8, 12}));
  }
  return model;
}

MoeLayerPlan random_degrees(Generator& generator, const Plan& plan, int layer) {
  MoeLayerPlan moe{.layer = layer, .experts = plan.model.experts_at(layer)};
  moe.expert = divisor_of(generator, std::gcd(moe.experts, plan.world));
  moe.slicing = divisor_of(generator, std::gcd(plan.model.ffn(), plan.world / moe.expert));
  moe.replica = plan.world / moe.expert / moe.slicing;
  moe.exchange = one_of<ExchangeAlgorithm>(
      generator, {ExchangeAlgorithm::Flat, ExchangeAlgorithm::Coordinated,
                  ExchangeAlgorithm::Hierarchical, ExchangeAlgorithm::AllGather});
  if (!exchange_problem(plan, moe).empty()) moe.exchange = ExchangeAlgorithm::Flat;
  return moe;
}

}  // namespace

Plan random_plan(std::uint64_t seed) {
  Generator generator(seed);
  Plan plan;
  plan.model = random_model(generator);
  plan.cluster = "local";
  const int common =
      std::gcd(std::gcd(plan.model.heads, plan.model.padded_vocab()), plan.model.ffn());
  plan.tensor = divisor_of(generator, common);
  plan.data = 1 + static_cast<int>(generator() % (24 / plan.tensor));
  plan.world = plan.tensor * plan.data;
  plan.ranks_per_node = one_of<int>(generator, {1, 2, 4, 8, plan.world});
  plan.rank_order = one_of<RankOrder>(generator, {RankOrder::Consecutive, RankOrder::Strided});
  plan.micro_batch = 1 + static_cast<std::int64_t>(generator() % 3);
  plan.accumulation = 1 + static_cast<std::int64_t>(generator() % 3);
  plan.zero = static_cast<int>(generator() % 2);
  plan.workload.sequence = plan.model.context;
  plan.workload.global_batch = plan.micro_batch * plan.accumulation * plan.data;
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    if (plan.model.experts_at(layer) > 0) {
      plan.moe_layers.push_back(random_degrees(generator, plan, layer));
    }
  }
  const Verdict verdict = check_degrees(plan);
  INFO("seed ", seed, ": ", verdict.reasons.empty() ? "" : verdict.reasons.front());
  REQUIRE(verdict.feasible);
  return plan;
}

}  // namespace imhotep::test
