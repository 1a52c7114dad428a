#pragma once
// What if something were different: six numbers that replace those of the question, what the best
// plan becomes then, how much each of them matters, and where the best plan changes.

#include <QString>
#include <array>
#include <functional>
#include <vector>

#include "gui/presenter/planning.h"

namespace imhotep::gui {

enum class Knob { Batch, Context, Skew, Links, Gpus, Price };
inline constexpr int kKnobs = 6;

struct KnobInfo {
  QString name, label, unit, help;
};
[[nodiscard]] const KnobInfo& knob_info(Knob knob);

// Batch: sequences. Context: tokens. Skew: Zipf exponent. Links: factor on both bandwidths. Gpus:
// devices. Price: per device and hour.
using KnobValues = std::array<double, kKnobs>;

[[nodiscard]] KnobValues knobs_of(const Question& question);
// Values a slider stops at, ascending, the question's own among them.
[[nodiscard]] std::vector<double> knob_stops(const Question& question, Knob knob);
[[nodiscard]] Question with_knobs(Question question, const KnobValues& values);
[[nodiscard]] QString knob_text(Knob knob, double value);

// What a question comes to.
struct Outcome {
  KnobValues values{};
  bool found = false;
  QString plan;   // its degrees
  QString error;  // why there is none
  double time_us = 0, prompt_us = 0, tokens_per_s = 0, memory_bytes = 0, cost_per_mtoken = 0;
  std::int64_t plans = 0, fitting = 0;
  double seconds = 0;
  bool first = false;  // of a few plans only; the whole answer follows
};
[[nodiscard]] Outcome outcome_of(const PlanSet& plans, const KnobValues& values);
// Never throws: a question without an answer is an outcome too.
[[nodiscard]] Outcome ask(const Question& question, const KnobValues& values, const Stop& stop);

// What two plans, told in words, differ by: "tensor 1 × data 16 → tensor 1 × data 32".
[[nodiscard]] QString change_of_plan(const QString& before, const QString& after);

struct Sensitivity {
  Knob knob{};
  Outcome low, high;           // at half and at twice the value, as far as the slider goes
  std::vector<QString> flips;  // "between 256 and 512 sequences: tensor 2 ... becomes tensor 4 ..."
};
struct Sensitivities {
  Outcome base;
  std::vector<Sensitivity> knobs;  // the one that matters most first
};
[[nodiscard]] Sensitivities sensitivities(const Question& question, const KnobValues& values,
                                          const Stop& stop,
                                          const std::function<void(double)>& progress);
// A first answer at once: the best plans of `plans` alone, simulated under the changed numbers.
// Nothing for another number of devices, whose plans are all different.
[[nodiscard]] std::optional<Outcome> ask_quickly(const PlanSet& plans, const KnobValues& values,
                                                 const Stop& stop);
// Tokens a second against the base, in per cent.
[[nodiscard]] double change_percent(const Outcome& base, const Outcome& other);

}  // namespace imhotep::gui
