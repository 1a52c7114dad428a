#include "planner/search/kv_budget.h"

#include <algorithm>

#include "core/program/serving.h"

namespace imhotep::planner {
namespace {

constexpr double kGpuShare = 0.95;  // libraries load code of their own later

// Of the fullest rank; measure_memory says why these speak for all.
std::int64_t server_bytes(const Plan& plan, const program::ServingShape& shape) {
  std::int64_t most = 0;
  for (int rank = 0; rank < (plan.tensor > 1 ? 2 : 1); ++rank) {
    most = std::max(most, program::serving_memory(plan, Rank(rank), shape).total());
  }
  return most;
}

// All sequences at the longest context could not use more.
std::int64_t filling_pages(const Plan& plan, std::int64_t limit_bytes) {
  const std::int64_t least = plan.needed_pages();
  const std::int64_t most =
      std::max(least, plan.sequences_per_rank() * plan.pages_for(plan.model.context));
  program::ServingShape shape{
      .sequences = plan.sequences_per_rank(),
      .chunk = plan.prefill_chunk,
      .pages = least,
      .max_context = std::min<std::int64_t>(plan.model.context, most * plan.page_size)};
  const double share = plan.device == DeviceKind::Cuda ? kGpuShare : 1;
  const auto room = static_cast<std::int64_t>(share * static_cast<double>(limit_bytes));
  const std::int64_t bytes = server_bytes(plan, shape);
  if (bytes >= room || least == most) return least;
  ++shape.pages;
  const std::int64_t page_bytes = server_bytes(plan, shape) - bytes;
  return page_bytes > 0 ? std::min(most, least + (room - bytes) / page_bytes) : most;
}

bool try_tokens(RankedPlan& ranked, std::int64_t tokens, std::int64_t limit_bytes,
                const LibraryBytes& libraries) {
  Plan plan = ranked.plan;
  plan.kv_tokens = tokens;
  const RankedPlan measured = measure_memory(std::move(plan), limit_bytes, libraries);
  if (!measured.verdict.feasible) return false;
  ranked.plan.kv_tokens = tokens;
  ranked.plan.predicted.memory_bytes = measured.memory.total();
  ranked.memory = measured.memory;
  ranked.fullest = measured.fullest;
  return true;
}

}  // namespace

void widen_cache(RankedPlan& ranked, const KvBudget& budget, std::int64_t limit_bytes,
                 const LibraryBytes& libraries) {
  if (!ranked.verdict.feasible) return;
  const Plan& plan = ranked.plan;
  if (budget.fill) {
    const std::int64_t pages = filling_pages(plan, limit_bytes);
    if (try_tokens(ranked, pages * plan.page_size, limit_bytes, libraries)) return;
    ranked.plan.kv_tokens = plan.needed_pages() * plan.page_size;  // as it was, by its name
    return;
  }
  for (auto tokens = budget.tokens.rbegin(); tokens != budget.tokens.rend(); ++tokens) {
    if (*tokens < plan.kv_tokens || try_tokens(ranked, *tokens, limit_bytes, libraries)) {
      return;
    }
  }
}

}  // namespace imhotep::planner
