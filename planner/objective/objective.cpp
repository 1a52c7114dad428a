#include "planner/objective/objective.h"

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
  switch (objective) {
    case Objective::Latency:
      return {latency, ranks};
    case Objective::Throughput:  // every plan does the same tokens a step
      return {times.step_us, ranks};
    case Objective::Cost:
      return {times.step_us * ranks, latency};
    case Objective::Gpus:
      return {ranks, latency};
  }
  return {};
}

}  // namespace imhotep::planner
