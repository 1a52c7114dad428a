#include "simulator/refit.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/base/error.h"
#include "simulator/step_programs.h"
#include "tests/simulator/fixtures.h"

using namespace imhotep;
using namespace imhotep::simulator;
using imhotep::testing::data_plan;
using imhotep::testing::empty_profile;
using imhotep::testing::plan_of;
using imhotep::testing::round_cluster;
using imhotep::testing::small_pyramid;

namespace {

// What a machine would report whose operations take `factor(name)` times what is predicted.
template <class Factor>
RunReport report_of(const Simulator& simulator, const Plan& plan, const std::string& phase,
                    double overhead_us, Factor factor) {
  const StepPrice price = simulator.step(plan, phase);
  RunReport report{.plan = plan,
                   .machine = "a test",
                   .date = "2026-01-01T00:00:00Z",
                   .phase = phase,
                   .steps = 9,
                   .measured_us = overhead_us};
  for (const OperationTotal& total : price.operations) {
    report.operations.push_back({.operation = total.name,
                                 .pass = std::string(program::pass_name(total.pass)),
                                 .count = static_cast<std::int64_t>(total.count),
                                 .measured_us = total.time_us * factor(total.name),
                                 .spread = 0.02});
    report.measured_us += report.operations.back().measured_us;
  }
  report.operations.push_back(
      {.operation = "unaccounted", .pass = "step", .count = 1, .measured_us = overhead_us});
  return report;
}

double error_of(const Simulator& simulator, const RunReport& report) {
  const double predicted = simulator.step(report.plan, report.phase).time_us.value;
  return std::abs(predicted / report.measured_us - 1);
}

double twice_or_more(const std::string& name) {
  return name.find("expert") != std::string::npos ? 3.5 : 2.2;
}

ClusterSpec serial_cluster() {
  ClusterSpec cluster = round_cluster();
  cluster.overlap = false;
  return cluster;
}

}  // namespace

TEST_CASE("a report corrects the next prediction of its own step") {
  const ClusterSpec cluster = serial_cluster();
  const profiles::Profile empty = empty_profile(cluster);
  for (const char* phase : {"training", "decode", "prefill", "evaluation"}) {
    CAPTURE(phase);
    const bool trains = std::string_view(phase) == "training" || phase[0] == 'e';
    const Plan plan =
        plan_of(small_pyramid(), trains ? WorkloadKind::Training : WorkloadKind::Generation);
    const Simulator before(cluster, empty);
    const RunReport report = report_of(before, plan, phase, 400, twice_or_more);
    const Refit result = refit(empty, before, report);
    const Simulator after(cluster, result.profile);
    CHECK(error_of(before, report) > 0.4);
    CHECK(error_of(after, report) < 0.05);
    CHECK(result.points > 10);
    CHECK(result.left_out == 0);
    REQUIRE(result.profile.notes.size() == 1);
    CHECK(result.profile.notes[0].find("2026-01-01") != std::string::npos);
  }
}

TEST_CASE("what a report taught serves plans that were not run") {
  const ClusterSpec cluster = serial_cluster();
  const profiles::Profile empty = empty_profile(cluster);
  const Simulator before(cluster, empty);
  profiles::Profile learnt = empty;
  for (const std::int64_t batch : {4, 16}) {
    Plan plan = plan_of(small_pyramid());
    plan.workload.global_batch = plan.micro_batch = batch;
    const Simulator now(cluster, learnt);
    learnt = refit(learnt, now, report_of(before, plan, "training", 100, twice_or_more)).profile;
  }
  Plan unseen = plan_of(small_pyramid());
  unseen.workload.global_batch = unseen.micro_batch = 8;
  const RunReport report = report_of(before, unseen, "training", 100, twice_or_more);
  CHECK(error_of(before, report) > 0.4);
  CHECK(error_of(Simulator(cluster, learnt), report) < 0.1);
}

TEST_CASE("ranks and exchanges are learnt under the number of busy ranks and their groups") {
  const ClusterSpec cluster = serial_cluster();
  const profiles::Profile empty = empty_profile(cluster);
  const Plan plan = data_plan(small_pyramid(), 4, 4);
  const Simulator before(cluster, empty);
  const RunReport report = report_of(before, plan, "training", 0, twice_or_more);
  const Refit result = refit(empty, before, report);
  REQUIRE(!result.profile.tables.empty());
  for (const profiles::Table& table : result.profile.tables) CHECK(table.ranks == 4);
  REQUIRE(!result.profile.collectives.empty());
  CHECK(error_of(Simulator(cluster, result.profile), report) < 0.1);
}

TEST_CASE("noisy rows teach nothing, and a report of another device is refused") {
  const ClusterSpec cluster = serial_cluster();
  const profiles::Profile empty = empty_profile(cluster);
  const Simulator simulator(cluster, empty);
  RunReport report = report_of(simulator, plan_of(small_pyramid()), "training", 0, twice_or_more);
  for (OperationTime& row : report.operations) row.spread = 0.6;
  const Refit result = refit(empty, simulator, report);
  CHECK(result.points == 0);
  CHECK(result.left_out == report.operations.size() - 1);

  profiles::Profile other = empty;
  other.device.name = "Another device";
  CHECK_THROWS_AS((void)refit(other, simulator, report), Error);
  report.operations.clear();
  CHECK_THROWS_AS((void)refit(empty, simulator, report), Error);
  CHECK_THROWS_AS((void)step_programs(report.plan, "sleeping"), Error);
}
