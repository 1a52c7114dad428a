#pragma once
// Times the decode steps of a generator, operation by operation, for a report.

#include <chrono>

#include "executor/generate/generator.h"
#include "executor/runtime/step_report.h"

namespace imhotep::executor {

class DecodeRecorder {
 public:
  // Observes the generator from now on; it must outlive its next generate().
  DecodeRecorder(Generator& generator, const Plan& plan);
  ~DecodeRecorder();
  DecodeRecorder(const DecodeRecorder&) = delete;
  DecodeRecorder& operator=(const DecodeRecorder&) = delete;

  // Steps so far but the first two, which touch memory for the first time. What lies between two
  // steps (taking tokens, filling inputs) belongs to the later one.
  // Throws: Failed when no step was measured.
  [[nodiscard]] RunReport report() const;

 private:
  using Clock = std::chrono::steady_clock;
  void observe(bool on);
  void end_step(int program);
  void note_load();

  Generator& generator_;
  Plan plan_;
  StepTimes times_;
  std::vector<std::pair<program::Operation, double>> current_;
  std::vector<std::vector<double>> load_;  // routes by MoE layer and expert
  std::int64_t steps_ = 0;
  bool observed_ = false;
  Clock::time_point last_;
};

}  // namespace imhotep::executor
