#include <doctest/doctest.h>

#include <cmath>

#include "core/program/build.h"
#include "simulator/step.h"
#include "simulator/styles/host_queue.h"
#include "simulator/styles/restyle.h"
#include "tests/simulator/fixtures.h"

using namespace imhotep;
using namespace imhotep::simulator;
using namespace imhotep::testing;

namespace {

TaskGraph chain(std::initializer_list<double> durations) {
  TaskGraph graph;
  for (const double duration : durations) graph.tasks.push_back({.duration_us = duration});
  return graph;
}

Plan styled(ExecutionStyle style, WorkloadKind kind, int ranks = 4) {
  Plan plan = data_plan(small_pyramid(), ranks, 4, kind);
  plan.style = style;
  plan.executable = style == ExecutionStyle::Imhotep;
  return plan;
}

double step_us(const Plan& plan) {
  const Simulator simulator(round_cluster());
  return plan.workload.kind == WorkloadKind::Training ? simulator.training_step(plan).time_us.value
                                                      : simulator.decode_step(plan).time_us.value;
}

const program::Operation& named(const program::Program& program, std::string_view name) {
  for (const program::Operation& operation : program.operations) {
    if (operation.name == name) return operation;
  }
  FAIL("no operation is called " << name);
  return program.operations.front();
}

}  // namespace

TEST_CASE("a slow device hides the host, a slow host starves the device") {
  const TaskGraph graph = chain({10, 10, 10});
  const std::vector<HostWork> one(3, {.calls = 1});
  const HostTimeline device = host_schedule(graph, one, 4);
  CHECK(device.device.makespan_us == doctest::Approx(4 + 30));
  const HostTimeline host = host_schedule(graph, one, 25);
  CHECK(host.device.makespan_us == doctest::Approx(3 * 25 + 10));
  CHECK(host.device.slices[1].start_us == doctest::Approx(50));
  CHECK(host.by_host[2]);
  CHECK_FALSE(device.by_host[2]);
}

TEST_CASE("an operation of many calls ends no earlier than the last of them") {
  const HostTimeline timeline = host_schedule(chain({8}), std::vector<HostWork>{{.calls = 4}}, 10);
  CHECK(timeline.device.makespan_us == doctest::Approx(40 + 2));
}

TEST_CASE("a host that waits for a result loses its lead") {
  const TaskGraph graph = chain({100, 10});
  const std::vector<HostWork> free(2, {.calls = 1}),
      waits = {{.calls = 1, .waits = true}, {.calls = 1}};
  CHECK(host_schedule(graph, free, 5).device.makespan_us == doctest::Approx(5 + 110));
  CHECK(host_schedule(graph, waits, 5).device.makespan_us == doctest::Approx(5 + 100 + 5 + 10));
}

TEST_CASE("every style prices training and generation, and none but ours may run") {
  for (const auto& [style, name] : EnumNames<ExecutionStyle>::list()) {
    CAPTURE(name);
    for (const WorkloadKind kind : {WorkloadKind::Training, WorkloadKind::Generation}) {
      Plan plan = styled(style, kind);
      CHECK(check_degrees(plan).feasible);
      const double us = step_us(plan);
      CHECK(std::isfinite(us));
      CHECK(us > 0);
      plan.executable = true;
      CHECK(check_degrees(plan).feasible == (style == ExecutionStyle::Imhotep));
    }
  }
}

TEST_CASE("styles with slots send experts x capacity rows, whatever is routed") {
  const Plan plan = styled(ExecutionStyle::Pytorch, WorkloadKind::Training);
  const program::Program step = program::build_train_step(plan, Rank(0));
  Restyler restyler(step, plan);
  const program::Operation& dispatch = named(step, "dispatch");
  const StyledOperation sent = restyler.at(dispatch, dispatch.shape);
  REQUIRE(sent.parts.size() == 1);
  const auto& rows = std::get<ExchangeRows>(sent.parts[0].shape);
  const MoeLayerPlan& moe = *plan.moe(dispatch.layer);
  const double even = static_cast<double>(step.rows) / moe.experts;
  const double capacity = std::max(std::ceil(even), 4.0);  // the least capacity is 4
  CHECK(rows.send.expected == doctest::Approx(moe.experts * capacity));
  CHECK(rows.receive.expected == rows.send.expected);
}

TEST_CASE("an expert at a time is one product for each expert held") {
  const Plan plan = styled(ExecutionStyle::Pytorch, WorkloadKind::Generation, 1);
  const program::Program step = program::build_generate(plan, Rank(0), program::decode_shape(plan));
  Restyler restyler(step, plan);
  const program::Operation& up = named(step, "experts_up");
  const StyledOperation products = restyler.at(up, up.shape);
  const int experts = plan.moe(up.layer)->experts;
  CHECK(std::get<Gemm>(products.parts[0].shape).n == plan.model.ffn());
  CHECK(products.parts[0].times == experts);
  CHECK(products.calls == 2 * experts);
}

TEST_CASE("einsum over masks multiplies tokens by all slots, sparse dispatch moves rows") {
  const auto parts = [](ExecutionStyle style) {
    const Plan plan = styled(style, WorkloadKind::Training);
    const program::Program step = program::build_train_step(plan, Rank(0));
    const program::Operation& pack = named(step, "pack_rows");
    return Restyler(step, plan).at(pack, pack.shape).parts;
  };
  const auto einsum = parts(ExecutionStyle::Fairseq);
  REQUIRE(einsum.size() == 2);
  const auto& product = std::get<Gemm>(einsum[0].shape);
  CHECK(product.n == small_pyramid().hidden);
  CHECK(product.m % 4 == 0);
  CHECK(std::holds_alternative<Add>(einsum[1].shape));
  for (const ExecutionStyle style : {ExecutionStyle::Tutel, ExecutionStyle::DeepspeedInference}) {
    REQUIRE(parts(style).size() == 1);
    CHECK(std::holds_alternative<GatherRows>(parts(style)[0].shape));
  }
}

TEST_CASE("masks take memory with the square of the tokens, and our own style takes nothing more") {
  Plan plan = styled(ExecutionStyle::Fairseq, WorkloadKind::Training);
  plan.model.router.min_capacity = 1;
  plan.workload.sequence = 64;
  const std::int64_t small = style_bytes(plan);
  plan.micro_batch *= 4;
  const std::int64_t large = style_bytes(plan);
  CHECK(static_cast<double>(large) - kContextBytes ==
        doctest::Approx(16 * (static_cast<double>(small) - kContextBytes)).epsilon(1e-6));
  plan.style = ExecutionStyle::Imhotep;
  CHECK(style_bytes(plan) == 0);
}
