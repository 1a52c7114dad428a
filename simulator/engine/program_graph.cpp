#include "simulator/engine/program_graph.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/fail.h"

namespace imhotep::simulator {
namespace {

constexpr int kStreams = 2;

// Who touched a buffer since it was last written. A stream does one thing after another, so the
// last reader of each speaks for those before it.
struct Access {
  int writer = -1;
  std::array<int, kStreams> readers = {-1, -1};  // by stream
};

class DependencyFinder {
 public:
  explicit DependencyFinder(const program::Program& program)
      : program_(program), accesses_(program.buffers.size()) {}

  std::vector<std::pair<int, int>> find() {
    for (int i = 0; i < static_cast<int>(program_.operations.size()); ++i) {
      const program::Operation& operation = program_.operations[i];
      for (const program::Operand& input : operation.inputs) {
        if (input.valid()) read(input, i);
      }
      for (const program::Operand& output : operation.outputs) {
        if (output.valid()) write(output, i);
      }
    }
    return std::move(edges_);
  }

 private:
  void read(const program::Operand& operand, int operation) {
    Access& access = accesses_[operand.buffer.value];
    wait(access.writer, operation);
    access.readers[static_cast<std::size_t>(program_.operations[operation].stream)] = operation;
  }

  void write(const program::Operand& operand, int operation) {
    Access& access = accesses_[operand.buffer.value];
    wait(access.writer, operation);
    for (int& reader : access.readers) wait(std::exchange(reader, -1), operation);
    access.writer = operation;
  }

  // The order of a stream says the rest.
  void wait(int before, int after) {
    if (before < 0 || before == after) return;
    if (program_.operations[before].stream == program_.operations[after].stream) return;
    const std::pair<int, int> edge(before, after);
    if (edges_.empty() || edges_.back() != edge) edges_.push_back(edge);
  }

  const program::Program& program_;
  std::vector<Access> accesses_;
  std::vector<std::pair<int, int>> edges_;
};

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
  if (overlap) graph.edges = DependencyFinder(program).find();
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
