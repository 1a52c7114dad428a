#include "gui/views/chart.h"

#include <QAccessible>
#include <QElapsedTimer>
#include <QPaintEvent>
#include <QPainter>
#include <cmath>

#include "core/base/svg.h"
#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

double directly = 0;

QString fitting(const QFontMetricsF& metrics, const Axis& axis, double room) {
  const bool brief = !axis.brief.isEmpty() && metrics.horizontalAdvance(axis.title) > room;
  return metrics.elidedText(brief ? axis.brief : axis.title, Qt::ElideRight, room);
}

}  // namespace

Chart::Chart(const QString& name, QWidget* parent) : QWidget(parent) {
  setAccessibleName(name);
  setObjectName(name);
  setFocusPolicy(Qt::StrongFocus);
  setMouseTracking(true);
  setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Expanding);
}

void Chart::refresh() {
  dirty_ = true;
  setAccessibleDescription(summary() + chosen_);
  update();
}

void Chart::draw_directly(double ratio) { directly = ratio; }

double Chart::direct_ratio() { return directly; }

void Chart::set_twin(QStringList headers, std::vector<QStringList> rows) {
  twin_.set(std::move(headers), std::move(rows));
}

void Chart::paintEvent(QPaintEvent* /*event*/) {
  QElapsedTimer timer;
  timer.start();
  QPainter painter(this);
  painter.setRenderHint(QPainter::Antialiasing);
  const QSizeF size = this->size();
  if (directly > 0) {
    painter.fillRect(rect(), theme().base);
    paint_scene(painter, size);
    paint_overlay(painter, size);
    return;
  }
  const double ratio = painter.device()->devicePixelRatioF();
  const QSize pixels = (size * ratio).toSize();
  if (dirty_ || cache_.size() != pixels) {
    cache_ = QPixmap(pixels);
    cache_.setDevicePixelRatio(ratio);
    cache_.fill(theme().base);
    QPainter scene(&cache_);
    scene.setRenderHint(QPainter::Antialiasing);
    scene.setFont(font());
    paint_scene(scene, size);
    dirty_ = false;
  }
  painter.drawPixmap(0, 0, cache_);
  paint_overlay(painter, size);
  if (hasFocus()) {
    painter.setPen(QPen(theme().accent, 2));
    painter.setBrush(Qt::NoBrush);
    painter.drawRect(QRectF(rect()).adjusted(1, 1, -1, -1));
  }
  last_paint_ms_ = static_cast<double>(timer.nsecsElapsed()) / 1e6;
}

void Chart::changeEvent(QEvent* event) {
  if (event->type() == QEvent::PaletteChange || event->type() == QEvent::FontChange ||
      event->type() == QEvent::StyleChange) {
    dirty_ = true;
    update();
  }
  QWidget::changeEvent(event);
}

void Chart::focusInEvent(QFocusEvent* /*event*/) { update(); }
void Chart::focusOutEvent(QFocusEvent* /*event*/) { update(); }

void Chart::announce(const QString& chosen) {
  chosen_ = chosen.isEmpty() ? QString() : " " + chosen;
  setAccessibleDescription(summary() + chosen_);
  QAccessibleEvent event(this, QAccessible::DescriptionChanged);
  QAccessible::updateAccessibility(&event);
}

double Axis::position(double value) const {
  if (logarithmic) return std::log(value / low) / std::log(high / low);
  return (value - low) / (high - low);
}

double Axis::value_at(double position) const {
  if (logarithmic) return low * std::pow(high / low, position);
  return low + position * (high - low);
}

void Axis::widen() {
  if (logarithmic) {
    const double room = std::pow(high / low, 0.06);
    low /= room;
    high *= room;
  } else {
    const double room = high > low ? 0.06 * (high - low) : std::max(1e-9, 0.1 * std::abs(high));
    low = low >= 0 && low < 4 * room ? 0 : low - room;
    high += room;
  }
  if (!(high > low)) high = low + 1;
}

std::vector<double> Axis::ticks(int about) const {
  std::vector<double> found;
  const double from = low * scale, to = high * scale;
  if (logarithmic) {
    // The densest set that is not too dense, or else the sparsest that says what the scale is.
    std::vector<double> sparse;
    for (const std::vector<double>& factors :
         {std::vector<double>{1, 2, 5}, std::vector<double>{1, 3}, std::vector<double>{1}}) {
      found.clear();
      for (double power = std::pow(10, std::floor(std::log10(from))); power <= to; power *= 10) {
        for (const double factor : factors) {
          const double value = factor * power;
          if (value >= from * 0.9999 && value <= to * 1.0001) found.push_back(value / scale);
        }
      }
      if (found.size() >= 2) sparse = found;
      if (found.size() >= 2 && count_of(found) <= about + 2) return found;
    }
    if (!sparse.empty()) return sparse;
    found.clear();
  }
  double step = round_tick(to - from, std::max(2, about));
  // Two ticks say what the scale is; one does not.
  while (std::floor(to / step + 1e-9) - std::ceil(from / step - 1e-9) < 1) {
    step = round_tick(to - from, about *= 2);
  }
  for (double value = std::ceil(from / step - 1e-9) * step; value <= to + 1e-9 * step;
       value += step) {
    found.push_back((std::abs(value) < 1e-9 * step ? 0 : value) / scale);
  }
  return found;
}

QString Axis::tick_text(double value, double step) const {
  const double shown = value * scale, width = logarithmic ? shown : std::abs(step * scale);
  const int digits = std::clamp(-static_cast<int>(std::floor(std::log10(width) + 1e-9)), 0, 9);
  QString text = QString::number(shown, 'f', digits);
  text.replace('-', QChar(0x2212));
  // Thousands apart, so that long numbers can be read.
  const qsizetype point = text.indexOf('.') < 0 ? text.size() : text.indexOf('.');
  for (qsizetype at = point - 3; at > (text.startsWith(QChar(0x2212)) ? 1 : 0); at -= 3) {
    if (point > 4) text.insert(at, QChar(0x202f));
  }
  return text;
}

