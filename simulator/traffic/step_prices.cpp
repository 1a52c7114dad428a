#include "simulator/traffic/step_prices.h"

#include <algorithm>
#include <cmath>

#include "core/program/serving.h"
#include "simulator/cost/routing.h"

namespace imhotep::simulator {
namespace {

// Contexts between two neighbouring powers of this are interpolated.
constexpr double kStep = 1.25;

// Expected experts that are touched when `rows` choose among `among` equally likely ones, which
// need not be a whole number.
double touched_of(double among, double rows) {
  return among <= 1 ? 1 : among * (1 - std::pow(1 - 1 / among, rows));
}

// Among how many equally likely ones `rows` must choose to touch so many.
double among_for(double touched, double rows, double experts) {
  double low = 1, high = experts;
  for (int i = 0; i < 50; ++i) {
    const double middle = (low + high) / 2;
    (touched_of(middle, rows) < touched ? low : high) = middle;
  }
  return low;
}

// Shares of experts of which `among` are chosen alike and the others never; spread over the blocks
// of experts that ranks hold.
std::vector<double> shares_among(double among, int experts, int degree) {
  std::vector<double> shares(experts, 0.0);
  const int each = experts / degree;
  double left = among;
  for (int i = 0; i < experts && left > 0; ++i, left -= 1) {
    shares[i % degree * each + i / degree] = std::min(1.0, left) / among;
  }
  return shares;
}

}  // namespace

// What was seen, or what rows choose among all experts alike, is expressed as fewer experts to
// choose from.
RoutingSpec StepPrices::routing(int bucket, double rows, double choosing) const {
  const double chosen = rows * plan_.model.top_k;
  const bool seen =
      static_cast<std::size_t>(bucket) < touched_.size() && touched_[bucket].steps > 0;
  // A layer's part of what was seen is as under an even spread.
  double even = 0;
  for (const MoeLayerPlan& moe : plan_.moe_layers) even += touched_of(moe.experts, chosen);
  const double to_even = seen ? touched_[bucket].experts / even : 1;
  RoutingSpec routing{.kind = RoutingKind::Measured};
  for (const MoeLayerPlan& moe : plan_.moe_layers) {
    const double touched = to_even * touched_of(moe.experts, chosen);
    const double among = among_for(touched, choosing * plan_.model.top_k, moe.experts);
    routing.histograms.push_back(shares_among(among, moe.experts, moe.expert));
  }
  return routing;
}

double StepPrices::price(int bucket, double rows, double keys_a_row) const {
  program::GenerateShape shape = program::serving_program(
      {.sequences = limits_.sequences, .pages = limits_.pages, .max_context = limits_.max_context},
      limits_.buckets.at(bucket));
  shape.context = keys_a_row;
  shape.used_rows = rows;
  const auto program = program::build_generate(plan_, Rank(0), shape);
  if (plan_.moe_layers.empty() || plan_.workload.routing.kind != RoutingKind::Uniform) {
    return simulator_.price(program, plan_).timeline.makespan_us + simulator_.overheads().step_us;
  }
  // The program has the rows of its bucket, of which only some hold a token; only these choose.
  // Steps with few experts in one kernel do not tell them apart.
  const bool all_choose = std::any_of(
      program.operations.begin(), program.operations.end(),
      [](const program::Operation& operation) { return counts_whole_group(operation.shape); });
  Plan routed = plan_;
  routed.workload.routing =
      routing(bucket, rows, all_choose ? static_cast<double>(shape.rows) : rows);
  return simulator_.price(program, routed).timeline.makespan_us + simulator_.overheads().step_us;
}

double StepPrices::time_us(const StepLoad& load) {
  // Rows without a token have no keys.
  const auto all = static_cast<double>(limits_.buckets.at(load.bucket).rows);
  const double rows = std::clamp(static_cast<double>(load.rows), 1.0, all);
  const int rows_class = static_cast<int>(std::lround(std::log(rows) / std::log(kStep)));
  const double keys = std::max(1.0, load.keys / all);
  const double exponent = std::log(keys) / std::log(kStep);
  const int low = static_cast<int>(std::floor(exponent));
  const auto at = [&](int power) {
    const auto [entry, is_new] = known_.try_emplace({load.bucket, rows_class, power}, 0.0);
    if (is_new) {
      const double few = std::min(std::pow(kStep, rows_class), all);
      entry->second = price(load.bucket, few, std::pow(kStep, power));
    }
    return entry->second;
  };
  const double from = std::pow(kStep, low), to = std::pow(kStep, low + 1);
  const double share = (keys - from) / (to - from);
  return at(low) + share * (at(low + 1) - at(low)) + host_us_;
}

}  // namespace imhotep::simulator
