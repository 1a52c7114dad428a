#include "cli/traffic_forecast.h"

#include <algorithm>

#include "cli/table.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "simulator/traffic/step_prices.h"

namespace imhotep::cli {
namespace {

using simulator::TrafficSummary;

constexpr std::uint64_t kSeed = 1;
// Clients of a closed loop, as `imhotep bench serve` on the server's machine: 18 us from one
// request to the next, 79 to 101 us from the last token of an answer to the next request.
constexpr double kClientUs = 18, kTurnaroundUs = 100;

// As `imhotep serve` would start with this plan.
simulator::TrafficOptions options_of(const Plan& plan) {
  const std::int64_t sequences = plan.sequences_per_rank();
  schedule::Limits limits{.data = plan.data,
                          .sequences = sequences,
                          .pages = plan.kv_pages(),
                          .page_size = plan.page_size,
                          .buckets = schedule::usual_buckets(sequences, plan.prefill_chunk)};
  limits.max_context = std::min<std::int64_t>(plan.model.context, limits.pages * plan.page_size);
  limits.max_waiting = 1 << 20;  // the queue shows in the times, not in refusals
  return {.limits = limits};
}

Json json_of(const simulator::Percentiles& p) {
  return {{"mean", p.mean}, {"p50", p.p50}, {"p90", p.p90}, {"p99", p.p99}};
}

Json json_of(const TrafficSummary& summary) {
  return {{"queue_us", json_of(summary.queue_us)},
          {"first_token_us", json_of(summary.first_token_us)},
          {"per_token_us", json_of(summary.per_token_us)},
          {"gap_us", json_of(summary.gap_us)},
          {"tokens_per_s", summary.tokens_per_s},
          {"requests_per_s", summary.requests_per_s}};
}

std::string text_of(const TrafficSummary& summary, bool color) {
  Table table({{"latency"},
               {"mean", Align::Right},
               {"p50", Align::Right},
               {"p90", Align::Right},
               {"p99", Align::Right}});
  const auto row = [&](const char* name, const simulator::Percentiles& p) {
    table.row(
        {name, format_time(p.mean), format_time(p.p50), format_time(p.p90), format_time(p.p99)});
  };
  row("queue", summary.queue_us);
  row("first token", summary.first_token_us);
  row("per token", summary.per_token_us);
  row("between tokens", summary.gap_us);
  return table.text(2, color) + fmt::format("  {:.2f} requests/s, {} tokens/s\n",
                                            summary.requests_per_s,
                                            format_count(summary.tokens_per_s));
}

}  // namespace

void add_traffic_options(Arguments& arguments, TrafficRequestOptions& options) {
  arguments.number("--rate", options.rate, "serving: requests a second, Poisson arrivals");
  arguments.integer("--concurrency", options.concurrency,
                    "serving: clients that ask again when answered", 0);
  arguments.text("--arrivals", options.arrivals, "serving: lines arrival_s,prompt,output");
  arguments.integer("--requests", options.requests, "serving: in all (1000)");
  arguments.number("--limit-first", options.limit_first_ms, "serving: p99 ms to the first token");
  arguments.number("--limit-token", options.limit_token_ms, "serving: p99 ms a further token");
}

TrafficForecast forecast_traffic(const Plan& plan, const Judge& judge,
                                 const TrafficRequestOptions& options, bool color) {
  const Workload& work = plan.workload;
  if (work.kind != WorkloadKind::Generation) {
    fail_input(
        "--rate, --arrivals, --concurrency and limits of serving need a plan for generation");
  }
  if (options.concurrency > 0 && (options.rate || !options.arrivals.empty())) {
    fail_input("--concurrency is a closed loop: it goes without --rate and --arrivals");
  }
  simulator::TrafficOptions traffic = options_of(plan);
  simulator::StepPrices prices(judge.simulator, plan, traffic.limits);
  const auto time = [&](const simulator::StepLoad& load) { return prices.time_us(load); };
  const simulator::TrafficShape shape{work.prompt, work.prompt, work.output, work.output};
  Json json = Json::object();
  std::string text;
  if (options.rate || options.concurrency > 0 || !options.arrivals.empty()) {
    if (options.rate && !(*options.rate > 0)) fail_input("--rate: expected a rate above 0");
    const auto requests =
        options.arrivals.empty()
            ? simulator::poisson_traffic(shape, options.rate.value_or(0), options.requests, kSeed)
            : simulator::parse_trace(read_text_file(options.arrivals), options.arrivals);
    traffic.concurrency = options.concurrency;
    traffic.client_us = kClientUs;
    traffic.turnaround_us = kTurnaroundUs;
    const TrafficSummary summary = summarize(simulate_traffic(requests, traffic, time));
    traffic.concurrency = 0;
    json = json_of(summary);
    text += text_of(summary, color);
  }
  if (options.limit_first_ms || options.limit_token_ms) {
    const simulator::ServiceLimits wanted{
        .first_token_us = 1e3 * options.limit_first_ms.value_or(0),
        .per_token_us = 1e3 * options.limit_token_ms.value_or(0)};
    const double rate =
        simulator::highest_rate(shape, traffic, time, wanted, options.requests, kSeed);
    json["highest_rate_per_s"] = rate;
    text += rate > 0 ? fmt::format("  highest rate within the limits: {:.3g} requests/s\n", rate)
                     : "  no rate keeps the limits: a lone request exceeds them\n";
  }
  return {.json = json.dump(), .text = text};
}

}  // namespace imhotep::cli
