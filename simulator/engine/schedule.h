#pragma once
// Runs a graph of tasks on streams, as a device would: the tasks of a stream go in the order of
// the list, one at a time; a task starts when its stream is free and everything before it is done.

#include <utility>
#include <vector>

namespace imhotep::simulator {

struct Task {
  double duration_us = 0;
  int stream = 0;
};

struct TaskGraph {
  std::vector<Task> tasks;                 // those of a stream in issue order
  std::vector<std::pair<int, int>> edges;  // (before, after)
  double gap_us = 0;                       // a stream rests so long between two of its tasks
};

struct Slice {
  int task = 0;
  int stream = 0;
  double start_us = 0, duration_us = 0;
  [[nodiscard]] double end_us() const { return start_us + duration_us; }
};

struct Timeline {
  std::vector<Slice> slices;  // by task
  double makespan_us = 0;
  std::vector<int> critical_path;  // tasks that waited for one another, in time order
};

// Throws: Error(Failed) naming the tasks that wait for each other when the graph has a cycle,
// also one through the order of a stream; Error(Failed) for an edge to a task that is not there.
[[nodiscard]] Timeline schedule(const TaskGraph& graph);

}  // namespace imhotep::simulator
