#include "planner/objective/objective.h"

#include <limits>

namespace imhotep::planner {

Objective default_objective(WorkloadKind kind) {
  return kind == WorkloadKind::Training ? Objective::Throughput : Objective::Latency;
}

Score score(Objective objective, const Workload& workload, int world, Times times) {
  const bool trains = workload.kind == WorkloadKind::Training;
  const double latency =
      trains ? times.step_us
             : times.prompt_us + static_cast<double>(workload.output) * times.step_us;
  const double ranks = world;
  const double each_us = times.step_us / static_cast<double>(workload.global_batch);
  switch (objective) {
    case Objective::Latency:
      return {latency, ranks};
    case Objective::Throughput:
      return {each_us, ranks};
    case Objective::Cost:
    case Objective::PerGpu:
    case Objective::Energy:
      return {each_us * ranks, latency};
    case Objective::Gpus:
      return {ranks, latency};
    case Objective::FirstToken:
      return {trains ? latency : times.prompt_us, latency};
    case Objective::Token:
      return {times.step_us, latency};
  }
  return {};
}

Times score_weights(Objective objective, const Workload& workload, int world) {
  const bool trains = workload.kind == WorkloadKind::Training;
  const double each = 1 / static_cast<double>(workload.global_batch);
  switch (objective) {
    case Objective::Latency:
    case Objective::Gpus:
      if (trains) return {.step_us = 1};
      return {.step_us = static_cast<double>(workload.output), .prompt_us = 1};
    case Objective::Throughput:
      return {.step_us = each};
    case Objective::Token:
      return {.step_us = 1};
    case Objective::Cost:
    case Objective::PerGpu:
    case Objective::Energy:
      return {.step_us = each * world};
    case Objective::FirstToken:
      if (trains) return {.step_us = 1};
      return {.step_us = 0, .prompt_us = 1};
  }
  return {};
}

double score_to_beat(Objective objective, const Score& best, int world) {
  if (objective != Objective::Gpus) return best.first;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (world == best.first) return best.second;
  return world < best.first ? kInfinity : -kInfinity;
}

}  // namespace imhotep::planner
