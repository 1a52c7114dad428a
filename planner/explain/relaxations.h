#pragma once
// When no plan fits: what to change so that one does.

#include <string>
#include <vector>

#include "planner/search/search.h"

namespace imhotep::planner {

struct Relaxation {
  std::string change;  // as on the command line: "--gpus 16"
  RankedPlan plan;     // the best one then
};

// The smallest change of each kind that helps: more devices (or nodes), a shorter sequence or fewer
// sequences at once, a narrower type, fewer fixed degrees, looser limits. Each is searched, none is
// guessed.
[[nodiscard]] std::vector<Relaxation> nearest_relaxations(const Request& request,
                                                          const simulator::Simulator& simulator,
                                                          Objective objective,
                                                          const Limits& limits = {});

}  // namespace imhotep::planner
