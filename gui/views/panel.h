#pragma once
// A chart with its heading, its controls, its table twin and its export: the frame of every view.

#include <QLabel>
#include <QStackedWidget>
#include <QTableView>
#include <QToolButton>

#include "gui/views/chart.h"
#include "gui/views/flow_layout.h"

namespace imhotep::gui {

class Panel : public QWidget {
  Q_OBJECT
 public:
  // Takes the chart. `scrolls`: the chart may be higher than the window.
  Panel(const QString& title, Chart* chart, bool scrolls = false, QWidget* parent = nullptr);
  // Controls between the title and the buttons.
  void add_control(QWidget* control);
  void add_control(QLabel* label, QWidget* control);  // kept together
  void set_title(const QString& title);
  void show_table(bool table);
  [[nodiscard]] bool shows_table() const { return stack_->currentIndex() == 1; }
  [[nodiscard]] Chart* chart() const { return chart_; }

 private:
  void ask_export();

  Chart* chart_;
  QLabel* title_;
  FlowLayout* top_;
  QStackedWidget* stack_;
  QTableView* table_;
  QToolButton* table_button_;
};

// A label, named for screen readers through its buddy.
[[nodiscard]] QLabel* label_for(const QString& text, QWidget* buddy);
// A table that looks and behaves like all tables here.
void prepare_table(QTableView& table, const QString& name);
// Asks where to, then exports; tells what went wrong in a message box.
void export_with_dialog(QWidget& widget);

}  // namespace imhotep::gui
