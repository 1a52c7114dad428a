#include "planner/objective/bands.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/base/fail.h"
#include "core/base/units.h"

namespace imhotep::planner {
namespace {

class Walker {
 public:
  Walker(const Case& one, Quantity quantity, const std::function<bool()>& stop)
      : case_(one), quantity_(quantity), stop_(stop) {}

  [[nodiscard]] bool stopped() const { return stop_ && stop_(); }

  const std::optional<RankedPlan>& best(double value) {
    const auto known = known_.find(value);
    if (known != known_.end()) return known->second;
    return known_.emplace(value, best_of(changed(case_, quantity_, value))).first->second;
  }

  std::string key(double value) {
    const std::optional<RankedPlan>& plan = best(value);
    return plan ? degrees_key(plan->plan, quantity_ != Quantity::Batch) : "";
  }

  // Two values between which the best plan changes, brought together; the plan of `low` stays.
  void narrow(double& low, double& high) {
    const std::string here = key(low);
    while (!stopped() && !neighbours(low, high)) {
      double middle = (low + high) / 2;
      if (quantity_ == Quantity::Batch) middle = std::floor(middle);
      if (quantity_ == Quantity::Link) middle = std::sqrt(low * high);
      (key(middle) == here ? low : high) = middle;
    }
  }

  [[nodiscard]] bool neighbours(double low, double high) const {
    const double apart = std::abs(high - low);
    if (quantity_ == Quantity::Batch) return apart <= std::max(1.0, 0.02 * std::min(low, high));
    return apart <= 0.01 * std::max({std::abs(high), std::abs(low), 0.5});
  }

  [[nodiscard]] std::vector<double> grid(double from, double to) const {
    std::vector<double> values = {from};
    while (values.back() < to) {
      const double next = quantity_ == Quantity::Skew ? values.back() + 0.1 : values.back() * 2;
      values.push_back(std::min(next, to));
    }
    return values;
  }

 private:
  const Case& case_;
  Quantity quantity_;
  const std::function<bool()>& stop_;
  std::map<double, std::optional<RankedPlan>> known_;
};

}  // namespace

namespace {

// Measured collectives keep the time of their smallest message, which is latency; the rest shrinks.
void speed_up(profiles::Profile& profile, double factor) {
  for (profiles::CollectiveTable& table : profile.collectives) {
    double latency_us = std::numeric_limits<double>::infinity();
    for (const profiles::CollectivePoint& point : table.points) {
      latency_us = std::min(latency_us, point.time_us);
    }
    for (profiles::CollectivePoint& point : table.points) {
      point.time_us = latency_us + (point.time_us - latency_us) / factor;
    }
  }
}

}  // namespace

Case changed(const Case& from, Quantity quantity, double value) {
  Case other = from;
  Request& request = other.request;
  switch (quantity) {
    case Quantity::Batch:
      request.workload.global_batch = static_cast<std::int64_t>(std::llround(value));
      break;
    case Quantity::Skew:
      request.workload.routing = {.kind = value > 0 ? RoutingKind::Zipf : RoutingKind::Uniform,
                                  .skew = value};
      break;
    case Quantity::Link:
      request.cluster.intra.bytes_per_us *= value;
      request.cluster.inter.bytes_per_us *= value;
      if (other.profile) speed_up(*other.profile, value);
      break;
  }
  return other;
}

double value_of(const Case& from, Quantity quantity) {
  const Workload& work = from.request.workload;
  if (quantity == Quantity::Batch) return static_cast<double>(work.global_batch);
  if (quantity == Quantity::Skew) return work.routing.skew;
  return 1;
}

std::optional<RankedPlan> best_of(const Case& one) {
  std::optional<Space> space;
  try {
    space.emplace(one.request);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::Input) throw;
    return std::nullopt;  // no plan is legal for this value
  }
  const simulator::Simulator simulator(one.request.cluster, one.profile);
  SearchResult found =
      search(*space, simulator, {.objective = one.objective, .top = 1, .limits = one.limits});
  if (found.plans.empty()) return std::nullopt;
  return std::move(found.plans.front());
}

std::string degrees_key(const Plan& plan, bool with_split) {
  std::string key = fmt::format("{} {} {} {} {}", plan.world, plan.tensor, plan.zero,
                                name_of(plan.recompute), name_of(plan.rank_order));
  if (with_split) key += fmt::format(" {} {}", plan.micro_batch, plan.accumulation);
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    key += fmt::format(" {}x{}x{}{}", moe.expert, moe.slicing, moe.replica, name_of(moe.exchange));
  }
  return key;
}

Range parse_range(std::string_view text) {
  const std::size_t equals = text.find('='), colon = text.find(':');
  Range range;
  if (equals == std::string_view::npos || colon == std::string_view::npos || colon < equals ||
      !parse_enum(std::string(text.substr(0, equals)), range.quantity)) {
    fail_input("range: expected batch=1:128, skew=0:1.5 or link=0.5:4, got \"{}\"", text);
  }
  range.from = parse_number(text.substr(equals + 1, colon - equals - 1));
  range.to = parse_number(text.substr(colon + 1));
  const bool whole = range.from == std::floor(range.from) && range.to == std::floor(range.to);
  const double least = range.quantity == Quantity::Batch ? 1 : 0;
  const bool positive = range.from > 0 || range.quantity == Quantity::Skew;
  if (range.from < least || range.to < range.from || !positive ||
      (range.quantity == Quantity::Batch && !whole)) {
    fail_input("range {}: expected two {}numbers in order, got {}:{}", name_of(range.quantity),
               range.quantity == Quantity::Batch ? "whole " : "", range.from, range.to);
  }
  return range;
}

std::vector<Band> bands(const Case& one, const Range& range, const std::function<bool()>& stop) {
  Walker walker(one, range.quantity, stop);
  std::vector<Band> all;
  const std::vector<double> grid = walker.grid(range.from, range.to);
  all.push_back({.from = grid.front(), .to = grid.front(), .plan = walker.best(grid.front())});
  for (std::size_t i = 1; i < grid.size() && !walker.stopped(); ++i) {
    double low = grid[i - 1];
    while (walker.key(low) != walker.key(grid[i]) && !walker.stopped()) {
      double high = grid[i];
      walker.narrow(low, high);
      all.back().to = low;
      all.push_back({.from = high, .to = high, .plan = walker.best(high)});
      low = high;
    }
    all.back().to = grid[i];
  }
  return all;
}

Flip flip_of(const Case& one, Quantity quantity, const std::function<bool()>& stop) {
  constexpr double kFactor = 4, kMostSkew = 1.5, kSkewStep = 0.25;
  Walker walker(one, quantity, stop);
  Flip flip{.quantity = quantity, .now = value_of(one, quantity)};
  const std::string here = walker.key(flip.now);
  for (const bool up : {false, true}) {
    double near = flip.now;
    while (!walker.stopped()) {
      double far = up ? near * 2 : near / 2;
      if (quantity == Quantity::Skew) far = up ? near + kSkewStep : near - kSkewStep;
      if (quantity == Quantity::Batch) far = std::floor(far);
      const bool inside = quantity == Quantity::Skew
                              ? far >= 0 && far <= flip.now + kMostSkew
                              : far <= flip.now * kFactor && far >= flip.now / kFactor && far > 0;
      if (!inside || far == near) break;
      if (walker.key(far) == here) {
        near = far;
        continue;
      }
      walker.narrow(near, far);
      (up ? flip.above : flip.below) = far;
      (up ? flip.plan_above : flip.plan_below) = walker.best(far);
      break;
    }
  }
  return flip;
}

}  // namespace imhotep::planner
