#pragma once
// RUN/log.jsonl: a JSON line for every training step and every evaluation, on disk when the call
// returns; and the curves that its lines tell.

#include <cstdio>
#include <string>
#include <vector>

#include "executor/train/expert_load.h"
#include "executor/train/loss_picture.h"
#include "executor/train/trainer.h"

namespace imhotep::executor {

class TrainingLog {
 public:
  // Goes on after `last_step` of the log that is there: a run may have told steps beyond the
  // checkpoint from which it resumes, which will be told again. 0: a new log.
  // Throws: Failed when the file cannot be written; so do the others.
  TrainingLog(std::string file, std::int64_t last_step);
  ~TrainingLog();
  TrainingLog(const TrainingLog&) = delete;
  TrainingLog& operator=(const TrainingLog&) = delete;

  void step(std::int64_t step, const StepResult& result, double tokens_per_s);
  // Told once a step.
  void held_out(std::int64_t step, double loss, std::int64_t tokens);
  // Shares of routes by MoE layer and expert since the line before.
  void expert_load(std::int64_t step, const ExpertShares& shares);

  [[nodiscard]] const std::vector<LossPoint>& training() const { return training_; }
  [[nodiscard]] const std::vector<LossPoint>& held_out() const { return held_out_; }

 private:
  void keep(std::int64_t last_step);
  void line(const std::string& text);

  std::string file_;
  std::FILE* stream_ = nullptr;
  std::vector<LossPoint> training_, held_out_;
};

}  // namespace imhotep::executor
