#pragma once
// Two small charts of signed bars: what each knob of What if does (tornado), and which operations
// make two plans differ.

#include "gui/presenter/compare.h"
#include "gui/presenter/what_if.h"
#include "gui/views/chart.h"

namespace imhotep::gui {

class TornadoChart : public Chart {
  Q_OBJECT
 public:
  explicit TornadoChart(QWidget* parent = nullptr);
  void show_sensitivities(std::optional<Sensitivities> found);
  [[nodiscard]] QString summary() const override;
  // Room for a line of each number, title and axis.
  [[nodiscard]] QSize minimumSizeHint() const override;
  [[nodiscard]] QSize sizeHint() const override { return minimumSizeHint(); }

 protected:
  void paint_scene(QPainter& painter, const QSizeF& size) override;

 private:
  std::optional<Sensitivities> found_;
};

class DeltaChart : public Chart {
  Q_OBJECT
 public:
  explicit DeltaChart(QWidget* parent = nullptr);
  void show_deltas(std::vector<Delta> deltas, const QString& title);
  [[nodiscard]] QString summary() const override;
  [[nodiscard]] QSize minimumSizeHint() const override;
  [[nodiscard]] QSize sizeHint() const override { return minimumSizeHint(); }

 protected:
  void paint_scene(QPainter& painter, const QSizeF& size) override;

 private:
  std::vector<Delta> deltas_;
  QString title_;
};

}  // namespace imhotep::gui
