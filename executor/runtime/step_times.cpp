#include "executor/runtime/step_times.h"

#include <algorithm>

namespace imhotep::executor {
namespace {

double quantile(std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - static_cast<double>(low));
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return quantile(values, 0.5);
}

double relative_spread(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double middle = quantile(values, 0.5);
  return middle > 0 ? (quantile(values, 0.75) - quantile(values, 0.25)) / middle : 0;
}

StepTimes::Row& StepTimes::row(const program::Operation& operation) {
  const std::pair key(std::string(operation.name), std::string(program::pass_name(operation.pass)));
  const auto [found, added] = index_.emplace(key, rows_.size());
  if (added) rows_.push_back({.name = key.first, .pass = key.second});
  return rows_[found->second];
}

void StepTimes::add(const program::Operation& operation, double time_us) {
  Row& one = row(operation);
  one.current_us += time_us;
  ++one.current;
  accounted_us_ += time_us;
}

void StepTimes::end_step(double time_us) {
  for (Row& one : rows_) {
    one.per_step_us.push_back(one.current_us);
    one.occurrences += one.current;
    one.current_us = 0;
    one.current = 0;
  }
  steps_us_.push_back(time_us);
  unaccounted_us_.push_back(time_us - accounted_us_);
  accounted_us_ = 0;
}

void StepTimes::drop_step() {
  for (Row& one : rows_) {
    one.current_us = 0;
    one.current = 0;
  }
  accounted_us_ = 0;
}

std::vector<OperationTime> StepTimes::operations() const {
  std::vector<OperationTime> times;
  for (const Row& one : rows_) {
    times.push_back({.operation = one.name,
                     .pass = one.pass,
                     .count = steps() > 0 ? one.occurrences / steps() : 0,
                     .measured_us = median(one.per_step_us),
                     .spread = relative_spread(one.per_step_us)});
  }
  times.push_back({.operation = "unaccounted",
                   .pass = "step",
                   .count = 1,
                   .measured_us = median(unaccounted_us_),
                   .spread = relative_spread(unaccounted_us_)});
  return times;
}

}  // namespace imhotep::executor
