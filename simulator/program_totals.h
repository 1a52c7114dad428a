#pragma once
// Sums prices of programs into a step, operation by operation.

#include <unordered_map>

#include "simulator/step.h"

namespace imhotep::simulator {

class ProgramTotals {
 public:
  // `gap_us`: time between two operations; it counts as overhead.
  explicit ProgramTotals(double gap_us) : gap_us_(gap_us) {}

  // The program runs `times` a step.
  void add(const program::Program& program, const ProgramPrice& price, double times);
  // Times, exposure, overhead and operations; the rest is for the caller.
  [[nodiscard]] StepPrice step() const { return step_; }
  [[nodiscard]] const ErrorBudget& errors() const { return errors_; }

 private:
  OperationTotal& total_of(const program::Operation& operation);

  double gap_us_;
  StepPrice step_;
  ErrorBudget errors_;
  std::unordered_map<const void*, std::size_t> known_[4];  // by pass: name literal -> index
};

}  // namespace imhotep::simulator
