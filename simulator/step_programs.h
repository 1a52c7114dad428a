#pragma once
// Which programs a step of each phase walks on one rank, and how often.

#include <string>
#include <vector>

#include "core/program/build.h"

namespace imhotep::simulator {

struct StepProgram {
  program::Program program;
  double times = 1;
};

// "training": all micro-batches and the update. "decode": every sequence advances by one token.
// "prefill": the whole prompt of one sequence, chunk by chunk. "evaluation": one micro-batch
// forward, log-probability of every token.
// Throws: Error(Input) for any other phase.
[[nodiscard]] std::vector<StepProgram> step_programs(const Plan& plan, const std::string& phase);

}  // namespace imhotep::simulator
