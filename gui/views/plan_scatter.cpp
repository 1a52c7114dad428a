#include "gui/views/plan_scatter.h"

#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QPainterPath>
#include <cmath>
#include <set>

#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

constexpr double kCell = 16, kReach = 12, kRadius = 3.4;
constexpr int kMostCategories = 8;

bool can_be_logarithmic(double low, double high) { return low > 0 && high / low > 8; }

}  // namespace

PlanScatter::PlanScatter(QWidget* parent) : Chart("Plans by two metrics", parent) {}

void PlanScatter::show_plans(Plans plans, const std::vector<std::int64_t>& rows) {
  plans_ = std::move(plans);
  rows_ = rows;
  hovered_ = -1;
  find_axes();
}

void PlanScatter::set_axes(const QString& x, const QString& y, const QString& colour) {
  if (x == x_name_ && y == y_name_ && colour == colour_name_) return;
  x_name_ = x;
  y_name_ = y;
  colour_name_ = colour;
  find_axes();
}

void PlanScatter::set_logarithmic(bool logarithmic) {
  logarithmic_ = logarithmic;
  find_axes();
}

void PlanScatter::set_selected(std::int64_t row) {
  selected_ = row;
  if (plans_ && row >= 0) announce("Chosen: " + card_of(row).join(", ") + ".");
  update();
}

void PlanScatter::find_axes() {
  places_.clear();
  front_.clear();
  if (!plans_) return refresh();
  for (auto [axis, name] : {std::pair{&x_, x_name_}, std::pair{&y_, y_name_}}) {
    const Column* column = plans_->find(name);
    if (column == nullptr) column = &plans_->columns.front();
    double low = INFINITY, high = -INFINITY;
    for (const std::int64_t row : rows_) {
      const double value = column->values[row];
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    if (!(low <= high)) low = 0, high = 1;
    *axis = Axis{.low = low, .high = high};
    axis->logarithmic = logarithmic_ && can_be_logarithmic(low, high);
    const Column::Unit unit = column->unit_for(high);
    axis->scale = unit.scale;
    axis->title = column->title + (unit.name.isEmpty() ? "" : " (" + unit.name + ")") +
                  (axis->logarithmic ? ", logarithmic" : "");
    axis->widen();
  }
  const std::vector<std::int64_t> allowed = usable_rows(*plans_, rows_);
  const int x = plans_->index_of(x_name_), y = plans_->index_of(y_name_);
  if (x >= 0 && y >= 0) front_ = pareto_front(*plans_, x, y, allowed);
  find_categories();
  rewrite_twin();
  refresh();
}

void PlanScatter::find_categories() {
  categories_.clear();
  const Column* column = plans_->find(colour_name_);
  if (column == nullptr) return;
  colour_values_ = column->values.data();
  std::set<double> values;
  double last = NAN;  // neighbours are often equal
  for (const std::int64_t row : rows_) {
    constexpr std::size_t kEnough = 256;
    if (values.size() > kEnough) break;
    if (column->values[row] != last) values.insert(last = column->values[row]);
  }
  categories_.assign(values.begin(), values.end());
  // Too many: ranges that hold the same number of different values.
  if (categories_.size() <= kMostCategories) return;
  std::vector<double> ends;
  for (int i = 0; i < kMostCategories; ++i) {
    ends.push_back(categories_[categories_.size() * static_cast<std::size_t>(i) / kMostCategories]);
  }
  categories_ = ends;
}

int PlanScatter::category_of(std::int64_t row) const {
  if (categories_.empty()) return 0;
  const double value = colour_values_[row];
  const auto after = std::upper_bound(categories_.begin(), categories_.end(), value);
  return std::max(0, static_cast<int>(after - categories_.begin()) - 1);
}

QPointF PlanScatter::place_of(std::int64_t row) const {
  const double x = plans_->value(x_name_, row), y = plans_->value(y_name_, row);
  return {plot_.left() + x_.position(x) * plot_.width(),
          plot_.bottom() - y_.position(y) * plot_.height()};
}

void PlanScatter::layout(const QSizeF& size) {
  const QFontMetricsF metrics(font());
  double legend = metrics.horizontalAdvance("does not fit");
  if (const Column* column = plans_->find(colour_name_)) {
    legend =
        std::max(legend, std::min(size.width() * 0.25, metrics.horizontalAdvance(column->title)));
  }
  plot_ = plot_area(size, metrics, y_, legend + metrics.height() * 2.6, metrics.height());
}

void PlanScatter::place_points() {
  cells_wide_ = static_cast<int>(plot_.width() / kCell) + 2;
  const int cells_high = static_cast<int>(plot_.height() / kCell) + 2;
  const std::size_t cells = static_cast<std::size_t>(cells_wide_) * cells_high;
  places_.resize(rows_.size());
  cell_begin_.assign(cells + 1, 0);
  cell_items_.clear();
  const Column* x = plans_->find(x_name_);
  const Column* y = plans_->find(y_name_);
  if (x == nullptr || y == nullptr) return;
  // As Axis::position, without the logarithm of the range for every point.
  const auto placer = [](const Axis& axis, double length) {
    const double range = axis.logarithmic ? std::log(axis.high / axis.low) : axis.high - axis.low;
    const double from = axis.logarithmic ? std::log(axis.low) : axis.low;
    return [scale = length / range, from, logarithmic = axis.logarithmic](double value) {
      return ((logarithmic ? std::log(value) : value) - from) * scale;
    };
  };
  const auto across = placer(x_, plot_.width()), up = placer(y_, plot_.height());
  std::vector<std::uint32_t> own(rows_.size(), static_cast<std::uint32_t>(cells));
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    places_[i] = {plot_.left() + across(x->values[rows_[i]]),
                  plot_.bottom() - up(y->values[rows_[i]])};
    const double cx = (places_[i].x() - plot_.left()) / kCell;
    const double cy = (places_[i].y() - plot_.top()) / kCell;
    if (!(cx >= 0 && cy >= 0 && cx < cells_wide_ && cy < cells_high)) continue;
    own[i] = static_cast<std::uint32_t>(static_cast<int>(cy) * cells_wide_ + static_cast<int>(cx));
    ++cell_begin_[own[i] + 1];
  }
  // Points sorted by cell, by counting.
  for (std::size_t c = 0; c < cells; ++c) cell_begin_[c + 1] += cell_begin_[c];
  std::vector<std::uint32_t> next(cell_begin_.begin(), cell_begin_.end());
  cell_items_.resize(cell_begin_.back());
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (own[i] < cells) cell_items_[next[own[i]]++] = static_cast<std::uint32_t>(i);
  }
}

