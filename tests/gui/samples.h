#pragma once
// Small questions for tests of the window, and waiting for its answers.

#include <QApplication>
#include <QElapsedTimer>
#include <QTemporaryDir>

#include "gui/presenter/explorer.h"
#include "gui/presenter/planning.h"

namespace imhotep::gui {

// 8 A100 in one node, training: hundreds of plans, milliseconds.
[[nodiscard]] Question small_question();
[[nodiscard]] Question small_generation();
// The plans of small_question(), computed once.
[[nodiscard]] Plans small_plans();
// They, repeated until there are so many, each a little different: more than are arranged at once.
[[nodiscard]] Plans many_plans(std::int64_t rows);
// A report as a run of the plan would leave it: every operation a tenth slower than predicted.
[[nodiscard]] RunReport sample_report(const Plan& plan, const Prices& prices);

// Lets events happen until `done` is true; false after 60 s.
template <class Done>
[[nodiscard]] bool happens(Done done) {
  constexpr qint64 kPatienceMs = 60'000;
  QElapsedTimer timer;
  timer.start();
  while (!done()) {
    if (timer.elapsed() > kPatienceMs) return false;
    QApplication::processEvents(QEventLoop::AllEvents | QEventLoop::WaitForMoreEvents, 10);
  }
  return true;
}

[[nodiscard]] inline bool settles(Explorer& explorer) {
  return happens([&] { return explorer.plans() && explorer.detail() && !explorer.is_busy(); });
}

}  // namespace imhotep::gui
