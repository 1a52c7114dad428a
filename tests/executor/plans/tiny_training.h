#pragma once
// A few steps on the tiny text: what plans are compared by.

#include <vector>

#include "executor/generate/generator.h"
#include "executor/train/trainer.h"
#include "tests/executor/plans/tiny_text.h"

namespace imhotep::test {

// Of every step its loss, its balance loss and its gradient norm.
[[nodiscard]] inline std::vector<double> losses_of(const Plan& plan, Rank rank,
                                                   executor::CommunicatorPool& pool,
                                                   std::int64_t steps) {
  executor::Trainer trainer(plan, rank, pool, {.initialize = {.seed = 3}, .run_steps = steps});
  trainer.initialize();
  std::vector<double> values;
  for (std::int64_t step = 0; step < steps; ++step) {
    const executor::StepResult result =
        trainer.step(step, [&](std::int64_t first, auto inputs, auto targets) {
          fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, inputs, targets);
        });
    values.insert(values.end(), {result.loss, result.aux_loss, result.gradient_norm});
  }
  return values;
}

// Nine requests of three to six words for six more each.
[[nodiscard]] inline std::vector<executor::GenerationRequest> tiny_requests() {
  std::vector<executor::GenerationRequest> requests;
  for (int i = 0; i < 9; ++i) {
    executor::GenerationRequest request{.max_tokens = 6};
    for (int t = 0; t < 3 + i % 4; ++t) request.prompt.push_back((i * 37 + t * 11) % 250);
    requests.push_back(request);
  }
  return requests;
}

}  // namespace imhotep::test
