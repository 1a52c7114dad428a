// Plans do not change results: every plan of eight or sixteen ranks gives the losses of one rank,
// and the same greedy text wherever the choice is not a matter of rounding. The ranks act as nodes
// of four, so that every exchange is legal somewhere.
//
// IMHOTEP_ALL_PLANS=1/1 runs all legal plans instead of the pairwise cover; 2/4 runs the second
// quarter of them (every fourth plan), so that several groups of ranks can share the work; of
// sixteen ranks' plans, which are many, 1/3001 takes an even sample.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "executor/generate/generator.h"
#include "executor/train/trainer.h"
#include "tests/executor/mpi_main.h"
#include "tests/executor/plans/plan_cover.h"
#include "tests/executor/plans/tiny_training.h"

namespace imhotep::executor {
namespace {

using test::PlanSpace;

constexpr double kLossTolerance = 1e-5;   // relative, fp32
constexpr double kLogitTolerance = 2e-4;  // absolute: beyond it the greedy token must agree
constexpr std::int64_t kSteps = 5;
constexpr std::uint64_t kSeed = 20260;

PlanSpace pyramid() {
  PlanSpace space;
  space.model = read_model(IMHOTEP_SOURCE_DIR "/profiles/models/nano-pr-moe-2-8.json");
  return space;
}

struct Greedy {
  std::vector<std::vector<std::int32_t>> tokens;  // per request
  std::vector<std::vector<double>> margins;       // top-1 minus top-2 logit
};

Plan generation_plan(Plan plan) {
  plan.workload.kind = WorkloadKind::Generation;
  plan.workload.global_batch = std::max(8, plan.world);
  plan.workload.prompt = 8;
  plan.workload.output = 8;
  plan.prefill_chunk = 4;
  plan.page_size = 4;
  return plan;
}

Greedy greedy_of(const Plan& training, Rank rank, CommunicatorPool& pool,
                 const Generator::Agreement& all) {
  const Plan plan = generation_plan(training);
  Generator generator(plan, rank, pool, plan.world);
  initialize_weights(plan, generator.runner(), {.seed = 3});
  const auto list = test::tiny_requests();
  Greedy greedy{.tokens = {}, .margins = std::vector<std::vector<double>>(list.size())};
  generator.on_step = [&](int program, std::span<const std::size_t> sampled) {
    const auto& runner = generator.runner();
    const auto& p = runner.program(program);
    const bool sharded = p.find("logits_all").valid();
    const auto* logits =
        reinterpret_cast<const float*>(runner.buffer(program, sharded ? "logits_all" : "logits"));
    const int parts = sharded ? plan.tensor : 1, cols = plan.model.padded_vocab() / parts;
    const std::int64_t samples = program == 0 ? 1 : plan.sequences_per_rank();
    for (std::size_t i = 0; i < sampled.size(); ++i) {
      float best = -1e30F, second = -1e30F;
      for (int word = 0; word < plan.model.vocab; ++word) {
        const int part = word / cols;
        const float value =
            logits[(part * samples + static_cast<std::int64_t>(i)) * cols + word % cols];
        if (value > best) {
          second = best;
          best = value;
        } else if (value > second) {
          second = value;
        }
      }
      greedy.margins[sampled[i]].push_back(static_cast<double>(best - second));
    }
  };
  for (GenerationResult& result : generator.generate(list, all)) {
    greedy.tokens.push_back(std::move(result.tokens));
  }
  return greedy;
}

struct Comparison {
  double worst_loss = 0;
  std::int64_t tokens = 0, close_calls = 0, wrong_tokens = 0;
};

void compare_greedy(const Greedy& one, const Greedy& reference, Comparison& sum) {
  for (std::size_t r = 0; r < one.tokens.size(); ++r) {
    for (std::size_t i = 0; i < one.tokens[r].size(); ++i) {
      ++sum.tokens;
      if (one.tokens[r][i] == reference.tokens[r][i]) continue;
      const bool close = reference.margins[r][i] <= kLogitTolerance;
      ++(close ? sum.close_calls : sum.wrong_tokens);
      break;  // what follows a different token is another text
    }
  }
}

double worst_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(a[i] - b[i]) / std::max(std::abs(b[i]), 1e-9));
  }
  return worst;
}

// The plans to run: the cover, or the part of all that the environment asks for.
std::vector<Plan> chosen_plans(const PlanSpace& space, bool& all) {
  const char* text = std::getenv("IMHOTEP_ALL_PLANS");
  std::size_t part = 0, parts = 0;
  all = text != nullptr && std::sscanf(text, "%zu/%zu", &part, &parts) == 2;
  if (!all) return test::pairwise_cover(space, kSeed).plans;
  return test::all_plans(space, static_cast<std::int64_t>(part) - 1,
                         static_cast<std::int64_t>(parts));
}

struct Reference {
  std::vector<double> losses;
  Greedy greedy;
};

Reference reference_of(const PlanSpace& space, CommunicatorPool& pool) {
  PlanSpace single = space;
  single.world = 1;
  const Plan plan = test::all_plans(single).front();
  return {.losses = test::losses_of(plan, Rank(0), pool, kSteps),
          .greedy = greedy_of(plan, Rank(0), pool, [](bool done) { return done; })};
}

}  // namespace

TEST_CASE("plans of many ranks give the losses and the greedy text of one rank") {
  const Bootstrap& bootstrap = test_bootstrap();
  PlanSpace space = pyramid();
  space.world = bootstrap.world();
  space.global_batch = 2 * space.world;
  space.layer_as_one = space.world <= 8;
  bool all = false;
  const std::vector<Plan> plans = chosen_plans(space, all);
  CommunicatorPool pool(bootstrap);
  const Reference reference = reference_of(space, pool);
  Comparison sum;
  std::int64_t failed = 0;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const Plan& plan = plans[i];
    const std::string label = test::plan_label(plan);
    CAPTURE(label);
    const Rank rank(bootstrap.rank());
    const double worst =
        worst_difference(test::losses_of(plan, rank, pool, kSteps), reference.losses);
    sum.worst_loss = std::max(sum.worst_loss, worst);
    CHECK(worst <= kLossTolerance);
    const auto agree = [&](bool done) { return bootstrap.all_true(done); };
    const std::int64_t wrong = sum.wrong_tokens;
    compare_greedy(greedy_of(plan, rank, pool, agree), reference.greedy, sum);
    CHECK(sum.wrong_tokens == wrong);
    failed += worst <= kLossTolerance && sum.wrong_tokens == wrong ? 0 : 1;
    if (all && bootstrap.rank() == 0 && (i + 1) % 1000 == 0) {
      fmt::print("{} of {} plans, worst loss difference {:.2e}\n", i + 1, plans.size(),
                 sum.worst_loss);
      std::fflush(stdout);
    }
  }
  if (bootstrap.rank() == 0) {
    fmt::print(
        "{} plans of {} legal ones, seed {}: worst relative difference of losses {:.2e}; "
        "{} greedy tokens at rank 0, {} close calls, {} plans failed\n",
        plans.size(), test::count_plans(space), kSeed, sum.worst_loss, sum.tokens, sum.close_calls,
        failed);
  }
}

}  // namespace imhotep::executor
