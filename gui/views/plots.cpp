#include "gui/views/plots.h"

// QCustomPlot's header uses Qt's keywords, which the rest of the window does without.
#define signals Q_SIGNALS
#define slots Q_SLOTS
#define foreach Q_FOREACH
#include <qcustomplot.h>
#undef signals
#undef slots
#undef foreach

#include <QVBoxLayout>
#include <cmath>

#include "core/base/svg.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"
#include "gui/views/theme.h"

namespace imhotep::gui {
namespace {

QVector<double> qt_vector(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

// Steps, experts and layers are counted: no ticks between them.
void whole_ticks(QCPAxis& axis, double range) {
  const auto ticker = QSharedPointer<QCPAxisTickerFixed>::create();
  constexpr int kTicks = 8;
  ticker->setTickStep(std::max(1.0, round_tick(std::max(1.0, range), kTicks)));
  axis.setTicker(ticker);
  axis.setSubTicks(false);
}

void style_axis(QCPAxis& axis, const QString& title) {
  axis.setLabel(title);
  axis.setLabelColor(theme().text);
  axis.setTickLabelColor(theme().muted);
  axis.setBasePen(QPen(theme().border));
  axis.setTickPen(QPen(theme().border));
  axis.setSubTickPen(QPen(theme().grid));
  axis.grid()->setPen(QPen(theme().grid));
  axis.grid()->setZeroLinePen(QPen(theme().grid));
  axis.setLabelFont(QApplication::font());
  axis.setTickLabelFont(QApplication::font());
}

}  // namespace

Plot::Plot(const QString& name, QWidget* parent) : QWidget(parent), plot_(new QCustomPlot) {
  setAccessibleName(name);
  setObjectName(name);
  setFocusPolicy(Qt::StrongFocus);
  plot_->setFocusPolicy(Qt::NoFocus);
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(0, 0, 0, 0);
  all->addWidget(plot_);
}

void Plot::changeEvent(QEvent* event) {
  if (event->type() == QEvent::PaletteChange || event->type() == QEvent::FontChange) restyle();
  QWidget::changeEvent(event);
}

void Plot::paintEvent(QPaintEvent* event) {
  QWidget::paintEvent(event);
  if (!hasFocus()) return;
  QPainter painter(this);
  painter.setPen(QPen(theme().accent, 2));
  painter.drawRect(rect().adjusted(1, 1, -1, -1));
}

void Plot::style_axes(const QString& x, const QString& y) {
  plot_->setBackground(theme().base);
  style_axis(*plot_->xAxis, x);
  style_axis(*plot_->yAxis, y);
  plot_->legend->setTextColor(theme().text);
  plot_->legend->setFont(QApplication::font());
  plot_->legend->setBrush(Qt::NoBrush);
  plot_->legend->setBorderPen(Qt::NoPen);
}

// An empty legend would make its column, and so the chart, as narrow as itself.
void Plot::put_legend_above(bool shown) {
  QCPLayoutGrid& layout = *plot_->plotLayout();
  const bool there = plot_->legend->layout() == &layout;
  plot_->legend->setVisible(shown);
  if (shown == there) return;
  if (there) {
    layout.take(plot_->legend);
    layout.simplify();
    plot_->axisRect()->insetLayout()->addElement(plot_->legend, Qt::AlignTop | Qt::AlignRight);
    return;
  }
  plot_->axisRect()->insetLayout()->take(plot_->legend);
  layout.insertRow(0);
  layout.addElement(0, 0, plot_->legend);
  layout.setRowStretchFactor(0, 0.001);
  layout.setRowSpacing(0);
  plot_->legend->setFillOrder(QCPLegend::foColumnsFirst);
  plot_->legend->setMargins({6, 2, 6, 0});
}

QSize Plot::minimumSizeHint() const {
  const int line = QFontMetrics(font()).height();
  return {15 * line, 11 * line};
}

void Plot::replot() { plot_->replot(QCustomPlot::rpQueuedReplot); }

// The title of the upright axis breaks before its unit where the chart is low.
void Plot::resizeEvent(QResizeEvent* event) {
  QWidget::resizeEvent(event);
  QString title = plot_->yAxis->label();
  title.replace("\n(", " (");
  const QFontMetricsF metrics(plot_->yAxis->labelFont());
  constexpr double kAxisShare = 0.6;  // of the height; the rest is the other axis and the legend
  if (metrics.horizontalAdvance(title) > kAxisShare * height()) title.replace(" (", "\n(");
  plot_->yAxis->setLabel(title);
  // As many ticks as there are lines for.
  const double lines = kAxisShare * height() / metrics.height();
  plot_->yAxis->ticker()->setTickCount(std::clamp(static_cast<int>(lines / 1.5), 2, 6));
}

LinePlot::LinePlot(const QString& name, const QString& y_title, QWidget* parent)
    : Plot(name, parent), y_title_(y_title) {
  restyle();
}

void LinePlot::show_lines(const std::vector<Line>& lines) {
  lines_ = lines;
  std::vector<QStringList> rows;
  for (const Line& line : lines) {
    for (std::size_t i = 0; i < line.x.size(); ++i) {
      rows.push_back({line.name, QString::number(line.x[i]), QString::number(line.y[i], 'g', 6)});
    }
  }
  twin_.set({"line", "step", y_title_}, std::move(rows));
  restyle();
}

void LinePlot::show_prediction(double value, double low, double high) {
  predicted_ = value;
  low_ = low;
  high_ = high;
  restyle();
}

void LinePlot::restyle() {
  plot_->clearGraphs();
  plot_->clearItems();
  style_axes("step", y_title_);
  const Qt::PenStyle dashes[] = {Qt::SolidLine, Qt::DashLine, Qt::DotLine};
  double first = 1, last = 2;
  for (const Line& line : lines_) {
    if (line.x.empty()) continue;
    last = std::max(last, line.x.back());
  }
  if (predicted_ > 0) {
    QCPGraph* low = plot_->addGraph();
    QCPGraph* high = plot_->addGraph();
    low->setData({first, last}, {low_, low_});
    high->setData({first, last}, {high_, high_});
    QColor band = theme().series[1];
    low->setPen(QPen(band, 1, Qt::DotLine));
    high->setPen(QPen(band, 1, Qt::DotLine));
    band.setAlpha(40);
    high->setBrush(band);
    high->setChannelFillGraph(low);
    low->removeFromLegend();
    high->setName("predicted, 90 %");
    QCPGraph* middle = plot_->addGraph();
    middle->setData({first, last}, {predicted_, predicted_});
    middle->setPen(QPen(theme().series[1], 2, Qt::DashLine));
    middle->setName("predicted");
  }
  for (int i = 0; i < count_of(lines_); ++i) {
    const Line& line = lines_[static_cast<std::size_t>(i)];
    QCPGraph* graph = plot_->addGraph();
    graph->setName(line.name);
    graph->setData(qt_vector(line.x), qt_vector(line.y), true);
    graph->setPen(QPen(theme().series[i == 0 ? 0 : i + 1], 2, dashes[i % 3]));
    if (line.points || line.x.size() < 30) {
      graph->setScatterStyle(
          QCPScatterStyle(i == 0 ? QCPScatterStyle::ssDisc : QCPScatterStyle::ssDiamond, 6));
    }
  }
  put_legend_above(plot_->graphCount() > 1);
  plot_->rescaleAxes();
  plot_->yAxis->scaleRange(1.15);
  plot_->xAxis->setRange(first - 0.03 * (last - first), last + 0.03 * (last - first));
  whole_ticks(*plot_->xAxis, last - first);
  if (lines_.empty() || lines_.front().x.empty()) {
    plot_->xAxis->setRange(0, 10);
    whole_ticks(*plot_->xAxis, 10);
    if (predicted_ <= 0) plot_->yAxis->setRange(0, 10);
  }
  if (predicted_ > 0 || plot_->yAxis->range().lower < 0) plot_->yAxis->setRangeLower(0);
  replot();
}

MeasuredPlot::MeasuredPlot(QWidget* parent) : Plot("Predicted against measured", parent) {
  for (QCPAxis* axis : {plot_->xAxis, plot_->yAxis}) {
    axis->setScaleType(QCPAxis::stLogarithmic);
    axis->setTicker(QSharedPointer<QCPAxisTickerLog>::create());
    axis->setNumberFormat("g");
    axis->setNumberPrecision(4);
  }
  restyle();
}

void MeasuredPlot::show_rows(std::vector<MeasuredRow> rows) {
  rows_ = std::move(rows);
  std::vector<QStringList> lines;
  for (const MeasuredRow& row : rows_) {
    lines.push_back({row.operation, row.pass, time_text(row.predicted_us),
                     time_text(row.measured_us),
                     QString("%1 %").arg(100 * row.error(), 0, 'f', 1)});
  }
  twin_.set({"operation", "pass", "predicted", "measured", "error"}, std::move(lines));
  setAccessibleDescription(QString("%1 operations").arg(rows_.size()));
  restyle();
}

void MeasuredPlot::restyle() {
  plot_->clearGraphs();
  style_axes("measured time of a step (ms)", "predicted time of a step (ms)");
  double low = INFINITY, high = 0;
  QVector<double> x, y;
  for (const MeasuredRow& row : rows_) {
    if (row.measured_us <= 0 || row.predicted_us <= 0) continue;
    x << row.measured_us / 1000;
    y << row.predicted_us / 1000;
    low = std::min({low, x.back(), y.back()});
    high = std::max({high, x.back(), y.back()});
  }
  if (!(low < high)) low = 0.1, high = 10;
  low /= 1.5;
  high *= 1.5;
  // Over many decades ten per cent are less than the width of a line.
  const bool wide = high / low > 300;
  const std::tuple<double, Qt::PenStyle, const char*> lines[] = {
      {1.0, Qt::SolidLine, "equal"},
      {wide ? 1.5 : 1.1, Qt::DashLine, wide ? "a half more or less" : "± 10 %"},
      {wide ? 3.0 : 1.2, Qt::DotLine, wide ? "three times" : "± 20 %"}};
  for (const auto& [factor, dash, name] : lines) {
    for (const double f : {factor, 1 / factor}) {
      QCPGraph* line = plot_->addGraph();
      line->setData({low, high}, {low * f, high * f});
      line->setPen(QPen(theme().muted, 1.3, dash));
      line->setName(name);
      if (f < 1 || (factor == 1.0 && plot_->graphCount() > 1)) line->removeFromLegend();
    }
  }
  QCPGraph* points = plot_->addGraph();
  points->setLineStyle(QCPGraph::lsNone);
  points->setScatterStyle(
      QCPScatterStyle(QCPScatterStyle::ssDisc, theme().series[0], theme().series[0], 7));
  points->setData(x, y);
  points->setName("operations");
  put_legend_above(true);
  plot_->xAxis->setRange(low, high);
  plot_->yAxis->setRange(low, high);
  replot();
}

LoadPlot::LoadPlot(QWidget* parent) : Plot("Load of experts", parent) { restyle(); }

void LoadPlot::show_load(std::vector<std::vector<double>> shares) {
  shares_ = std::move(shares);
  std::vector<QStringList> rows;
  for (std::size_t layer = 0; layer < shares_.size(); ++layer) {
    for (std::size_t expert = 0; expert < shares_[layer].size(); ++expert) {
      rows.push_back(
          {QString::number(layer), QString::number(expert),
           QString("%1").arg(shares_[layer][expert] * static_cast<double>(shares_[layer].size()), 0,
                             'f', 2)});
    }
  }
  twin_.set({"MoE layer", "expert", "times the even share"}, std::move(rows));
  restyle();
}

void LoadPlot::restyle() {
  plot_->clearPlottables();
  if (plot_->plotLayout()->columnCount() > 1) {
    plot_->plotLayout()->remove(plot_->plotLayout()->element(0, 1));
    plot_->plotLayout()->simplify();
  }
  style_axes("expert", "MoE layer");
  std::size_t experts = 0;
  for (const auto& layer : shares_) experts = std::max(experts, layer.size());
  if (experts == 0) {
    plot_->xAxis->setRange(0, 8);
    plot_->yAxis->setRange(0, 4);
    replot();
    return;
  }
  auto* map = new QCPColorMap(plot_->xAxis, plot_->yAxis);
  const int wide = static_cast<int>(experts), high = count_of(shares_);
  map->data()->setSize(wide, high);
  map->data()->setRange({0, wide - 1.0}, {0, high - 1.0});
  double most = 1;
  for (int layer = 0; layer < high; ++layer) {
    const auto& row = shares_[static_cast<std::size_t>(layer)];
    for (int expert = 0; expert < wide; ++expert) {
      const bool there = expert < count_of(row);
      const double value = there ? row[static_cast<std::size_t>(expert)] * count_of(row) : NAN;
      map->data()->setCell(expert, layer, value);
      if (there) most = std::max(most, value);
    }
  }
  QCPColorGradient gradient;
  gradient.clearColorStops();
  gradient.setColorStopAt(0, theme().base);
  gradient.setColorStopAt(1, theme().series[0]);
  gradient.setNanHandling(QCPColorGradient::nhNanColor);
  gradient.setNanColor(theme().window);
  map->setGradient(gradient);
  map->setInterpolate(false);
  map->setTightBoundary(false);
  map->setDataRange({0, most});
  auto* scale = new QCPColorScale(plot_);
  plot_->plotLayout()->addElement(0, 1, scale);
  scale->setBarWidth(12);
  map->setColorScale(scale);
  scale->setGradient(gradient);
  scale->setDataRange({0, most});
  style_axis(*scale->axis(), "times the even share");
  plot_->xAxis->setRange(-0.5, wide - 0.5);
  plot_->yAxis->setRange(-0.5, high - 0.5);
  whole_ticks(*plot_->xAxis, wide);
  whole_ticks(*plot_->yAxis, high);
  replot();
}

}  // namespace imhotep::gui
