#include "simulator/traffic/step_prices.h"

#include <doctest/doctest.h>

#include <cmath>

namespace imhotep::simulator {
namespace {

Plan small_plan() {
  Workload workload{.kind = WorkloadKind::Generation, .global_batch = 8};
  workload.prompt = 32;
  workload.output = 32;
  return single_rank_plan(read_model(IMHOTEP_SOURCE_DIR "/profiles/models/nano-pr-moe-2-8.json"),
                          workload);
}

ClusterSpec some_cluster() {
  return read_cluster(IMHOTEP_SOURCE_DIR "/profiles/clusters/dgx-h100.json");
}

}  // namespace

TEST_CASE("a full decode bucket costs what the decode step of the plan costs") {
  const Plan plan = small_plan();
  const Simulator simulator(some_cluster());
  const auto shape = program::decode_shape(plan);
  StepPrices prices(simulator, plan,
                    {.sequences = 8, .max_context = 64, .buckets = schedule::usual_buckets(8, 32)});
  const StepLoad full{.bucket = 3, .rows = 8, .samples = 8, .keys = 8 * shape.context};
  CHECK(std::abs(prices.time_us(full) / simulator.decode_step(plan).time_us.value - 1) < 0.01);
}

TEST_CASE("more rows, longer contexts and host time cost more") {
  const Plan plan = small_plan();
  const Simulator simulator(some_cluster());
  const schedule::Limits limits{
      .sequences = 8, .max_context = 64, .buckets = schedule::usual_buckets(8, 32)};
  StepPrices prices(simulator, plan, limits), with_host(simulator, plan, limits, 250);
  const StepLoad small{.bucket = 0, .rows = 1, .samples = 1, .keys = 10};
  const StepLoad large{.bucket = 7, .rows = 32, .samples = 8, .keys = 320};
  StepLoad longer = small;
  longer.keys = 60;
  CHECK(prices.time_us(small) > 0);
  CHECK(prices.time_us(large) > prices.time_us(small));
  CHECK(prices.time_us(longer) >= prices.time_us(small));
  CHECK(with_host.time_us(small) == doctest::Approx(prices.time_us(small) + 250));
}

TEST_CASE("rows of a bucket that hold no token are multiplied by no expert") {
  Plan plan = small_plan();
  plan.prefill_chunk = 64;
  plan.workload.prompt = 64;
  const Simulator simulator(some_cluster());
  const program::GenerateShape all{.rows = 64, .sequences = 8, .samples = 8, .max_context = 64};
  program::GenerateShape some = all;
  some.used_rows = 16;
  double rows_of_all = 0, rows_of_some = 0, dense_of_all = 0, dense_of_some = 0;
  const auto add = [&](const program::GenerateShape& shape, double& routed, double& dense) {
    for (const program::Operation& operation :
         program::build_generate(plan, Rank(0), shape).operations) {
      if (const auto* experts = std::get_if<GroupedGemm>(&operation.shape)) {
        routed += experts->rows.expected;
      }
      if (const auto* gemm = std::get_if<Gemm>(&operation.shape)) {
        dense += static_cast<double>(gemm->m);
      }
    }
  };
  add(all, rows_of_all, dense_of_all);
  add(some, rows_of_some, dense_of_some);
  CHECK(rows_of_some == doctest::Approx(rows_of_all / 4));
  CHECK(dense_of_some == dense_of_all);
  const schedule::Limits limits{
      .sequences = 8, .max_context = 64, .buckets = schedule::usual_buckets(8, 64)};
  StepPrices prices(simulator, plan, limits);
  const int bucket = static_cast<int>(limits.buckets.size()) - 1;
  const StepLoad full{.bucket = bucket, .rows = 64, .samples = 8, .keys = 640};
  StepLoad quarter = full;
  quarter.rows = 16;
  CHECK(prices.time_us(quarter) < prices.time_us(full));
}

TEST_CASE("a step of a real server costs what its touched experts cost") {
  const Plan plan = small_plan();
  const Simulator simulator(some_cluster());
  const schedule::Limits limits{
      .sequences = 8, .max_context = 64, .buckets = schedule::usual_buckets(8, 32)};
  const StepLoad full{.bucket = 3, .rows = 8, .samples = 8, .keys = 200};
  StepLoad one = full;
  one.rows = 1;
  StepPrices even(simulator, plan, limits), few(simulator, plan, limits),
      even_too(simulator, plan, limits);
  // One expert a layer; and so many as 8 rows touch among 2 (two layers) and 8 under an even
  // spread.
  const auto layers = static_cast<double>(plan.moe_layers.size());
  double touched = 0;
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    touched += moe.experts * (1 - std::pow(1 - 1.0 / moe.experts, 8));
  }
  std::vector<StepPrices::Touched> seen(limits.buckets.size());
  seen[3] = {.steps = 10, .experts = layers};
  few.set_touched(seen);
  seen[3].experts = touched;
  even_too.set_touched(seen);
  CHECK(even.time_us(one) < even.time_us(full));
  CHECK(few.time_us(full) < even.time_us(full));
  CHECK(even_too.time_us(full) == doctest::Approx(even.time_us(full)).epsilon(0.01));
}

}  // namespace imhotep::simulator
