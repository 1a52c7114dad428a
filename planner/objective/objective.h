#pragma once
// What "best" means.

#include <compare>
#include <cstdint>

#include "core/base/enum_names.h"
#include "core/spec/plan.h"

namespace imhotep::planner {

enum class Objective : std::uint8_t {
  Latency,     // training: an optimizer step; generation: the prompt and all answers' tokens
  Throughput,  // tokens a second, all devices together
  Cost,        // money for a token; device time where the price is unknown
  Gpus,        // fewest devices, then latency
  FirstToken,  // generation: the prompt, then latency
  Token,       // generation: a decode step, then latency
  PerGpu,      // tokens a second and device, then latency
  Energy,      // of a token; all devices draw their board power, so device time decides
};

// Generation is waited for, training is not.
[[nodiscard]] Objective default_objective(WorkloadKind kind);

// Lower is better; equal first figures are decided by the second.
struct Score {
  double first = 0, second = 0;
  auto operator<=>(const Score&) const = default;
};

struct Times {
  double step_us = 0;    // training: optimizer step; generation: decode step
  double prompt_us = 0;  // generation
};

// Monotone in both times, and comparable between batches: where tokens a second decide, a score is
// the time of one sequence of the batch.
[[nodiscard]] Score score(Objective objective, const Workload& workload, int world, Times times);

// What decides between plans of equal device count, as weights of their times; and the figure of
// that kind that a plan must stay below to beat `best`: infinite where fewer devices win anyhow.
[[nodiscard]] Times score_weights(Objective objective, const Workload& workload, int world);
[[nodiscard]] double score_to_beat(Objective objective, const Score& best, int world);

}  // namespace imhotep::planner

IMHOTEP_ENUM_NAMES(imhotep::planner::Objective, {imhotep::planner::Objective::Latency, "latency"},
                   {imhotep::planner::Objective::Throughput, "throughput"},
                   {imhotep::planner::Objective::Cost, "cost"},
                   {imhotep::planner::Objective::Gpus, "gpus"},
                   {imhotep::planner::Objective::FirstToken, "first_token"},
                   {imhotep::planner::Objective::Token, "token"},
                   {imhotep::planner::Objective::PerGpu, "per_gpu"},
                   {imhotep::planner::Objective::Energy, "energy"})
