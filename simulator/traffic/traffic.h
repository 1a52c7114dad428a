#pragma once
// Serving under load, simulated: requests arrive, the scheduler of core/schedule (the one that the
// server runs) decides each step, and a step takes the time that a price says. What comes out is
// what a client would measure, without the network between.

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/schedule/scheduler.h"

namespace imhotep::simulator {

struct TrafficRequest {
  double arrival_us = 0;  // ignored in a closed loop
  std::int64_t prompt = 1, output = 1;
  int priority = 0;
  std::uint64_t client = 0;
};

// What a step asks of the ranks: of the data rank that has most to do.
struct StepLoad {
  int bucket = 0;
  std::int64_t rows = 0, samples = 0;
  double keys = 0;  // positions attended to, summed over the rows
};
[[nodiscard]] StepLoad load_of(const schedule::Step& step);

using StepTime = std::function<double(const StepLoad&)>;  // microseconds

struct TrafficOptions {
  schedule::Limits limits;
  std::int64_t concurrency = 0;  // closed loop: so many clients, each asks when it was answered
  double client_us = 0;          // between two requests of clients that ask at once: one program's
  // From the end of an answer's last step to its client's next request. A server begins its next
  // step at once, so that whatever is above 0 makes the request wait for the end of that step.
  double turnaround_us = 0;
  // Waiting longer for a place ends a request between two steps; 0: never.
  double queue_limit_us = 0;
};

// Times since the start; -1: it never came to that.
struct RequestTimes {
  double arrival_us = 0, placed_us = -1, first_us = -1, last_us = -1;
  std::int64_t output = 0;
  std::vector<double> gaps_us;  // between two tokens
  bool refused = false;         // the queue was full, or it waited beyond the limit
  [[nodiscard]] double queue_us() const { return placed_us - arrival_us; }
  [[nodiscard]] double first_token_us() const { return first_us - arrival_us; }
  [[nodiscard]] double per_token_us() const;  // mean gap; 0 for one token
  [[nodiscard]] double whole_us() const { return last_us - arrival_us; }
};

struct TrafficResult {
  std::vector<RequestTimes> requests;
  double end_us = 0;
  std::int64_t steps = 0, preemptions = 0;
};

// Throws: Error(Failed) for a request that can never run.   Requires: arrivals ascend.
[[nodiscard]] TrafficResult simulate_traffic(std::span<const TrafficRequest> requests,
                                             const TrafficOptions& options, const StepTime& time);

// The value below which a share of them lies, between the two nearest; 0 of none.
[[nodiscard]] double percentile(std::vector<double> values, double share);

struct Percentiles {
  double mean = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0, min = 0, max = 0;
  double deviation = 0;  // standard, of these values
};
[[nodiscard]] Percentiles percentiles(const std::vector<double>& values);

struct TrafficSummary {
  Percentiles queue_us, first_token_us, per_token_us, gap_us, whole_us;
  double tokens_per_s = 0, requests_per_s = 0;
  std::int64_t served = 0, refused = 0;
};
[[nodiscard]] TrafficSummary summarize(const TrafficResult& result);

// Served requests that each keep the limits (0: none), and how many of them a second: goodput.
struct Goodput {
  std::int64_t requests = 0;
  double requests_per_s = 0;
};
[[nodiscard]] Goodput goodput(const TrafficResult& result, double first_token_limit_us,
                              double per_token_limit_us);

// ---- loads

// Lengths are uniform in these ranges.
struct TrafficShape {
  std::int64_t prompt_low = 128, prompt_high = 128, output_low = 128, output_high = 128;
};
// `rate_per_s` 0: all at the start.
[[nodiscard]] std::vector<TrafficRequest> poisson_traffic(const TrafficShape& shape,
                                                          double rate_per_s, std::int64_t count,
                                                          std::uint64_t seed);
// A trace: lines "arrival_s,prompt,output"; '#' begins a comment.   Throws: Error(Input).
[[nodiscard]] std::vector<TrafficRequest> parse_trace(const std::string& text,
                                                      const std::string& name);

// Limits on the 99th percentile; 0: none.
struct ServiceLimits {
  double first_token_us = 0, per_token_us = 0;
};
[[nodiscard]] bool meets(const TrafficSummary& summary, const ServiceLimits& limits);
// The highest Poisson rate, to a hundredth, that `count` requests keep within the limits; 0: none.
[[nodiscard]] double highest_rate(const TrafficShape& shape, const TrafficOptions& options,
                                  const StepTime& time, const ServiceLimits& limits,
                                  std::int64_t count, std::uint64_t seed);

}  // namespace imhotep::simulator
