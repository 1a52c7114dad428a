#pragma once
// What clients of a server would see that runs a plan: traffic simulated with the server's own
// scheduler, and the highest rate within limits.

#include <optional>
#include <string>

#include "cli/arguments.h"
#include "cli/plan_file.h"

namespace imhotep::cli {

struct TrafficRequestOptions {
  std::optional<double> rate, limit_first_ms, limit_token_ms;
  std::int64_t requests = 1000, concurrency = 0;
  std::string arrivals;  // a trace
  [[nodiscard]] bool asked() const {
    return rate || concurrency > 0 || limit_first_ms || limit_token_ms || !arrivals.empty();
  }
};
void add_traffic_options(Arguments& arguments, TrafficRequestOptions& options);

struct TrafficForecast {
  std::string json;  // an object
  std::string text;  // for the screen
};
// Lengths are the workload's prompt and output, unless a trace says otherwise.
// Throws: Error(Input) for a plan that is not for generation.
[[nodiscard]] TrafficForecast forecast_traffic(const Plan& plan, const Judge& judge,
                                               const TrafficRequestOptions& options, bool color);

}  // namespace imhotep::cli
