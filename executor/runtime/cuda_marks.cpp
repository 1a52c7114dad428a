#include "executor/runtime/cuda_marks.h"

#include <algorithm>

namespace imhotep::executor {

CudaMarks::~CudaMarks() {
  for (void* event : events_) api_.release_event(event);
}

void* CudaMarks::mark(void* stream) {
  if (used_ == events_.size()) events_.push_back(api_.make_event());
  void* event = events_[used_++];
  in_graph_ ? api_.record_in_graph(event, stream) : api_.record(event, stream);
  return event;
}

void CudaMarks::begin() {
  used_ = 0;
  marks_.clear();
  last_ = {mark(streams_.compute()), nullptr};
}

void CudaMarks::before(const program::Operation& operation) {
  void*& last = last_[slot(operation)];
  if (last == nullptr || streams_.joined()) last = mark(streams_.lane().stream);
}

void CudaMarks::after(const program::Operation& operation) {
  void*& last = last_[slot(operation)];
  void* end = mark(streams_.lane().stream);
  marks_.push_back({.operation = &operation, .start = last, .end = end});
  last = end;
}

double CudaMarks::report(const Observer& observer) const {
  std::array<std::vector<std::pair<double, double>>, 2> busy;
  const bool beside = last_[1] != nullptr;
  for (const Mark& one : marks_) {
    const double time_us = api_.elapsed_us(one.start, one.end);
    observer(*one.operation, time_us);
    if (!beside) continue;
    const double end_us = api_.elapsed_us(events_[0], one.end);
    busy[slot(*one.operation)].emplace_back(end_us - time_us, end_us);
  }
  double both_us = 0;
  std::size_t from = 0;
  for (const auto& [start, end] : busy[1]) {
    while (from < busy[0].size() && busy[0][from].second <= start) ++from;
    for (std::size_t i = from; i < busy[0].size() && busy[0][i].first < end; ++i) {
      both_us += std::min(end, busy[0][i].second) - std::max(start, busy[0][i].first);
    }
  }
  return both_us;
}

}  // namespace imhotep::executor
