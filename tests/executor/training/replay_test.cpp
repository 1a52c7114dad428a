// Rows beyond a plan's bound cost a replay and nothing else: the step is done again in smaller
// micro-batches, and losses, weights and expert load are those of a plan without a bound. The
// balance loss is taken over a micro-batch, so its weight is 0 here.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "executor/train/trainer.h"
#include "tests/executor/mpi_main.h"
#include "tests/executor/plans/plan_cover.h"
#include "tests/executor/plans/tiny_text.h"
#include "tests/executor/training/closed_gates.h"

namespace imhotep::executor {
namespace {

constexpr int kSteps = 3;
constexpr std::int64_t kSequences = 4, kSequence = 8;  // of a data rank's micro-batch; tokens

struct Degrees {
  ExchangeAlgorithm exchange = ExchangeAlgorithm::Flat;
  int tensor = 1, zero = 0;
  Recompute recompute = Recompute::None;
};

ModelSpec pyramid() {
  ModelSpec model = read_model(IMHOTEP_SOURCE_DIR "/profiles/models/nano-pr-moe-2-8.json");
  model.router.aux_coefficient = 0;
  return model;
}

// A pyramid of 2, 4 and 8 experts, each layer spread as far as it goes.
Plan plan_of(int world, const Degrees& degrees) {
  const ModelSpec model = pyramid();
  Workload workload{.global_batch = 8 * kSequences, .sequence = kSequence};
  workload.optimizer = {.learning_rate = 3e-3, .warmup_steps = 1};
  Plan plan = single_rank_plan(model, workload);
  plan.dtype = Dtype::F64;
  plan.world = world;
  plan.tensor = degrees.tensor;
  plan.data = world / degrees.tensor;
  plan.accumulation = 2 / degrees.tensor;
  plan.micro_batch = workload.global_batch / plan.data / plan.accumulation;
  plan.ranks_per_node = std::max(world / 2, 1);
  plan.zero = degrees.zero;
  plan.recompute = degrees.recompute;
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.expert = std::min(world, moe.experts);
    moe.replica = world / moe.expert;
    if (moe.expert == world) moe.exchange = degrees.exchange;
  }
  REQUIRE(check_degrees(plan).feasible);
  return plan;
}

Plan bounded(Plan plan, std::int64_t rows_of_two, std::int64_t rows_of_eight) {
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.receive_rows = moe.experts == 2 ? rows_of_two : rows_of_eight;
  }
  return plan;
}

void fill(std::int64_t first, std::span<std::int32_t> in, std::span<std::int32_t> out) {
  test::fill_tiny_text(first, kSequence, 256, in, out);
}

struct Told {
  std::vector<double> losses;  // of every step its loss, its gradient norm
  std::vector<std::vector<double>> load;
  std::int64_t replays = 0, worst = 0;
};

Told train(const Plan& plan, Rank rank, CommunicatorPool& pool, bool skewed) {
  Trainer trainer(plan, rank, pool, {.run_steps = kSteps});
  trainer.initialize();
  Told told;
  for (int step = 0; step < kSteps; ++step) {
    if (skewed) close_gates(trainer);
    const StepResult result = trainer.step(step, fill);
    told.losses.insert(told.losses.end(), {result.loss, result.gradient_norm});
    told.replays += result.replays.count;
    told.worst = std::max(told.worst, result.replays.worst.rows);
  }
  told.load = trainer.take_expert_load();
  return told;
}

void check_same(const Told& told, const Told& reference) {
  REQUIRE(told.losses.size() == reference.losses.size());
  for (std::size_t i = 0; i < told.losses.size(); ++i) {
    CHECK(std::abs(told.losses[i] - reference.losses[i]) <= 1e-9 * std::abs(reference.losses[i]));
  }
  REQUIRE(told.load.size() == reference.load.size());
  for (std::size_t layer = 0; layer < told.load.size(); ++layer) {
    for (std::size_t e = 0; e < told.load[layer].size(); ++e) {
      CHECK(std::abs(told.load[layer][e] - reference.load[layer][e]) <= 1e-9);
    }
  }
}

