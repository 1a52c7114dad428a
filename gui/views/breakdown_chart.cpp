#include "gui/views/breakdown_chart.h"

#include <QPainter>

#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

constexpr double kRowLines = 1.9;  // height of a bar's row, in lines of text

QPen outline(const QColor& color) { return QPen(color, 1); }

}  // namespace

BreakdownChart::BreakdownChart(QWidget* parent) : Chart("Breakdown of time and memory", parent) {}

void BreakdownChart::show_detail(Details detail, BreakdownBy by) {
  detail_ = std::move(detail);
  by_ = by;
  bars_ = detail_ ? time_bars(*detail_, by) : std::vector<Bar>{};
  std::vector<QStringList> rows;
  const double step = detail_ ? detail_->anatomy.step.time_us.value : 1;
  for (const Bar& bar : bars_) {
    QStringList sources;
    for (int s = 0; s < 4; ++s) {
      if (bar.by_source_us[s] > 0 && bar.total_us() > 0) {
        sources << QString("%1 % %2")
                       .arg(100 * bar.by_source_us[s] / bar.total_us(), 0, 'f', 0)
                       .arg(source_label(s));
      }
    }
    rows.push_back({bar.label, time_text(bar.exposed_us), time_text(bar.hidden_us),
                    QString::number(100 * bar.exposed_us / step, 'f', 1), bar.bound,
                    sources.join(", ")});
  }
  if (detail_) {
    for (const MemoryPart& part : memory_parts(*detail_)) {
      rows.push_back({"memory: " + part.label, bytes_text(part.bytes)});
    }
  }
  set_twin({"part", "exposed", "hidden", "% of the step", "bound by", "source"}, std::move(rows));
  updateGeometry();
  refresh();
}

void BreakdownChart::show_only_memory() {
  memory_only_ = true;
  updateGeometry();
  refresh();
}

QString BreakdownChart::summary() const {
  return detail_ ? breakdown_summary(*detail_) : QString("No plan is chosen.");
}

QSize BreakdownChart::minimumSizeHint() const {
  const double line = QFontMetricsF(font()).height();
  constexpr double kMemoryLines = 9.5;
  if (memory_only_) return {360, rounded(line * kMemoryLines)};
  return {360, rounded(line * (kRowLines * count_of(bars_) + 13))};
}

double BreakdownChart::label_width() const {
  const QFontMetricsF metrics(font());
  double width = 0;
  for (const Bar& bar : bars_) width = std::max(width, metrics.horizontalAdvance(bar.label));
  return width + metrics.height();
}

void BreakdownChart::paint_scene(QPainter& painter, const QSizeF& size) {
  if (!detail_) return draw_empty(painter, size, "Choose a plan to see where its time goes.");
  const double line = QFontMetricsF(painter.font()).height();
  if (memory_only_) return draw_memory(painter, size.width(), line * 0.6);
  const double bottom = draw_time(painter, size.width(), line * 0.6);
  draw_memory(painter, size.width(), bottom + line * 1.2);
}

double BreakdownChart::draw_time(QPainter& painter, double width, double top) {
  const QFontMetricsF metrics(painter.font());
  const double line = metrics.height(), row = line * kRowLines, labels = label_width();
  double most = 1e-9;
  for (const Bar& bar : bars_) most = std::max(most, bar.total_us());
  QFont bold = painter.font();
  bold.setBold(true);
  const QFont usual = painter.font();
  painter.setFont(bold);
  painter.setPen(theme().text);
  const Estimate& step = detail_->anatomy.step.time_us;
  const bool trains = detail_->plan.workload.kind == WorkloadKind::Training;
  painter.drawText(
      QRectF(line / 2, top, width - line, line * 1.3), Qt::AlignVCenter,
      QFontMetricsF(bold).elidedText(
          QString("%1: %2").arg(trains ? "Optimizer step" : "Decode step", estimate_text(step)),
          Qt::ElideRight, width - line));
  painter.setFont(usual);
  double y = top + line * 1.5;
  // Legend: what solid and hatched mean.
  painter.setPen(outline(theme().series[0]));
  painter.setBrush(theme().series[0]);
  painter.drawRect(QRectF(labels, y + line * 0.2, line, line * 0.7));
  painter.setBrush(QBrush(theme().series[0], Qt::BDiagPattern));
  const double second = labels + line * 1.6 + metrics.horizontalAdvance("exposed") + line * 1.5;
  painter.drawRect(QRectF(second, y + line * 0.2, line, line * 0.7));
  painter.setPen(theme().muted);
  painter.drawText(QPointF(labels + line * 1.5, y + line * 0.85), "exposed");
  painter.drawText(QPointF(second + line * 1.5, y + line * 0.85), "hidden behind computation");
  y += line * 1.6;
  const double values = metrics.horizontalAdvance("000.0 ms, 00.0 %  network") + line;
  for (const Bar& bar : bars_) {
    painter.setPen(theme().text);
    painter.drawText(QRectF(line / 2, y, labels - line * 0.8, row),
                     Qt::AlignVCenter | Qt::AlignRight, bar.label);
    const QRectF room(labels, y + row * 0.16, width - labels - values, row * 0.68);
    draw_bar(painter, bar, room, most);
    const double end = room.left() + bar.total_us() / most * room.width();
    // The share is of what is exposed, so hidden time is told apart.
    QString text = time_text(bar.exposed_us);
    if (bar.hidden_us > 0.5) text += " + " + time_text(bar.hidden_us) + " hidden";
    text += QString(", %1 %").arg(100 * bar.exposed_us / step.value, 0, 'f', 1);
    const double from = end + line * 0.4, wide = metrics.horizontalAdvance(text + "  ");
    painter.setPen(theme().text);
    painter.drawText(QRectF(from, y, wide, row), Qt::AlignVCenter, text);
    if (!bar.bound.isEmpty()) {
      painter.setPen(theme().muted);
      painter.drawText(QRectF(from + wide, y, width - from - wide, row), Qt::AlignVCenter,
                       bar.bound);
    }
    y += row;
  }
  return y;
}

