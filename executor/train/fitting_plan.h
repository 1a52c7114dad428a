#pragma once
// What to do where a plan does not fit: the nearest plan that does.

#include <string>
#include <vector>

#include "core/program/program.h"
#include "core/spec/plan.h"

namespace imhotep::executor {

// Bytes that a rank's memory takes for these programs: of each kind of buffer what the fullest
// needs.
[[nodiscard]] std::int64_t bytes_of(const std::vector<program::Program>& programs);
// The same of the programs of a training or generation run.
[[nodiscard]] std::int64_t plan_bytes(const Plan& plan, Rank rank);

// A plan for the same work that needs at most `bytes` a rank: smaller micro-batches and full
// recomputation first, then more ranks. In words, with the command that makes it; what to try
// instead when none is found.
[[nodiscard]] std::string advise_plan(const Plan& plan, Rank rank, std::int64_t bytes);

}  // namespace imhotep::executor
