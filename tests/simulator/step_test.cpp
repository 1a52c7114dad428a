#include "simulator/step.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "tests/simulator/fixtures.h"

using namespace imhotep;
using namespace imhotep::simulator;
using imhotep::testing::data_plan;
using imhotep::testing::empty_profile;
using imhotep::testing::plan_of;
using imhotep::testing::round_cluster;
using imhotep::testing::small_pyramid;

namespace {

ClusterSpec serial_cluster() {
  ClusterSpec cluster = round_cluster();
  cluster.overlap = false;
  return cluster;
}

double sum_of(const StepPrice& step) {
  double sum = 0;
  for (const OperationTotal& total : step.operations) sum += total.time_us;
  return sum;
}

// A profile that holds every compute operation of a program at `factor` times its roofline price.
profiles::Profile profile_of(const program::Program& program, const Simulator& simulator,
                             double factor) {
  profiles::Profile profile = empty_profile(simulator.cluster());
  for (const program::Operation& operation : program.operations) {
    const profiles::Description described = profiles::describe(operation.shape);
    if (described.communication) continue;
    profiles::Table table{.family = std::string(profiles::family_of(described.family).name),
                          .variant = std::string(variant_text(described)),
                          .dtype = program.dtype};
    const double time_us = factor * simulator.price(operation.shape, program.dtype, {}, 1).time_us;
    table.points.push_back({.key = {described.key.begin(), described.key.begin() + described.keys},
                            .time_us = time_us});
    profile.tables.push_back(table);
  }
  return profile;
}

}  // namespace

TEST_CASE("without overlap a step is the sum of its operations and its overheads") {
  const StepPrice step = Simulator(serial_cluster()).training_step(plan_of(small_pyramid()));
  CHECK(step.time_us.value == doctest::Approx(sum_of(step) + step.overhead_us));
  CHECK(step.time_us.low < step.time_us.value);
  CHECK(step.time_us.high > step.time_us.value);
  CHECK(step.exposed_us == 0);
  CHECK(step.tokens == 8 * 32);
  CHECK(step.tokens_per_s == doctest::Approx(256 / step.time_us.value * 1e6));
  CHECK(step.cost_per_mtoken == doctest::Approx(3.6 / 3600 / step.tokens_per_s * 1e6));
}

TEST_CASE("every operation of the programs is counted, by name and pass") {
  Plan plan = plan_of(small_pyramid());
  plan.accumulation = 3;
  const StepPrice step = Simulator(serial_cluster()).training_step(plan);
  double counted = 0;
  for (const OperationTotal& total : step.operations) counted += total.count;
  const auto size = [](const program::Program& p) {
    return static_cast<double>(p.operations.size());
  };
  CHECK(counted == size(program::build_train_step(plan, Rank(0))) +
                       2 * size(program::build_train_step(plan, Rank(0), {.first = false})) +
                       size(program::build_update(plan, Rank(0))));
  for (std::size_t i = 0; i < step.operations.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const bool same = step.operations[i].name == step.operations[j].name &&
                        step.operations[i].pass == step.operations[j].pass;
      CHECK_FALSE(same);
    }
  }
}

TEST_CASE("a profile of the very operations gives their times, all measured") {
  const Plan plan = plan_of(small_pyramid(), WorkloadKind::Generation);
  const Simulator roofline(serial_cluster());
  const auto program = program::build_generate(plan, Rank(0), program::decode_shape(plan));
  // Routing decides nothing on one rank, but the busiest share is the simulator's, not the
  // builder's: those operations are interpolated.
  const Simulator measured(serial_cluster(), profile_of(program, roofline, 2));
  const StepPrice slow = measured.decode_step(plan), fast = roofline.decode_step(plan);
  for (const OperationTotal& total : slow.operations) {
    CAPTURE(total.name);
    if (total.name.starts_with("experts_")) continue;
    CHECK(total.source == Source::Measured);
  }
  CHECK(sum_of(slow) == doctest::Approx(2 * sum_of(fast)).epsilon(0.05));
  CHECK(slow.time_us.high / slow.time_us.value < fast.time_us.high / fast.time_us.value);
}

TEST_CASE("overlap hides communication, its absence exposes all of it") {
  const Plan plan = data_plan(small_pyramid(), 8, 4);
  const StepPrice serial = Simulator(serial_cluster()).training_step(plan);
  const StepPrice overlapped = Simulator(round_cluster()).training_step(plan);
  double communication = 0;
  for (const OperationTotal& total : serial.operations) {
    if (total.name == "dispatch" || total.name == "combine") communication += total.time_us;
  }
  CHECK(communication > 0);
  CHECK(serial.exposed_us > communication);
  CHECK(overlapped.exposed_us < serial.exposed_us);
}

TEST_CASE("skewed routing makes the busiest rank slower") {
  Plan plan = data_plan(small_pyramid(), 4, 4);
  const Simulator simulator(serial_cluster());
  const double even = simulator.training_step(plan).time_us.value;
  plan.workload.routing = {.kind = RoutingKind::Zipf, .skew = 1.2};
  CHECK(simulator.training_step(plan).time_us.value > even);
}

TEST_CASE("a prediction holds decode and prompt, profile and memory") {
  const Plan plan = plan_of(small_pyramid(), WorkloadKind::Generation);
  profiles::Profile profile = empty_profile(serial_cluster());
  profile.hash = "0123456789abcdef";
  profile.overheads = {.operation_us = 1, .step_us = 100};
  const Simulator simulator(serial_cluster(), profile);
  const Prediction prediction = simulator.predict(plan);
  CHECK(prediction.profile == "round");
  CHECK(prediction.profile_hash == "0123456789abcdef");
  CHECK(prediction.memory_bytes == program::plan_memory(plan, Rank(0)).total());
  CHECK(prediction.time_us.value > 100);
  CHECK(prediction.prompt_us.value > prediction.time_us.value);
  CHECK(prediction.tokens_per_s == doctest::Approx(8 / prediction.time_us.value * 1e6));
  const auto program = program::build_generate(plan, Rank(0), program::decode_shape(plan));
  const StepPrice step = simulator.decode_step(plan);
  CHECK(step.overhead_us == doctest::Approx(99.0 + static_cast<double>(program.operations.size())));
}

TEST_CASE("errors of a family add, errors of families combine as squares, with a floor") {
  ErrorBudget one, two;
  one.add(0, {.time_us = 100, .low_us = 90, .high_us = 120}, 2);
  CHECK(one.around(200).high == doctest::Approx(200 + std::hypot(40, 6)));
  CHECK(one.around(200).low == doctest::Approx(200 - std::hypot(20, 6)));
  two.add(1, {.time_us = 100, .low_us = 70, .high_us = 130});
  two.add(one);
  CHECK(two.around(300).high == doctest::Approx(300 + std::hypot(40, 30, 9)));
  CHECK(ErrorBudget().around(100).high == doctest::Approx(103));
}

TEST_CASE("a program whose parts are known is priced as before, and every operation has a price") {
  ModelSpec model = small_pyramid();
  model.layers = 24;
  model.experts.slots.assign(12, 8);
  const Plan plan = data_plan(model, 8, 4);
  const Simulator simulator(round_cluster());
  const auto program = program::build_train_step(plan, Rank(0));
  const ProgramPrice first = simulator.price(program, plan), again = simulator.price(program, plan);
  CHECK(first.costs.size() == program.operations.size());
  CHECK(again.costs.size() == program.operations.size());
  CHECK(first.timeline.makespan_us == again.timeline.makespan_us);
}
