#pragma once
// All plans as points of two metrics. Points are stamped into a picture (plan_points.h), many of
// them beside the window; hover, selection and front are painted over it.

#include <QPoint>
#include <vector>

#include "gui/presenter/plan_set.h"
#include "gui/presenter/stop.h"
#include "gui/views/chart.h"
#include "gui/views/plan_points.h"
#include "gui/views/scatter_view.h"

namespace imhotep::gui {

class PlanScatter : public Chart {
  Q_OBJECT
 public:
  static constexpr std::size_t kFew = 20'000;  // plans that are shown at once

  explicit PlanScatter(QWidget* parent = nullptr);
  ~PlanScatter() override;

  // Of many plans axes and front are found beside the window; until then those of before stand.
  void set_asked(const ScatterAsked& asked);
  void show_rows(const Rows& rows);
  void set_axes(const QString& x, const QString& y, const QString& colour);
  void set_logarithmic(bool logarithmic);
  void set_selected(std::int64_t row);

  [[nodiscard]] const Plans& plans() const { return asked_.plans; }
  [[nodiscard]] const std::vector<std::int64_t>& front() const { return view_.front; }
  [[nodiscard]] std::int64_t hovered() const { return hovered_; }
  // The nearest point within reach of the mouse; -1: none.
  [[nodiscard]] std::int64_t point_at(const QPointF& place) const;
  // Where a plan is drawn. Requires: it is shown and finite on both axes.
  [[nodiscard]] QPointF place_of(std::int64_t row) const;
  // False while anything is done beside the window.
  [[nodiscard]] bool is_drawn() const { return !looking_.is_running() && !drawing_.is_running(); }
  [[nodiscard]] QString summary() const override;

 Q_SIGNALS:
  void picked(std::int64_t row);
  void filter_wanted(const QString& expression);  // a rubber band was drawn
  void limit_moved(const QString& field, double value);

 protected:
  void paint_scene(QPainter& painter, const QSizeF& size) override;
  void paint_overlay(QPainter& painter, const QSizeF& size) override;
  void mouseMoveEvent(QMouseEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void mouseReleaseEvent(QMouseEvent* event) override;
  void leaveEvent(QEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;

 private:
  struct Limit {
    QString field;  // of the question
    double value = 0;
    bool across = false;  // at a value of x: an upright line
    bool at_most = true;
    bool fixed = false;  // the device's memory
  };
  void look();
  void accept(ScatterView view);
  // Of the plans that were shown last: rows of others name other plans.
  [[nodiscard]] bool is_current() const { return view_.of.plans == asked_.plans; }
  void announce_selected();
  void layout(const QSizeF& size);
  [[nodiscard]] PointsAsked points_asked(double ratio) const;
  void draw_points(QPainter& painter);
  void draw_front(QPainter& painter);
  void draw_limits(QPainter& painter);
  void draw_legend(QPainter& painter, const QSizeF& size);
  [[nodiscard]] std::vector<Limit> limits() const;
  [[nodiscard]] int limit_near(const QPointF& place) const;
  [[nodiscard]] QStringList card_of(std::int64_t row) const;
  void rewrite_twin();

  ScatterAsked asked_;  // the newest
  ScatterView view_;    // what is shown; its rows are never null
  QRectF plot_;
  std::uint64_t state_ = 0;  // another one whenever points move or change
  std::shared_ptr<const Points> points_;
  std::optional<PointsAsked> wanted_;  // what is being drawn
  Newest looking_, drawing_;
  std::int64_t selected_ = -1, hovered_ = -1;
  QPointF mouse_, pressed_;
  bool banding_ = false;
  int moving_limit_ = -1;
  double moved_value_ = 0;
};

}  // namespace imhotep::gui
