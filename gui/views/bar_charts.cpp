#include "gui/views/bar_charts.h"

#include <QPainter>
#include <cmath>

#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"

namespace imhotep::gui {
namespace {

struct SignedBar {
  QString label;
  double low = 0, high = 0;
  QString low_text, high_text;
};

constexpr double kNoChange = 1e-6;  // of the longest bar
constexpr double kTightRow = 1.15;  // of the height of a line: less cuts letters off

void draw_title(QPainter& painter, const QSizeF& size, const QString& title) {
  const double line = QFontMetricsF(painter.font()).height();
  const QFont usual = painter.font();
  QFont bold = usual;
  bold.setBold(true);
  painter.setFont(bold);
  painter.setPen(theme().text);
  painter.drawText(QRectF(line / 2, line * 0.3, size.width() - line, line * 1.4), Qt::AlignVCenter,
                   QFontMetricsF(bold).elidedText(title, Qt::ElideRight, size.width() - line));
  painter.setFont(usual);
}

// Bars around an upright zero line, labels to the left, figures at the ends.
void draw_signed_bars(QPainter& painter, const QSizeF& size, const std::vector<SignedBar>& bars,
                      QString title, const QString& axis_title, double scale) {
  const QFontMetricsF metrics(painter.font());
  const double line = metrics.height();
  double labels = 0, most = 1e-12, low = 0, high = 0, ends = 0;
  bool texts_left = false;  // a bar without a text at its other end has its own there
  for (const SignedBar& bar : bars) {
    labels = std::max(labels, metrics.horizontalAdvance(bar.label));
    low = std::min({low, bar.low, bar.high});
    high = std::max({high, bar.low, bar.high});
    texts_left = texts_left || (bar.low < 0 && !bar.high_text.isEmpty()) || bar.high < 0;
    ends = std::max(
        {ends, metrics.horizontalAdvance(bar.low_text), metrics.horizontalAdvance(bar.high_text)});
  }
  most = std::max({most, -low, high});
  const double left = std::min(labels + line, size.width() * 0.45);
  const double room_low = texts_left ? ends + line : line * 0.5, room_high = ends + line;
  const QRectF plot(left + room_low, line * 2.2, size.width() - left - room_low - room_high,
                    size.height() - line * 5.2);
  if (plot.width() < 20 || plot.height() < 10) return;
  Axis axis{.low = low < 0 ? low * 1.02 : 0,
            .high = high > 0 ? high * 1.02 : most * 0.05,
            .scale = scale};
  const std::vector<double> ticks =
      axis.ticks(std::clamp(static_cast<int>(plot.width() / (line * 5)), 2, 8));
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
  for (const double tick : ticks) {
    const double x = plot.left() + axis.position(tick) * plot.width();
    painter.setPen(QPen(tick == 0 ? theme().text : theme().grid, 1));
    painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()));
    painter.setPen(theme().muted);
    painter.drawText(QRectF(x - 60, plot.bottom() + line * 0.2, 120, line), Qt::AlignCenter,
                     axis.tick_text(tick, step));
  }
  painter.setPen(theme().text);
  painter.drawText(QRectF(0, plot.bottom() + line * 1.4, size.width(), line * 1.2), Qt::AlignCenter,
                   axis_title);
  const int fitting = std::max(1, static_cast<int>(plot.height() / (line * kTightRow)));
  const int shown = std::min(count_of(bars), fitting);
  const double row = std::min(plot.height() / std::max(1, shown), line * 2.4);
  const double zero = plot.left() + axis.position(0) * plot.width();
  if (shown < count_of(bars)) {
    title = QString("The first %1 of %2 · ").arg(shown).arg(bars.size()) + title;
  }
  draw_title(painter, size, title);
  for (int i = 0; i < shown; ++i) {
    const SignedBar& bar = bars[static_cast<std::size_t>(i)];
    const double y = plot.top() + row * i, height = row * 0.66;
    painter.setPen(theme().text);
    painter.drawText(QRectF(4, y, left - line * 0.5, row), Qt::AlignRight | Qt::AlignVCenter,
                     metrics.elidedText(bar.label, Qt::ElideMiddle, left - line * 0.5));
    double from = zero, to = zero;
    for (const bool first : {true, false}) {
      const double value = first ? bar.low : bar.high;
      const double x = plot.left() + axis.position(value) * plot.width();
      const QColor color = theme().series[first ? 1 : 0];
      painter.setPen(QPen(color, 1));
      painter.setBrush(QBrush(color, first ? Qt::BDiagPattern : Qt::SolidPattern));
      painter.drawRect(QRectF(QPointF(std::min(zero, x), y + (row - height) / 2),
                              QSizeF(std::abs(x - zero), height)));
      from = std::min(from, x);
      to = std::max(to, x);
    }
    // Both texts: one at each end of the bar, the later value to the right.
    if (std::max(std::abs(bar.low), std::abs(bar.high)) < kNoChange * most) {
      painter.setPen(theme().muted);
      painter.drawText(QRectF(zero + 6, y, size.width() - zero - 6, row),
                       Qt::AlignLeft | Qt::AlignVCenter, "no change");
      continue;
    }
    const bool swap = bar.low > bar.high;
    const QString& at_left = swap ? bar.high_text : bar.low_text;
    const QString& at_right = swap ? bar.low_text : bar.high_text;
    painter.setPen(theme().text);
    const bool both_right = low >= 0;
    if (bar.high_text.isEmpty() && bar.low < 0) {
      painter.drawText(QRectF(zero + 6, y, ends + line, row), Qt::AlignLeft | Qt::AlignVCenter,
                       bar.low_text);
      continue;
    }
    if (!at_left.isEmpty() && !both_right && std::min(bar.low, bar.high) < 0) {
      painter.drawText(QRectF(from - ends - 6, y, ends, row), Qt::AlignRight | Qt::AlignVCenter,
                       at_left);
    }
    if (!at_right.isEmpty() && (std::max(bar.low, bar.high) > 0 || both_right)) {
      painter.drawText(QRectF(to + 6, y, ends + line, row), Qt::AlignLeft | Qt::AlignVCenter,
                       at_right);
    }
  }
}

}  // namespace

