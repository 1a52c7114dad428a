#pragma once
// What a run measured, beside what was predicted.

#include <cstdint>
#include <string>
#include <vector>

#include "core/spec/plan.h"

namespace imhotep {

// Median over the measured steps of one operation, summed over its occurrences in a step.
struct OperationTime {
  std::string operation;  // "experts_up", "dispatch", ... as the program names it
  std::string pass;
  std::int64_t count = 0;  // occurrences a step
  double predicted_us = 0, low_us = 0, high_us = 0;
  double measured_us = 0;
  double spread = 0;   // interquartile range / median
  std::string source;  // of the prediction: measured, interpolated, transferred, roofline

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("operation", s.operation, {});
    visit("pass", s.pass, {});
    visit("count", s.count, {.help = "occurrences a step"});
    visit("predicted_us", s.predicted_us, {});
    visit("low_us", s.low_us, {});
    visit("high_us", s.high_us, {});
    visit("measured_us", s.measured_us, {});
    visit("spread", s.spread, {.help = "interquartile range / median"});
    visit("source", s.source, {.help = "of the prediction", .optional = true});
  }
};

struct RunReport {
  Plan plan;
  std::string plan_hash, machine, date, command;
  std::string phase;  // "training", "decode", "prefill"
  std::int64_t steps = 0;
  double predicted_us = 0, low_us = 0, high_us = 0;
  double measured_us = 0;  // median step
  double spread = 0;
  double tokens_per_s = 0;
  double first_loss = 0, last_loss = 0;
  std::int64_t predicted_memory_bytes = 0, measured_memory_bytes = 0;
  std::int64_t replayed = 0, overflow_rows = 0;  // steps beyond a bound; the most rows of them
  std::vector<OperationTime> operations;
  std::vector<std::vector<double>> expert_load;  // share of routes per MoE layer and expert

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("plan", s.plan, {.help = "what was run"});
    visit("plan_hash", s.plan_hash, {});
    visit("machine", s.machine, {});
    visit("date", s.date, {.help = "ISO 8601 UTC"});
    visit("command", s.command, {});
    visit("phase", s.phase, {.help = "training, decode or prefill"});
    visit("steps", s.steps, {.help = "measured steps"});
    visit("predicted_us", s.predicted_us, {});
    visit("low_us", s.low_us, {});
    visit("high_us", s.high_us, {});
    visit("measured_us", s.measured_us, {.help = "median step at rank 0; ranks move in lockstep"});
    visit("spread", s.spread, {});
    visit("tokens_per_s", s.tokens_per_s, {});
    visit("first_loss", s.first_loss, {.optional = true});
    visit("last_loss", s.last_loss, {.optional = true});
    visit("predicted_memory_bytes", s.predicted_memory_bytes, {.optional = true});
    visit("measured_memory_bytes", s.measured_memory_bytes, {.optional = true});
    visit("replayed", s.replayed,
          {.help = "steps done again in smaller micro-batches: rows exceeded receive_rows",
           .optional = true});
    visit("overflow_rows", s.overflow_rows,
          {.help = "the most rows for one rank that made a step be replayed", .optional = true});
    visit("operations", s.operations, {});
    visit("expert_load", s.expert_load, {.optional = true});
  }
};

inline constexpr const char* kReportSchema = "imhotep.report/1";

[[nodiscard]] RunReport read_report(const std::string& file);  // Throws: Error(Input)
void write_report(const RunReport& report, const std::string& file);

}  // namespace imhotep
