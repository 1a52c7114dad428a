#pragma once
// What the decode steps of a server took, operation by operation, for a report.

#include <map>
#include <vector>

#include "core/schedule/scheduler.h"
#include "executor/runtime/step_report.h"

namespace imhotep::executor {

class ServedSteps {
 public:
  void add(const program::Operation& operation, double time_us) {
    current_.emplace_back(operation, time_us);
  }
  // `contexts`: keys that the rows of the step attend to, summed. Steps that also read prompts
  // (more rows than samples) are not kept.
  void end_step(const schedule::Bucket& bucket, double time_us, std::int64_t rows, double contexts);

  // Of the bucket that was used most, as a decode step of so many sequences that hold as many keys
  // as its rows did on average. The clock is that of programs: what the host does between them is
  // not part of it, and on a GPU what the events between operations cost is.
  // Throws: Failed when no step was kept.
  [[nodiscard]] RunReport report(Plan plan) const;

 private:
  struct OneBucket {
    StepTimes times;
    double rows = 0, contexts = 0;
  };
  std::vector<std::pair<program::Operation, double>> current_;
  std::map<std::int64_t, OneBucket> buckets_;  // by rows
};

}  // namespace imhotep::executor
