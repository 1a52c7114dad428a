#include "gui/views/timeline_chart.h"

#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QWheelEvent>
#include <cmath>
#include <map>

#include "core/base/svg.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"

namespace imhotep::gui {
namespace {

// Ten classes of operations, eight colours: the last two repeat colours with a pattern.
QBrush brush_of(int kind) {
  return QBrush(theme().series[kind % 8], kind < 8 ? Qt::SolidPattern : Qt::Dense3Pattern);
}

QString class_label(int kind) {
  return planner::class_name(static_cast<planner::OperationClass>(kind));
}

QString pass_text(program::Pass pass) {
  const std::string_view name = program::pass_name(pass);
  return QString::fromUtf8(name.data(), static_cast<qsizetype>(name.size()));
}

}  // namespace

TimelineChart::TimelineChart(QWidget* parent) : Chart("Timeline of streams", parent) {}

void TimelineChart::show_timing(Timing timing) {
  timing_ = std::move(timing);
  std::vector<bool> seen(planner::kOperationClasses, false);
  std::vector<QStringList> rows;
  for (const Track& track : timing_.tracks) {
    std::map<QString, std::pair<double, int>> totals;
    double busy = 0;
    for (const Slice& slice : track.slices) {
      seen[slice.kind] = true;
      auto& [time, count] = totals[class_label(slice.kind)];
      time += slice.duration_us;
      ++count;
      busy += slice.duration_us;
    }
    for (const auto& [label, total] : totals) {
      rows.push_back({track.title, label, QString::number(total.second), time_text(total.first),
                      QString::number(100 * total.first / std::max(1e-9, timing_.end_us), 'f', 1)});
    }
  }
  kinds_.clear();
  for (int kind = 0; kind < count_of(seen); ++kind) {
    if (seen[static_cast<std::size_t>(kind)]) kinds_.push_back(kind);
  }
  set_twin({"stream", "class", "slices", "time", "% of the span"}, std::move(rows));
  span_from_us_ = span_to_us_ = 0;
  fit();
}

void TimelineChart::set_critical(bool critical) {
  critical_ = critical;
  refresh();
}

QString TimelineChart::summary() const {
  if (timing_.tracks.empty()) return "No plan is chosen.";
  std::size_t slices = 0;
  for (const Track& track : timing_.tracks) slices += track.slices.size();
  return QString(
             "%1 streams with %2 slices over %3; shown: %4 to %5. W and S zoom, A and D move, "
             "F fits. %6")
      .arg(timing_.tracks.size())
      .arg(slices)
      .arg(time_text(timing_.end_us), time_text(from_us_), time_text(to_us_), timing_.note);
}

void TimelineChart::set_span(double from_us, double to_us) {
  const double least = std::max(1e-3, timing_.end_us * 1e-7);
  const double width = std::clamp(to_us - from_us, least, std::max(least, timing_.end_us));
  from_us_ = std::clamp(from_us, 0.0, std::max(0.0, timing_.end_us - width));
  to_us_ = from_us_ + width;
  refresh();
}

void TimelineChart::fit() {
  const bool whole = span_to_us_ <= span_from_us_;
  set_span(whole ? 0 : span_from_us_, whole ? timing_.end_us : span_to_us_);
}

void TimelineChart::zoom(double factor, double centre_us) {
  set_span(centre_us - (centre_us - from_us_) / factor, centre_us + (to_us_ - centre_us) / factor);
}

void TimelineChart::move(double part) {
  const double by = part * (to_us_ - from_us_);
  set_span(from_us_ + by, to_us_ + by);
}

double TimelineChart::x_of(double time_us) const {
  return left_ + (time_us - from_us_) / (to_us_ - from_us_) * (right_ - left_);
}

double TimelineChart::time_at(double x) const {
  return from_us_ + (x - left_) / (right_ - left_) * (to_us_ - from_us_);
}

void TimelineChart::layout(const QSizeF& size) {
  const QFontMetricsF metrics(font());
  left_ = metrics.height();
  for (const Track& track : timing_.tracks) {
    left_ = std::max(left_, metrics.horizontalAdvance(track.title) + metrics.height() * 1.5);
  }
  right_ = std::max(left_ + 50, size.width() - metrics.height());
  top_ = metrics.height() * 3;
  const double legend = metrics.height() * 4.5;
  const double room = (size.height() - top_ - legend) / std::max(1, count_of(timing_.tracks));
  row_height_ = std::clamp(room, metrics.height() * 1.6, metrics.height() * 14);
}

QRectF TimelineChart::row_of(int track) const {
  return {left_, top_ + row_height_ * track, right_ - left_, row_height_ * 0.82};
}

void TimelineChart::paint_scene(QPainter& painter, const QSizeF& size) {
  if (timing_.tracks.empty()) {
    return draw_empty(painter, size, "Choose a plan to see its streams.");
  }
  layout(size);
  draw_ruler(painter);
  for (int i = 0; i < count_of(timing_.tracks); ++i) draw_track(painter, i);
  draw_legend(painter, size);
}

void TimelineChart::draw_ruler(QPainter& painter) {
  const QFontMetricsF metrics(painter.font());
  Axis axis{.low = from_us_, .high = to_us_};
  const Column::Unit unit = Column{.kind = Column::Kind::Time}.unit_for((to_us_ - from_us_) * 4);
  axis.scale = unit.scale;
  const int about = std::clamp(static_cast<int>((right_ - left_) / (metrics.height() * 6)), 2, 12);
  const std::vector<double> ticks = axis.ticks(about);
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
  const double bottom = top_ + row_height_ * count_of(timing_.tracks);
  for (const double tick : ticks) {
    const double x = x_of(tick);
    painter.setPen(QPen(theme().grid, 1));
    painter.drawLine(QPointF(x, top_ - metrics.height() * 0.4), QPointF(x, bottom));
    painter.setPen(theme().muted);
    painter.drawText(QRectF(x - 80, top_ - metrics.height() * 1.5, 160, metrics.height()),
                     Qt::AlignCenter, axis.tick_text(tick, step));
  }
  painter.setPen(theme().text);
  painter.drawText(QRectF(left_, 2, right_ - left_, metrics.height() * 1.2), Qt::AlignCenter,
                   "time since the step began (" + unit.name + ")");
}

void TimelineChart::draw_track(QPainter& painter, int index) {
  const Track& track = timing_.tracks[static_cast<std::size_t>(index)];
  const QRectF row = row_of(index);
  painter.setPen(theme().text);
  painter.drawText(QRectF(4, row.top(), left_ - 12, row.height()),
                   Qt::AlignVCenter | Qt::AlignRight, track.title);
  painter.fillRect(row, theme().raised);
  painter.save();
  painter.setClipRect(row);
  painter.setRenderHint(QPainter::Antialiasing,
                        false);  // upright edges: sharper, and twice as fast
  // The first slice that reaches into the span; slices of a stream do not overlap.
  auto at = std::lower_bound(
      track.slices.begin(), track.slices.end(), from_us_,
      [](const Slice& s, double time) { return s.start_us + s.duration_us < time; });
  const double pixel = (to_us_ - from_us_) / (right_ - left_);
  while (at != track.slices.end() && at->start_us < to_us_) {
    const double x = x_of(at->start_us), width = at->duration_us / pixel;
    if (width >= 1) {
      draw_slice(painter, *at, QRectF(x, row.top(), width, row.height()), false);
      ++at;
      continue;
    }
    // Everything that starts within this pixel, drawn as its longest slice.
    const double end = time_at(std::floor(x) + 1);
    const Slice* longest = &*at;
    auto next = at;
    int looked = 0;
    constexpr int kMostLooks = 64;
    while (next != track.slices.end() && next->start_us < end && ++looked < kMostLooks) {
      if (next->duration_us > longest->duration_us) longest = &*next;
      ++next;
    }
    if (looked >= kMostLooks) {
      next = std::lower_bound(next, track.slices.end(), end,
                              [](const Slice& s, double time) { return s.start_us < time; });
    }
    draw_slice(painter, *longest, QRectF(std::floor(x), row.top(), 1, row.height()), true);
    at = next;
  }
  painter.restore();
}

void TimelineChart::draw_slice(QPainter& painter, const Slice& slice, const QRectF& box,
                               bool merged) {
  QBrush brush = brush_of(slice.kind);
  const bool faint = critical_ && !slice.critical;
  if (faint) brush = QBrush(theme().grid);
  // A gap to the next one, where there is room for it.
  const bool apart = !merged && box.width() >= 4;
  const QRectF inside = apart ? box.adjusted(0, 0, -1, 0) : box;
  painter.fillRect(inside, brush);
  if (slice.critical) {
    painter.fillRect(QRectF(inside.left(), box.bottom() - 4, inside.width(), 4), theme().text);
  }
  if (!apart) return;
  const QFontMetricsF metrics(painter.font());
  const QRectF visible = box.intersected(QRectF(left_, box.top(), right_ - left_, box.height()));
  if (visible.width() < metrics.height() * 2.4 || brush.style() != Qt::SolidPattern) return;
  painter.setPen(faint ? theme().text : readable_on(brush.color()));
  painter.drawText(visible.adjusted(4, 0, -4, -4), Qt::AlignVCenter | Qt::AlignLeft,
                   metrics.elidedText(timing_.names[static_cast<std::size_t>(slice.name)],
                                      Qt::ElideRight, visible.width() - 8));
}

void TimelineChart::draw_legend(QPainter& painter, const QSizeF& size) {
  const QFontMetricsF metrics(painter.font());
  const double line = metrics.height();
  double x = line, y = top_ + row_height_ * count_of(timing_.tracks) + line * 0.5;
  const auto entry = [&](const QString& text, auto draw) {
    const double needs = metrics.horizontalAdvance(text) + line * 2.4;
    if (x + needs > size.width() && x > line) {
      x = line;
      y += line * 1.4;
    }
    draw(QRectF(x, y + line * 0.15, line, line * 0.75));
    painter.setPen(theme().text);
    painter.drawText(QPointF(x + line * 1.4, y + metrics.ascent()), text);
    x += needs;
  };
  for (const int kind : kinds_) {
    entry(class_label(kind), [&](const QRectF& box) { painter.fillRect(box, brush_of(kind)); });
  }
  entry("critical path", [&](const QRectF& box) {
    painter.fillRect(box, theme().grid);
    painter.fillRect(QRectF(box.left(), box.bottom() - 4, box.width(), 4), theme().text);
  });
  if (timing_.note.isEmpty()) return;
  painter.setPen(theme().muted);
  painter.drawText(QRectF(line, y + line * 1.5, size.width() - 2 * line, line * 1.2), Qt::AlignLeft,
                   metrics.elidedText(timing_.note, Qt::ElideRight, size.width() - 2 * line));
}

const Slice* TimelineChart::slice_at(const QPointF& place, int* track) const {
  for (int i = 0; i < count_of(timing_.tracks); ++i) {
    if (!row_of(i).contains(place)) continue;
    const auto& slices = timing_.tracks[static_cast<std::size_t>(i)].slices;
    const double time = time_at(place.x());
    auto after = std::upper_bound(slices.begin(), slices.end(), time,
                                  [](double t, const Slice& s) { return t < s.start_us; });
    if (after == slices.begin()) return nullptr;
    --after;
    const double slack = (to_us_ - from_us_) / (right_ - left_);
    if (after->start_us + after->duration_us + slack < time) return nullptr;
    if (track != nullptr) *track = i;
    return &*after;
  }
  return nullptr;
}

void TimelineChart::paint_overlay(QPainter& painter, const QSizeF& size) {
  if (timing_.tracks.empty()) return;
  const double bottom = top_ + row_height_ * count_of(timing_.tracks);
  if (span_to_us_ > span_from_us_) {
    const QRectF span(QPointF(std::max(left_, x_of(span_from_us_)), top_ - 4),
                      QPointF(std::min(right_, x_of(span_to_us_)), bottom));
    QColor fill = theme().accent;
    fill.setAlpha(50);
    painter.fillRect(span, fill);
    painter.setPen(QPen(theme().accent, 2));
    painter.drawLine(span.topLeft(), span.bottomLeft());
    painter.drawLine(span.topRight(), span.bottomRight());
    draw_card(painter, QRectF(QPointF(), size), QPointF(span.center().x(), top_),
              {time_text(span_to_us_ - span_from_us_)});
    return;
  }
  int track = 0;
  if (const Slice* slice = dragging_ ? nullptr : slice_at(mouse_, &track)) {
    draw_card(
        painter, QRectF(QPointF(), size), mouse_,
        {timing_.names[static_cast<std::size_t>(slice->name)],
         QString("%1, %2").arg(class_label(slice->kind), pass_text(slice->pass)),
         slice->layer < 0 ? QString("outside the blocks") : QString("block %1").arg(slice->layer),
         "takes " + time_text(slice->duration_us), "starts at " + time_text(slice->start_us),
         slice->critical ? "on the critical path" : "not on the critical path"});
  }
}

void TimelineChart::mouseMoveEvent(QMouseEvent* event) {
  mouse_ = event->position();
  if (dragging_) {
    const double a = time_at(std::clamp(pressed_.x(), left_, right_));
    const double b = time_at(std::clamp(mouse_.x(), left_, right_));
    span_from_us_ = std::min(a, b);
    span_to_us_ = std::abs(mouse_.x() - pressed_.x()) < 3 ? span_from_us_ : std::max(a, b);
  }
  update();
}

void TimelineChart::mousePressEvent(QMouseEvent* event) {
  if (event->button() != Qt::LeftButton) return;
  dragging_ = true;
  pressed_ = event->position();
  span_from_us_ = span_to_us_ = 0;
}

void TimelineChart::mouseReleaseEvent(QMouseEvent* /*event*/) {
  dragging_ = false;
  if (span_to_us_ > span_from_us_) {
    Q_EMIT measured(QString("Span: %1, from %2 to %3")
                        .arg(time_text(span_to_us_ - span_from_us_), time_text(span_from_us_),
                             time_text(span_to_us_)));
  }
  update();
}

void TimelineChart::leaveEvent(QEvent* /*event*/) {
  mouse_ = {-1, -1};
  update();
}

void TimelineChart::wheelEvent(QWheelEvent* event) {
  const double turns = event->angleDelta().y() / 120.0;
  if ((event->modifiers() & Qt::ControlModifier) != 0) {
    zoom(std::pow(1.25, turns), time_at(event->position().x()));
  } else {
    move(-0.1 * turns);
  }
  event->accept();
}

void TimelineChart::keyPressEvent(QKeyEvent* event) {
  const double under =
      mouse_.x() > left_ && mouse_.x() < right_ ? time_at(mouse_.x()) : (from_us_ + to_us_) / 2;
  switch (event->key()) {
    case Qt::Key_W:
    case Qt::Key_Plus:
      return zoom(1.5, under);
    case Qt::Key_S:
    case Qt::Key_Minus:
      return zoom(1 / 1.5, under);
    case Qt::Key_A:
    case Qt::Key_Left:
      return move(-0.2);
    case Qt::Key_D:
    case Qt::Key_Right:
      return move(0.2);
    case Qt::Key_F:
      return fit();
    case Qt::Key_Escape:
      span_from_us_ = span_to_us_ = 0;
      return fit();
    default:
      QWidget::keyPressEvent(event);
  }
}

}  // namespace imhotep::gui
