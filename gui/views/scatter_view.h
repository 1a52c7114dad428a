#pragma once
// What the plan chart derives from plans before it draws them: axes, front and categories, without
// a widget, so that it can be done on any thread.

#include "gui/presenter/arrangement.h"
#include "gui/views/chart.h"
#include "gui/views/plan_points.h"

namespace imhotep::gui {

struct ScatterAsked {
  Plans plans;  // null: none
  Rows rows;    // those that pass the filter
  QString x_name = "time", y_name = "memory", colour_name = "tensor";
  bool logarithmic = true;  // where values span more than a factor of eight
};

struct ScatterView {
  ScatterAsked of;
  Axis x, y;
  std::vector<std::int64_t> front;  // by ascending x
  Categories categories;
};

// Async: any thread.
[[nodiscard]] ScatterView view_of(const ScatterAsked& asked);

}  // namespace imhotep::gui
