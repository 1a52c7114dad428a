#pragma once
// Whether the ranks that were started are the ranks of the plan.

#include "core/spec/plan.h"
#include "executor/comm/bootstrap.h"

namespace imhotep::executor {

// Collective over all ranks. Throws: Input, at every rank alike, when ranks hold different plans
// (names ranks and hashes) or when their number is not the plan's.
void check_launch(const Plan& plan, const Bootstrap& bootstrap);

}  // namespace imhotep::executor
