// Mouse, keys and words of the plan chart.

#include <QKeyEvent>
#include <QMouseEvent>
#include <cmath>

#include "gui/presenter/basics.h"
#include "gui/views/plan_scatter.h"

namespace imhotep::gui {
namespace {

constexpr double kLimitReach = 5, kBandAtLeast = 6;

// A bound in the words of the filter.
QString bound_text(const Column& column, double value) {
  const Column::Unit unit = column.unit_for(value);
  const QString number = QString::number(value * unit.scale, 'g', 5);
  switch (column.kind) {
    case Column::Kind::Time:
      return number + QString(unit.name).replace("µs", "us");
    case Column::Kind::Bytes:
      return number + unit.name;
    default:
      return QString::number(value, 'g', 8);
  }
}

}  // namespace

QStringList PlanScatter::card_of(std::int64_t row) const {
  QStringList lines = {view_.of.plans->title(row)};
  for (const Column& column : view_.of.plans->columns) {
    if (!column.is_measure()) continue;
    QString text = column.title + ": " + column.text(column.values[row]);
    const Interval* interval = column.name == u"time" ? view_.of.plans->interval(row) : nullptr;
    if (interval != nullptr) {
      text += QString(" (%1 .. %2)").arg(column.text(interval->low), column.text(interval->high));
    }
    lines << text;
  }
  if (view_.of.plans->priced_only(row)) {
    lines << "priced only, cannot be run";
  } else if (!view_.of.plans->fits(row)) {
    lines << "does not fit in memory";
  }
  if (!within_limits(*view_.of.plans, row)) lines << "beyond a limit";
  if (row == view_.of.plans->best) lines << "the best plan";
  return lines;
}

QString PlanScatter::summary() const {
  if (!view_.of.plans) return "No plans yet.";
  return QString(
             "%1 plans, %2 of them on the front of %3 and %4. Left and right walk along the "
             "front.")
      .arg(view_.of.rows->size())
      .arg(view_.front.size())
      .arg(view_.x.title, view_.y.title);
}

void PlanScatter::rewrite_twin() {
  QStringList headers = {"plan on the front"};
  for (const Column& column : view_.of.plans->columns) {
    if (column.is_measure()) headers << column.title;
  }
  std::vector<QStringList> rows;
  for (const std::int64_t row : view_.front) {
    QStringList line = {view_.of.plans->title(row)};
    for (const Column& column : view_.of.plans->columns) {
      if (column.is_measure()) line << column.text(column.values[row]);
    }
    rows.push_back(line);
  }
  set_twin(headers, std::move(rows));
}

int PlanScatter::limit_near(const QPointF& place) const {
  if (!plot_.adjusted(-kLimitReach, -kLimitReach, kLimitReach, kLimitReach).contains(place)) {
    return -1;
  }
  const std::vector<Limit> all = limits();
  for (int i = 0; i < count_of(all); ++i) {
    if (all[i].fixed) continue;
    const double at =
        all[i].across
            ? plot_.left() + view_.x.position(all[i].value) * plot_.width() - place.x()
            : plot_.bottom() - view_.y.position(all[i].value) * plot_.height() - place.y();
    if (std::abs(at) <= kLimitReach) return i;
  }
  return -1;
}

void PlanScatter::mouseMoveEvent(QMouseEvent* event) {
  mouse_ = event->position();
  if (!view_.of.plans || view_.of.rows->empty()) return;
  if (moving_limit_ >= 0) {
    const Limit limit = limits()[static_cast<std::size_t>(moving_limit_)];
    const double part = limit.across ? (mouse_.x() - plot_.left()) / plot_.width()
                                     : (plot_.bottom() - mouse_.y()) / plot_.height();
    moved_value_ = (limit.across ? view_.x : view_.y).value_at(std::clamp(part, 0.0, 1.0));
  } else if ((event->buttons() & Qt::LeftButton) != 0) {
    const QPointF off = mouse_ - pressed_;
    banding_ = banding_ || std::abs(off.x()) + std::abs(off.y()) > kBandAtLeast;
  } else {
    hovered_ = point_at(mouse_);
    const int limit = limit_near(mouse_);
    setCursor(limit < 0                                          ? Qt::ArrowCursor
              : limits()[static_cast<std::size_t>(limit)].across ? Qt::SplitHCursor
                                                                 : Qt::SplitVCursor);
  }
  update();
}

void PlanScatter::mousePressEvent(QMouseEvent* event) {
  if (event->button() != Qt::LeftButton || !view_.of.plans) return;
  pressed_ = mouse_ = event->position();
  moving_limit_ = limit_near(pressed_);
  if (moving_limit_ >= 0) moved_value_ = limits()[static_cast<std::size_t>(moving_limit_)].value;
}

void PlanScatter::mouseReleaseEvent(QMouseEvent* event) {
  if (event->button() != Qt::LeftButton || !view_.of.plans) return;
  if (moving_limit_ >= 0) {
    const Limit limit = limits()[static_cast<std::size_t>(moving_limit_)];
    const Axis& axis = limit.across ? view_.x : view_.y;
    moving_limit_ = -1;
    // Dragged back to its end of the axis: no limit.
    const double part = axis.position(moved_value_);
    const bool none = limit.at_most ? part > 0.99 : part < 0.01;
    Q_EMIT limit_moved(limit.field, none ? 0 : moved_value_);
  } else if (banding_) {
    banding_ = false;
    const QRectF band = QRectF(pressed_, event->position()).normalized().intersected(plot_);
    const Column *x = view_.of.plans->find(view_.of.x_name),
                 *y = view_.of.plans->find(view_.of.y_name);
    if (x != nullptr && y != nullptr && !band.isEmpty()) {
      const auto across = [&](double at) {
        return view_.x.value_at((at - plot_.left()) / plot_.width());
      };
      const auto up = [&](double at) {
        return view_.y.value_at((plot_.bottom() - at) / plot_.height());
      };
      Q_EMIT filter_wanted(QString("%1>=%2 && %1<=%3 && %4>=%5 && %4<=%6")
                               .arg(x->name, bound_text(*x, across(band.left())),
                                    bound_text(*x, across(band.right())), y->name,
                                    bound_text(*y, up(band.bottom())),
                                    bound_text(*y, up(band.top()))));
    }
  } else if (const std::int64_t row = point_at(event->position()); row >= 0) {
    Q_EMIT picked(row);
  }
  update();
}

void PlanScatter::leaveEvent(QEvent* /*event*/) {
  hovered_ = -1;
  update();
}

void PlanScatter::keyPressEvent(QKeyEvent* event) {
  const bool back = event->key() == Qt::Key_Left, on = event->key() == Qt::Key_Right;
  const bool ends = event->key() == Qt::Key_Home || event->key() == Qt::Key_End;
  if (view_.front.empty() || !is_current() || (!back && !on && !ends)) {
    if (event->key() == Qt::Key_Escape && (banding_ || hovered_ >= 0)) {
      banding_ = false;
      hovered_ = -1;
      update();
      return;
    }
    QWidget::keyPressEvent(event);
    return;
  }
  const auto found = std::find(view_.front.begin(), view_.front.end(), selected_);
  int index = found == view_.front.end()
                  ? 0
                  : static_cast<int>(found - view_.front.begin()) + (on     ? 1
                                                                     : back ? -1
                                                                            : 0);
  if (event->key() == Qt::Key_Home) index = 0;
  if (event->key() == Qt::Key_End) index = count_of(view_.front) - 1;
  index = std::clamp(index, 0, count_of(view_.front) - 1);
  hovered_ = view_.front[static_cast<std::size_t>(index)];
  Q_EMIT picked(hovered_);
  update();
}

}  // namespace imhotep::gui
