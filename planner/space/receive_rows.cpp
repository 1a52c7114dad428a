#include "planner/space/receive_rows.h"

#include <algorithm>
#include <cmath>

#include "core/layout/groups.h"
#include "core/program/build.h"

namespace imhotep::planner {
namespace {

constexpr int kSmallWorld = 8;
constexpr double kSkew = 2, kDeviations = 6, kSlack = 64;

std::int64_t bound_for(const Plan& plan, const ExchangePlace& place, std::int64_t tokens) {
  const std::int64_t shares = place.lanes > 1 ? 1 : place.shares;
  const std::int64_t routed = (tokens + shares - 1) / shares * plan.model.top_k;
  const auto routes = static_cast<double>(routed);
  const double worst = routes * static_cast<double>(place.group.size());
  const double expected = routes * place.copies / place.lanes;
  const double deviation = std::sqrt(expected * (1 - expected / worst));
  const double bound = kSkew * expected + kDeviations * deviation + kSlack;
  return static_cast<std::int64_t>(std::ceil(std::min(worst, bound)));
}

}  // namespace

std::int64_t receive_rows_bound(const Plan& plan, const MoeLayerPlan& moe) {
  if (plan.world <= kSmallWorld || plan.device == DeviceKind::Cpu) return 0;
  const ExchangePlace place = exchange_place(plan, moe, Rank(0));
  if (plan.workload.kind == WorkloadKind::Training) {
    return bound_for(plan, place, plan.micro_batch * plan.workload.sequence);
  }
  return std::max(bound_for(plan, place, program::decode_shape(plan).rows),
                  bound_for(plan, place, program::prefill_shape(plan).rows));
}

}  // namespace imhotep::planner
