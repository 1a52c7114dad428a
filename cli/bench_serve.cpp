// imhotep bench serve: what a server's clients see under load, and what the simulator expects.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/plan_file.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/table.h"
#include "core/base/clock.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/random.h"
#include "core/base/units.h"
#include "executor/serve/load_client.h"
#include "simulator/traffic/step_prices.h"

namespace imhotep::cli {
namespace {

struct ServeBenchOptions {
  std::string url, key, trace, out, prompt = "128", output = "64", cluster, profile;
  std::optional<double> rate, limit_first_ms, limit_token_ms, host_us;
  std::int64_t concurrency = 0, requests = 100, warmup = 4, seed = 1;
};

// Scheduling, input tables and answers of a step: between 1 and 12 us on one CPU rank (/stats).
constexpr double kUsualHostUs = 10;

struct Load {
  std::vector<simulator::TrafficRequest> requests;
  std::int64_t concurrency = 0;
};

struct Server {
  executor::LoadTarget target;
  Plan plan;
  simulator::TrafficOptions options;
  simulator::ServingShape shape;
};

struct Measured {
  std::vector<executor::LoadResult> results;
  simulator::TrafficSummary summary;
  double goodput = 0;  // requests a second within the limits
  std::int64_t failed = 0, good = 0;
};

// "128" or "64:256".
std::pair<std::int64_t, std::int64_t> range_of(const std::string& text, const char* name) {
  const std::size_t colon = text.find(':');
  try {
    const std::int64_t low = std::stoll(text.substr(0, colon));
    const std::int64_t high = colon == std::string::npos ? low : std::stoll(text.substr(colon + 1));
    if (low >= 1 && high >= low) return {low, high};
  } catch (const std::logic_error&) {
  }
  fail_input("{}: expected tokens as 128 or 64:256, got \"{}\"", name, text);
}

executor::LoadTarget target_of(const ServeBenchOptions& options) {
  std::string rest = options.url;
  if (rest.starts_with("http://")) rest.erase(0, 7);
  while (!rest.empty() && rest.back() == '/') rest.pop_back();
  const std::size_t colon = rest.rfind(':');
  if (rest.empty() || rest.find('/') != std::string::npos) {
    fail_input("expected a server as http://127.0.0.1:8000, got \"{}\"", options.url);
  }
  executor::LoadTarget target{.key = options.key};
  target.host = rest.substr(0, colon);
  if (colon != std::string::npos) target.port = rest.substr(colon + 1);
  return target;
}

Server ask_server(const ServeBenchOptions& options) {
  Server server{.target = target_of(options)};
  static_cast<void>(executor::http_fetch(server.target, "/health"));
  server.plan = parse_plan(executor::http_fetch(server.target, "/plan"), options.url + "/plan");
  const Json models = Json::parse(executor::http_fetch(server.target, "/v1/models"));
  server.target.model = models.at("data").at(0).at("id").get<std::string>();
  const Json stats = Json::parse(executor::http_fetch(server.target, "/stats"));
  schedule::Limits& limits = server.options.limits;
  limits.data = stats.at("data").get<int>();
  limits.sequences = stats.at("sequences").get<std::int64_t>();
  limits.pages = stats.at("pages").get<std::int64_t>();
  limits.page_size = stats.at("page_size").get<std::int64_t>();
  limits.max_context = stats.at("max_context").get<std::int64_t>();
  limits.max_waiting = stats.at("max_waiting").get<std::int64_t>();
  limits.aging_us = stats.at("aging_us").get<double>();
  for (const Json& bucket : stats.at("buckets")) {
    limits.buckets.push_back({bucket.at(0).get<std::int64_t>(), bucket.at(1).get<std::int64_t>()});
  }
  server.shape = {.sequences = limits.sequences,
                  .pages = limits.pages,
                  .max_context = limits.max_context,
                  .buckets = limits.buckets};
  return server;
}

Load load_of(const ServeBenchOptions& options) {
  if (!options.trace.empty()) {
    return {.requests = simulator::parse_trace(read_text_file(options.trace), options.trace)};
  }
  const auto [prompt_low, prompt_high] = range_of(options.prompt, "--prompt");
  const auto [output_low, output_high] = range_of(options.output, "--output");
  const simulator::TrafficShape shape{prompt_low, prompt_high, output_low, output_high};
  const double rate = options.rate.value_or(0);
  if (rate <= 0 && options.concurrency == 0) {
    fail_input("bench serve: expected --rate, --trace or --concurrency");
  }
  return {.requests = simulator::poisson_traffic(shape, rate, options.requests,
                                                 static_cast<std::uint64_t>(options.seed)),
          .concurrency = options.concurrency};
}

// Random tokens as the prompt; as many new tokens as asked for, whatever they say.
std::string body_of(const Server& server, const simulator::TrafficRequest& request,
                    std::uint64_t seed) {
  Json prompt = Json::array();
  for (std::int64_t i = 0; i < request.prompt; ++i) {
    prompt.push_back(hash(seed, static_cast<std::uint64_t>(i)) %
                     static_cast<std::uint64_t>(server.plan.model.vocab));
  }
  const Json body = {{"model", server.target.model}, {"prompt", prompt},
                     {"max_tokens", request.output}, {"temperature", 0},
                     {"ignore_eos", true},           {"stream", true}};
  return body.dump();
}

std::vector<executor::LoadRequest> bodies_of(const Server& server, const Load& load,
                                             std::int64_t seed) {
  std::vector<executor::LoadRequest> requests;
  for (std::size_t i = 0; i < load.requests.size(); ++i) {
    requests.push_back(
        {.at_us = load.requests[i].arrival_us,
         .body = body_of(server, load.requests[i], hash(static_cast<std::uint64_t>(seed), i))});
  }
  return requests;
}

Measured measure(const ServeBenchOptions& options, const Server& server, const Load& load,
                 Progress& progress) {
  Load warm{.requests = {load.requests.begin(),
                         load.requests.begin() +
                             std::min<std::int64_t>(
                                 options.warmup, static_cast<std::int64_t>(load.requests.size()))},
            .concurrency = std::max<std::int64_t>(1, options.warmup)};
  static_cast<void>(executor::run_load(server.target, bodies_of(server, warm, options.seed + 1),
                                       {.concurrency = warm.concurrency, .progress = {}}));
  const auto total = static_cast<std::int64_t>(load.requests.size());
  Measured measured;
  measured.results =
      executor::run_load(server.target, bodies_of(server, load, options.seed),
                         {.concurrency = load.concurrency,
                          .progress = [&](std::int64_t done) { progress.update(done, total); }});
  simulator::TrafficResult as_traffic;
  const double first_limit = options.limit_first_ms.value_or(0) * 1e3;
  const double token_limit = options.limit_token_ms.value_or(0) * 1e3;
  double begin = INFINITY, end = 0;
  for (const executor::LoadResult& result : measured.results) {
    simulator::RequestTimes times{.arrival_us = result.sent_us};
    if (!result.complete() || result.tokens_us.empty()) {
      ++measured.failed;
      times.refused = true;
    } else {
      times.placed_us = result.sent_us;  // a client does not see the queue
      times.first_us = result.first_us;
      times.last_us = result.tokens_us.back();
      times.output = static_cast<std::int64_t>(result.tokens_us.size());
      for (std::size_t i = 1; i < result.tokens_us.size(); ++i) {
        times.gaps_us.push_back(result.tokens_us[i] - result.tokens_us[i - 1]);
      }
      begin = std::min(begin, times.arrival_us);
      end = std::max(end, times.last_us);
      measured.good += (first_limit <= 0 || times.first_token_us() <= first_limit) &&
                       (token_limit <= 0 || times.per_token_us() <= token_limit);
    }
    as_traffic.requests.push_back(std::move(times));
  }
  measured.summary = simulator::summarize(as_traffic);
  if (end > begin) measured.goodput = static_cast<double>(measured.good) / (end - begin) * 1e6;
  return measured;
}

simulator::TrafficSummary predict(const ServeBenchOptions& options, const Server& server,
                                  const Load& load, std::string& prices) {
  const Judge judge = judge_for(server.plan, options.cluster, options.profile);
  prices = judge.profile ? judge.profile->name : "roofline";
  simulator::StepPrices times(judge.simulator, server.plan, server.shape,
                              options.host_us.value_or(kUsualHostUs));
  simulator::TrafficOptions traffic = server.options;
  traffic.concurrency = load.concurrency;
  return simulator::summarize(simulator::simulate_traffic(
      load.requests, traffic,
      [&](const simulator::StepLoad& step) { return times.time_us(step); }));
}

struct Row {
  const char* name;
  const simulator::Percentiles &measured, &predicted;
};

std::vector<Row> rows_of(const simulator::TrafficSummary& measured,
                         const simulator::TrafficSummary& predicted) {
  return {{"first token", measured.first_token_us, predicted.first_token_us},
          {"per token", measured.per_token_us, predicted.per_token_us},
          {"between tokens", measured.gap_us, predicted.gap_us}};
}

Json json_of(const simulator::Percentiles& p) {
  return {{"mean", p.mean}, {"p50", p.p50}, {"p90", p.p90}, {"p99", p.p99}};
}

Json json_of(const simulator::TrafficSummary& summary) {
  return {{"first_token_us", json_of(summary.first_token_us)},
          {"per_token_us", json_of(summary.per_token_us)},
          {"gap_us", json_of(summary.gap_us)},
          {"tokens_per_s", summary.tokens_per_s},
          {"requests_per_s", summary.requests_per_s},
          {"served", summary.served},
          {"refused", summary.refused}};
}

std::string error_text(double predicted, double measured) {
  return measured > 0 ? fmt::format("{:+.1f} %", 100 * (predicted - measured) / measured) : "";
}

// Every request, and what follows from them: docs/formats/serve-bench.md.
void write_folder(const ServeBenchOptions& options, const Server& server, const Load& load,
                  const Measured& measured, const Json& summary) {
  namespace fs = std::filesystem;
  const fs::path folder = options.out;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail("{}: cannot create the folder: {}", options.out, error.message());
  const Json config = {{"url", options.url},
                       {"model", server.target.model},
                       {"plan_hash", plan_hash(server.plan)},
                       {"rate_per_s", options.rate.value_or(0)},
                       {"concurrency", options.concurrency},
                       {"trace", options.trace},
                       {"prompt", options.prompt},
                       {"output", options.output},
                       {"requests", load.requests.size()},
                       {"warmup", options.warmup},
                       {"seed", options.seed}};
  write_text_file((folder / "config.json").string(), config.dump(2) + "\n");
  const Json env = {{"machine", machine_text()}, {"date", utc_now()}, {"version", "0.1.0"}};
  write_text_file((folder / "env.json").string(), env.dump(2) + "\n");
  std::string lines;
  for (std::size_t i = 0; i < measured.results.size(); ++i) {
    const executor::LoadResult& result = measured.results[i];
    const Json line = {{"arrival_us", load.requests[i].arrival_us},
                       {"prompt", load.requests[i].prompt},
                       {"output", load.requests[i].output},
                       {"sent_us", result.sent_us},
                       {"first_us", result.first_us},
                       {"tokens_us", result.tokens_us},
                       {"status", result.status},
                       {"error", result.error}};
    lines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  write_text_file((folder / "requests.jsonl").string(), lines);
  write_text_file((folder / "summary.json").string(), summary.dump(2) + "\n");
  std::string csv = "metric,unit,statistic,measured,predicted\n";
  for (const char* metric : {"first_token_us", "per_token_us", "gap_us"}) {
    for (const char* statistic : {"mean", "p50", "p90", "p99"}) {
      csv += fmt::format("{},us,{},{},{}\n", metric, statistic,
                         summary["measured"][metric][statistic].get<double>(),
                         summary["predicted"][metric][statistic].get<double>());
    }
  }
  write_text_file((folder / "summary.csv").string(), csv);
}

void print_screen(const Measured& measured, const simulator::TrafficSummary& predicted,
                  const std::string& prices, const Session& session) {
  Table table({{"latency"},
               {""},
               {"mean", Align::Right},
               {"p50", Align::Right},
               {"p90", Align::Right},
               {"p99", Align::Right}});
  for (const Row& row : rows_of(measured.summary, predicted)) {
    const simulator::Percentiles &m = row.measured, &p = row.predicted;
    table.row({row.name, "measured", format_time(m.mean), format_time(m.p50), format_time(m.p90),
               format_time(m.p99)});
    table.row({"", "predicted", format_time(p.mean), format_time(p.p50), format_time(p.p90),
               format_time(p.p99)});
    table.row({"", "error", error_text(p.mean, m.mean), error_text(p.p50, m.p50),
               error_text(p.p90, m.p90), error_text(p.p99, m.p99)});
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
  fmt::print(
      "  {} answered, {} failed; {:.1f} tokens/s (predicted {:.1f}, {}), {:.2f} requests/s, "
      "{:.2f} within the limits; prices: {}\n",
      measured.summary.served, measured.failed, measured.summary.tokens_per_s,
      predicted.tokens_per_s, error_text(predicted.tokens_per_s, measured.summary.tokens_per_s),
      measured.summary.requests_per_s, measured.goodput, prices);
}

int bench_serve(const ServeBenchOptions& options, const Session& session) {
  const Load load = load_of(options);
  const Server server = ask_server(options);
  Progress progress("bench", "requests", !session.quiet);
  std::string prices;
  const simulator::TrafficSummary predicted = predict(options, server, load, prices);
  const Measured measured = measure(options, server, load, progress);
  const Json summary = {{"measured", json_of(measured.summary)},
                        {"predicted", json_of(predicted)},
                        {"goodput_requests_per_s", measured.goodput},
                        {"within_limits", measured.good},
                        {"failed", measured.failed},
                        {"prices", prices}};
  if (!options.out.empty()) write_folder(options, server, load, measured, summary);
  if (session.json) {
    fmt::print("{}\n", summary.dump(2));
  } else {
    print_screen(measured, predicted, prices, session);
  }
  return measured.failed == static_cast<std::int64_t>(load.requests.size()) ? 1 : 0;
}

}  // namespace

Run setup_bench_serve(Arguments& arguments) {
  const auto options = std::make_shared<ServeBenchOptions>();
  arguments.required("URL", options->url, "of the server: http://127.0.0.1:8000");
  arguments.number("--rate", options->rate, "requests a second, Poisson arrivals");
  arguments.integer("--concurrency", options->concurrency, "clients that ask when answered", 0);
  arguments.text("--trace", options->trace, "a file of lines arrival_s,prompt,output");
  arguments.integer("--requests", options->requests, "in all (100)");
  arguments.text("--prompt", options->prompt, "tokens: 128, or 64:256");
  arguments.text("--output", options->output, "new tokens: 64, or 16:128");
  arguments.number("--limit-first", options->limit_first_ms, "goodput: ms to the first token");
  arguments.number("--limit-token", options->limit_token_ms, "goodput: ms a further token");
  arguments.integer("--warmup", options->warmup, "requests before, not counted (4)", 0);
  arguments.integer("--seed", options->seed, "of arrivals, lengths and prompts", 0);
  arguments.text("--api-key", options->key, "the server's key");
  arguments.text("--cluster", options->cluster, "where the server runs (its plan's cluster)");
  arguments.text("--profile", options->profile, "prices of the prediction; none: roofline");
  arguments.number("--host-us", options->host_us, "predicted time of a step outside its program");
  arguments.text("-o,--out", options->out, "write every request to this folder");
  arguments.example("imhotep bench serve http://127.0.0.1:8000 --rate 4 --requests 200");
  arguments.example("imhotep bench serve http://127.0.0.1:8000 --concurrency 8 -o run/load");
  return [options](const Session& session) { return bench_serve(*options, session); };
}

}  // namespace imhotep::cli
