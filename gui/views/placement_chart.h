#pragma once
// Nodes as boxes, ranks as cells that name the experts they hold; the groups of one rank are
// framed. Beside them, what the exchange of the layer moves between nodes.

#include <optional>

#include "gui/presenter/placement.h"
#include "gui/views/chart.h"

namespace imhotep::gui {

// Colours of cells, by how far through the experts they are and by the share of the most loaded
// link.
[[nodiscard]] QColor shade_of_experts(double part);
[[nodiscard]] QColor shade_of_link(double part);

class PlacementChart : public Chart {
  Q_OBJECT
 public:
  explicit PlacementChart(QWidget* parent = nullptr);
  // `moe_index`: of the plan's MoE layers; -1: a dense model.
  void show_layer(std::shared_ptr<const Plan> plan, int moe_index);
  void set_rank(int rank);  // whose groups are framed
  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int rank_at(const QPointF& place) const;
  [[nodiscard]] QString summary() const override;

 Q_SIGNALS:
  void rank_changed(int rank);

 protected:
  void paint_scene(QPainter& painter, const QSizeF& size) override;
  void paint_overlay(QPainter& painter, const QSizeF& size) override;
  void mouseMoveEvent(QMouseEvent* event) override;
  void keyPressEvent(QKeyEvent* event) override;

 private:
  void announce_rank();
  void layout(const QSizeF& size);
  [[nodiscard]] QRectF cell_of(int rank) const;
  void draw_cell(QPainter& painter, int rank) const;
  void draw_links(QPainter& painter) const;

  std::shared_ptr<const Plan> plan_;
  std::optional<LayerPlacement> placed_;
  int moe_index_ = -1, rank_ = 0;
  bool exchanges_ = false;  // some rank sends rows to another
  // Geometry: nodes in a grid, ranks of a node in a grid.
  int nodes_ = 1, nodes_across_ = 1, cells_across_ = 1;
  QSizeF cell_, node_;
  QRectF area_, links_area_;
};

}  // namespace imhotep::gui
