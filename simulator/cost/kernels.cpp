#include "simulator/cost/kernels.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <tuple>

#include "core/base/fail.h"
#include "simulator/cost/roofline.h"

namespace imhotep::simulator {
namespace {

constexpr double kTransferWidth = 0.25;   // least half-width, as a logarithm, of a transfer
constexpr double kTransferFactor = 1.5;   // a transfer errs more than its table does
constexpr double kPerBusyDoubling = 0.1;  // tables measured with other numbers of busy ranks

// How unlike two variants are: words of one that the other lacks. "nt bias" and "nt" differ by 1.
int unlikeness(std::string_view a, std::string_view b) {
  const auto missing = [](std::string_view words, std::string_view other) {
    int count = 0;
    while (!words.empty()) {
      const std::size_t end = std::min(words.find(' '), words.size());
      const std::string_view word = words.substr(0, end);
      words.remove_prefix(std::min(end + 1, words.size()));
      if (!word.empty() && other.find(word) == std::string_view::npos) ++count;
    }
    return count;
  };
  return missing(a, b) + missing(b, a);
}

// Family, variant, dtype and busy ranks: tables that share them are one.
using Identity = std::tuple<std::uint8_t, std::uint8_t, Dtype, int>;

void collect(const profiles::Table& table, int ranks,
             std::map<Identity, std::vector<MeasuredPoint>>& points) {
  for (const profiles::Point& point : table.points) {
    const auto described = profiles::description_of(table.family, table.variant, point.key);
    if (!described || described->communication) continue;
    points[{described->family, described->variant, table.dtype, ranks}].push_back(
        {.key = described->key,
         .work = work_of(*described, table.dtype),
         .time_us = point.time_us,
         .spread = point.spread});
  }
}

double doublings(int a, int b) { return std::abs(std::log2(static_cast<double>(a) / b)); }

}  // namespace

KernelPrices::KernelPrices(const DeviceSpec& device,
                           const std::optional<profiles::Profile>& profile)
    : device_(device), tables_(profiles::kFamilies) {
  if (!profile) return;
  measured_ = profile->device;
  same_device_ = measured_.name == device_.name;
  own_kernels_ = profile->kernels.empty();
  // One device, one roofline: rates that were detected twice differ by the clock of the moment.
  if (same_device_) device_ = measured_;
  std::map<Identity, std::vector<MeasuredPoint>> points;
  for (const profiles::Table& table : profile->tables) {
    collect(table, table.ranks > 0 ? table.ranks : profile->ranks, points);
  }
  for (auto& [identity, list] : points) {
    const auto& [family, variant, dtype, ranks] = identity;
    Table table{.variant = variant,
                .dtype = dtype,
                .ranks = ranks,
                .points = std::make_shared<Table::Points>()};
    table.points->measured = std::move(list);
    tables_[family].push_back(std::move(table));
  }
}

const MeasuredTable& KernelPrices::points_of(const Table& table, int family) const {
  Table::Points& points = *table.points;
  std::call_once(points.once, [&] {
    const auto keys = static_cast<int>(profiles::family_of(family).keys.size());
    points.table.emplace(points.measured, keys, measured_, table.dtype);
  });
  return *points.table;
}

const KernelPrices::Table* KernelPrices::nearest(const profiles::Description& operation,
                                                 Dtype dtype, int busy) const {
  const Table* best = nullptr;
  double best_distance = 0;
  for (const Table& table : tables_[operation.family]) {
    const auto& variants = profiles::family_of(operation.family).variants;
    const double distance =
        10.0 * unlikeness(variants[operation.variant], variants[table.variant]) +
        (table.dtype == dtype ? 0 : 15) + doublings(table.ranks, busy);
    if (best != nullptr && best_distance <= distance) continue;
    best = &table;
    best_distance = distance;
  }
  return best;
}

Cost KernelPrices::price(const profiles::Description& operation, Dtype dtype, int busy) const {
  if (operation.communication) {
    fail("{} is communication: it has no price on one device",
         profiles::family_of(operation.family).name);
  }
  const profiles::Work work = work_of(operation, dtype);
  const Table* table = nearest(operation, dtype, busy);
  if (table == nullptr) return unmeasured(work, device_, dtype);
  const MeasuredTable::Answer answer =
      points_of(*table, operation.family).at(operation.key, work, device_, dtype);
  const profiles::Ratio& ratio = answer.ratio;
  const bool transferred = !own_kernels_ || !same_device_ || table->variant != operation.variant ||
                           table->dtype != dtype;
  Cost cost{.time_us = answer.time_us,
            .source = transferred   ? Source::Transferred
                      : ratio.exact ? Source::Measured
                                    : Source::Interpolated};
  double width = std::log(ratio.high / ratio.value);
  if (transferred) width = std::max(kTransferWidth, kTransferFactor * width);
  width += kPerBusyDoubling * doublings(table->ranks, busy);
  cost.low_us = cost.time_us * std::exp(-width);
  cost.high_us = cost.time_us * std::exp(width);
  return cost;
}

}  // namespace imhotep::simulator
