#pragma once
// An eager framework: the host issues calls one after the other, the device runs them in that
// order as soon as they are there. Whoever is slower decides, and where the host reads a result it
// waits for the device. Graph and costs as in engine/schedule.h.

#include <span>
#include <vector>

#include "simulator/engine/schedule.h"

namespace imhotep::simulator {

struct HostWork {
  double calls = 0;
  bool waits = false;  // for the operation's end, before the next call
};

struct HostTimeline {
  Timeline device;
  std::vector<bool> by_host;  // of a task on the critical path: the host was what it waited for
};

// The tasks of the graph in issue order; an edge goes forward. An operation of several calls starts
// with the first and ends no earlier than the last.
[[nodiscard]] HostTimeline host_schedule(const TaskGraph& graph, std::span<const HostWork> host,
                                         double call_us);

}  // namespace imhotep::simulator