void BreakdownChart::draw_bar(QPainter& painter, const Bar& bar, const QRectF& room,
                              double most_us) const {
  const QColor color = theme().series[bar.label == u"in no operation" ? 6 : 0];
  const double exposed = bar.exposed_us / most_us * room.width();
  const double hidden = bar.hidden_us / most_us * room.width();
  painter.setPen(outline(color));
  painter.setBrush(color);
  painter.drawRect(QRectF(room.left(), room.top(), std::max(1.0, exposed), room.height()));
  if (hidden < 0.5) return;
  painter.setBrush(QBrush(color, Qt::BDiagPattern));
  painter.drawRect(QRectF(room.left() + exposed, room.top(), hidden, room.height()));
}

void BreakdownChart::draw_memory(QPainter& painter, double width, double top) {
  const QFontMetricsF metrics(painter.font());
  const double line = metrics.height(), left = line / 2, right = width - line;
  const std::vector<MemoryPart> parts = memory_parts(*detail_);
  const auto total = static_cast<double>(detail_->memory.total());
  const auto limit = static_cast<double>(detail_->limit_bytes);
  const double most = std::max(total, limit) * 1.02;
  QFont bold = painter.font();
  bold.setBold(true);
  const QFont usual = painter.font();
  painter.setFont(bold);
  painter.setPen(theme().text);
  painter.drawText(QRectF(left, top, right - left, line * 1.3), Qt::AlignVCenter,
                   QString("Memory of rank %1, the fullest: %2 of %3 (%4 %)")
                       .arg(detail_->fullest)
                       .arg(bytes_text(total), bytes_text(limit))
                       .arg(100 * total / limit, 0, 'f', 0));
  painter.setFont(usual);
  const QRectF bar(left, top + line * 1.7, right - left, line * 1.7);
  double x = bar.left(), legend = bar.left(), legend_top = bar.bottom() + line * 1.5;
  for (int i = 0; i < count_of(parts); ++i) {
    const double part = parts[i].bytes / most * bar.width();
    const QBrush brush(theme().series[i % 8], pattern(i));
    painter.setPen(outline(theme().series[i % 8]));
    painter.setBrush(brush);
    painter.drawRect(QRectF(x, bar.top(), part, bar.height()));
    x += part;
    const QString text = parts[i].label + " " + bytes_text(parts[i].bytes);
    const double needs = metrics.horizontalAdvance(text) + line * 2.6;
    if (legend + needs > bar.right() && legend > bar.left()) {
      legend = bar.left();
      legend_top += line * 1.4;
    }
    painter.drawRect(QRectF(legend, legend_top + line * 0.15, line, line * 0.75));
    painter.setPen(theme().text);
    painter.drawText(QPointF(legend + line * 1.4, legend_top + metrics.ascent()), text);
    legend += needs;
  }
  const double at = bar.left() + limit / most * bar.width();
  painter.setPen(QPen(total > limit ? theme().bad : theme().text, 2));
  painter.drawLine(QPointF(at, bar.top() - line * 0.3), QPointF(at, bar.bottom() + line * 0.3));
  const QString text = total > limit ? "capacity, exceeded" : "capacity";
  const double text_width = metrics.horizontalAdvance(text);
  painter.drawText(
      QPointF(std::min(at - text_width / 2, bar.right() - text_width), bar.bottom() + line * 1.15),
      text);
  painter.setPen(outline(theme().border));
  painter.setBrush(Qt::NoBrush);
  painter.drawRect(QRectF(bar.left(), bar.top(), at - bar.left(), bar.height()));
}

}  // namespace imhotep::gui
