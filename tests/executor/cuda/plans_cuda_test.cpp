// Plans of several GPUs give the losses and the greedy text of one GPU: a pairwise cover of the
// legal plans of this world for a small pyramid, in fp32 (IMHOTEP_ALL_PLANS=1: all) and in bf16.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "executor/generate/generator.h"
#include "executor/train/trainer.h"
#include "kernels/cuda_api.h"
#include "profiles/catalogue.h"
#include "tests/executor/mpi_main.h"
#include "tests/executor/plans/plan_cover.h"
#include "tests/executor/plans/tiny_text.h"
#include "tests/executor/plans/tiny_training.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kSteps = 4;

test::PlanSpace pyramid(int world) {
  test::PlanSpace space;
  space.model = profiles::find_model("nano-pr-moe-2-8");
  space.model.init_std = 0.1;  // clear margins between words
  space.world = world;
  space.ranks_per_node = std::max(1, world / 2);
  return space;
}

Plan on_gpus(Plan plan, Dtype dtype) {
  plan.device = DeviceKind::Cuda;
  plan.dtype = dtype;
  plan.cluster = "local-gpu";
  return plan;
}

// Those that GPUs can run: the all-gather exchange is for CPU ranks.
std::vector<Plan> on_gpus(const std::vector<Plan>& plans, Dtype dtype) {
  std::vector<Plan> list;
  for (const Plan& plan : plans) {
    const Plan moved = on_gpus(plan, dtype);
    if (check_degrees(moved).feasible) list.push_back(moved);
  }
  return list;
}

std::vector<std::vector<std::int32_t>> greedy_of(Plan plan, Rank rank, CommunicatorPool& pool,
                                                 const Generator::Agreement& all) {
  plan.workload.kind = WorkloadKind::Generation;
  plan.workload.global_batch = 8;
  plan.workload.prompt = 8;
  plan.workload.output = 8;
  plan.prefill_chunk = 4;
  plan.page_size = 4;
  Generator generator(plan, rank, pool, plan.world);
  initialize_weights(plan, generator.runner(), {.seed = 3});
  std::vector<std::vector<std::int32_t>> tokens;
  for (GenerationResult& result : generator.generate(test::tiny_requests(), all)) {
    tokens.push_back(std::move(result.tokens));
  }
  return tokens;
}

double worst_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double off = std::abs(a[i] - b[i]) / std::max(std::abs(b[i]), 1e-9);
    worst = std::isnan(off) ? 1e9 : std::max(worst, off);
  }
  return worst;
}

struct Outcome {
  double worst = 0;
  std::int64_t plans = 0, requests = 0, different = 0;
};

Outcome compare(const std::vector<Plan>& plans, const Plan& single, double tolerance) {
  const Bootstrap& bootstrap = test_bootstrap();
  CommunicatorPool pool(bootstrap);
  const Rank rank(bootstrap.rank());
  const std::vector<double> losses = test::losses_of(single, Rank(0), pool, kSteps);
  const auto text = greedy_of(single, Rank(0), pool, [](bool done) { return done; });
  Outcome outcome;
  for (const Plan& plan : plans) {
    const std::string label = test::plan_label(plan);
    CAPTURE(label);
    const double worst = worst_difference(test::losses_of(plan, rank, pool, kSteps), losses);
    CHECK(worst <= tolerance);
    outcome.worst = std::max(outcome.worst, worst);
    const auto agree = [&](bool done) { return bootstrap.all_true(done); };
    const auto got = greedy_of(plan, rank, pool, agree);
    for (std::size_t r = 0; r < got.size(); ++r) {
      ++outcome.requests;
      outcome.different += got[r].empty() || got[r] == text[r] ? 0 : 1;
    }
    ++outcome.plans;
  }
  if (bootstrap.rank() == 0) {
    fmt::print("{} plans of {} GPUs, {}: worst relative difference {:.2e}, {} of {} texts differ\n",
               outcome.plans, bootstrap.world(), name_of(single.dtype), outcome.worst,
               outcome.different, outcome.requests);
  }
  return outcome;
}

}  // namespace

