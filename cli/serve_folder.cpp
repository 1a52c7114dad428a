#include "cli/serve_folder.h"

#include <filesystem>

#include "cli/ranks.h"
#include "core/base/clock.h"
#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "core/base/json_fields.h"

namespace imhotep::cli {
namespace {

namespace fs = std::filesystem;

std::string config_of(const ServeBenchOptions& options, const Server& server, const Load& load) {
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
                       {"limit_first_ms", options.limit_first_ms.value_or(0)},
                       {"limit_token_ms", options.limit_token_ms.value_or(0)},
                       {"seed", options.seed}};
  return config.dump(2) + "\n";
}

std::string lines_of(const Load& load, const Measured& measured) {
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
  return lines;
}

// As chrome://tracing and Perfetto read it: a row a request, its wait and its text.
std::string trace_of(const Measured& measured) {
  Json events = Json::array();
  for (std::size_t i = 0; i < measured.results.size(); ++i) {
    const executor::LoadResult& result = measured.results[i];
    const auto piece = [&](const char* name, double begin, double end) {
      if (begin < 0 || end < begin) return;
      events.push_back({{"name", name},
                        {"ph", "X"},
                        {"pid", 0},
                        {"tid", i},
                        {"ts", begin},
                        {"dur", end - begin}});
    };
    piece("first token", result.sent_us, result.first_us);
    if (!result.tokens_us.empty()) piece("answer", result.first_us, result.tokens_us.back());
  }
  return Json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}}.dump() + "\n";
}

std::string table_of(const std::string& summary) {
  const Json json = Json::parse(summary);
  const Json &measured = json.at("measured"), &predicted = json.at("predicted");
  std::string csv = "metric,unit,statistic,measured,predicted\n";
  for (const char* metric : {"first_token_us", "per_token_us", "gap_us", "whole_us"}) {
    for (const auto& [statistic, value] : measured.at(metric).items()) {
      csv += fmt::format("{},us,{},{},{}\n", metric, statistic, value.get<double>(),
                         predicted.at(metric).at(statistic).get<double>());
    }
  }
  for (const char* rate : {"tokens_per_s", "requests_per_s", "goodput_requests_per_s"}) {
    csv += fmt::format("{},1/s,mean,{},{}\n", rate, measured.at(rate).get<double>(),
                       predicted.at(rate).get<double>());
  }
  return csv;
}

}  // namespace

void write_folder(const ServeBenchOptions& options, const Server& server, const Load& load,
                  const Measured& measured, const std::string& summary) {
  const fs::path folder = options.out;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail("{}: cannot create the folder: {}", options.out, error.message());
  const auto write = [&](const char* name, const std::string& text) {
    write_text_file((folder / name).string(), text);
  };
  const Json env = {{"machine", machine_text()}, {"date", utc_now()}, {"version", "0.1.0"}};
  write("config.json", config_of(options, server, load));
  write("env.json", env.dump(2) + "\n");
  write("requests.jsonl", lines_of(load, measured));
  write("trace.json", trace_of(measured));
  write("summary.json", summary);
  write("summary.csv", table_of(summary));
}

}  // namespace imhotep::cli
