#pragma once
// Does the simulator put plans into the right order, and what does it cost to trust it?

#include <string>
#include <vector>

#include "simulator/cross_validation.h"

namespace imhotep::simulator {

// A plan that was run. Plans are compared where `question` is the same: one model, one workload.
struct PlanResult {
  std::string question;
  HeldOut step;
};

struct OrderAccuracy {
  std::size_t questions = 0, pairs = 0;      // questions with at least two plans; pairs compared
  double kendall_tau = 0;                    // over all pairs; pairs of equal times do not count
  double mean_regret = 0, worst_regret = 0;  // of the plan predicted fastest, a question
};
[[nodiscard]] OrderAccuracy order_of(const std::vector<PlanResult>& plans);

}  // namespace imhotep::simulator
