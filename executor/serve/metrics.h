#pragma once
// Counters, gauges and histograms of a server, written as Prometheus reads them. Names and
// quantities are those that vLLM's dashboards show, under the prefix imhotep_, and those of a
// mixture of experts. Safe for several threads.
// Source: docs.vllm.ai, "Production metrics"; prometheus.io, "Exposition formats".

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace imhotep::executor {

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)) {
    counts_.assign(bounds_.size() + 1, 0);
  }
  void add(double value);
  void write(const std::string& name, const char* help, const std::string& labels,
             std::string& out) const;
  [[nodiscard]] std::int64_t count() const { return count_; }

 private:
  std::vector<double> bounds_;
  std::vector<std::int64_t> counts_;
  double sum_ = 0;
  std::int64_t count_ = 0;
};

// Experts of one MoE layer.
struct ExpertLoad {
  int layer = 0;
  std::vector<double> tokens;
};

struct MetricLabels {
  std::string model, plan_hash, version;
};

// Steps of one bucket since the start: how many, their rows, and the experts with at least one of
// the rows, summed over MoE layers and steps (what the steps read).
struct BucketLoad {
  double steps = 0, rows = 0, active_experts = 0;
};

class Metrics {
 public:
  explicit Metrics(MetricLabels labels);

  // Under lock(): what the engine knows after a step.
  struct Values {
    std::int64_t running = 0, waiting = 0, pages_used = 0, pages = 0;
    std::int64_t preemptions = 0, prompt_tokens = 0, output_tokens = 0, steps = 0;
    std::map<std::string, std::int64_t> ended;    // by reason
    std::map<std::string, std::int64_t> refused;  // by reason
    double dropped_tokens = 0, exchange_seconds = 0, step_seconds = 0, program_seconds = 0;
    std::vector<BucketLoad> bucket_loads;  // of rank 0
    std::vector<ExpertLoad> experts;
    Histogram first_token, inter_token, per_token, whole, queue, prefill, decode, inference;
    Histogram prompt_sizes, output_sizes, asked_sizes, step_tokens;
    Values();
    [[nodiscard]] double active_experts() const;  // of all buckets
  };
  template <class Change>
  void update(Change&& change) {
    const std::lock_guard lock(mutex_);
    change(values_);
  }
  template <class Read>
  auto read(Read&& look) const {
    const std::lock_guard lock(mutex_);
    return look(values_);
  }
  [[nodiscard]] std::string text(double uptime_seconds) const;

 private:
  MetricLabels labels_;
  mutable std::mutex mutex_;
  Values values_;
};

}  // namespace imhotep::executor
