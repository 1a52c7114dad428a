#include "executor/calibrate/samples.h"

#include <algorithm>

#include "executor/runtime/step_times.h"

namespace imhotep::executor {

void Samples::add(const program::Operation& operation, Dtype dtype, double time_us) {
  const profiles::Description described = profiles::describe(operation.shape);
  if (described.communication) return;
  Readings& readings =
      readings_[{.family = described.family, .variant = described.variant, .dtype = dtype}];
  readings.operation = described;
  readings.by_key[described.key].push_back(time_us);
}

std::vector<profiles::Table> Samples::tables(int ranks, std::int64_t& refused) const {
  std::vector<profiles::Table> tables;
  for (const auto& [name, readings] : readings_) {
    const profiles::FamilyInfo& family = profiles::family_of(name.family);
    profiles::Table table{.family = std::string(family.name),
                          .variant = std::string(profiles::variant_text(readings.operation)),
                          .dtype = name.dtype,
                          .ranks = ranks};
    for (const char* key : family.keys) table.keys.emplace_back(key);
    for (const auto& [key, times] : readings.by_key) {
      table.points.push_back({.key = {key.begin(), key.begin() + readings.operation.keys},
                              .time_us = median(times),
                              .spread = relative_spread(times),
                              .samples = static_cast<std::int64_t>(times.size())});
    }
    const auto noisy = [](const profiles::Point& point) { return point.spread > kNoisySpread; };
    if (!std::all_of(table.points.begin(), table.points.end(), noisy)) {
      refused += static_cast<std::int64_t>(std::erase_if(table.points, noisy));
    }
    tables.push_back(std::move(table));
  }
  return tables;
}

}  // namespace imhotep::executor
