#include "gui/views/what_if_page.h"

#include <QEvent>
#include <QGridLayout>
#include <QScrollArea>
#include <QVBoxLayout>

#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"

namespace imhotep::gui {
namespace {

QString change_text(double before, double after, bool more_is_better) {
  if (before <= 0 || after <= 0) return "";
  const double change = 100 * (after / before - 1);
  if (std::abs(change) < 0.05) return "unchanged";
  const bool better = (change > 0) == more_is_better;
  return QString("%1%2 %, %3")
      .arg(change > 0 ? "+" : "−")
      .arg(std::abs(change), 0, 'f', 1)
      .arg(better ? "better" : "worse");
}

}  // namespace

WhatIfPage::WhatIfPage(Explorer& explorer, QWidget* parent)
    : QWidget(parent),
      explorer_(explorer),
      answer_(new QLabel),
      flips_(new QLabel),
      tornado_(new TornadoChart) {
  answer_->setTextFormat(Qt::RichText);
  answer_->setWordWrap(true);
  answer_->setAccessibleName("The best plan then");
  answer_->setAlignment(Qt::AlignTop);
  answer_->setTextInteractionFlags(Qt::TextSelectableByMouse);
  flips_->setWordWrap(true);
  flips_->setAccessibleName("Where the best plan changes");
  flips_->setAlignment(Qt::AlignTop);
  auto* card = new QFrame;
  card->setObjectName("card");
  auto* inside = new QVBoxLayout(card);
  inside->addWidget(answer_);
  auto* top = new QHBoxLayout;
  top->addWidget(build_sliders(), 1);
  top->addWidget(card, 1);
  auto* panel = new Panel("What matters most", tornado_);
  auto* find = new QPushButton("What &matters most?");
  find->setToolTip("Asks the planner anew for each number, at half and at twice its value");
  connect(find, &QPushButton::clicked, &explorer_, &Explorer::find_sensitivities);
  panel->add_control(find);
  flips_->setTextInteractionFlags(Qt::TextSelectableByMouse);
  auto* changes = new QFrame;
  changes->setObjectName("card");
  (new QVBoxLayout(changes))->addWidget(flips_);
  // As high as its texts: a small window scrolls the whole page, and no line is cut.
  auto* page = new QWidget;
  auto* all = new QVBoxLayout(page);
  all->setContentsMargins(8, 8, 8, 8);
  all->addLayout(top);
  all->addWidget(panel, 1);
  all->addWidget(changes);
  auto* area = new QScrollArea;
  area->setWidget(page);
  area->setWidgetResizable(true);
  area->setFrameShape(QFrame::NoFrame);
  area->setFocusPolicy(Qt::NoFocus);
  area->setObjectName("page");
  auto* outer = new QVBoxLayout(this);
  outer->setContentsMargins(0, 0, 0, 0);
  outer->addWidget(area);
  connect(&explorer_, &Explorer::knobs_changed, this, &WhatIfPage::refresh_sliders);
  connect(&explorer_, &Explorer::question_changed, this, &WhatIfPage::refresh_sliders);
  connect(&explorer_, &Explorer::question_changed, this, &WhatIfPage::refresh_sensitivity);
  connect(&explorer_, &Explorer::plans_changed, this, &WhatIfPage::refresh_answer);
  connect(&explorer_, &Explorer::what_if_changed, this, &WhatIfPage::refresh_answer);
  connect(&explorer_, &Explorer::sensitivity_changed, this, &WhatIfPage::refresh_sensitivity);
  refresh_sensitivity();
}

QWidget* WhatIfPage::build_sliders() {
  auto* box = new QWidget;
  auto* grid = new QGridLayout(box);
  grid->setContentsMargins(0, 0, 12, 0);
  auto* heading = new QLabel("What if");
  heading->setObjectName("title");
  grid->addWidget(heading, 0, 0, 1, 2);
  auto* reset = new QPushButton("As &asked");
  reset->setToolTip("All numbers back to those of the question");
  connect(reset, &QPushButton::clicked, &explorer_, &Explorer::reset_knobs);
  grid->addWidget(reset, 0, 2, Qt::AlignRight);
  for (int k = 0; k < kKnobs; ++k) {
    const auto knob = static_cast<Knob>(k);
    auto* slider = new QSlider(Qt::Horizontal);
    slider->setTickPosition(QSlider::TicksBelow);
    slider->setTickInterval(1);
    slider->setPageStep(1);
    slider->setToolTip(knob_info(knob).help);
    slider->setMinimumWidth(140);
    auto* value = new QLabel;
    sliders_[static_cast<std::size_t>(k)] = slider;
    values_[static_cast<std::size_t>(k)] = value;
    auto* label = label_for(knob_info(knob).label, slider);
    slider->setAccessibleName("What if: " + knob_info(knob).label);
    grid->addWidget(label, k + 1, 0);
    grid->addWidget(slider, k + 1, 1);
    grid->addWidget(value, k + 1, 2);
    connect(slider, &QSlider::valueChanged, this, [this, k, knob](int stop) {
      const auto& stops = stops_[static_cast<std::size_t>(k)];
      if (stop < count_of(stops)) explorer_.set_knob(knob, stops[static_cast<std::size_t>(stop)]);
    });
  }
  grid->setColumnStretch(1, 1);
  grid->setRowStretch(kKnobs + 1, 1);
  fit_values();
  return box;
}

// So wide that sliders keep their place while values change.
void WhatIfPage::fit_values() {
  const int width = fontMetrics().horizontalAdvance("000000 per device and hour");
  for (QLabel* value : values_) {
    if (value != nullptr) value->setMinimumWidth(width);
  }
}

void WhatIfPage::changeEvent(QEvent* event) {
  QWidget::changeEvent(event);
  if (event->type() == QEvent::FontChange) fit_values();
}

void WhatIfPage::refresh_sliders() {
  for (int k = 0; k < kKnobs; ++k) {
    const auto i = static_cast<std::size_t>(k);
    const auto knob = static_cast<Knob>(k);
    stops_[i] = knob_stops(explorer_.question(), knob);
    const double value = explorer_.knobs()[i];
    const auto nearest = std::min_element(
        stops_[i].begin(), stops_[i].end(),
        [&](double a, double b) { return std::abs(a - value) < std::abs(b - value); });
    const QSignalBlocker quiet(sliders_[i]);
    sliders_[i]->setRange(0, count_of(stops_[i]) - 1);
    sliders_[i]->setValue(static_cast<int>(nearest - stops_[i].begin()));
    values_[i]->setText(knob_text(knob, value));
    sliders_[i]->setAccessibleDescription(knob_text(knob, value));
  }
}

void WhatIfPage::refresh_answer() {
  const Plans& plans = explorer_.plans();
  const std::optional<Outcome>& then = explorer_.what_if();
  if (!plans || !then) {
    answer_->setText("Ask for plans first.");
    return;
  }
  const Outcome now = outcome_of(*plans, knobs_of(plans->question));
  QString text = "<b>The best plan then</b><br>";
  if (!then->found) {
    text += "⚠ None: " + then->error.toHtmlEscaped();
    answer_->setText(text);
    return;
  }
  text += then->plan.toHtmlEscaped();
  text +=
      then->plan == now.plan ? "<br>the same degrees as now" : "<br><b>other degrees than now</b>";
  text += "<table cellspacing=8>";
  const auto row = [&](const QString& label, double before, double after,
                       const QString& before_text, const QString& after_text, bool more_is_better) {
    if (after <= 0) return;
    text +=
        QString(
            "<tr><td>%1</td><td align=right>%2</td><td align=right><b>%3</b></td><td>%4</td></tr>")
            .arg(label, before_text, after_text, change_text(before, after, more_is_better));
  };
  text += "<tr><td></td><td align=right>now</td><td align=right>then</td><td></td></tr>";
  const bool trains = plans->question.workload.kind == WorkloadKind::Training;
  row(trains ? "step" : "decode step", now.time_us, then->time_us, time_text(now.time_us),
      time_text(then->time_us), false);
  row("prompt", now.prompt_us, then->prompt_us, time_text(now.prompt_us),
      time_text(then->prompt_us), false);
  row("tokens a second", now.tokens_per_s, then->tokens_per_s,
      QString("%L1").arg(now.tokens_per_s, 0, 'f', 0),
      QString("%L1").arg(then->tokens_per_s, 0, 'f', 0), true);
  row("memory", now.memory_bytes, then->memory_bytes, bytes_text(now.memory_bytes),
      bytes_text(then->memory_bytes), false);
  row("cost of a million tokens", now.cost_per_mtoken, then->cost_per_mtoken,
      QString::number(now.cost_per_mtoken, 'g', 3), QString::number(then->cost_per_mtoken, 'g', 3),
      false);
  text += QString(then->first ? "</table>first answer, of the %1 best plans, in %2 ms; the whole "
                                "one follows"
                              : "</table>%L1 plans asked in %2 ms")
              .arg(then->plans)
              .arg(then->seconds * 1000, 0, 'f', 0);
  answer_->setText(text);
}

void WhatIfPage::refresh_sensitivity() {
  tornado_->show_sensitivities(explorer_.sensitivity());
  QStringList flips;
  if (explorer_.sensitivity()) {
    for (const Sensitivity& s : explorer_.sensitivity()->knobs) {
      for (const QString& flip : s.flips) flips << "• " + flip;
    }
    if (flips.isEmpty()) flips << "The best plan stays the same over all these ranges.";
  }
  flips_->setText(flips.isEmpty() ? QString("Where the best plan changes is listed here.")
                                  : flips.join('\n'));
}

}  // namespace imhotep::gui
