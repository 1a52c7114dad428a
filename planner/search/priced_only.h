#pragma once
// What can be priced but not run: training in pipeline stages, and generation with devices of its
// own for prompts. Both are put together from the prices of ordinary blocks and plans, by formulas
// that no measurement has checked; plans that come out of here say executable: false.

#include <vector>

#include "planner/objective/bands.h"

namespace imhotep::planner {

// Layers cut into `stages` of equal length; every stage is one plan of world / stages devices.
// One forward, one backward: T = (A + p - 1) * slowest stage + transfers + update / p.
// Source: D. Narayanan et al., arXiv 2104.04473, section 2.2.
struct PipelinePlan {
  int stages = 1;
  Plan plan;  // of one stage's devices
  double step_us = 0, bubble_us = 0, transfer_us = 0;
  std::int64_t memory_bytes = 0;  // of the first stage, which keeps most micro-batches
};

// The best for each number of stages that cuts the layers evenly, where one fits.
// Requires: a training workload, one world in the request.
[[nodiscard]] std::vector<PipelinePlan> price_pipelines(const Case& one);

// Prompts on one pool of devices, answers on another; the caches move once a request.
struct PoolsPlan {
  RankedPlan prefill, decode;
  double first_token_us = 0;  // prompt and the move of its cache
  double requests_per_s = 0;  // of the slower pool
  double together_per_s = 0;  // all devices doing both in turn, for comparison
};

// Splits of the devices by powers of two. Requires: a generation workload, one world.
[[nodiscard]] std::vector<PoolsPlan> price_pools(const Case& one);

}  // namespace imhotep::planner
