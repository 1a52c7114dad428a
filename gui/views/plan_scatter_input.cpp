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
  QStringList lines = {plans_->title(row)};
  for (const Column& column : plans_->columns) {
    if (!column.is_measure()) continue;
    QString text = column.title + ": " + column.text(column.values[row]);
    const Interval* interval = column.name == u"time" ? plans_->interval(row) : nullptr;
    if (interval != nullptr) {
      text += QString(" (%1 .. %2)").arg(column.text(interval->low), column.text(interval->high));
    }
    lines << text;
  }
  if (plans_->priced_only(row)) {
    lines << "priced only, cannot be run";
  } else if (!plans_->fits(row)) {
    lines << "does not fit in memory";
  }
  if (!within_limits(*plans_, row)) lines << "beyond a limit";
  if (row == plans_->best) lines << "the best plan";
  return lines;
}

QString PlanScatter::summary() const {
  if (!plans_) return "No plans yet.";
  return QString(
             "%1 plans, %2 of them on the front of %3 and %4. Left and right walk along the "
             "front.")
      .arg(rows_->size())
      .arg(front_.size())
      .arg(x_.title, y_.title);
}

void PlanScatter::rewrite_twin() {
  QStringList headers = {"plan on the front"};
  for (const Column& column : plans_->columns) {
    if (column.is_measure()) headers << column.title;
  }
  std::vector<QStringList> rows;
  for (const std::int64_t row : front_) {
    QStringList line = {plans_->title(row)};
    for (const Column& column : plans_->columns) {
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
    const double at = all[i].across
                          ? plot_.left() + x_.position(all[i].value) * plot_.width() - place.x()
                          : plot_.bottom() - y_.position(all[i].value) * plot_.height() - place.y();
    if (std::abs(at) <= kLimitReach) return i;
  }
  return -1;
}

void PlanScatter::mouseMoveEvent(QMouseEvent* event) {
  mouse_ = event->position();
  if (!plans_ || rows_->empty()) return;
  if (moving_limit_ >= 0) {
    const Limit limit = limits()[static_cast<std::size_t>(moving_limit_)];
    const double part = limit.across ? (mouse_.x() - plot_.left()) / plot_.width()
                                     : (plot_.bottom() - mouse_.y()) / plot_.height();
    moved_value_ = (limit.across ? x_ : y_).value_at(std::clamp(part, 0.0, 1.0));
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
  if (event->button() != Qt::LeftButton || !plans_) return;
  pressed_ = mouse_ = event->position();
  moving_limit_ = limit_near(pressed_);
  if (moving_limit_ >= 0) moved_value_ = limits()[static_cast<std::size_t>(moving_limit_)].value;
}

void PlanScatter::mouseReleaseEvent(QMouseEvent* event) {
  if (event->button() != Qt::LeftButton || !plans_) return;
  if (moving_limit_ >= 0) {
    const Limit limit = limits()[static_cast<std::size_t>(moving_limit_)];
    const Axis& axis = limit.across ? x_ : y_;
    moving_limit_ = -1;
    // Dragged back to its end of the axis: no limit.
    const double part = axis.position(moved_value_);
    const bool none = limit.at_most ? part > 0.99 : part < 0.01;
    Q_EMIT limit_moved(limit.field, none ? 0 : moved_value_);
  } else if (banding_) {
    banding_ = false;
    const QRectF band = QRectF(pressed_, event->position()).normalized().intersected(plot_);
    const Column *x = plans_->find(x_name_), *y = plans_->find(y_name_);
    if (x != nullptr && y != nullptr && !band.isEmpty()) {
      const auto across = [&](double at) {
        return x_.value_at((at - plot_.left()) / plot_.width());
      };
      const auto up = [&](double at) {
        return y_.value_at((plot_.bottom() - at) / plot_.height());
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
  if (front_.empty() || (!back && !on && !ends)) {
    if (event->key() == Qt::Key_Escape && (banding_ || hovered_ >= 0)) {
      banding_ = false;
      hovered_ = -1;
      update();
      return;
    }
    QWidget::keyPressEvent(event);
    return;
  }
  const auto found = std::find(front_.begin(), front_.end(), selected_);
  int index = found == front_.end() ? 0
                                    : static_cast<int>(found - front_.begin()) + (on     ? 1
                                                                                  : back ? -1
                                                                                         : 0);
  if (event->key() == Qt::Key_Home) index = 0;
  if (event->key() == Qt::Key_End) index = count_of(front_) - 1;
  index = std::clamp(index, 0, count_of(front_) - 1);
  hovered_ = front_[static_cast<std::size_t>(index)];
  Q_EMIT picked(hovered_);
  update();
}

}  // namespace imhotep::gui
