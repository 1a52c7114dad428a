#pragma once
// Calibrate, train or bench from the window: the program imhotep as a child, its log as it grows,
// the prediction on the live chart.

#include <QComboBox>
#include <QLabel>
#include <QLineEdit>
#include <QPlainTextEdit>
#include <QPushButton>
#include <QSpinBox>
#include <QTimer>

#include "gui/presenter/child.h"
#include "gui/presenter/explorer.h"
#include "gui/views/plots.h"

namespace imhotep::gui {

class RunPage : public QWidget {
  Q_OBJECT
 public:
  explicit RunPage(Explorer& explorer, QWidget* parent = nullptr);
  // Shows a finished run: its log and, where there is one, its report.
  void show_folder(const QString& folder);
  [[nodiscard]] Child& child() { return child_; }
  // What would be started; empty with the reason in `problem`.
  [[nodiscard]] QStringList arguments(QString& problem) const;

 private:
  QWidget* build_form();
  QWidget* build_charts();
  void start();
  void refresh_form();
  void refresh_command();
  void refresh_charts(const RunLog& log);
  void refresh_prediction();
  void finish(bool well, const QString& message);
  void load_report(const QString& folder);

  Explorer& explorer_;
  Child child_;
  QTimer clock_;
  QComboBox* what_ = nullptr;
  QLineEdit *data_ = nullptr, *folder_ = nullptr;
  QSpinBox* steps_ = nullptr;
  QPushButton *start_ = nullptr, *stop_ = nullptr;
  QLabel *command_ = nullptr, *state_ = nullptr;
  QPlainTextEdit* words_ = nullptr;
  LinePlot *loss_ = nullptr, *speed_ = nullptr;
  LoadPlot* load_ = nullptr;
};

}  // namespace imhotep::gui
