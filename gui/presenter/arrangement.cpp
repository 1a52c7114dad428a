#include "gui/presenter/arrangement.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace imhotep::gui {
namespace {

void sort_by(const std::vector<double>& values, Qt::SortOrder order,
             std::vector<std::int64_t>& rows) {
  // Side by side in memory: a third of the time of looking each value up.
  std::vector<std::pair<double, std::int64_t>> ranked;
  ranked.reserve(rows.size());
  for (const std::int64_t row : rows) {
    const double value = order == Qt::AscendingOrder ? values[row] : -values[row];
    ranked.emplace_back(std::isnan(value) ? std::numeric_limits<double>::infinity() : value, row);
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = ranked[i].second;
}

bool differs(const std::vector<double>& values, const std::vector<std::int64_t>& rows) {
  return std::any_of(rows.begin(), rows.end(),
                     [&](std::int64_t row) { return values[row] != values[rows.front()]; });
}

}  // namespace

Arrangement arrange(const PlanSet& plans, const Filter& filter, const std::vector<SortKey>& keys,
                    const Stop& stop) {
  Arrangement result;
  result.passing = std::make_shared<const std::vector<std::int64_t>>(passing_rows(filter, plans));
  result.rows = *result.passing;
  for (const SortKey& key : keys) {
    if (stop.requested()) return result;
    const Column* column = plans.find(key.name);
    if (column != nullptr) sort_by(column->values, key.order, result.rows);
  }
  for (const Column& column : plans.columns) {
    if (stop.requested()) return result;
    result.differs.push_back(differs(column.values, *result.passing));
  }
  return result;
}

Arrangement unarranged(const PlanSet& plans) {
  Arrangement result;
  result.rows.resize(static_cast<std::size_t>(plans.size()));
  std::iota(result.rows.begin(), result.rows.end(), std::int64_t{0});
  result.passing = std::make_shared<const std::vector<std::int64_t>>(result.rows);
  result.differs.assign(plans.columns.size(), true);
  return result;
}

}  // namespace imhotep::gui
