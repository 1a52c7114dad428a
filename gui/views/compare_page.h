#pragma once
// Two plans side by side, or a plan and its run: differences only, deltas by operation, reasons in
// words, predicted against measured.

#include <QLabel>
#include <QTabWidget>
#include <QTableView>

#include "gui/presenter/explorer.h"
#include "gui/views/bar_charts.h"
#include "gui/views/panel.h"
#include "gui/views/plots.h"

namespace imhotep::gui {

class ComparePage : public QWidget {
  Q_OBJECT
 public:
  explicit ComparePage(Explorer& explorer, QWidget* parent = nullptr);
  void show_measured(bool measured);

 private:
  QWidget* build_plans();
  QWidget* build_measured();
  void refresh();

  Explorer& explorer_;
  QTabWidget* tabs_;
  QLabel *verdict_ = nullptr, *reasons_ = nullptr, *measured_verdict_ = nullptr;
  RowsModel differences_, measured_;
  DeltaChart* deltas_ = nullptr;
  MeasuredPlot* scatter_ = nullptr;
};

}  // namespace imhotep::gui
