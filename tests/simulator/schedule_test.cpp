#include "simulator/engine/schedule.h"

#include <doctest/doctest.h>

#include <string>

#include "core/base/error.h"
#include "core/base/random.h"

using namespace imhotep;
using namespace imhotep::simulator;

TEST_CASE("a diamond on two streams runs its sides at once") {
  //      1 (3 us, stream 0)
  //  0 <                    > 3
  //      2 (5 us, stream 1)
  const TaskGraph graph{.tasks = {{2, 0}, {3, 0}, {5, 1}, {1, 0}},
                        .edges = {{0, 1}, {0, 2}, {1, 3}, {2, 3}}};
  const Timeline timeline = schedule(graph);
  CHECK(timeline.slices[0].start_us == 0);
  CHECK(timeline.slices[1].start_us == 2);
  CHECK(timeline.slices[2].start_us == 2);
  CHECK(timeline.slices[3].start_us == 7);
  CHECK(timeline.makespan_us == 8);
  CHECK(timeline.critical_path == std::vector<int>{0, 2, 3});
}

TEST_CASE("the same diamond on one stream runs in the order of the list") {
  const TaskGraph graph{.tasks = {{2, 0}, {3, 0}, {5, 0}, {1, 0}},
                        .edges = {{0, 1}, {0, 2}, {1, 3}, {2, 3}}};
  const Timeline timeline = schedule(graph);
  CHECK(timeline.makespan_us == 11);
  CHECK(timeline.slices[2].start_us == 5);
  CHECK(timeline.critical_path == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("a stream waits for the head of its queue even when a later task could run") {
  // Task 1 waits for 0 on the other stream; task 2 is free but behind it.
  const TaskGraph graph{.tasks = {{4, 0}, {1, 1}, {2, 1}, {3, 0}}, .edges = {{0, 1}, {2, 3}}};
  const Timeline timeline = schedule(graph);
  CHECK(timeline.slices[1].start_us == 4);
  CHECK(timeline.slices[2].start_us == 5);
  CHECK(timeline.slices[3].start_us == 7);
  CHECK(timeline.makespan_us == 10);
  CHECK(timeline.critical_path == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("communication behind computation costs only what sticks out") {
  const TaskGraph graph{.tasks = {{1, 0}, {4, 1}, {6, 0}, {1, 0}}, .edges = {{0, 1}, {1, 3}}};
  const Timeline timeline = schedule(graph);
  CHECK(timeline.makespan_us == 8);
  CHECK(timeline.critical_path == std::vector<int>{0, 2, 3});
}

TEST_CASE("a gap passes between two tasks of a stream, not before the first") {
  const TaskGraph graph{.tasks = {{1, 0}, {1, 0}, {1, 1}}, .edges = {{0, 2}}, .gap_us = 0.5};
  const Timeline timeline = schedule(graph);
  CHECK(timeline.slices[1].start_us == 1.5);
  CHECK(timeline.slices[2].start_us == 1);
  CHECK(timeline.makespan_us == 2.5);
}

TEST_CASE("an empty graph takes no time") {
  const Timeline timeline = schedule({});
  CHECK(timeline.makespan_us == 0);
  CHECK(timeline.critical_path.empty());
}

TEST_CASE("cycles are refused, also through the order of a stream") {
  const TaskGraph circle{.tasks = {{1, 0}, {1, 1}}, .edges = {{0, 1}, {1, 0}}};
  const TaskGraph backwards{.tasks = {{1, 0}, {1, 0}}, .edges = {{1, 0}}};
  const TaskGraph itself{.tasks = {{1, 0}}, .edges = {{0, 0}}};
  for (const TaskGraph& graph : {circle, backwards, itself}) {
    try {
      (void)schedule(graph);
      FAIL("a cycle was scheduled");
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find("a cycle: tasks 0") == 0);
    }
  }
  CHECK_THROWS_AS((void)schedule({.tasks = {{1, 0}}, .edges = {{0, 1}}}), Error);
}

TEST_CASE("tasks respect their order, and the critical path is without idle time") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    TaskGraph graph;
    const int count = 2 + static_cast<int>(30 * uniform(seed, 0));
    for (int i = 0; i < count; ++i) {
      graph.tasks.push_back({10 * uniform(seed, i, 1), static_cast<int>(3 * uniform(seed, i, 2))});
      for (int j = 0; j < i; ++j) {
        if (uniform(seed, i, 3, j) < 0.15) graph.edges.emplace_back(j, i);
      }
    }
    const Timeline timeline = schedule(graph);
    for (const auto& [before, after] : graph.edges) {
      CHECK(timeline.slices[before].end_us() <= timeline.slices[after].start_us);
    }
    double sum = 0, last_end[3] = {};
    for (const Slice& slice : timeline.slices) {
      CHECK(slice.start_us >= last_end[slice.stream]);
      last_end[slice.stream] = slice.end_us();
    }
    for (const int task : timeline.critical_path) sum += graph.tasks[task].duration_us;
    CHECK(sum == doctest::Approx(timeline.makespan_us));
  }
}