std::int64_t PlanScatter::point_at(const QPointF& place) const {
  if (cells_wide_ == 0 || cell_items_.empty()) return -1;
  const int cx = static_cast<int>(std::floor((place.x() - plot_.left()) / kCell));
  const int cy = static_cast<int>(std::floor((place.y() - plot_.top()) / kCell));
  const int high = (count_of(cell_begin_) - 1) / cells_wide_;
  double nearest = kReach * kReach;
  std::int64_t found = -1;
  for (int y = std::max(0, cy - 1); y <= std::min(high - 1, cy + 1); ++y) {
    for (int x = std::max(0, cx - 1); x <= std::min(cells_wide_ - 1, cx + 1); ++x) {
      const std::size_t cell = static_cast<std::size_t>(y) * cells_wide_ + x;
      for (std::uint32_t k = cell_begin_[cell]; k < cell_begin_[cell + 1]; ++k) {
        const std::uint32_t i = cell_items_[k];
        const QPointF off = places_[i] - place;
        const double distance = QPointF::dotProduct(off, off);
        if (distance >= nearest) continue;
        nearest = distance;
        found = rows_[i];
      }
    }
  }
  return found;
}

void draw_marker(QPainter& painter, int index, const QPointF& at, double r) {
  const double x = at.x(), y = at.y();
  switch (index % 8) {
    case 0:
      painter.drawEllipse(at, r, r);
      break;
    case 1:
      painter.drawRect(QRectF(x - r * 0.9, y - r * 0.9, 1.8 * r, 1.8 * r));
      break;
    case 2:
      painter.drawPolygon(
          QPolygonF({{x, y - r * 1.2}, {x + r * 1.1, y + r}, {x - r * 1.1, y + r}}));
      break;
    case 3:
      painter.drawPolygon(
          QPolygonF({{x, y - r * 1.3}, {x + r * 1.3, y}, {x, y + r * 1.3}, {x - r * 1.3, y}}));
      break;
    case 4:
      painter.drawPolygon(
          QPolygonF({{x, y + r * 1.2}, {x + r * 1.1, y - r}, {x - r * 1.1, y - r}}));
      break;
    case 5:
      painter.drawRect(QRectF(x - r * 1.3, y - r * 0.45, 2.6 * r, 0.9 * r));
      break;
    case 6:
      painter.drawRect(QRectF(x - r * 0.45, y - r * 1.3, 0.9 * r, 2.6 * r));
      break;
    default:
      painter.drawPolygon(
          QPolygonF({{x - r, y - r}, {x + r, y}, {x - r, y + r}, {x - r * 0.3, y}}));
  }
}

