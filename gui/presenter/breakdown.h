#pragma once
// Where a plan's time and memory go, as bars: by class of operation or by layer, exposed and hidden
// apart, by the source of every number; memory of the fullest rank by kind against its capacity.

#include <QString>
#include <vector>

#include "gui/presenter/planning.h"

namespace imhotep::gui {

enum class BreakdownBy { Class, Layer, Source };

struct Bar {
  QString label;
  double exposed_us = 0, hidden_us = 0;  // hidden: behind computation
  QString bound;                         // what binds it, by class only
  double by_source_us[4] = {0, 0, 0, 0};
  [[nodiscard]] double total_us() const { return exposed_us + hidden_us; }
};

// Longest first by class, in model order by layer; time in no operation comes last.
[[nodiscard]] std::vector<Bar> time_bars(const Detail& detail, BreakdownBy by);

struct MemoryPart {
  QString label;
  double bytes = 0;
};
// Largest first, absent kinds left out.
[[nodiscard]] std::vector<MemoryPart> memory_parts(const Detail& detail);

// "42 % of all time is ..." and how much of it rests on what.
[[nodiscard]] QString breakdown_summary(const Detail& detail);
[[nodiscard]] QString source_label(int source);  // simulator::Source

// "12.8 ms", with the sign for a micro; "12.8 ms (11.9 .. 14.0 ms)".
[[nodiscard]] QString time_text(double time_us);
[[nodiscard]] QString estimate_text(const Estimate& estimate);
[[nodiscard]] QString bytes_text(double bytes);

}  // namespace imhotep::gui
