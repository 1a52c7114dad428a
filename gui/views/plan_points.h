#pragma once
// Thousands of plans stamped into a picture, one stamp for each colour and shape, without a widget,
// so that it can be done on any thread. A grid of cells finds the point under the mouse.

#include <QImage>
#include <QPainter>
#include <memory>
#include <vector>

#include "gui/presenter/plan_set.h"
#include "gui/presenter/stop.h"
#include "gui/views/chart.h"

namespace imhotep::gui {

// Which of at most eight colours and shapes a plan has: by the values of a column, or by ranges of
// them.
class Categories {
 public:
  static constexpr int kMost = 8;
  Categories() = default;
  Categories(const PlanSet& plans, const QString& column, const std::vector<std::int64_t>& rows);
  [[nodiscard]] int of(const PlanSet& plans, std::int64_t row) const;
  [[nodiscard]] const std::vector<double>& values() const { return values_; }  // ascending

 private:
  std::vector<double> values_;
  int column_ = -1;
};

struct PointsAsked {
  Plans plans;
  std::shared_ptr<const std::vector<std::int64_t>> rows;
  Axis x, y;
  QString x_name, y_name;
  Categories categories;
  QRectF plot;
  double ratio = 1;  // pixels a point
  const Theme* theme = nullptr;
  std::uint64_t state = 0;  // names everything above but plot, ratio and theme

  [[nodiscard]] bool same_as(const PointsAsked& o) const {
    return state == o.state && plot == o.plot && ratio == o.ratio && theme == o.theme;
  }
};

struct Points {
  QImage picture;  // of the plot, with kPointRoom around it
  std::uint64_t state = 0;
  QRectF plot;
  double ratio = 1;
  const Theme* theme = nullptr;
  std::shared_ptr<const std::vector<std::int64_t>> rows;
  std::vector<QPointF> places;                        // by index into rows
  std::vector<std::uint32_t> cell_begin, cell_items;  // points by cell of the plot
  int cells_wide = 0;

  [[nodiscard]] bool answers(const PointsAsked& asked) const {
    return state == asked.state && plot == asked.plot && ratio == asked.ratio &&
           theme == asked.theme;
  }
  // The row of the nearest point within reach; -1: none.
  [[nodiscard]] std::int64_t nearest(const QPointF& place) const;
};

inline constexpr double kPointRadius = 3.4, kPointRoom = 8;

// Async: any thread; what was stopped is incomplete.
[[nodiscard]] Points stamp_points(const PointsAsked& asked, const Stop& stop);

// A marker of category `index`: eight shapes, so that colours need not be told apart.
void draw_marker(QPainter& painter, int index, const QPointF& at, double radius);

}  // namespace imhotep::gui
