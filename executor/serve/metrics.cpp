#include "executor/serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace imhotep::executor {
namespace {

std::vector<double> seconds_bounds() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};
}
std::vector<double> short_bounds() {
  return {0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10};
}
std::vector<double> size_bounds() {
  return {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192};
}

// Backslash, quote and line end, as the exposition format writes label values.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

void head(std::string& out, const std::string& name, const char* type, const char* help) {
  out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

}  // namespace

void Histogram::add(double value) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  ++counts_[at];
  ++count_;
  sum_ += value;
}

void Histogram::write(const std::string& name, const char* help, const std::string& labels,
                      std::string& out) const {
  head(out, name, "histogram", help);
  std::int64_t below = 0;
  for (std::size_t i = 0; i < bounds_.size(); ++i) {
    below += counts_[i];
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, bounds_[i], below);
  }
  out += fmt::format("{}_bucket{{{},le=\"+Inf\"}} {}\n", name, labels, count_);
  out +=
      fmt::format("{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", name, labels, sum_, name, labels, count_);
}

double Metrics::Values::active_experts() const {
  double sum = 0;
  for (const BucketLoad& load : bucket_loads) sum += load.active_experts;
  return sum;
}

Metrics::Values::Values()
    : first_token(seconds_bounds()),
      inter_token(short_bounds()),
      per_token(short_bounds()),
      whole(seconds_bounds()),
      queue(seconds_bounds()),
      prefill(seconds_bounds()),
      decode(seconds_bounds()),
      inference(seconds_bounds()),
      prompt_sizes(size_bounds()),
      output_sizes(size_bounds()),
      asked_sizes(size_bounds()),
      step_tokens(size_bounds()) {}

Metrics::Metrics(MetricLabels labels) : labels_(std::move(labels)) {}

std::string Metrics::text(double uptime_seconds) const {
  const std::lock_guard lock(mutex_);
  const Values& v = values_;
  const std::string model = fmt::format("model_name=\"{}\"", escaped(labels_.model));
  std::string out;
  const auto one = [&](const char* name, const char* type, const char* help, auto value) {
    head(out, name, type, help);
    out += fmt::format("{}{{{}}} {}\n", name, model, value);
  };
  one("imhotep_requests_running", "gauge", "Requests that hold a place in the batch.", v.running);
  one("imhotep_requests_waiting", "gauge", "Requests that wait for a place.", v.waiting);
  one("imhotep_kv_cache_usage_ratio", "gauge", "Pages of the KV cache in use, of all.",
      v.pages > 0 ? static_cast<double>(v.pages_used) / static_cast<double>(v.pages) : 0.0);
  one("imhotep_preemptions_total", "counter", "Requests that lost their pages for a while.",
      v.preemptions);
  one("imhotep_prompt_tokens_total", "counter", "Prompt tokens of requests that began to answer.",
      v.prompt_tokens);
  one("imhotep_generation_tokens_total", "counter", "Tokens generated.", v.output_tokens);
  one("imhotep_steps_total", "counter", "Steps of all ranks.", v.steps);
  one("imhotep_step_seconds_total", "counter", "Time inside steps.", v.step_seconds);
  one("imhotep_program_seconds_total", "counter", "Time of rank 0 inside programs of steps.",
      v.program_seconds);
  head(out, "imhotep_requests_total", "counter", "Requests that ended, by reason.");
  for (const auto& [reason, count] : v.ended) {
    out += fmt::format("imhotep_requests_total{{{},finished_reason=\"{}\"}} {}\n", model,
                       escaped(reason), count);
  }
  head(out, "imhotep_requests_refused_total", "counter", "Requests not accepted, by reason.");
  for (const auto& [reason, count] : v.refused) {
    out += fmt::format("imhotep_requests_refused_total{{{},reason=\"{}\"}} {}\n", model,
                       escaped(reason), count);
  }
  const auto histogram = [&](const char* name, const char* help, const Histogram& values) {
    values.write(name, help, model, out);
  };
  histogram("imhotep_time_to_first_token_seconds", "From arrival to the first token.",
            v.first_token);
  histogram("imhotep_inter_token_latency_seconds", "Gap between two tokens of a request.",
            v.inter_token);
  histogram("imhotep_time_per_output_token_seconds",
            "A request's mean time for a token after the first.", v.per_token);
  histogram("imhotep_e2e_request_latency_seconds", "From arrival to the last token.", v.whole);
  histogram("imhotep_request_queue_time_seconds", "From arrival to a place in the batch.", v.queue);
  histogram("imhotep_request_prefill_time_seconds", "From a place to the first token.", v.prefill);
  histogram("imhotep_request_decode_time_seconds", "From the first token to the last.", v.decode);
  histogram("imhotep_request_inference_time_seconds", "From a place to the last token.",
            v.inference);
  histogram("imhotep_request_prompt_tokens", "Tokens of a prompt.", v.prompt_sizes);
  histogram("imhotep_request_generation_tokens", "Tokens of an answer.", v.output_sizes);
  histogram("imhotep_request_max_tokens", "Tokens that a request asked for at most.",
            v.asked_sizes);
  histogram("imhotep_step_tokens", "Tokens that pass the model in a step.", v.step_tokens);
  head(out, "imhotep_expert_tokens_total", "counter", "Tokens by layer and first-choice expert.");
  for (const ExpertLoad& load : v.experts) {
    for (std::size_t expert = 0; expert < load.tokens.size(); ++expert) {
      out += fmt::format("imhotep_expert_tokens_total{{{},layer=\"{}\",expert=\"{}\"}} {}\n", model,
                         load.layer, expert, load.tokens[expert]);
    }
  }
  one("imhotep_active_experts_total", "counter",
      "Experts with tokens of data rank 0, summed over MoE layers and steps.", v.active_experts());
  head(out, "imhotep_expert_imbalance_ratio", "gauge",
       "Tokens of the fullest expert over the mean.");
  for (const ExpertLoad& load : v.experts) {
    double sum = 0, most = 0;
    for (const double tokens : load.tokens) sum += tokens, most = std::max(most, tokens);
    const double mean = sum / static_cast<double>(load.tokens.size());
    out += fmt::format("imhotep_expert_imbalance_ratio{{{},layer=\"{}\"}} {}\n", model, load.layer,
                       mean > 0 ? most / mean : 0.0);
  }
  one("imhotep_dropped_tokens_total", "counter",
      "Tokens that passed an MoE layer without an expert.", v.dropped_tokens);
  one("imhotep_exchange_seconds_total", "counter",
      "Time of rank 0 in all-to-all exchanges; processors only.", v.exchange_seconds);
  one("imhotep_uptime_seconds", "gauge", "Since the server started.", uptime_seconds);
  head(out, "imhotep_build_info", "gauge", "Version of the program.");
  out += fmt::format("imhotep_build_info{{version=\"{}\"}} 1\n", escaped(labels_.version));
  head(out, "imhotep_plan_info", "gauge", "Hash of the plan in force.");
  out += fmt::format("imhotep_plan_info{{{},plan_hash=\"{}\"}} 1\n", model,
                     escaped(labels_.plan_hash));
  return out;
}

}  // namespace imhotep::executor