constexpr Degrees kDegrees[] = {
    {},
    {.zero = 1},
    {.recompute = Recompute::Full},
    {.exchange = ExchangeAlgorithm::Hierarchical},
    {.exchange = ExchangeAlgorithm::Hierarchical, .zero = 1},
    {.exchange = ExchangeAlgorithm::AllGather},
    {.exchange = ExchangeAlgorithm::Coordinated, .tensor = 2},
    {.exchange = ExchangeAlgorithm::AllGather, .tensor = 2, .zero = 1},
};

}  // namespace

TEST_CASE("a bound that skewed routing exceeds changes no loss, whatever the exchange") {
  const Bootstrap& ranks = test_bootstrap();
  const Rank rank(ranks.rank());
  CommunicatorPool pool(ranks);
  const Told reference = train(plan_of(1, {}), Rank(0), pool, true);
  CHECK(reference.replays == 0);
  for (const Degrees& degrees : kDegrees) {
    CAPTURE(name_of(degrees.exchange));
    CAPTURE(degrees.tensor);
    CAPTURE(degrees.zero);
    const Plan plan = plan_of(ranks.world(), degrees);
    // All tokens of a micro-batch, on all data ranks, choose expert 0.
    const std::int64_t all = plan.micro_batch * plan.data * kSequence;
    const std::int64_t of_two = all / (plan.world / 2);
    const Told enough = train(bounded(plan, 0, all), rank, pool, true);
    check_same(enough, reference);
    CHECK(enough.replays == 0);
    const Told halved = train(bounded(plan, 0, all - 1), rank, pool, true);
    check_same(halved, reference);
    CHECK(halved.replays == kSteps);
    CHECK(halved.worst == all);
    const Told both = train(bounded(plan, of_two - 1, all / 2), rank, pool, true);
    check_same(both, reference);  // two layers at once, one of them in each of its groups
    CHECK(both.replays == kSteps);
    CHECK(both.worst == of_two);  // the earlier layer is believed
  }
}

TEST_CASE("a step is divided again as long as rows exceed a bound") {
  const Bootstrap& ranks = test_bootstrap();
  CommunicatorPool pool(ranks);
  const Told reference = train(plan_of(1, {}), Rank(0), pool, true);
  Plan plan = plan_of(ranks.world(), {});
  plan.accumulation = 1;
  plan.micro_batch = kSequences;
  const std::int64_t all = plan.micro_batch * plan.data * kSequence;
  const Told told = train(bounded(plan, 0, all / 4), Rank(ranks.rank()), pool, true);
  check_same(told, reference);
  CHECK(told.replays == 2 * kSteps);  // four sequences, two, one
  CHECK(told.worst == all / 2);       // of the layer of four experts, which comes first
}

TEST_CASE("groups that overflow now and then replay together with those that do not") {
  const Bootstrap& ranks = test_bootstrap();
  CommunicatorPool pool(ranks);
  const Told reference = train(plan_of(1, {}), Rank(0), pool, false);
  for (const Degrees& degrees : kDegrees) {
    CAPTURE(name_of(degrees.exchange));
    CAPTURE(degrees.tensor);
    const Plan plan = plan_of(ranks.world(), degrees);
    const std::int64_t all = plan.micro_batch * plan.data * kSequence;
    const std::int64_t of_two = all / (plan.world / 2);
    const Told told =
        train(bounded(plan, of_two * 3 / 4, all * 3 / 8), Rank(ranks.rank()), pool, false);
    check_same(told, reference);
    CHECK(told.replays > 0);
  }
}