void PlanScatter::draw_points(QPainter& painter) {
  // One stamp for each category, and one for plans that do not fit; a place is stamped once.
  const double ratio = painter.device()->devicePixelRatioF();
  const int box = 12;
  // Many points hide each other less when they are small and have no rim.
  constexpr std::size_t kMany = 5000;
  const bool many = rows_.size() > kMany;
  std::vector<QPixmap> stamps;
  for (int i = 0; i <= kMostCategories; ++i) {
    QPixmap stamp(QSize(box, box) * ratio);
    stamp.setDevicePixelRatio(ratio);
    stamp.fill(Qt::transparent);
    QPainter pen(&stamp);
    pen.setRenderHint(QPainter::Antialiasing);
    if (i < kMostCategories) {
      pen.setPen(many ? QPen(Qt::NoPen) : QPen(theme().base, 0.7));
      pen.setBrush(theme().series[i]);
      draw_marker(pen, i, {box / 2.0, box / 2.0}, many ? kRadius * 0.75 : kRadius);
    } else {
      pen.setPen(QPen(theme().faint, 1));
      pen.drawLine(QPointF(box / 2.0 - 2, box / 2.0 - 2), QPointF(box / 2.0 + 2, box / 2.0 + 2));
      pen.drawLine(QPointF(box / 2.0 - 2, box / 2.0 + 2), QPointF(box / 2.0 + 2, box / 2.0 - 2));
    }
    stamps.push_back(stamp);
  }
  const int wide = static_cast<int>(plot_.width() * ratio) + 2;
  const int high = static_cast<int>(plot_.height() * ratio) + 2;
  std::vector<std::uint16_t> stamped(static_cast<std::size_t>(wide) * high, 0);
  const Column* fits = plans_->find("fits");
  const bool has_limits = !(plans_->question.limits == Limits{});
  for (const bool usable : {false, true}) {
    for (std::size_t i = rows_.size(); i-- > 0;) {  // the best ones come first: drawn last
      const bool fit =
          fits->values[rows_[i]] == 1 && (!has_limits || within_limits(*plans_, rows_[i]));
      if (fit != usable || !std::isfinite(places_[i].x()) || !std::isfinite(places_[i].y())) {
        continue;
      }
      const int kind = fit ? category_of(rows_[i]) : kMostCategories;
      const int px = static_cast<int>((places_[i].x() - plot_.left()) * ratio);
      const int py = static_cast<int>((places_[i].y() - plot_.top()) * ratio);
      if (px < 0 || py < 0 || px >= wide || py >= high) continue;
      std::uint16_t& seen = stamped[static_cast<std::size_t>(py) * wide + px];
      const auto bit = static_cast<std::uint16_t>(1U << kind);
      if ((seen & bit) != 0) continue;
      seen = static_cast<std::uint16_t>(seen | bit);
      painter.drawPixmap(places_[i] - QPointF(box / 2.0, box / 2.0), stamps[kind]);
    }
  }
}

void PlanScatter::draw_front(QPainter& painter) {
  if (front_.empty()) return;
  const Column* y = plans_->find(y_name_);
  painter.setPen(QPen(theme().text, 1.6));
  painter.setBrush(Qt::NoBrush);
  QPolygonF steps;
  QPointF last;
  for (const std::int64_t row : front_) {
    const QPointF place = place_of(row);
    // A front is a staircase: between two plans there is nothing better than the first.
    if (!steps.isEmpty()) {
      const bool later = plans_->find(x_name_)->more_is_better != y->more_is_better;
      steps << (later ? QPointF(last.x(), place.y()) : QPointF(place.x(), last.y()));
    }
    steps << place;
    last = place;
  }
  painter.drawPolyline(steps);
  for (const std::int64_t row : front_) {
    const QPointF place = place_of(row);
    painter.setPen(QPen(theme().text, 1.4));
    if (const Interval* interval = plans_->interval(row)) {
      const auto at = [&](double value) {
        return x_name_ == u"time"
                   ? QPointF(plot_.left() + x_.position(value) * plot_.width(), place.y())
                   : QPointF(place.x(), plot_.bottom() - y_.position(value) * plot_.height());
      };
      if (x_name_ == u"time" || y_name_ == u"time") {
        const QPointF a = at(interval->low), b = at(interval->high);
        const QPointF cap = x_name_ == u"time" ? QPointF(0, 3) : QPointF(3, 0);
        painter.setPen(QPen(theme().text, 0.8));
        painter.drawLine(a, b);
        painter.drawLine(a - cap, a + cap);
        painter.drawLine(b - cap, b + cap);
        painter.setPen(QPen(theme().text, 1.4));
      }
    }
    const int kind = category_of(row);
    painter.setBrush(theme().series[kind]);
    draw_marker(painter, kind, place, kRadius * 1.35);
  }
}