TornadoChart::TornadoChart(QWidget* parent) : Chart("What matters most", parent) {}

void TornadoChart::show_sensitivities(std::optional<Sensitivities> found) {
  found_ = std::move(found);
  std::vector<QStringList> rows;
  if (found_) {
    for (const Sensitivity& s : found_->knobs) {
      const auto k = static_cast<std::size_t>(s.knob);
      const auto percent = [&](const Outcome& o) {
        return o.found ? QString("%1 %").arg(change_percent(found_->base, o), 0, 'f', 1)
                       : "no plan: " + o.error;
      };
      rows.push_back({knob_info(s.knob).label, knob_text(s.knob, s.low.values[k]), percent(s.low),
                      knob_text(s.knob, s.high.values[k]), percent(s.high)});
    }
  }
  set_twin({"number", "at least", "tokens a second then", "at most", "tokens a second then"},
           std::move(rows));
  refresh();
}

QSize TornadoChart::minimumSizeHint() const {
  const int line = QFontMetrics(font()).height();
  return {15 * line, rounded(line * (1.35 * kKnobs + 5.4))};
}

QString TornadoChart::summary() const {
  if (!found_ || found_->knobs.empty()) return "Not asked yet.";
  return knob_info(found_->knobs.front().knob).label + " matters most of six numbers.";
}

void TornadoChart::paint_scene(QPainter& painter, const QSizeF& size) {
  if (!found_) {
    return draw_empty(painter, size,
                      "Press \"What matters most?\" to change each number alone and see what the "
                      "best plan then does.");
  }
  std::vector<SignedBar> bars;
  for (const Sensitivity& s : found_->knobs) {
    const auto k = static_cast<std::size_t>(s.knob);
    const auto text = [&](const Outcome& o) {
      return (s.knob == Knob::Links ? "× " : "") + QString::number(o.values[k], 'g', 6);
    };
    const double low = change_percent(found_->base, s.low),
                 high = change_percent(found_->base, s.high);
    bars.push_back({.label = knob_info(s.knob).label,
                    .low = low,
                    .high = high,
                    .low_text = s.low.found ? text(s.low) : text(s.low) + " (no plan)",
                    .high_text = s.high.found ? text(s.high) : text(s.high) + " (no plan)"});
  }
  draw_signed_bars(painter, size, bars, "Tokens a second when one number changes alone",
                   "change of tokens a second (%); hatched: the lower value, solid: the higher", 1);
}

DeltaChart::DeltaChart(QWidget* parent) : Chart("Differences by operation", parent) {}

void DeltaChart::show_deltas(std::vector<Delta> deltas, const QString& title) {
  deltas_ = std::move(deltas);
  title_ = title;
  std::vector<QStringList> rows;
  for (const Delta& delta : deltas_) {
    rows.push_back({delta.operation, time_text(delta.first_us), time_text(delta.second_us),
                    (delta.change_us() < 0 ? "−" : "+") + time_text(std::abs(delta.change_us()))});
  }
  set_twin({"operation", "A", "B", "B − A"}, std::move(rows));
  updateGeometry();
  refresh();
}

QSize DeltaChart::minimumSizeHint() const {
  const int line = QFontMetrics(font()).height();
  constexpr int kFew = 10;
  const int bars = std::min(count_of(deltas_), kFew);
  return {15 * line, rounded(line * (1.3 * std::max(3, bars) + 5.4))};
}

QString DeltaChart::summary() const {
  return deltas_.empty() ? QString("Nothing differs.") : title_;
}

void DeltaChart::paint_scene(QPainter& painter, const QSizeF& size) {
  if (deltas_.empty()) {
    return draw_empty(painter, size, "Choose two plans: mark one as reference, select another.");
  }
  std::vector<SignedBar> bars;
  double most = 0;
  for (const Delta& delta : deltas_) {
    if (bars.size() >= 14) break;
    const double change = delta.change_us();
    if (change == 0) continue;
    most = std::max(most, std::abs(change));
    const QString text = (change < 0 ? "−" : "+") + time_text(std::abs(change));
    bars.push_back({.label = delta.operation,
                    .low = change < 0 ? change : 0,
                    .high = change < 0 ? 0 : change,
                    .low_text = change < 0 ? text : QString(),
                    .high_text = change < 0 ? QString() : text});
  }
  const Column::Unit unit = Column{.kind = Column::Kind::Time}.unit_for(most);
  draw_signed_bars(painter, size, bars, title_,
                   QString("time of B minus time of A (%1); hatched: B is faster").arg(unit.name),
                   unit.scale);
}

}  // namespace imhotep::gui
