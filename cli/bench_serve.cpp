// imhotep bench serve: what a server's clients see under load, and what the simulator expects.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/plan_file.h"
#include "cli/progress.h"
#include "cli/serve_folder.h"
#include "cli/table.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/random.h"
#include "core/base/units.h"
#include "simulator/traffic/step_prices.h"

namespace imhotep::cli {
namespace {

// Scheduling, input tables and answers of a step: between 1 and 12 us on one CPU rank (/stats).
constexpr double kUsualHostUs = 10;

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
  server.options.queue_limit_us = stats.at("queue_limit_us").get<double>();
  limits.aging_us = stats.at("aging_us").get<double>();
  for (const Json& bucket : stats.at("buckets")) {
    limits.buckets.push_back({bucket.at(0).get<std::int64_t>(), bucket.at(1).get<std::int64_t>()});
  }
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

simulator::RequestTimes times_of(const executor::LoadResult& result) {
  simulator::RequestTimes times{.arrival_us = result.sent_us};
  if (!result.complete() || result.tokens_us.empty()) {
    times.refused = true;
    return times;
  }
  times.placed_us = result.sent_us;  // a client does not see the queue
  times.first_us = result.first_us;
  times.last_us = result.tokens_us.back();
  times.output = static_cast<std::int64_t>(result.tokens_us.size());
  for (std::size_t i = 1; i < result.tokens_us.size(); ++i) {
    times.gaps_us.push_back(result.tokens_us[i] - result.tokens_us[i - 1]);
  }
  return times;
}

Seen seen_in(const ServeBenchOptions& options, const simulator::TrafficResult& result) {
  return {.summary = simulator::summarize(result),
          .goodput = simulator::goodput(result, 1e3 * options.limit_first_ms.value_or(0),
                                        1e3 * options.limit_token_ms.value_or(0))};
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
  for (const executor::LoadResult& result : measured.results) {
    as_traffic.requests.push_back(times_of(result));
    measured.failed += as_traffic.requests.back().refused ? 1 : 0;
  }
  measured.seen = seen_in(options, as_traffic);
  return measured;
}

// Steps of each bucket between two answers of /stats.
std::vector<simulator::StepPrices::Touched> touched_between(const Json& before, const Json& after) {
  std::vector<simulator::StepPrices::Touched> all;
  const Json& last = after.at("bucket_loads");
  for (std::size_t b = 0; b < last.size(); ++b) {
    const Json& first = before.at("bucket_loads");
    const auto change = [&](int i) {
      const double was = b < first.size() ? first[b][i].get<double>() : 0;
      return last[b][i].get<double>() - was;
    };
    const double steps = change(0);
    all.push_back({.steps = steps, .experts = steps > 0 ? change(2) / steps : 0});
  }
  return all;
}

// Between two requests that the load's clients send at once; one program sends them all.
double client_us(const std::vector<executor::LoadResult>& results, std::int64_t clients) {
  if (clients < 2 || static_cast<std::int64_t>(results.size()) < clients) return 0;
  std::vector<double> sent;
  for (const executor::LoadResult& result : results) sent.push_back(result.sent_us);
  std::sort(sent.begin(), sent.end());
  return (sent[clients - 1] - sent[0]) / static_cast<double>(clients - 1);
}

// From the last token of an answer to the request that its client sends next: the median.
double turnaround_us(const std::vector<executor::LoadResult>& results, std::int64_t clients) {
  if (clients < 1 || static_cast<std::int64_t>(results.size()) <= clients) return 0;
  std::vector<double> sent, ends, taken;
  for (const executor::LoadResult& result : results) {
    sent.push_back(result.sent_us);
    if (!result.tokens_us.empty()) ends.push_back(result.tokens_us.back());
  }
  std::sort(sent.begin(), sent.end());
  std::sort(ends.begin(), ends.end());
  for (auto next = sent.begin() + clients; next != sent.end(); ++next) {
    const auto after = std::upper_bound(ends.begin(), ends.end(), *next);
    if (after != ends.begin()) taken.push_back(*next - *(after - 1));
  }
  return simulator::percentile(std::move(taken), 0.5);
}

// What the load would see by the prices alone; how many experts a step touches is taken from the
// server's counts, because it is a property of weights and text, not of the machine.
Seen predict(const ServeBenchOptions& options, const Server& server, const Load& load,
             const Measured& measured, std::vector<simulator::StepPrices::Touched> touched,
             std::string& prices) {
  const Judge judge = judge_for(server.plan, options.cluster, options.profile);
  prices = judge.profile ? judge.profile->name : "roofline";
  simulator::StepPrices times(judge.simulator, server.plan, server.options.limits,
                              options.host_us.value_or(kUsualHostUs));
  times.set_touched(std::move(touched));
  simulator::TrafficOptions traffic = server.options;
  traffic.concurrency = load.concurrency;
  traffic.client_us = client_us(measured.results, load.concurrency);
  traffic.turnaround_us = turnaround_us(measured.results, load.concurrency);
  return seen_in(options, simulator::simulate_traffic(load.requests, traffic,
                                                      [&](const simulator::StepLoad& step) {
                                                        return times.time_us(step);
                                                      }));
}

struct Row {
  const char* name;
  const simulator::Percentiles &measured, &predicted;
};

std::vector<Row> rows_of(const simulator::TrafficSummary& measured,
                         const simulator::TrafficSummary& predicted) {
  return {{"first token", measured.first_token_us, predicted.first_token_us},
          {"per token", measured.per_token_us, predicted.per_token_us},
          {"between tokens", measured.gap_us, predicted.gap_us},
          {"whole answer", measured.whole_us, predicted.whole_us}};
}

Json json_of(const simulator::Percentiles& p) {
  return {{"mean", p.mean}, {"p50", p.p50}, {"p90", p.p90}, {"p95", p.p95},
          {"p99", p.p99},   {"min", p.min}, {"max", p.max}, {"deviation", p.deviation}};
}

Json json_of(const Seen& seen) {
  const simulator::TrafficSummary& summary = seen.summary;
  return {{"first_token_us", json_of(summary.first_token_us)},
          {"per_token_us", json_of(summary.per_token_us)},
          {"gap_us", json_of(summary.gap_us)},
          {"whole_us", json_of(summary.whole_us)},
          {"tokens_per_s", summary.tokens_per_s},
          {"requests_per_s", summary.requests_per_s},
          {"goodput_requests_per_s", seen.goodput.requests_per_s},
          {"within_limits", seen.goodput.requests},
          {"served", summary.served},
          {"refused", summary.refused}};
}

std::string error_text(double predicted, double measured) {
  return measured > 0 ? fmt::format("{:+.1f} %", 100 * (predicted - measured) / measured) : "";
}

void print_rate(const char* name, double measured, double predicted) {
  fmt::print("  {:14}  {:.2f}, predicted {:.2f}{}\n", name, measured, predicted,
             measured > 0 ? ", " + error_text(predicted, measured) : "");
}

void print_screen(const Measured& measured, const Seen& predicted, const std::string& prices,
                  const Session& session) {
  Table table({{"latency"},
               {""},
               {"mean", Align::Right},
               {"p50", Align::Right},
               {"p90", Align::Right},
               {"p99", Align::Right}});
  for (const Row& row : rows_of(measured.seen.summary, predicted.summary)) {
    const simulator::Percentiles &m = row.measured, &p = row.predicted;
    table.row({row.name, "measured", format_time(m.mean), format_time(m.p50), format_time(m.p90),
               format_time(m.p99)});
    table.row({"", "predicted", format_time(p.mean), format_time(p.p50), format_time(p.p90),
               format_time(p.p99)});
    table.row({"", "error", error_text(p.mean, m.mean), error_text(p.p50, m.p50),
               error_text(p.p90, m.p90), error_text(p.p99, m.p99)});
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
  const simulator::TrafficSummary &m = measured.seen.summary, &p = predicted.summary;
  print_rate("tokens/s", m.tokens_per_s, p.tokens_per_s);
  print_rate("requests/s", m.requests_per_s, p.requests_per_s);
  print_rate("within limits/s", measured.seen.goodput.requests_per_s,
             predicted.goodput.requests_per_s);
  fmt::print("  {} answered, {} failed (predicted {} and {}); prices: {}\n", m.served,
             measured.failed, p.served, p.refused, prices);
}

int bench_serve(const ServeBenchOptions& options, const Session& session) {
  const Load load = load_of(options);
  const Server server = ask_server(options);
  Progress progress("bench", "requests", !session.quiet);
  std::string prices;
  const auto stats = [&] { return Json::parse(executor::http_fetch(server.target, "/stats")); };
  const Json before = stats();
  const Measured measured = measure(options, server, load, progress);
  const Seen predicted =
      predict(options, server, load, measured, touched_between(before, stats()), prices);
  const Json summary = {{"measured", json_of(measured.seen)},
                        {"predicted", json_of(predicted)},
                        {"failed", measured.failed},
                        {"prices", prices}};
  if (!options.out.empty()) write_folder(options, server, load, measured, summary.dump(2) + "\n");
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
