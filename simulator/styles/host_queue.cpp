#include "simulator/styles/host_queue.h"

#include <algorithm>

#include "core/base/fail.h"

namespace imhotep::simulator {
namespace {

struct Released {
  int task = -1;
  bool by_host = false;
};

}  // namespace

HostTimeline host_schedule(const TaskGraph& graph, std::span<const HostWork> host, double call_us) {
  const auto count = static_cast<int>(graph.tasks.size());
  if (host.size() != graph.tasks.size()) fail("{} tasks for {} calls", count, host.size());
  std::vector<std::vector<int>> before(graph.tasks.size());
  for (const auto& [first, then] : graph.edges) {
    if (first < 0 || then >= count || first >= then) fail("an edge from {} to {}", first, then);
    before[then].push_back(first);
  }
  std::vector<double> end(graph.tasks.size(), 0);
  std::vector<Released> released(graph.tasks.size());
  std::vector<int> last_on_stream;
  HostTimeline out{.by_host = std::vector<bool>(graph.tasks.size(), false)};
  out.device.slices.resize(graph.tasks.size());
  double host_us = 0;
  int last = -1;
  for (int i = 0; i < count; ++i) {
    const Task& task = graph.tasks[i];
    if (task.stream >= static_cast<int>(last_on_stream.size())) {
      last_on_stream.resize(task.stream + 1, -1);
    }
    const HostWork& work = host[i];
    double start = host_us + std::min(work.calls, 1.0) * call_us;
    released[i] = {.task = i - 1, .by_host = true};
    before[i].push_back(last_on_stream[task.stream]);
    for (const int other : before[i]) {
      if (other < 0 || end[other] < start) continue;
      start = end[other];
      released[i] = {.task = other, .by_host = false};
    }
    host_us += work.calls * call_us;
    end[i] = start + task.duration_us;
    const double after_last = work.calls > 0 ? host_us + task.duration_us / work.calls : 0;
    if (after_last > end[i]) {
      end[i] = after_last;
      released[i] = {.task = i - 1, .by_host = true};
    }
    if (work.waits) host_us = std::max(host_us, end[i]);
    last_on_stream[task.stream] = i;
    out.device.slices[i] = {
        .task = i, .stream = task.stream, .start_us = start, .duration_us = end[i] - start};
    if (end[i] >= out.device.makespan_us) {
      out.device.makespan_us = end[i];
      last = i;
    }
  }
  for (int task = last; task >= 0; task = released[task].task) {
    out.device.critical_path.push_back(task);
    out.by_host[task] = released[task].by_host;
  }
  std::reverse(out.device.critical_path.begin(), out.device.critical_path.end());
  return out;
}

}  // namespace imhotep::simulator
