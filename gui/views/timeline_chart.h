#pragma once
// Streams as rows of slices, predicted above measured. W and S zoom, A and D move, F fits, a drag
// measures a span. Slices narrower than a pixel are merged, so that 200,000 of them cost no more
// than the pixels they cover.

#include "gui/presenter/planning.h"
#include "gui/views/chart.h"

namespace imhotep::gui {

class TimelineChart : public Chart {
  Q_OBJECT
 public:
  explicit TimelineChart(QWidget* parent = nullptr);
  void show_timing(Timing timing);
  // Only the critical path in full colour.
  void set_critical(bool critical);
  void fit();
  void zoom(double factor, double centre_us);
  void move(double part);  // of the visible span
  [[nodiscard]] double from_us() const { return from_us_; }
  [[nodiscard]] double to_us() const { return to_us_; }
  [[nodiscard]] const Slice* slice_at(const QPointF& place, int* track = nullptr) const;
  [[nodiscard]] QString summary() const override;

 Q_SIGNALS:
  void measured(const QString& text);  // a span was dragged, or a slice pressed

 protected:
  void paint_scene(QPainter& painter, const QSizeF& size) override;
  void paint_overlay(QPainter& painter, const QSizeF& size) override;
  void mouseMoveEvent(QMouseEvent* event) override;
  void mousePressEvent(QMouseEvent* event) override;
  void mouseReleaseEvent(QMouseEvent* event) override;
  void leaveEvent(QEvent* event) override;
  void wheelEvent(QWheelEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;

 private:
  void layout(const QSizeF& size);
  void draw_ruler(QPainter& painter);
  void draw_track(QPainter& painter, int index);
  void draw_slice(QPainter& painter, const Slice& slice, const QRectF& box, bool merged);
  void draw_legend(QPainter& painter, const QSizeF& size);
  [[nodiscard]] QRectF row_of(int track) const;
  [[nodiscard]] double x_of(double time_us) const;
  [[nodiscard]] double time_at(double x) const;
  void set_span(double from_us, double to_us);

  Timing timing_;
  std::vector<int> kinds_;  // classes that occur
  double from_us_ = 0, to_us_ = 1;
  bool critical_ = false;
  double left_ = 0, right_ = 0, top_ = 0, row_height_ = 0;
  QPointF mouse_{-1, -1}, pressed_;
  bool dragging_ = false;
  double span_from_us_ = 0, span_to_us_ = 0;
};

}  // namespace imhotep::gui
