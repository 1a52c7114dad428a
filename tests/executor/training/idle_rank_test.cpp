// A rank to which no token is sent takes part all the same: when every token chooses expert 0, the
// other ranks of the expert group compute nothing, wait in no exchange, and the losses are those
// of one rank.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "executor/train/trainer.h"
#include "tests/executor/mpi_main.h"
#include "tests/executor/plans/tiny_text.h"
#include "tests/executor/training/closed_gates.h"

namespace imhotep::executor {
namespace {

constexpr int kSteps = 3;

Plan plan_of(int world, int tensor, ExchangeAlgorithm exchange, int zero) {
  Workload workload{.global_batch = 8, .sequence = 8};
  workload.optimizer = {.learning_rate = 3e-3, .warmup_steps = 1};
  Plan plan =
      single_rank_plan(read_model(IMHOTEP_SOURCE_DIR "/profiles/models/nano-moe-8.json"), workload);
  plan.dtype = Dtype::F64;
  plan.world = world;
  plan.tensor = tensor;
  plan.data = world / tensor;
  plan.micro_batch = 8 / plan.data;
  plan.ranks_per_node = std::max(world / 2, 1);
  plan.zero = zero;
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.expert = world;
    moe.exchange = exchange;
  }
  REQUIRE(check_degrees(plan).feasible);
  return plan;
}

// The largest gradient of the experts that the rank holds.
double expert_gradient(Trainer& trainer) {
  double largest = 0;
  int index = 0;
  for (const Region& region : trainer.weights().regions) {
    const auto* gradient = reinterpret_cast<const double*>(
        trainer.runner().region(program::BufferKind::Gradient, index++));
    for (const LocalTensor& tensor : region.tensors) {
      if (tensor.expert_count == 0) continue;
      for (std::int64_t i = 0; i < tensor.elements; ++i) {
        largest = std::max(largest, std::abs(gradient[tensor.offset + i]));
      }
    }
  }
  return largest;
}

std::vector<double> losses_of(const Plan& plan, Rank rank, CommunicatorPool& pool) {
  Trainer trainer(plan, rank, pool, {.run_steps = kSteps});
  trainer.initialize();
  std::vector<double> losses;
  for (int step = 0; step < kSteps; ++step) {
    close_gates(trainer);
    const StepResult result = trainer.step(step, [&](std::int64_t first, auto in, auto out) {
      test::fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, in, out);
    });
    losses.insert(losses.end(), {result.loss, result.aux_loss, result.gradient_norm});
    CHECK((expert_gradient(trainer) > 0) == (rank.value == 0));
  }
  for (const std::vector<double>& load : trainer.take_expert_load()) CHECK(load[0] == 1);
  return losses;
}

void check_close(const std::vector<double>& losses, const std::vector<double>& reference) {
  REQUIRE(losses.size() == reference.size());
  for (std::size_t i = 0; i < losses.size(); ++i) {
    CHECK(std::abs(losses[i] - reference[i]) <= 1e-10 * std::abs(reference[i]));
  }
}

}  // namespace

TEST_CASE("a rank that receives no token takes part") {
  const Bootstrap& ranks = test_bootstrap();
  CommunicatorPool pool(ranks);
  const auto reference = losses_of(plan_of(1, 1, ExchangeAlgorithm::Flat, 0), Rank(0), pool);
  using enum ExchangeAlgorithm;
  struct Case {
    int tensor;
    ExchangeAlgorithm exchange;
  };
  for (const auto& [tensor, exchange] : {Case{1, Flat},
                                         {1, Hierarchical},
                                         {1, AllGather},
                                         {2, Flat},
                                         {2, Coordinated},
                                         {2, AllGather},
                                         {4, Flat}}) {
    for (const int zero : {0, 1}) {
      CAPTURE(tensor);
      CAPTURE(static_cast<int>(exchange));
      CAPTURE(zero);
      const auto losses =
          losses_of(plan_of(ranks.world(), tensor, exchange, zero), Rank(ranks.rank()), pool);
      check_close(losses, reference);
    }
  }
}

TEST_CASE("a bound that holds all rows is enough, and one sequence beyond it is refused by all") {
  const Bootstrap& ranks = test_bootstrap();
  CommunicatorPool pool(ranks);
  const Rank rank(ranks.rank());
  const auto reference = losses_of(plan_of(1, 1, ExchangeAlgorithm::Flat, 0), Rank(0), pool);
  for (const auto exchange :
       {ExchangeAlgorithm::Flat, ExchangeAlgorithm::Hierarchical, ExchangeAlgorithm::AllGather}) {
    Plan plan = plan_of(ranks.world(), 1, exchange, 0);
    const std::int64_t rows = plan.workload.global_batch * plan.workload.sequence;
    for (MoeLayerPlan& moe : plan.moe_layers) moe.receive_rows = rows;
    check_close(losses_of(plan, rank, pool), reference);
    for (MoeLayerPlan& moe : plan.moe_layers) moe.receive_rows = rows / 2 - 1;
    CHECK_THROWS_WITH_AS(losses_of(plan, rank, pool),
                         "layer 1: rank 0 would receive 32 rows, but its buffers hold 31 "
                         "(receive_rows of the plan), with one sequence at a time; the layer needs "
                         "a bound of 32 or more here",
                         Error);
  }
}

}  // namespace imhotep::executor
