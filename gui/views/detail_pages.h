#pragma once
// Pages about the chosen plan: breakdown, timeline, placement.

#include <QComboBox>
#include <QLabel>
#include <QSlider>

#include "gui/presenter/explorer.h"
#include "gui/views/breakdown_chart.h"
#include "gui/views/panel.h"
#include "gui/views/placement_chart.h"
#include "gui/views/timeline_chart.h"

namespace imhotep::gui {

class BreakdownPage : public QWidget {
  Q_OBJECT
 public:
  explicit BreakdownPage(Explorer& explorer, QWidget* parent = nullptr);
  void set_by(BreakdownBy by);
  [[nodiscard]] Panel& panel() { return *panel_; }

 private:
  void refresh();
  Explorer& explorer_;
  BreakdownChart* chart_;
  Panel* panel_;
  QComboBox* by_;
  QLabel* summary_;
};

class TimelinePage : public QWidget {
  Q_OBJECT
 public:
  explicit TimelinePage(Explorer& explorer, QWidget* parent = nullptr);
  [[nodiscard]] TimelineChart& chart() { return *chart_; }
  [[nodiscard]] Panel& panel() { return *panel_; }

 private:
  TimelineChart* chart_;
  Panel* panel_;
  QLabel* measured_;
};

class PlacementPage : public QWidget {
  Q_OBJECT
 public:
  explicit PlacementPage(Explorer& explorer, QWidget* parent = nullptr);
  [[nodiscard]] PlacementChart& chart() { return *chart_; }
  [[nodiscard]] Panel& panel() { return *panel_; }
  void set_layer(int moe_index);

 private:
  void refresh();
  void describe();
  Explorer& explorer_;
  std::shared_ptr<const Plan> plan_;
  PlacementChart* chart_;
  Panel* panel_;
  QSlider* layer_;
  QLabel *layer_text_, *rank_text_, *groups_;
};

}  // namespace imhotep::gui
