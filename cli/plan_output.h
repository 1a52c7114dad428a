#pragma once
// How plans are shown: as JSON and as a screen.

#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/plan_request.h"
#include "core/base/json_fields.h"
#include "planner/explain/relaxations.h"
#include "planner/search/search_open.h"

namespace imhotep::cli {

struct PlanAnswer {
  PlanRequest asked;
  planner::SearchResult found;
  std::vector<planner::SearchedAlternative> alternatives;  // one, unless something was open
  std::vector<planner::Relaxation> relaxations;            // when nothing fits
  std::vector<std::string> command;  // words that repeat the request, after "imhotep"
  std::string file;                  // where the plan was written, if anywhere
};

// "tensor 2 x data 4, ZeRO 1, micro-batch 4 x accumulation 2, recompute full"
[[nodiscard]] std::string degrees_text(const Plan& plan);
// "expert 8 x slicing 1 x replica 1, flat"
[[nodiscard]] std::string degrees_text(const MoeLayerPlan& moe);
// One entry for every run of like degrees: "64 experts x 10 layers".
struct MoeGroup {
  std::string title;
  const MoeLayerPlan* moe;
};
[[nodiscard]] std::vector<MoeGroup> moe_groups(const Plan& plan);

// Plans in all, with every layer choosing by itself; those that were priced; the others.
struct PlanCounts {
  planner::BigCount enumerated, evaluated, pruned;
};
[[nodiscard]] PlanCounts counts_of(const planner::SearchResult& found);

[[nodiscard]] std::string interval_text(const Estimate& estimate);  // "3.0 ms (2.1 .. 5.6 ms)"
// Why nothing fits, in one line: the binding limit.
[[nodiscard]] std::string infeasible_text(const PlanAnswer& answer);

// Bytes by kind of buffer.
[[nodiscard]] std::vector<std::pair<std::string, std::int64_t>> memory_parts(
    const program::MemoryUse& memory);

// Type, gate, batch and KV cache.
[[nodiscard]] Json json_of_choice(const Plan& plan);
void print_plan_json(const PlanAnswer& answer);
void print_plan_screen(const PlanAnswer& answer, const Session& session);

}  // namespace imhotep::cli
