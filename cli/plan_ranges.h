#pragma once
// Answers of `imhotep plan` that are more than one plan: bands, the most robust plan, the front,
// other models of the same size.

#include "cli/command.h"
#include "cli/plan_request.h"

namespace imhotep::cli {

struct RangeOptions {
  std::string bands, robust;
  bool front = false, architectures = false, priced_only = false;
  [[nodiscard]] bool any() const {
    return !bands.empty() || !robust.empty() || front || architectures || priced_only;
  }
};

void declare_ranges(Arguments& arguments, RangeOptions& options);

// Prints the answer; returns the exit code. Writes the plan to `file` where there is one.
int plan_ranges(const PlanRequest& asked, const RangeOptions& options, const std::string& file,
                const Session& session);

}  // namespace imhotep::cli
