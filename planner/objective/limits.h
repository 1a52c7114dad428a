#pragma once
// What a plan must keep to besides the memory of its devices. With a device count given, every
// limit is one on the time of a step or of a prompt.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/spec/cluster.h"
#include "planner/objective/objective.h"

namespace imhotep::planner {

struct Limits {
  std::optional<double> step_us;          // training step or decode step, at most
  std::optional<double> first_token_us;   // generation: the prompt, at most
  std::optional<double> latency_us;       // generation: prompt and all steps of an answer
  std::optional<double> tokens_per_s;     // all devices, at least
  std::optional<double> per_gpu;          // tokens a second and device, at least
  std::optional<double> cost_per_mtoken;  // at most
  std::optional<double> joules_per_token;
  std::optional<double> hours;  // training of `tokens`
  std::optional<std::int64_t> memory_bytes;
  std::optional<int> gpus;  // at most
  double tokens = 0;        // of the whole training run; 0: unknown
  [[nodiscard]] bool any() const;
};

// "token=25ms,first_token=0.5s,memory=70GB". Keys: token (or step) first_token latency tokens_per_s
// per_gpu cost energy time memory gpus; times take us, ms, s, min, h, d (a bare number is seconds).
// `tokens` is what `time` refers to. Throws: Error(Input) naming the part that cannot be read, or
// a limit that this workload or cluster cannot have.
[[nodiscard]] Limits parse_limits(std::string_view text, const Workload& workload,
                                  const ClusterSpec& cluster, double tokens);

// The same limits as times, for `world` devices.
struct TimeCaps {
  double step_us = std::numeric_limits<double>::infinity();
  double prompt_us = std::numeric_limits<double>::infinity();
  double latency_us = std::numeric_limits<double>::infinity();
  std::int64_t output = 0;          // steps of an answer, for the latency
  std::string step_limit = "step";  // the limit that gives step_us
  // How far the times exceed the worst limit: 1 or less keeps all of them.
  [[nodiscard]] double excess(const Times& times) const;
  [[nodiscard]] bool allow(const Times& times) const { return excess(times) <= 1; }
};
[[nodiscard]] TimeCaps time_caps(const Limits& limits, const Workload& workload,
                                 const ClusterSpec& cluster, int world);

// "a step takes 31 ms, 6.0 ms more than token=25 ms allows", one entry a broken limit.
[[nodiscard]] std::vector<std::string> broken_limits(const TimeCaps& caps, const Times& times);

[[nodiscard]] double tokens_of_step(const Workload& workload);

// What a whole training run of `tokens` takes.
struct RunTotals {
  double hours = 0, money = 0, kwh = 0;  // money and kwh 0: unknown
};
[[nodiscard]] RunTotals run_totals(double tokens, double tokens_per_s, const ClusterSpec& cluster,
                                   int world);

}  // namespace imhotep::planner
