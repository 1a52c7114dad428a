#pragma once
// Ordinary charts, drawn by QCustomPlot: lines that grow, points around a diagonal, a heat map.
// Only this file and its source know that library.

#include <QWidget>
#include <vector>

#include "gui/presenter/compare.h"
#include "gui/presenter/rows_model.h"

class QCustomPlot;

namespace imhotep::gui {

// A QCustomPlot in the colours of the theme, with words and a twin for who cannot see it.
class Plot : public QWidget {
  Q_OBJECT
 public:
  explicit Plot(const QString& name, QWidget* parent = nullptr);
  [[nodiscard]] RowsModel* twin() { return &twin_; }
  [[nodiscard]] QSize sizeHint() const override { return {420, 280}; }
  [[nodiscard]] QSize minimumSizeHint() const override;

 protected:
  void changeEvent(QEvent* event) override;
  void paintEvent(QPaintEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  virtual void restyle() = 0;
  void style_axes(const QString& x, const QString& y);
  void put_legend_above(bool shown);  // where it hides nothing
  void replot();
  QCustomPlot* plot_;
  RowsModel twin_;
};

// One or two lines over steps, and a predicted value as a band.
class LinePlot : public Plot {
  Q_OBJECT
 public:
  LinePlot(const QString& name, const QString& y_title, QWidget* parent = nullptr);
  struct Line {
    QString name;
    std::vector<double> x, y;
    bool points = false;
  };
  void show_lines(const std::vector<Line>& lines);
  // value 0: none.
  void show_prediction(double value, double low, double high);

 protected:
  void restyle() override;

 private:
  QString y_title_;
  std::vector<Line> lines_;
  double predicted_ = 0, low_ = 0, high_ = 0;
};

// Predicted against measured on logarithmic axes, with bands of 10 and 20 %.
class MeasuredPlot : public Plot {
  Q_OBJECT
 public:
  explicit MeasuredPlot(QWidget* parent = nullptr);
  void show_rows(std::vector<MeasuredRow> rows);

 protected:
  void restyle() override;

 private:
  std::vector<MeasuredRow> rows_;
};

// Share of routes by MoE layer and expert.
class LoadPlot : public Plot {
  Q_OBJECT
 public:
  explicit LoadPlot(QWidget* parent = nullptr);
  void show_load(std::vector<std::vector<double>> shares);

 protected:
  void restyle() override;

 private:
  std::vector<std::vector<double>> shares_;
};

}  // namespace imhotep::gui