TEST_CASE("a cover of plans replays in the memory that it has") {
  const Bootstrap& ranks = test_bootstrap();
  CommunicatorPool pool(ranks);
  const Told reference = train(plan_of(1, {}), Rank(0), pool, true);
  test::PlanSpace space{.model = pyramid(), .global_batch = 8 * kSequences, .sequence = kSequence};
  space.world = ranks.world();
  for (Plan plan : test::pairwise_cover(space, 5, 8).plans) {
    const std::string label = test::plan_label(plan);
    CAPTURE(label);
    plan.dtype = Dtype::F64;
    plan.workload.optimizer = {.learning_rate = 3e-3, .warmup_steps = 1};
    bool some = false;
    for (MoeLayerPlan& moe : plan.moe_layers) {
      some = some || moe.expert * moe.slicing > 1;  // slices exchange too
      moe.receive_rows = plan.micro_batch * plan.data * kSequence / moe.replica / 2;
    }
    const Told told = train(plan, Rank(ranks.rank()), pool, true);
    check_same(told, reference);
    CHECK(told.replays == (some ? kSteps : 0));
  }
}

TEST_CASE("an evaluation beyond a bound is done in smaller chunks") {
  const Bootstrap& ranks = test_bootstrap();
  CommunicatorPool pool(ranks);
  const auto evaluate = [&](const Plan& plan, std::vector<double>& logprob) {
    Trainer trainer(plan, Rank(ranks.rank()), pool, {.evaluate_sequences = kSequences});
    trainer.initialize();
    close_gates(trainer);
    logprob.resize(kSequences * kSequence);
    const Trainer::Evaluation first = trainer.evaluate(ranks.rank() * kSequences, fill, logprob);
    const Trainer::Evaluation again = trainer.evaluate(ranks.rank() * kSequences, fill, logprob);
    CHECK(first.negative_log_likelihood == again.negative_log_likelihood);
    return first;
  };
  for (const auto exchange :
       {ExchangeAlgorithm::Flat, ExchangeAlgorithm::Hierarchical, ExchangeAlgorithm::AllGather}) {
    const Plan plan = plan_of(ranks.world(), {.exchange = exchange});
    const std::int64_t all = kSequences * plan.data * kSequence;
    std::vector<double> whole, parts;
    const auto reference = evaluate(plan, whole);
    const auto told = evaluate(bounded(plan, 0, all / 3), parts);
    CHECK(reference.replays.count == 0);
    CHECK(told.replays.count == 2);
    CHECK(told.replays.worst.rows == all / 2);  // of the layer of four experts
    CHECK(told.tokens == reference.tokens);
    CHECK(told.negative_log_likelihood ==
          doctest::Approx(reference.negative_log_likelihood).epsilon(1e-10));
    for (std::size_t i = 0; i < whole.size(); ++i) {
      CHECK(std::abs(whole[i] - parts[i]) <= 1e-10 * std::abs(whole[i]));
    }
  }
}

TEST_CASE("rows beyond a bound with one sequence at a time end the step at every rank alike") {
  const Bootstrap& ranks = test_bootstrap();
  CommunicatorPool pool(ranks);
  const Plan plan = plan_of(ranks.world(), {.exchange = ExchangeAlgorithm::Hierarchical});
  const int last = plan.moe_layers.back().layer;
  const std::int64_t one = plan.data * kSequence;
  Trainer trainer(bounded(plan, 0, one - 1), Rank(ranks.rank()), pool, {.run_steps = kSteps});
  trainer.initialize();
  const auto* gate = trainer.weights().find(TensorRole::GateWeight, last);
  REQUIRE(gate != nullptr);
  close_gates(trainer);
  std::string message;
  try {
    static_cast<void>(trainer.step(0, fill));
  } catch (const Error& error) {
    message = error.what();
  }
  CHECK(message ==
        fmt::format("layer {}: rank 0 would receive {} rows, but its buffers hold {} (receive_rows "
                    "of the plan), with one sequence at a time; the layer needs a bound of {} or "
                    "more here",
                    last, one, one - 1, one));
  const auto* region = reinterpret_cast<const double*>(
      trainer.runner().region(program::BufferKind::Weight, gate->region));
  CHECK(std::all_of(region + gate->offset, region + gate->offset + gate->elements,
                    [](double x) { return x == 0; }));  // nothing was updated
}

}  // namespace imhotep::executor