QRectF plot_area(const QSizeF& size, const QFontMetricsF& metrics, const Axis& y, double right,
                 double top) {
  double labels = 0;
  const std::vector<double> ticks = y.ticks(6);
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
  for (const double tick : ticks) {
    labels = std::max(labels, metrics.horizontalAdvance(y.tick_text(tick, step)));
  }
  const double line = metrics.height();
  const double left = labels + line * 1.9, bottom = line * 2.8;
  return {left, top, std::max(10.0, size.width() - left - right),
          std::max(10.0, size.height() - top - bottom)};
}

void draw_axes(QPainter& painter, const QRectF& plot, const Axis& x, const Axis& y) {
  const QFontMetricsF metrics(painter.font());
  const double line = metrics.height();
  const auto grid = QPen(theme().grid, 1), words = QPen(theme().muted);
  const auto step_of = [](const std::vector<double>& t) {
    return t.size() > 1 ? t[1] - t[0] : 1.0;
  };
  const int wide = std::clamp(static_cast<int>(plot.width() / (line * 5)), 2, 10);
  const std::vector<double> across = x.ticks(wide);
  double last = -1e9;
  for (const double tick : across) {
    const double at = plot.left() + x.position(tick) * plot.width();
    painter.setPen(grid);
    painter.drawLine(QPointF(at, plot.top()), QPointF(at, plot.bottom()));
    const QString text = x.tick_text(tick, step_of(across));
    const double half = metrics.horizontalAdvance(text) / 2;
    if (at - half < last + line * 0.5) continue;
    last = at + half;
    painter.setPen(words);
    painter.drawText(QRectF(at - half - 2, plot.bottom() + line * 0.25, 2 * half + 4, line),
                     Qt::AlignCenter, text);
  }
  const int high = std::clamp(static_cast<int>(plot.height() / (line * 2.4)), 2, 8);
  const std::vector<double> up = y.ticks(high);
  last = 1e9;
  for (const double tick : up) {
    const double at = plot.bottom() - y.position(tick) * plot.height();
    painter.setPen(grid);
    painter.drawLine(QPointF(plot.left(), at), QPointF(plot.right(), at));
    if (at > last - line) continue;
    last = at;
    painter.setPen(words);
    painter.drawText(QRectF(0, at - line / 2, plot.left() - line * 0.4, line),
                     Qt::AlignRight | Qt::AlignVCenter, y.tick_text(tick, step_of(up)));
  }
  painter.setPen(QPen(theme().border, 1));
  painter.drawLine(plot.bottomLeft(), plot.bottomRight());
  painter.drawLine(plot.topLeft(), plot.bottomLeft());
  painter.setPen(theme().text);
  painter.drawText(QRectF(plot.left(), plot.bottom() + line * 1.4, plot.width(), line * 1.2),
                   Qt::AlignCenter, fitting(metrics, x, plot.width()));
  painter.save();
  painter.translate(line * 0.7, plot.center().y());
  painter.rotate(-90);
  painter.drawText(QRectF(-plot.height() / 2, -line / 2, plot.height(), line), Qt::AlignCenter,
                   fitting(metrics, y, plot.height()));
  painter.restore();
}

void draw_card(QPainter& painter, const QRectF& bounds, const QPointF& at,
               const QStringList& lines) {
  QFont bold = painter.font();
  bold.setBold(true);
  const QFontMetricsF metrics(painter.font()), heavy(bold);
  const double line = metrics.height() * 1.15, pad = metrics.height() * 0.5;
  const double most = bounds.width() * 0.9 - 2 * pad;
  double width = 0;
  for (int i = 0; i < count_of(lines); ++i) {
    width = std::max(width, (i == 0 ? heavy : metrics).horizontalAdvance(lines[i]) + 1);
  }
  width = std::min(width, most);
  QRectF card(at + QPointF(14, 14), QSizeF(width + 2 * pad, line * count_of(lines) + 2 * pad));
  if (card.right() > bounds.right()) card.moveRight(at.x() - 14);
  if (card.bottom() > bounds.bottom()) card.moveBottom(at.y() - 14);
  card.moveLeft(std::max(card.left(), bounds.left() + 2));
  card.moveTop(std::max(card.top(), bounds.top() + 2));
  painter.setPen(QPen(theme().border, 1));
  painter.setBrush(theme().raised);
  painter.drawRoundedRect(card, 5, 5);
  painter.setPen(theme().text);
  const QFont plain_font = painter.font();
  for (int i = 0; i < count_of(lines); ++i) {
    painter.setFont(i == 0 ? bold : plain_font);
    painter.drawText(QRectF(card.left() + pad, card.top() + pad + line * i, width, line),
                     Qt::AlignVCenter | Qt::AlignLeft,
                     (i == 0 ? heavy : metrics).elidedText(lines[i], Qt::ElideRight, width));
  }
  painter.setFont(plain_font);
}

void draw_empty(QPainter& painter, const QSizeF& size, const QString& text) {
  painter.setPen(theme().muted);
  painter.drawText(QRectF(QPointF(20, 20), size - QSizeF(40, 40)),
                   Qt::AlignCenter | Qt::TextWordWrap, text);
}

QBrush filled(int index, const QColor& color) {
  return QBrush(color, index < 8 ? Qt::SolidPattern : pattern(index));
}

}  // namespace imhotep::gui
