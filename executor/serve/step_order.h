#pragma once
// What rank 0 tells all ranks before each step, and what the ranks answer. A step is sent whole to
// everybody; each data rank fills its own part. Byte order and sizes are those of the machine: the
// ranks of a run are one program on equal machines.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/schedule/step.h"
#include "kernels/sample.h"

namespace imhotep::executor {

enum class OrderKind : std::uint8_t { Run, Idle, Stop };

struct SequenceOrder {
  schedule::Piece piece;
  std::vector<std::int32_t> tokens;  // [piece.count]
  kernels::SampleParameters sampling;
  std::int32_t alternatives = 0;  // most probable tokens to report beside the sampled one
};

struct BatchOrder {
  std::vector<SequenceOrder> sequences;
  std::vector<schedule::PageChange> pages;
};

struct StepOrder {
  OrderKind kind = OrderKind::Run;
  std::int32_t bucket = 0;
  std::int64_t idle_us = 0;  // Idle: how long to sleep before listening again
  bool report_load = false;  // Run: answer with the tokens of each expert since the last report
  std::vector<BatchOrder> ranks;  // by data rank
};

struct Alternative {
  std::int32_t token = 0;
  double logprob = 0;
};

struct Sampled {
  schedule::RequestId request = 0;
  std::int32_t token = 0;
  double logprob = 0;
  std::vector<Alternative> alternatives;  // the most probable first
};

struct StepOutcome {
  std::vector<Sampled> sampled;
  std::vector<double> load;  // layer by layer, tokens of each expert; empty unless asked for
};

// Throws (reading): Error(Failed) when the bytes are not what writing gives.
[[nodiscard]] std::string to_bytes(const StepOrder& order);
[[nodiscard]] StepOrder order_from(std::string_view bytes);
[[nodiscard]] std::string to_bytes(const StepOutcome& outcome);
[[nodiscard]] StepOutcome outcome_from(std::string_view bytes);

}  // namespace imhotep::executor