std::vector<PlanScatter::Limit> PlanScatter::limits() const {
  std::vector<Limit> found;
  if (!plans_) return found;
  const Limits& limits = plans_->question.limits;
  const std::tuple<const char*, const char*, double, bool> kKnown[] = {
      {"time", "time_us", limits.time_us, true},
      {"prompt", "prompt_us", limits.prompt_us, true},
      {"tokens", "tokens_per_s", limits.tokens_per_s, false},
      {"memory", "memory_bytes", limits.memory_bytes, true},
      {"cost", "cost_per_mtoken", limits.cost_per_mtoken, true}};
  for (const bool across : {true, false}) {
    const QString& name = across ? x_name_ : y_name_;
    for (const auto& [column, field, value, at_most] : kKnown) {
      if (name != column) continue;
      const Axis& axis = across ? x_ : y_;
      // Without a limit its line waits at the end of the axis, to be dragged in.
      found.push_back({.field = QString("limits.") + field,
                       .value = value > 0 ? std::clamp(value, axis.low, axis.high)
                                : at_most ? axis.high
                                          : axis.low,
                       .across = across,
                       .at_most = at_most});
    }
    if (name == u"memory" && plans_->question.cluster.device.kind == DeviceKind::Cuda) {
      const auto held = static_cast<double>(plans_->question.cluster.device.memory_bytes);
      const Axis& axis = across ? x_ : y_;
      if (held > axis.low && held < axis.high) {
        found.push_back({.field = "capacity", .value = held, .across = across, .fixed = true});
      }
    }
  }
  return found;
}

void PlanScatter::draw_limits(QPainter& painter) {
  const QFontMetricsF metrics(painter.font());
  const std::vector<Limit> all = limits();
  for (int i = 0; i < count_of(all); ++i) {
    const Limit& limit = all[i];
    const double value = i == moving_limit_ ? moved_value_ : limit.value;
    const Axis& axis = limit.across ? x_ : y_;
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
    const Column* column = plans_->find(limit.across ? x_name_ : y_name_);
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
  const double line = metrics.height() * 1.35, left = plot_.right() + metrics.height();
  double top = plot_.top();
  const double width = size.width() - left - 4;
  const Column* column = plans_->find(colour_name_);
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
  for (int i = 0; column != nullptr && i < count_of(categories_); ++i) {
    const bool exact = i + 1 == count_of(categories_) || column->kind == Column::Kind::Choice ||
                       categories_.size() < kMostCategories;
    const QString text = column->text(categories_[i]) + (exact ? "" : " or more");
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
  if (!plans_) return draw_empty(painter, size, "Ask for plans, or open a plan or search file.");
  if (rows_.empty()) return draw_empty(painter, size, "No plan passes the filter.");
  layout(size);
  draw_axes(painter, plot_, x_, y_);
  place_points();
  painter.save();
  painter.setClipRect(plot_.adjusted(-8, -8, 8, 8));
  draw_points(painter);
  draw_front(painter);
  painter.restore();
  draw_legend(painter, size);
}

void PlanScatter::paint_overlay(QPainter& painter, const QSizeF& size) {
  if (!plans_ || rows_.empty()) return;
  painter.save();
  draw_limits(painter);
  painter.setBrush(Qt::NoBrush);
  if (plans_->best >= 0) {
    painter.setPen(QPen(theme().accent, 2));
    painter.drawEllipse(place_of(plans_->best), 8, 8);
  }
  if (selected_ >= 0 && selected_ < plans_->size()) {
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
