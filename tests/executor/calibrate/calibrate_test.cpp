#include "executor/calibrate/calibrate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/program/build.h"
#include "executor/calibrate/clock_watch.h"
#include "executor/calibrate/measured_load.h"
#include "executor/calibrate/probe_walk.h"
#include "executor/calibrate/samples.h"
#include "executor/generate/generator.h"
#include "executor/train/initialize.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

ModelSpec small_model() {
  ModelSpec model;
  model.name = "small";
  model.layers = 2;
  model.hidden = 32;
  model.heads = 2;
  model.vocab = 256;
  model.context = 64;
  model.experts.slots = {4};
  model.residual = true;
  return model;
}

std::vector<Plan> small_probes() {
  Workload training;
  training.global_batch = 2;
  training.sequence = 16;
  Workload generation{.kind = WorkloadKind::Generation, .global_batch = 2};
  generation.prompt = 8;
  generation.output = 4;
  return {single_rank_plan(small_model(), training), single_rank_plan(small_model(), generation)};
}

std::size_t points_of(const profiles::Profile& profile) {
  std::size_t points = 0;
  for (const profiles::Table& table : profile.tables) points += table.points.size();
  return points;
}

program::Operation product(std::int64_t rows) {
  return {.name = "product", .shape = Gemm{.m = rows, .n = 8, .k = 8}};
}

}  // namespace

TEST_CASE("a device that slows down is noticed, and one that speeds up becomes the measure") {
  std::vector<double> rates = {100, 95, 80, 120, 105};
  std::size_t at = 0;
  ClockWatch watch([&] { return rates[at++]; });
  CHECK_FALSE(watch.slow());
  CHECK_FALSE(watch.slow());
  CHECK(watch.slow());
  CHECK(watch.last_share() == doctest::Approx(0.8));
  CHECK_FALSE(watch.slow());
  CHECK(watch.slow());  // 105 of 120
  CHECK(watch.lowest_share() == doctest::Approx(0.8));
}

TEST_CASE("noisy readings are refused, and kept where a table has nothing else") {
  Samples samples;
  for (const double time : {10.0, 10.1, 10.2, 9.9}) samples.add(product(8), Dtype::F32, time);
  for (const double time : {10.0, 30.0, 5.0, 60.0}) samples.add(product(16), Dtype::F32, time);
  std::int64_t refused = 0;
  auto tables = samples.tables(1, refused);
  REQUIRE(tables.size() == 1);
  REQUIRE(tables[0].points.size() == 1);
  CHECK(tables[0].points[0].key[0] == 8);
  CHECK(refused == 1);

  Samples noisy;
  for (const double time : {10.0, 30.0, 5.0, 60.0}) noisy.add(product(16), Dtype::F32, time);
  refused = 0;
  tables = noisy.tables(1, refused);
  REQUIRE(tables.size() == 1);
  REQUIRE(tables[0].points.size() == 1);
  CHECK(tables[0].points[0].spread > kNoisySpread);
  CHECK(refused == 0);
}

TEST_CASE("what observing costs is shared by the operations, and is never a gain") {
  CHECK(observer_cost(std::vector<double>{60, 70}, 6) == doctest::Approx(3));
  CHECK(observer_cost(std::vector<double>{60, 70}, -10) == 0);
  CHECK(observer_cost({}, 90) == 0);
  // A short one cannot lose more than its part; the others lose the rest.
  CHECK(observer_cost(std::vector<double>{2, 40, 40}, 9.5) == doctest::Approx(4));
  CHECK(observer_cost(std::vector<double>{2, 4}, 100) == doctest::Approx(3));
}

TEST_CASE("what events cannot cost is taken off in proportion, and walks sum to the program") {
  // Three operations lose an event's cost each, and no more is missing.
  CHECK(without_observer({10, 20, 30}, 6) == std::vector<double>{8, 18, 28});
  // The rest is a clock that ran slower: long operations lose most of it.
  const std::vector<double> slower = without_observer({10, 1000}, 103);
  CHECK(slower[0] + slower[1] == doctest::Approx(1010 - 103));
  CHECK(slower[0] == doctest::Approx(7.5 * (1010 - 103) / 1005.0));
  // A short one keeps a quarter of its reading.
  CHECK(without_observer({2, 100}, 5)[0] == doctest::Approx(0.5 * (102 - 5) / 98.0));
  CHECK(without_observer({10, 20}, -3) == std::vector<double>{10, 20});
  CHECK(without_observer({1, 1}, 100) == std::vector<double>{0.0625, 0.0625});
}

