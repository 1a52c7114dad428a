#pragma once
// Sliders for six numbers; the best plan then, against the one now; which number matters most.

#include <QLabel>
#include <QPushButton>
#include <QSlider>
#include <array>

#include "gui/presenter/explorer.h"
#include "gui/views/bar_charts.h"
#include "gui/views/panel.h"

namespace imhotep::gui {

class WhatIfPage : public QWidget {
  Q_OBJECT
 public:
  explicit WhatIfPage(Explorer& explorer, QWidget* parent = nullptr);
  [[nodiscard]] QSlider& slider(Knob knob) { return *sliders_[static_cast<std::size_t>(knob)]; }

 protected:
  void changeEvent(QEvent* event) override;

 private:
  QWidget* build_sliders();
  void fit_values();
  void refresh_sliders();
  void refresh_answer();
  void refresh_sensitivity();

  Explorer& explorer_;
  std::array<QSlider*, kKnobs> sliders_{};
  std::array<QLabel*, kKnobs> values_{};
  std::array<std::vector<double>, kKnobs> stops_;
  QLabel *answer_, *flips_;
  TornadoChart* tornado_;
};

}  // namespace imhotep::gui
