// A lowered generation step of several ranks computes what the plain one does: experts spread over
// ranks that gather each other's tokens, and experts sliced over a tensor group.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/layout/groups.h"
#include "core/program/build.h"
#include "core/program/lower_decode.h"
#include "tests/executor/generate/setup.h"
#include "tests/executor/generate/token_steps.h"
#include "tests/executor/mpi_main.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kSequences = 3;  // of a data rank; the last one takes no part

using test::TokenSteps;

struct Case {
  const char* model;
  int tensor, expert, slicing;
};

Plan plan_of(const Case& c) {
  const int world = test_bootstrap().world();
  Plan plan = test::speaking_plan(c.model, kSequences * world / c.tensor);
  plan.world = plan.ranks_per_node = world;
  plan.tensor = c.tensor;
  plan.data = world / c.tensor;
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.slicing = c.slicing;
    moe.expert = std::min(c.expert, moe.experts);
    moe.replica = world / (moe.expert * moe.slicing);
  }
  const Verdict verdict = check_degrees(plan);
  CAPTURE(verdict.reasons.empty() ? std::string() : verdict.reasons.front());
  REQUIRE(verdict.feasible);
  return plan;
}

double worst_of(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(a[i] - b[i]) / std::max(1.0, std::abs(a[i])));
  }
  return worst;
}

}  // namespace

TEST_CASE("a lowered step of several ranks gives what the plain one gives") {
  const int world = test_bootstrap().world();
  for (const Case& c : {Case{"nano-pr-moe-2-8", 1, world, 1}, Case{"nano-top2-moe-4", 1, world, 1},
                        Case{"nano-moe-8", 1, 2, 1}, Case{"nano-pr-moe-2-8", world, 1, world},
                        Case{"nano-top2-moe-4", world, 1, world}, Case{"nano-moe-8", 2, 1, 2},
                        Case{"nano-pr-moe-2-8", 2, 1, 2}}) {
    CAPTURE(c.model);
    CAPTURE(c.tensor);
    CAPTURE(c.expert);
    const Plan plan = plan_of(c);
    const Rank rank(test_bootstrap().rank());
    const program::Program program =
        program::build_generate(plan, rank, program::decode_shape(plan));
    const program::Program fused = program::lower_decode(program);
    const auto of_experts = std::count_if(fused.operations.begin(), fused.operations.end(),
                                          [](const program::Operation& op) {
                                            return std::holds_alternative<FewExpertsDown>(op.shape);
                                          });
    CHECK(of_experts == static_cast<std::int64_t>(plan.moe_layers.size()));
    CHECK(fused.operations.size() < program.operations.size());
    CommunicatorPool pool(test_bootstrap());
    TokenSteps plain(plan, rank, program, pool, kSequences);
    TokenSteps lowered(plan, rank, fused, pool, kSequences);
    std::int64_t stats = 0;
    for (int l = 0; l < plan.model.layers; ++l) stats += 2 * plan.model.experts_at(l);
    const auto data = static_cast<std::uint64_t>(rank_place(plan, rank).data);
    std::vector<std::int32_t> tokens = test::prompt_of(3 + data, kSequences, plan.model.vocab);
    for (std::int32_t step = 0; step < 6; ++step) {
      plain.run(step, tokens);
      lowered.run(step, tokens);
      CHECK(plain.tokens() == lowered.tokens());
      CHECK(worst_of(plain.wides("next_logprob", kSequences - 1),
                     lowered.wides("next_logprob", kSequences - 1)) < 1e-12);
      CHECK(worst_of(plain.wides("balance_stats", stats), lowered.wides("balance_stats", stats)) <
            1e-12);
      tokens = plain.tokens();
    }
  }
}

}  // namespace imhotep::executor