TEST_CASE("a calibration holds every operation that its probes walk") {
  const Bootstrap alone;
  CommunicatorPool pool(alone);
  const std::vector<Plan> probes = small_probes();
  std::vector<std::size_t> kept;
  const auto profile = calibrate(
      alone, pool, {.probes = probes, .repeats = 2, .keep = [&](const profiles::Profile& so_far) {
                      kept.push_back(so_far.probes.size());
                    }});
  CHECK(kept == std::vector<std::size_t>{1, 2});
  REQUIRE(profile.probes.size() == 2);
  CHECK(profile.probes[0] == probe_name(probes[0]));
  const auto program =
      program::build_generate(probes[1], Rank(0), program::decode_shape(probes[1]));
  for (const program::Operation& operation : program.operations) {
    const auto described = profiles::describe(operation.shape);
    const auto& family = profiles::family_of(described.family);
    const bool found = std::any_of(
        profile.tables.begin(), profile.tables.end(), [&](const profiles::Table& table) {
          return table.family == family.name && table.variant == profiles::variant_text(described);
        });
    CHECK_MESSAGE(found, operation.name);
  }
}

TEST_CASE("what an earlier run knows is not measured again, and no probe begins too late") {
  const Bootstrap alone;
  CommunicatorPool pool(alone);
  const std::vector<Plan> probes = small_probes();
  std::vector<std::string> names;
  for (const Plan& plan : probes) names.push_back(probe_name(plan));

  auto profile = calibrate(alone, pool, {.probes = probes, .repeats = 2, .known = names});
  CHECK(points_of(profile) == 0);
  CHECK(profile.probes.empty());

  profile = calibrate(alone, pool, {.probes = probes, .repeats = 2, .budget_s = 1e-9});
  CHECK(points_of(profile) == 0);
  REQUIRE(profile.notes.size() == 1);
  CHECK(profile.notes[0] == "2 of 2 probes left out: the time was up");
}

TEST_CASE("a probe that cannot run is noted and the others are measured") {
  const Bootstrap alone;
  CommunicatorPool pool(alone);
  std::vector<Plan> probes = small_probes();
  probes[0].dtype = Dtype::Bf16;  // CPU ranks have no such kernels
  const auto profile = calibrate(alone, pool, {.probes = probes, .repeats = 2});
  REQUIRE(profile.probes.size() == 1);
  CHECK(profile.probes[0] == probe_name(probes[1]));
  REQUIRE(!profile.notes.empty());
  CHECK(profile.notes[0].find("CPU ranks run fp32") != std::string::npos);
}

TEST_CASE("probes of a GPU have names of their own and begin with all phases") {
  for (const bool fast : {true, false}) {
    const std::vector<Plan> probes = device_probes(fast);
    std::vector<std::string> names;
    for (const Plan& plan : probes) names.push_back(probe_name(plan));
    std::sort(names.begin(), names.end());
    CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
    REQUIRE(probes.size() >= 4);
    CHECK(probes[0].workload.kind == WorkloadKind::Training);
    CHECK(probes[1].workload.kind == WorkloadKind::Generation);
  }
}

TEST_CASE("readings know the experts that tokens chose, not those an even spread expects") {
  const Plan plan = small_probes()[1];
  const Bootstrap alone;
  CommunicatorPool pool(alone);
  Generator generator(plan, Rank(0), pool, 1);
  initialize_weights(plan, generator.runner(), {.seed = 7});
  std::vector<ProbeReadings::Reading> readings;
  generator.runner().observe([&](const program::Operation& operation, double time_us) {
    readings.push_back({.operation = operation, .dtype = plan.dtype, .time_us = time_us});
  });
  int products = 0;
  generator.on_step = [&](int, auto) {
    note_load(plan, generator.runner(), readings);
    const auto* routes = generator.runner().input<float>("balance_stats");
    double active = 0, most = 0, all = 0;
    for (int e = 0; e < 4; ++e) {
      active += routes[e] > 0 ? 1 : 0;
      most = std::max(most, static_cast<double>(routes[e]));
      all += static_cast<double>(routes[e]);
    }
    for (const ProbeReadings::Reading& reading : readings) {
      const auto* product = std::get_if<GroupedGemm>(&reading.operation.shape);
      if (product == nullptr) continue;
      ++products;
      CHECK(product->active == active);
      CHECK(product->busiest == doctest::Approx(most / all));
    }
    readings.clear();
  };
  const std::vector<GenerationRequest> requests = {{.prompt = {3, 5, 7}, .max_tokens = 3},
                                                   {.prompt = {11, 2}, .max_tokens = 3}};
  static_cast<void>(generator.generate(requests, [](bool done) { return done; }));
  CHECK(products > 0);
}
