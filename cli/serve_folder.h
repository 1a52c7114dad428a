#pragma once
// What `imhotep bench serve` asked, of whom, and what came: the command's own types, and the folder
// that keeps all of it (docs/formats/serve-bench.md).

#include <optional>
#include <string>
#include <vector>

#include "core/spec/plan.h"
#include "executor/serve/load_client.h"
#include "simulator/traffic/step_prices.h"
#include "simulator/traffic/traffic.h"

namespace imhotep::cli {

struct ServeBenchOptions {
  std::string url, key, trace, out, prompt = "128", output = "64", cluster, profile;
  std::optional<double> rate, limit_first_ms, limit_token_ms, host_us;
  std::int64_t concurrency = 0, requests = 100, warmup = 4, seed = 1;
};

struct Load {
  std::vector<simulator::TrafficRequest> requests;
  std::int64_t concurrency = 0;
};

struct Server {
  executor::LoadTarget target;
  Plan plan;
  simulator::TrafficOptions options;
};

// Of clients or of the simulation.
struct Seen {
  simulator::TrafficSummary summary;
  simulator::Goodput goodput;
};

struct Measured {
  std::vector<executor::LoadResult> results;
  Seen seen;
  std::int64_t failed = 0;
};

// `summary`: the text of summary.json.   Throws: Error(Failed).
void write_folder(const ServeBenchOptions& options, const Server& server, const Load& load,
                  const Measured& measured, const std::string& summary);

}  // namespace imhotep::cli
