#pragma once
// Learning rate: linear warm-up, then cosine decay to the minimum.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "core/spec/workload.h"

namespace imhotep::executor {

// step: from 0. run_steps: length of the run, the decay's end where the spec names none.
[[nodiscard]] inline double learning_rate(const OptimizerSpec& spec, std::int64_t step,
                                          std::int64_t run_steps) {
  const auto warmup = static_cast<double>(spec.warmup_steps);
  const auto at = static_cast<double>(step) + 1;
  if (at <= warmup) return spec.learning_rate * at / warmup;
  const auto end = static_cast<double>(spec.decay_steps > 0 ? spec.decay_steps : run_steps);
  const double progress = std::clamp((at - warmup) / std::max(end - warmup, 1.0), 0.0, 1.0);
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return spec.min_learning_rate + (spec.learning_rate - spec.min_learning_rate) * cosine;
}

}  // namespace imhotep::executor
