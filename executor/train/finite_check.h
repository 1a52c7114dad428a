#pragma once
// What a training run does about numbers that are not finite: it stops, says where they came from,
// and leaves earlier checkpoints alone. All of this is collective and ends in the same message on
// every rank.

#include <string>

#include "executor/comm/bootstrap.h"
#include "executor/train/trainer.h"

namespace imhotep::executor {

struct FailedStep {
  std::int64_t step = 0;  // the one that failed, from 0
  StepResult result;
  std::string checkpoint;  // the last one; empty: none
};

// The sentence about a step whose loss or gradient norm is not finite: repeats it and names the
// first operation and layer of any rank. Loss and norm are sums over all ranks, so all come here.
[[nodiscard]] std::string explain_not_finite(const FailedStep& failed, const BatchSource& batch,
                                             const Bootstrap& bootstrap, Trainer& trainer);

// Throws: Failed when an update has spoilt the weights after the loss was computed; such a
// checkpoint would only push good ones out.
void check_weights_finite(std::int64_t steps, const std::string& checkpoint,
                          const Bootstrap& bootstrap, const Trainer& trainer);

}  // namespace imhotep::executor
