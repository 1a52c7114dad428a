// A lowered generation step of several ranks computes what the plain one does: experts spread over
// ranks that gather each other's tokens, and experts sliced over a tensor group.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/layout/groups.h"
#include "core/program/build.h"
#include "core/program/lower_decode.h"
#include "tests/executor/generate/setup.h"
#include "tests/executor/mpi_main.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kSequences = 3;  // of a data rank; the last one takes no part

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

class Steps {
 public:
  Steps(const Plan& plan, program::Program program, CommunicatorPool& pool)
      : rank_(test_bootstrap().rank()), runner_(plan, rank_, {std::move(program)}, pool) {
    test::fill_weights(plan, runner_);
    const std::int64_t pages =
        (program::decode_shape(plan).max_context + plan.page_size - 1) / plan.page_size;
    for (std::int64_t i = 0; i < kSequences * pages; ++i) {
      runner_.input<std::int32_t>("block_table")[i] = static_cast<std::int32_t>(i);
    }
  }

  void run(std::int32_t step, const std::vector<std::int32_t>& tokens) {
    for (std::int32_t s = 0; s < kSequences; ++s) {
      const bool used = s + 1 < kSequences;
      runner_.input<std::int32_t>("tokens")[s] = used ? tokens[s] : -1;
      runner_.input<std::int32_t>("positions")[s] = used ? step : -1;
      runner_.input<std::int32_t>("used")[s] = used ? 1 : 0;
      runner_.input<std::int32_t>("sequences")[s] = used ? s : 0;
      runner_.input<std::int32_t>("sample_rows")[s] = s;
    }
    runner_.input<std::int32_t>("sample_range")[0] = 0;
    runner_.input<std::int32_t>("sample_range")[1] = kSequences - 1;
    StepContext context;
    context.sampling.resize(kSequences);
    runner_.run(0, context);
  }
  [[nodiscard]] std::vector<std::int32_t> tokens() const {
    const auto* next = runner_.input<std::int32_t>("next_token");
    return {next, next + kSequences - 1};
  }
  [[nodiscard]] std::vector<double> doubles(const char* name, std::int64_t count) const {
    const auto* data = runner_.input<double>(name);
    return {data, data + count};
  }

 private:
  Rank rank_;
  Runner runner_;
};

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
    Steps plain(plan, program, pool), lowered(plan, fused, pool);
    std::int64_t stats = 0;
    for (int l = 0; l < plan.model.layers; ++l) stats += 2 * plan.model.experts_at(l);
    const auto data = static_cast<std::uint64_t>(rank_place(plan, rank).data);
    std::vector<std::int32_t> tokens = test::prompt_of(3 + data, kSequences, plan.model.vocab);
    for (std::int32_t step = 0; step < 6; ++step) {
      plain.run(step, tokens);
      lowered.run(step, tokens);
      CHECK(plain.tokens() == lowered.tokens());
      CHECK(worst_of(plain.doubles("next_logprob", kSequences - 1),
                     lowered.doubles("next_logprob", kSequences - 1)) < 1e-12);
      CHECK(worst_of(plain.doubles("balance_stats", stats),
                     lowered.doubles("balance_stats", stats)) < 1e-12);
      tokens = plain.tokens();
    }
  }
}

}  // namespace imhotep::executor
