#pragma once
// What if: the same plan and the best plan under other circumstances; and how far circumstances
// may move before the answer changes.

#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/plan_file.h"
#include "core/base/json_fields.h"
#include "planner/objective/bands.h"

namespace imhotep::cli {

struct ChangeOptions {
  std::string gpus, link;  // "+8" or "16"; "2x"
  std::optional<double> skew;
  std::optional<std::int64_t> batch;
  bool flips = false;
  [[nodiscard]] bool any() const { return !gpus.empty() || !link.empty() || skew || batch; }
};

void declare_change(Arguments& arguments, ChangeOptions& options);

struct Changed {
  std::string change;                       // "--link 2x --batch 64"
  std::optional<planner::RankedPlan> same;  // the plan itself, where it is still legal
  std::string why_not_same;                 // else
  std::optional<planner::RankedPlan> best;  // under the change, if one is feasible
  bool flips = false;                       // the best is not the plan any more
};

// The question that a plan answers, on the judge's cluster.
[[nodiscard]] planner::Case case_of(const Plan& plan, const Judge& judge);

// Throws: Error(Input) for a change that cannot be read.
[[nodiscard]] Changed change_of(const ChangeOptions& options, const Plan& plan, const Judge& judge);
[[nodiscard]] std::vector<planner::Flip> flips_of(const Plan& plan, const Judge& judge);

[[nodiscard]] Json json_of(const Changed& changed);
[[nodiscard]] Json json_of(const std::vector<planner::Flip>& flips);
void print_change(const Changed& changed, const Plan& before);
void print_flips(const std::vector<planner::Flip>& flips);

}  // namespace imhotep::cli
