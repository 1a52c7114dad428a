#pragma once
// One plan for several circumstances: the plan whose worst case is best. A case counts by how much
// longer the plan takes there than the best plan of that case, so that slow cases do not decide
// alone.

#include <vector>

#include "planner/objective/bands.h"

namespace imhotep::planner {

struct RobustPlan {
  RankedPlan plan;            // as it is in the first case
  std::vector<double> ratio;  // by case: its score by that of the best plan there; 1: the best
  double worst = 0;
};

struct RobustResult {
  std::optional<RobustPlan> best;
  // The best plan of each case, judged in all of them.
  std::vector<RobustPlan> specialists;
  double evaluated = 0, pruned = 0;
};

// Every plan is judged by sums of memoised parts in all cases, or bounded away; like layers are
// alike. Requires: cases that differ in circumstances only, at least one.
// Throws: Error(Input) when the cases have different spaces of plans.
[[nodiscard]] RobustResult most_robust(const std::vector<Case>& cases,
                                       const std::function<bool()>& stop = {});

// The ends of the range and the powers of two (skew: quarters) between them.
[[nodiscard]] std::vector<Case> cases_of(const Case& one, const Range& range);

}  // namespace imhotep::planner