TEST_CASE("plans of these GPUs in fp32 give the losses and the text of one GPU") {
  const int world = test_bootstrap().world();
  const test::PlanSpace space = pyramid(world);
  const bool all = std::getenv("IMHOTEP_ALL_PLANS") != nullptr;
  const std::vector<Plan> plans =
      on_gpus(all ? test::all_plans(space) : test::pairwise_cover(space, 7).plans, Dtype::F32);
  const Plan single = on_gpus(test::all_plans(pyramid(1)).front(), Dtype::F32);
  CHECK(compare(plans, single, 1e-5).different == 0);
}

TEST_CASE("a cover of plans in bf16 stays within 2 % of one GPU") {
  const std::vector<Plan> plans =
      on_gpus(test::pairwise_cover(pyramid(test_bootstrap().world()), 11, 24).plans, Dtype::Bf16);
  const Plan single = on_gpus(test::all_plans(pyramid(1)).front(), Dtype::Bf16);
  static_cast<void>(compare(plans, single, 0.02));
}

namespace {

// Every token chooses expert 0.
void close_gates(Trainer& trainer) {
  const kernels::Queue queue = trainer.runner().queue(Dtype::F32);
  for (int layer = 0; layer < trainer.plan().model.layers; ++layer) {
    const LocalTensor* gate = trainer.weights().find(TensorRole::GateWeight, layer);
    if (gate == nullptr) continue;
    std::byte* region = trainer.runner().region(program::BufferKind::Weight, gate->region);
    kernels::cuda_api().set(region + gate->offset * 4, 0, gate->elements * 4, queue.stream);
  }
  trainer.runner().wait();
}

struct Skewed {
  std::vector<double> values;  // of every step its loss and its gradient norm
  std::int64_t replays = 0;
  double held_out = 0;
  std::int64_t evaluations = 0;  // replayed
};

Skewed skewed_run(const Plan& plan, Rank rank, CommunicatorPool& pool) {
  Trainer trainer(
      plan, rank, pool,
      {.initialize = {.seed = 3}, .run_steps = kSteps, .evaluate_sequences = plan.micro_batch});
  trainer.initialize();
  const BatchSource batch = [&](std::int64_t first, auto inputs, auto targets) {
    test::fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, inputs, targets);
  };
  Skewed told;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    close_gates(trainer);
    const StepResult result = trainer.step(step, batch);
    told.values.insert(told.values.end(), {result.loss, result.gradient_norm});
    told.replays += result.replays.count;
  }
  close_gates(trainer);
  const Trainer::Evaluation held_out = trainer.evaluate(0, batch);
  told.held_out = held_out.negative_log_likelihood;
  told.evaluations = held_out.replays.count;
  return told;
}

}  // namespace

TEST_CASE("rows beyond a bound are replayed in smaller micro-batches on GPUs") {
  test::PlanSpace space = pyramid(test_bootstrap().world());
  space.model.router.aux_coefficient = 0;  // taken over a micro-batch
  CommunicatorPool pool(test_bootstrap());
  const Rank rank(test_bootstrap().rank());
  for (Plan plan : on_gpus(test::pairwise_cover(space, 5, 12).plans, Dtype::F32)) {
    const std::string label = test::plan_label(plan);
    CAPTURE(label);
    const Skewed reference = skewed_run(plan, rank, pool);
    CHECK(reference.replays == 0);
    bool some = false;
    for (MoeLayerPlan& moe : plan.moe_layers) {
      some = some || moe.expert * moe.slicing > 1;
      moe.receive_rows = plan.micro_batch * plan.data * plan.workload.sequence / moe.replica / 2;
    }
    const Skewed told = skewed_run(plan, rank, pool);
    CHECK(worst_difference(told.values, reference.values) <= 1e-5);
    CHECK(worst_difference({told.held_out}, {reference.held_out}) <= 1e-5);
    CHECK(told.replays == (some ? kSteps : 0));
    CHECK(told.evaluations == (some ? 1 : 0));
  }
}

}  // namespace imhotep::executor
