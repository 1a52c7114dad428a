#include "simulator/engine/program_graph.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/fail.h"
#include "core/program/streams.h"

namespace imhotep::simulator {
namespace {

bool communicates(const program::Operation& operation) { return operation.group.valid(); }

using Span = std::pair<double, double>;

}  // namespace

TaskGraph task_graph(const program::Program& program, std::span<const Cost> costs, bool overlap) {
  if (costs.size() != program.operations.size()) {
    fail("{} costs for {} operations", costs.size(), program.operations.size());
  }
  TaskGraph graph;
  graph.tasks.reserve(costs.size());
  for (std::size_t i = 0; i < costs.size(); ++i) {
    const int stream = overlap ? static_cast<int>(program.operations[i].stream) : 0;
    graph.tasks.push_back({.duration_us = costs[i].time_us, .stream = stream});
  }
  if (!overlap) return graph;
  const std::vector<int> done = program::done_elsewhere(program);
  std::array<int, 2> known = {-1, -1};
  for (int i = 0; i < static_cast<int>(done.size()); ++i) {
    int& before = known[static_cast<std::size_t>(program.operations[i].stream)];
    if (done[i] > before) graph.edges.emplace_back(done[i], i);
    before = done[i];
  }
  return graph;
}

double exposed_communication_us(const program::Program& program, const Timeline& timeline) {
  std::vector<Span> computing;
  for (const Slice& slice : timeline.slices) {
    if (communicates(program.operations[slice.task])) continue;
    computing.emplace_back(slice.start_us, slice.end_us());
  }
  std::sort(computing.begin(), computing.end());
  double exposed = 0;
  for (const Slice& slice : timeline.slices) {
    if (!communicates(program.operations[slice.task])) continue;
    double covered = 0;
    auto span = std::lower_bound(computing.begin(), computing.end(), slice.start_us,
                                 [](const Span& s, double x) { return s.second <= x; });
    for (; span != computing.end() && span->first < slice.end_us(); ++span) {
      covered += std::min(span->second, slice.end_us()) - std::max(span->first, slice.start_us);
    }
    exposed += slice.duration_us - covered;
  }
  return exposed;
}

}  // namespace imhotep::simulator
