// How the plan chart is painted.

#include <QPainter>
#include <cmath>

#include "gui/presenter/basics.h"
#include "gui/views/plan_scatter.h"

namespace imhotep::gui {
namespace {

constexpr double kRadius = kPointRadius;

}  // namespace

// Few points are drawn at once. Many are drawn beside the window; meanwhile those of before stand
// there, stretched, if they are the same plans by the same metrics.
void PlanScatter::draw_points(QPainter& painter) {
  const bool now = direct_ratio() > 0 || view_.of.rows->size() <= kFew;
  const double ratio = direct_ratio() > 0 ? direct_ratio() : painter.device()->devicePixelRatioF();
  const PointsAsked asked = points_asked(ratio);
  if (!points_ || !points_->answers(asked)) {
    if (now) {
      drawing_.cancel();
      points_ = std::make_shared<const Points>(stamp_points(asked, Stop()));
    } else if (!drawing_.is_running() || !wanted_ || !wanted_->same_as(asked)) {
      wanted_ = asked;
      drawing_.start([asked](const Stop& stop) { return stamp_points(asked, stop); },
                     [this](Points points) {
                       points_ = std::make_shared<const Points>(std::move(points));
                       refresh();
                     });
    }
  }
  if (!points_ || points_->state != state_) {
    painter.setPen(theme().muted);
    painter.drawText(plot_, Qt::AlignCenter,
                     QString("drawing %L1 plans …").arg(view_.of.rows->size()));
    return;
  }
  painter.setRenderHint(QPainter::SmoothPixmapTransform);
  // Of the same size: pixel by pixel.
  const QSizeF room(2 * kPointRoom, 2 * kPointRoom);
  const QSizeF size = points_->plot.size() == plot_.size()
                          ? QSizeF(points_->picture.size()) / points_->ratio
                          : plot_.size() + room;
  painter.drawImage(QRectF(plot_.topLeft() - QPointF(kPointRoom, kPointRoom), size),
                    points_->picture);
}

void PlanScatter::draw_front(QPainter& painter) {
  if (view_.front.empty()) return;
  const Column* y = view_.of.plans->find(view_.of.y_name);
  painter.setPen(QPen(theme().text, 1.6));
  painter.setBrush(Qt::NoBrush);
  QPolygonF steps;
  QPointF last;
  for (const std::int64_t row : view_.front) {
    const QPointF place = place_of(row);
    // A front is a staircase: between two plans there is nothing better than the first.
    if (!steps.isEmpty()) {
      const bool later = view_.of.plans->find(view_.of.x_name)->more_is_better != y->more_is_better;
      steps << (later ? QPointF(last.x(), place.y()) : QPointF(place.x(), last.y()));
    }
    steps << place;
    last = place;
  }
  painter.drawPolyline(steps);
  for (const std::int64_t row : view_.front) {
    const QPointF place = place_of(row);
    painter.setPen(QPen(theme().text, 1.4));
    if (const Interval* interval = view_.of.plans->interval(row)) {
      const auto at = [&](double value) {
        return view_.of.x_name == u"time"
                   ? QPointF(plot_.left() + view_.x.position(value) * plot_.width(), place.y())
                   : QPointF(place.x(), plot_.bottom() - view_.y.position(value) * plot_.height());
      };
      if (view_.of.x_name == u"time" || view_.of.y_name == u"time") {
        const QPointF a = at(interval->low), b = at(interval->high);
        const QPointF cap = view_.of.x_name == u"time" ? QPointF(0, 3) : QPointF(3, 0);
        painter.save();
        painter.setClipRect(plot_);  // one that goes on beyond the axes ends at the frame, uncapped
        painter.setPen(QPen(theme().text, 0.8));
        painter.drawLine(a, b);
        painter.drawLine(a - cap, a + cap);
        painter.drawLine(b - cap, b + cap);
        painter.restore();
        painter.setPen(QPen(theme().text, 1.4));
      }
    }
    const int kind = view_.categories.of(*view_.of.plans, row);
    painter.setBrush(theme().series[kind]);
    draw_marker(painter, kind, place, kRadius * 1.35);
  }
}

void PlanScatter::draw_limits(QPainter& painter) {
  const QFontMetricsF metrics(painter.font());
  const std::vector<Limit> all = limits();
  for (int i = 0; i < count_of(all); ++i) {
    const Limit& limit = all[i];
    const double value = i == moving_limit_ ? moved_value_ : limit.value;
    const Axis& axis = limit.across ? view_.x : view_.y;
    const bool set = limit.fixed || i == moving_limit_ || (value > axis.low && value < axis.high);
    painter.setPen(QPen(set ? theme().bad : theme().border, limit.fixed ? 1.2 : 2,
                        limit.fixed ? Qt::DotLine : Qt::DashLine));
    const double at = limit.across ? plot_.left() + axis.position(value) * plot_.width()
                                   : plot_.bottom() - axis.position(value) * plot_.height();
    if (limit.across) {
      painter.drawLine(QPointF(at, plot_.top()), QPointF(at, plot_.bottom()));
    } else {
      painter.drawLine(QPointF(plot_.left(), at), QPointF(plot_.right(), at));
    }
    const Column* column = view_.of.plans->find(limit.across ? view_.of.x_name : view_.of.y_name);
    const QString text =
        limit.fixed ? "memory of a device: " + column->text(value)
        : set       ? QString(limit.at_most ? "at most " : "at least ") + column->text(value)
                    : QString();
    if (text.isEmpty()) continue;
    const double width = metrics.horizontalAdvance(text) + 8;
    const auto words = [&](const QRectF& place) {
      painter.fillRect(place, theme().base);
      painter.setPen(theme().bad);
      painter.drawText(place, Qt::AlignCenter, text);
    };
    if (limit.across) {
      const double left = at + width + 4 > plot_.right() ? at - width - 4 : at + 4;
      words(QRectF(left, plot_.top() + 2, width, metrics.height()));
    } else {
      words(QRectF(plot_.right() - width, at - metrics.height() - 2, width, metrics.height()));
    }
  }
}

void PlanScatter::draw_legend(QPainter& painter, const QSizeF& size) {
  const QFontMetricsF metrics(painter.font());
  constexpr int kFixed = 4;  // heading, does not fit, front, best
  const double entries = kFixed + static_cast<double>(view_.categories.values().size());
  const double line = std::clamp((size.height() - plot_.top()) / entries, metrics.height() * 0.95,
                                 metrics.height() * 1.35);
  const double left = plot_.right() + metrics.height();
  double top = plot_.top();
  const double width = size.width() - left - 4;
  const Column* column = view_.of.plans->find(view_.of.colour_name);
  const auto entry = [&](const QString& text, auto draw) {
    if (top + line > size.height()) return;
    draw(QPointF(left + 7, top + line / 2));
    painter.setPen(theme().text);
    painter.drawText(QRectF(left + 20, top, width - 20, line), Qt::AlignVCenter | Qt::AlignLeft,
                     metrics.elidedText(text, Qt::ElideRight, width - 20));
    top += line;
  };
  painter.setPen(theme().muted);
  painter.drawText(
      QRectF(left, top, width, line), Qt::AlignVCenter | Qt::AlignLeft,
      metrics.elidedText(column == nullptr ? "" : column->title, Qt::ElideRight, width));
  top += line;
  const std::vector<double>& values = view_.categories.values();
  for (int i = 0; column != nullptr && i < count_of(values); ++i) {
    const bool exact = i + 1 == count_of(values) || column->kind == Column::Kind::Choice ||
                       values.size() < Categories::kMost;
    const QString text = column->text(values[i]) + (exact ? "" : " or more");
    entry(text, [&](const QPointF& at) {
      painter.setPen(Qt::NoPen);
      painter.setBrush(theme().series[i]);
      draw_marker(painter, i, at, kRadius * 1.3);
    });
  }
  entry("does not fit", [&](const QPointF& at) {
    painter.setPen(QPen(theme().faint, 1.2));
    painter.drawLine(at - QPointF(3, 3), at + QPointF(3, 3));
    painter.drawLine(at + QPointF(-3, 3), at + QPointF(3, -3));
  });
  entry("front, 90 %", [&](const QPointF& at) {
    painter.setPen(QPen(theme().text, 1.6));
    painter.drawLine(at - QPointF(7, 0), at + QPointF(7, 0));
    painter.drawLine(at - QPointF(7, 3), at + QPointF(-7, 3));
    painter.drawLine(at + QPointF(7, -3), at + QPointF(7, 3));
  });
  entry("best", [&](const QPointF& at) {
    painter.setPen(QPen(theme().accent, 2));
    painter.setBrush(Qt::NoBrush);
    painter.drawEllipse(at, 6, 6);
  });
}

void PlanScatter::paint_scene(QPainter& painter, const QSizeF& size) {
  if (direct_ratio() > 0 && looking_.is_running()) {
    looking_.cancel();
    accept(view_of(asked_));
  }
  if (!view_.of.plans) {
    return draw_empty(painter, size,
                      looking_.is_running()
                          ? QString("looking through %L1 plans …").arg(asked_.rows->size())
                          : "Ask for plans, or open a plan or search file.");
  }
  if (view_.of.rows->empty()) return draw_empty(painter, size, "No plan passes the filter.");
  layout(size);
  draw_axes(painter, plot_, view_.x, view_.y);
  painter.save();
  painter.setClipRect(plot_.adjusted(-8, -8, 8, 8));
  draw_points(painter);
  draw_front(painter);
  painter.restore();
  draw_legend(painter, size);
}

void PlanScatter::paint_overlay(QPainter& painter, const QSizeF& size) {
  if (!view_.of.plans || view_.of.rows->empty()) return;
  painter.save();
  draw_limits(painter);
  painter.setBrush(Qt::NoBrush);
  if (view_.of.plans->best >= 0) {
    painter.setPen(QPen(theme().accent, 2));
    painter.drawEllipse(place_of(view_.of.plans->best), 8, 8);
  }
  if (is_current() && selected_ >= 0) {
    const QPointF at = place_of(selected_);
    painter.setPen(QPen(theme().accent, 1.2, Qt::DashLine));
    painter.drawLine(QPointF(plot_.left(), at.y()), QPointF(at.x() - 9, at.y()));
    painter.drawLine(QPointF(at.x(), at.y() + 9), QPointF(at.x(), plot_.bottom()));
    painter.setPen(QPen(theme().accent, 3));
    painter.drawRect(QRectF(at - QPointF(8, 8), QSizeF(16, 16)));
  }
  if (banding_) {
    painter.setPen(QPen(theme().accent, 1, Qt::DashLine));
    QColor fill = theme().accent;
    fill.setAlpha(40);
    painter.setBrush(fill);
    painter.drawRect(QRectF(pressed_, mouse_).normalized());
  } else if (hovered_ >= 0) {
    draw_card(painter, QRectF(QPointF(), size), place_of(hovered_), card_of(hovered_));
  }
  painter.restore();
}

}  // namespace imhotep::gui
