#pragma once
// Durations of operations, collected step by step and joined by name and pass, as the report and
// the simulator name them.

#include <map>
#include <string>
#include <vector>

#include "core/spec/report.h"
#include "executor/runtime/runner.h"

namespace imhotep::executor {

[[nodiscard]] double median(std::vector<double> values);           // 0 when empty
[[nodiscard]] double relative_spread(std::vector<double> values);  // interquartile range / median

class StepTimes {
 public:
  void add(const program::Operation& operation, double time_us);
  // Ends a step that took `time_us` on the clock.
  void end_step(double time_us);
  // Forgets what was added since the last step.
  void drop_step();

  [[nodiscard]] std::int64_t steps() const { return static_cast<std::int64_t>(steps_us_.size()); }
  [[nodiscard]] double step_us() const { return median(steps_us_); }
  [[nodiscard]] double spread() const { return relative_spread(steps_us_); }
  // Median over steps of each operation's total in a step, in the order of first appearance, and
  // a last row "unaccounted": what the clock saw between operations.
  [[nodiscard]] std::vector<OperationTime> operations() const;

 private:
  struct Row {
    std::string name, pass;
    std::int64_t occurrences = 0, current = 0;  // current: in this step
    double current_us = 0;
    std::vector<double> per_step_us;
  };
  Row& row(const program::Operation& operation);

  std::vector<Row> rows_;
  std::map<std::pair<std::string, std::string>, std::size_t> index_;
  std::vector<double> steps_us_, unaccounted_us_;
  double accounted_us_ = 0;
};

}  // namespace imhotep::executor
