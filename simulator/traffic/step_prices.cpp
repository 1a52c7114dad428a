#include "simulator/traffic/step_prices.h"

#include <algorithm>
#include <cmath>

namespace imhotep::simulator {
namespace {

// Contexts between two neighbouring powers of this are interpolated.
constexpr double kStep = 1.25;

}  // namespace

double StepPrices::price(int bucket, double keys_a_row) const {
  const schedule::Bucket& size = shape_.buckets.at(bucket);
  const auto program = program::build_generate(plan_, Rank(0),
                                               {.rows = size.rows,
                                                .sequences = shape_.sequences,
                                                .samples = size.samples,
                                                .max_context = shape_.max_context,
                                                .context = keys_a_row,
                                                .pages = shape_.pages});
  return simulator_.price(program, plan_).timeline.makespan_us + simulator_.overheads().step_us;
}

double StepPrices::time_us(const StepLoad& load) {
  const auto rows = static_cast<double>(shape_.buckets.at(load.bucket).rows);
  const double keys = std::max(1.0, load.keys / rows);
  const double exponent = std::log(keys) / std::log(kStep);
  const int low = static_cast<int>(std::floor(exponent));
  const auto at = [&](int power) {
    const auto [entry, is_new] = known_.try_emplace({load.bucket, power}, 0.0);
    if (is_new) entry->second = price(load.bucket, std::pow(kStep, power));
    return entry->second;
  };
  const double from = std::pow(kStep, low), to = std::pow(kStep, low + 1);
  const double share = (keys - from) / (to - from);
  return at(low) + share * (at(low + 1) - at(low)) + host_us_;
}

}  // namespace imhotep::simulator
