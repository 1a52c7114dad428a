#include "simulator/engine/schedule.h"

#include <algorithm>
#include <boost/graph/compressed_sparse_row_graph.hpp>
#include <string>

#include "core/base/fail.h"

namespace imhotep::simulator {
namespace {

using Graph = boost::compressed_sparse_row_graph<boost::directedS>;

class EventLoop {
 public:
  explicit EventLoop(const TaskGraph& graph)
      : graph_(graph),
        followers_(boost::edges_are_unsorted_multi_pass, graph.edges.begin(), graph.edges.end(),
                   graph.tasks.size()),
        waiting_for_(graph.tasks.size(), 0),
        ready_us_(graph.tasks.size(), 0),
        released_by_(graph.tasks.size(), -1) {
    for (const auto& [before, after] : graph.edges) ++waiting_for_[after];
    for (int task = 0; task < static_cast<int>(graph.tasks.size()); ++task) {
      const int stream = graph.tasks[task].stream;
      if (stream >= static_cast<int>(streams_.size())) streams_.resize(stream + 1);
      streams_[stream].queue.push_back(task);
    }
    timeline_.slices.resize(graph.tasks.size());
  }

  Timeline run() {
    for (std::size_t finished = 0; finished < graph_.tasks.size(); ++finished) {
      for (Stream& stream : streams_) start_head_if_ready(stream);
      Stream* next = earliest_to_finish();
      if (next == nullptr) refuse_cycle();
      finish(*next);
    }
    trace_critical_path();
    return std::move(timeline_);
  }

 private:
  struct Stream {
    std::vector<int> queue;
    std::size_t head = 0;
    int running = -1, previous = -1;
    double free_us = 0;
  };

  void start_head_if_ready(Stream& stream) {
    if (stream.running >= 0 || stream.head == stream.queue.size()) return;
    const int task = stream.queue[stream.head];
    if (waiting_for_[task] > 0) return;
    if (stream.previous >= 0 && stream.free_us >= ready_us_[task]) {
      released_by_[task] = stream.previous;
    }
    timeline_.slices[task] = {.task = task,
                              .stream = graph_.tasks[task].stream,
                              .start_us = std::max(stream.free_us, ready_us_[task]),
                              .duration_us = graph_.tasks[task].duration_us};
    stream.running = task;
    ++stream.head;
  }

  Stream* earliest_to_finish() {
    Stream* earliest = nullptr;
    for (Stream& stream : streams_) {
      if (stream.running < 0) continue;
      if (earliest == nullptr || end_of(stream) < end_of(*earliest)) earliest = &stream;
    }
    return earliest;
  }

  void finish(Stream& stream) {
    const int task = stream.running;
    const double now = end_of(stream);
    const auto [first, last] = boost::out_edges(static_cast<std::size_t>(task), followers_);
    for (auto edge = first; edge != last; ++edge) {
      const auto follower = boost::target(*edge, followers_);
      --waiting_for_[follower];
      if (now >= ready_us_[follower]) {
        ready_us_[follower] = now;
        released_by_[follower] = task;
      }
    }
    stream.running = -1;
    stream.previous = task;
    stream.free_us = now + graph_.gap_us;
    if (now >= timeline_.makespan_us) {
      timeline_.makespan_us = now;
      last_ = task;
    }
  }

  [[noreturn]] void refuse_cycle() const {
    std::string stuck;
    for (const Stream& stream : streams_) {
      if (stream.head == stream.queue.size()) continue;
      stuck += fmt::format("{}{}", stuck.empty() ? "" : " and ", stream.queue[stream.head]);
    }
    fail("a cycle: tasks {} wait for what comes after them", stuck);
  }

  void trace_critical_path() {
    for (int task = last_; task >= 0; task = released_by_[task]) {
      timeline_.critical_path.push_back(task);
    }
    std::reverse(timeline_.critical_path.begin(), timeline_.critical_path.end());
  }

  [[nodiscard]] double end_of(const Stream& stream) const {
    return timeline_.slices[stream.running].end_us();
  }

  const TaskGraph& graph_;
  Graph followers_;
  std::vector<int> waiting_for_;
  std::vector<double> ready_us_;
  std::vector<int> released_by_;
  std::vector<Stream> streams_;
  Timeline timeline_;
  int last_ = -1;
};

}  // namespace

Timeline schedule(const TaskGraph& graph) {
  const auto count = static_cast<int>(graph.tasks.size());
  for (const auto& [before, after] : graph.edges) {
    if (before < 0 || after < 0 || before >= count || after >= count) {
      fail("an edge from task {} to {}: expected tasks 0 to {}", before, after, count - 1);
    }
  }
  return EventLoop(graph).run();
}

}  // namespace imhotep::simulator
