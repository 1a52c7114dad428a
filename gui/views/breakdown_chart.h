#pragma once
// Time as bars, exposed and hidden apart; below it the memory of the fullest rank as one bar
// against its capacity.

#include "gui/presenter/breakdown.h"
#include "gui/views/chart.h"

namespace imhotep::gui {

class BreakdownChart : public Chart {
  Q_OBJECT
 public:
  explicit BreakdownChart(QWidget* parent = nullptr);
  void show_detail(Details detail, BreakdownBy by);
  void show_only_memory();  // for a picture of it alone
  [[nodiscard]] QString summary() const override;
  [[nodiscard]] QSize minimumSizeHint() const override;

 protected:
  void paint_scene(QPainter& painter, const QSizeF& size) override;

 private:
  double draw_time(QPainter& painter, double width, double top);
  void draw_bar(QPainter& painter, const Bar& bar, const QRectF& room, double most_us) const;
  void draw_memory(QPainter& painter, double width, double top);
  [[nodiscard]] double label_width() const;

  Details detail_;
  BreakdownBy by_ = BreakdownBy::Class;
  std::vector<Bar> bars_;
  bool memory_only_ = false;
};

}  // namespace imhotep::gui
