#pragma once
// Plans given on the command line, and the cluster and prices they are judged by.

#include <optional>
#include <string>

#include "core/spec/plan.h"
#include "planner/search/search.h"
#include "profiles/profile.h"

namespace imhotep::cli {

// A plan file, or an exported folder; "-" is standard input. The answer of `imhotep plan --json`
// serves too. Throws: Error(Input).
[[nodiscard]] Plan read_plan_argument(const std::string& file);

struct Judge {
  ClusterSpec cluster;
  std::optional<profiles::Profile> profile;
  simulator::Simulator simulator;
};

// `cluster` and `profile` as on the command line; empty: the plan's cluster and its profile.
[[nodiscard]] Judge judge_for(const Plan& plan, const std::string& cluster,
                              const std::string& profile);

}  // namespace imhotep::cli
