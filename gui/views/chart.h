#pragma once
// What painted charts share: a cached scene under a cheap overlay, axes with round ticks, and words
// for who cannot see the picture.

#include <QPixmap>
#include <QWidget>
#include <functional>
#include <vector>

#include "gui/presenter/rows_model.h"
#include "gui/views/theme.h"

namespace imhotep::gui {

// A widget whose picture is painted once and kept; hover and selection are painted over it.
class Chart : public QWidget {
  Q_OBJECT
 public:
  Chart(const QString& name, QWidget* parent = nullptr);

  void refresh();  // the picture is out of date
  // The chart as rows, for readers of tables and screens.
  [[nodiscard]] RowsModel* twin() { return &twin_; }
  [[nodiscard]] virtual QString summary() const = 0;  // one sentence
  // For exports: nothing is taken from the cache, and nothing is left to be drawn later. `ratio`:
  // pixels a point of what cannot be drawn as lines; 0: as usual.
  static void draw_directly(double ratio);
  [[nodiscard]] static double direct_ratio();
  [[nodiscard]] double last_paint_ms() const { return last_paint_ms_; }
  [[nodiscard]] QSize sizeHint() const override { return {720, 420}; }
  [[nodiscard]] QSize minimumSizeHint() const override { return {240, 160}; }

 protected:
  virtual void paint_scene(QPainter& painter, const QSizeF& size) = 0;
  virtual void paint_overlay(QPainter& /*painter*/, const QSizeF& /*size*/) {}
  void set_twin(QStringList headers, std::vector<QStringList> rows);
  void paintEvent(QPaintEvent* event) override;
  void changeEvent(QEvent* event) override;
  void focusInEvent(QFocusEvent* event) override;
  void focusOutEvent(QFocusEvent* event) override;
  // What a screen reader says: the chart, its sentence, and what is chosen.
  void announce(const QString& chosen);

 private:
  QPixmap cache_;
  bool dirty_ = true;
  QString chosen_;  // what `announce` told last
  RowsModel twin_;
  double last_paint_ms_ = 0;
};

struct Axis {
  double low = 0, high = 1;
  double scale = 1;  // from a value to what is written
  QString title;     // with its unit
  QString brief;     // where the title does not fit
  bool logarithmic = false;

  [[nodiscard]] double position(double value) const;  // 0 to 1 within the axis
  [[nodiscard]] double value_at(double position) const;
  [[nodiscard]] std::vector<double> ticks(int about) const;
  [[nodiscard]] QString tick_text(double value, double step) const;
  // Room on both sides of [low, high], round ends.
  void widen();
};

// Space that tick labels and titles need; then the axes around the plot that remains.
[[nodiscard]] QRectF plot_area(const QSizeF& size, const QFontMetricsF& metrics, const Axis& y,
                               double right, double top);
void draw_axes(QPainter& painter, const QRectF& plot, const Axis& x, const Axis& y);

// A card of lines near `at`, kept inside `bounds`; the first line is bold.
void draw_card(QPainter& painter, const QRectF& bounds, const QPointF& at,
               const QStringList& lines);
// Centred words where there is nothing to draw yet.
void draw_empty(QPainter& painter, const QSizeF& size, const QString& text);
// Fill in a colour of the series and its pattern.
[[nodiscard]] QBrush filled(int index, const QColor& color);

// SVG, PNG or PDF, by the ending of `file`. `scale`: pixels a point, PNG only.
// Throws: Error(Input) for another ending, Error(Failed) when it cannot be written.
void export_widget(QWidget& widget, const QString& file, double scale);

}  // namespace imhotep::gui
