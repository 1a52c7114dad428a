#include "simulator/engine/program_graph.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "simulator/engine/trace.h"

using namespace imhotep;
using namespace imhotep::simulator;
using program::Operand;

namespace {

// Two buffers x and y, an exchange of x beside work on y, then both together.
program::Program overlapped() {
  program::Program p;
  p.groups.push_back({.members = {Rank(0), Rank(1)}});
  for (const char* name : {"x", "y", "z"}) p.buffers.push_back({.name = name, .elements = 8});
  const auto at = [](int buffer) { return Operand{.buffer = BufferId(buffer)}; };
  const auto op = [&](const char* name, const program::Operands& inputs,
                      const program::Operands& outputs) {
    p.operations.push_back(
        {.name = name, .shape = Add{8}, .inputs = inputs, .outputs = outputs, .layer = 1});
  };
  op("make_x", {}, {at(0)});
  op("sum_x", {at(0)}, {at(0)});
  p.operations.back().shape = AllReduce{8};
  p.operations.back().group = GroupId(0);
  p.operations.back().stream = program::Stream::Exchange;
  op("make_y", {}, {at(1)});
  op("join", {at(0), at(1)}, {at(2)});
  op("overwrite_x", {}, {at(0)});
  return p;
}

std::vector<Cost> costs(std::initializer_list<double> times) {
  std::vector<Cost> list;
  for (const double time : times) list.push_back({time, time, time, Source::Measured});
  return list;
}

}  // namespace

TEST_CASE("an operation waits for the writer of its inputs and the readers of its outputs") {
  const TaskGraph graph = task_graph(overlapped(), costs({1, 5, 3, 2, 1}), true);
  const std::vector<std::pair<int, int>> expected = {{0, 1}, {1, 3}, {1, 4}};
  CHECK(graph.edges == expected);
  const Timeline timeline = schedule(graph);
  CHECK(timeline.slices[2].start_us == 1);
  CHECK(timeline.slices[3].start_us == 6);
  CHECK(timeline.makespan_us == 9);
  CHECK(exposed_communication_us(overlapped(), timeline) == doctest::Approx(2));
}

TEST_CASE("a reader on another stream is waited for before its buffer is written again") {
  program::Program p = overlapped();
  p.operations[1].outputs = {{.buffer = BufferId(2)}};  // reads x, writes z
  p.operations[3].inputs = {{.buffer = BufferId(1)}};
  p.operations[3].outputs = {{.buffer = BufferId(0)}};  // writes x
  const TaskGraph graph = task_graph(p, costs({1, 5, 3, 2, 1}), true);
  const std::vector<std::pair<int, int>> expected = {{0, 1}, {1, 3}};
  CHECK(graph.edges == expected);
}

TEST_CASE("without overlap everything runs in issue order and all communication shows") {
  const TaskGraph graph = task_graph(overlapped(), costs({1, 5, 3, 2, 1}), false);
  const Timeline timeline = schedule(graph);
  CHECK(timeline.makespan_us == 12);
  CHECK(timeline.critical_path.size() == 5);
  CHECK(exposed_communication_us(overlapped(), timeline) == doctest::Approx(5));
}

TEST_CASE("a cost is needed for every operation") {
  CHECK_THROWS_AS((void)task_graph(overlapped(), costs({1, 2}), true), Error);
}

TEST_CASE("the Chrome trace is JSON whose slices nest on their tracks") {
  const Timeline timeline = schedule(task_graph(overlapped(), costs({1, 5, 3, 2, 1}), true));
  const auto trace = nlohmann::json::parse(chrome_trace(overlapped(), timeline, 3));
  int slices = 0, names = 0;
  double end[2] = {0, 0};
  for (const auto& event : trace["traceEvents"]) {
    CHECK(event["pid"] == 3);
    if (event["ph"] == "M") {
      ++names;
      continue;
    }
    REQUIRE(event["ph"] == "X");
    const int track = event["tid"];
    CHECK(event["ts"].get<double>() >= end[track] - 1e-6);
    end[track] = event["ts"].get<double>() + event["dur"].get<double>();
    ++slices;
  }
  CHECK(slices == 5);
  CHECK(names == 3);
  CHECK(trace["traceEvents"][4]["name"] == "sum_x");
  CHECK(trace["traceEvents"][4]["args"]["layer"] == 1);
}

TEST_CASE("the table lists operations by start and marks the critical path") {
  const Timeline timeline = schedule(task_graph(overlapped(), costs({1, 5, 3, 2, 1}), true));
  const std::string table = timeline_table(overlapped(), timeline);
  CHECK(table.find("make_x 1") < table.find("make_y 1"));
  CHECK(table.find("* exchange  forward   sum_x 1") != std::string::npos);
  CHECK(table.find("  compute   forward   make_y 1") != std::string::npos);
}
