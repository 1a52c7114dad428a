#pragma once
// The plans: chart above, table below, one filter and one selection for both.

#include <QCheckBox>
#include <QComboBox>
#include <QLineEdit>
#include <QTableView>

#include "gui/presenter/explorer.h"
#include "gui/presenter/plan_table.h"
#include "gui/views/panel.h"
#include "gui/views/plan_scatter.h"

namespace imhotep::gui {

class ExplorePage : public QWidget {
  Q_OBJECT
 public:
  explicit ExplorePage(Explorer& explorer, QWidget* parent = nullptr);

  void set_filter(const QString& text);
  void set_axes(const QString& x, const QString& y, const QString& colour);
  void choose_columns();
  void copy(CopyFormat format);
  void focus_filter();
  [[nodiscard]] PlanTable& table() { return table_; }
  [[nodiscard]] QTableView& table_view() { return *view_; }
  [[nodiscard]] PlanScatter& scatter() { return *scatter_; }
  [[nodiscard]] Panel& chart_panel() { return *panel_; }
  [[nodiscard]] QWidget& table_panel() { return *table_panel_; }
  [[nodiscard]] QString x() const { return x_->currentData().toString(); }
  [[nodiscard]] QString y() const { return y_->currentData().toString(); }
  [[nodiscard]] QString colour() const { return colour_->currentData().toString(); }

 protected:
  bool eventFilter(QObject* watched, QEvent* event) override;

 private:
  QWidget* build_chart();
  QWidget* build_table();
  void refresh_plans();
  void refresh_selection();
  void refresh_count();
  void accept_arrangement();
  void apply_filter();
  void fill_choices();
  void resize_columns();

  Explorer& explorer_;
  PlanTable table_;
  PlanScatter* scatter_ = nullptr;
  Panel* panel_ = nullptr;
  QWidget* table_panel_ = nullptr;
  QTableView* view_ = nullptr;
  QComboBox *x_ = nullptr, *y_ = nullptr, *colour_ = nullptr;
  QCheckBox* logarithmic_ = nullptr;
  QLineEdit* filter_ = nullptr;
  QLabel *counted_ = nullptr, *problem_ = nullptr;
  Newest copying_{this};
};

}  // namespace imhotep::gui
