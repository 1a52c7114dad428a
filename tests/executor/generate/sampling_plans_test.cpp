// Sampled text of plans of several ranks is the text of one rank: draws are a function of the
// request's seed and the position alone.

#include <doctest/doctest.h>

#include <cmath>

#include "tests/executor/generate/setup.h"
#include "tests/executor/mpi_main.h"

namespace imhotep::executor {
namespace {

struct Degrees {
  int tensor, expert, slicing;
  ExchangeAlgorithm exchange;
};

Plan with(Plan plan, const Degrees& degrees) {
  plan.world = test_bootstrap().world();
  plan.tensor = degrees.tensor;
  plan.data = plan.world / plan.tensor;
  plan.ranks_per_node = plan.world / 2;
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.expert = std::min(degrees.expert, moe.experts);
    moe.slicing = degrees.slicing;
    moe.replica = plan.world / (moe.expert * moe.slicing);
    // Two experts on two ranks know no other way than flat.
    moe.exchange = moe.expert == degrees.expert ? degrees.exchange : ExchangeAlgorithm::Flat;
  }
  const Verdict verdict = check_degrees(plan);
  CAPTURE(verdict.reasons.empty() ? std::string() : verdict.reasons.front());
  REQUIRE(verdict.feasible);
  return plan;
}

std::vector<GenerationRequest> requests_of(const Plan& plan) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 7; ++i) {
    requests.push_back({.prompt = test::prompt_of(i, 2 + 3 * i % 11, plan.model.vocab),
                        .max_tokens = 5 + 3 * (i % 3),
                        .temperature = 0.7 + 0.2 * i,
                        .top_k = i % 2 == 0 ? 0 : 30,
                        .top_p = i % 3 == 0 ? 1.0 : 0.9,
                        .seed = static_cast<std::uint64_t>(i / 2)});
  }
  return requests;
}

std::vector<GenerationResult> generate(const Plan& plan, CommunicatorPool& pool) {
  const Bootstrap& ranks = test_bootstrap();
  const bool single = plan.world == 1;
  Generator generator(plan, Rank(single ? 0 : ranks.rank()), pool, ranks.world());
  test::fill_weights(plan, generator.runner());
  return generator.generate(requests_of(plan),
                            [&](bool done) { return single ? done : ranks.all_true(done); });
}

}  // namespace

TEST_CASE("sampled text does not depend on the plan") {
  using enum ExchangeAlgorithm;
  CommunicatorPool pool(test_bootstrap());
  for (const char* model : {"nano-pr-moe-2-8", "nano-top2-moe-4"}) {
    const Plan single = test::speaking_plan(model, 3);
    const auto reference = generate(single, pool);
    for (const Degrees& degrees : {Degrees{1, 4, 1, Flat},
                                   {1, 4, 1, Hierarchical},
                                   {1, 4, 1, AllGather},
                                   {2, 2, 2, AllGather},
                                   {2, 2, 2, Flat},
                                   {2, 4, 1, Coordinated},
                                   {4, 1, 4, Flat},
                                   {1, 1, 4, Flat}}) {
      const Plan plan = with(single, degrees);
      CAPTURE(degrees.tensor);
      CAPTURE(degrees.expert);
      CAPTURE(degrees.slicing);
      const auto results = generate(plan, pool);
      const int data = test_bootstrap().rank() / plan.tensor;
      for (std::size_t r = 0; r < results.size(); ++r) {
        CAPTURE(r);
        if (static_cast<int>(r) % plan.data != data) {
          CHECK(results[r].tokens.empty());
          continue;
        }
        CHECK(results[r].tokens == reference[r].tokens);
        REQUIRE(results[r].logprobs.size() == reference[r].logprobs.size());
        for (std::size_t i = 0; i < reference[r].logprobs.size(); ++i) {
          CHECK(std::abs(results[r].logprobs[i] - reference[r].logprobs[i]) <= 1e-11);
        }
      }
    }
  }
}

}  // namespace imhotep::executor
