#include "gui/views/scatter_view.h"

#include <cmath>

namespace imhotep::gui {
namespace {

bool can_be_logarithmic(double low, double high) { return low > 0 && high / low > 8; }

Axis axis_of(const ScatterAsked& asked, const QString& name) {
  const Column* column = asked.plans->find(name);
  if (column == nullptr) column = &asked.plans->columns.front();
  double low = INFINITY, high = -INFINITY;
  for (const std::int64_t row : *asked.rows) {
    const double value = column->values[row];
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (!(low <= high)) low = 0, high = 1;
  Axis axis{.low = low, .high = high};
  axis.logarithmic = asked.logarithmic && can_be_logarithmic(low, high);
  const Column::Unit unit = column->unit_for(high);
  axis.scale = unit.scale;
  axis.title = column->title + (unit.name.isEmpty() ? "" : " (" + unit.name + ")") +
               (axis.logarithmic ? ", logarithmic" : "");
  axis.brief =
      QString(column->name).replace('_', ' ') + (unit.name.isEmpty() ? "" : " (" + unit.name + ")");
  axis.widen();
  return axis;
}

}  // namespace

ScatterView view_of(const ScatterAsked& asked) {
  ScatterView view{.of = asked};
  if (!asked.plans) return view;
  view.x = axis_of(asked, asked.x_name);
  view.y = axis_of(asked, asked.y_name);
  const int x = asked.plans->index_of(asked.x_name), y = asked.plans->index_of(asked.y_name);
  if (x >= 0 && y >= 0) {
    view.front = pareto_front(*asked.plans, x, y, usable_rows(*asked.plans, *asked.rows));
  }
  view.categories = Categories(*asked.plans, asked.colour_name, *asked.rows);
  return view;
}

}  // namespace imhotep::gui
