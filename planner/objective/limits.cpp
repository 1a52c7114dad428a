#include "planner/objective/limits.h"

#include <algorithm>

#include "core/base/fail.h"
#include "core/base/units.h"
#include "core/base/words.h"

namespace imhotep::planner {
namespace {

constexpr double kHourUs = 3.6e9;

const std::vector<std::string>& keys() {
  static const std::vector<std::string> kKeys = {
      "token", "step", "first_token", "latency", "tokens_per_s", "per_gpu",
      "cost",  "time", "energy",      "memory",  "gpus"};
  return kKeys;
}

double time_of(const std::string& key, const std::string& text) {
  try {
    if (text.ends_with('d')) return 24 * kHourUs * parse_number(text.substr(0, text.size() - 1));
    return parse_time_us(text);
  } catch (const Error&) {
    fail_input("limit {}: expected a time such as 25ms or 30d, got \"{}\"", key, text);
  }
}

double number_of(const std::string& key, const std::string& text) {
  double value = 0;
  try {
    value = parse_number(text);
  } catch (const Error&) {
  }
  if (!(value > 0)) fail_input("limit {}: expected a number > 0, got \"{}\"", key, text);
  return value;
}

class Reader {
 public:
  Reader(const Workload& workload, const ClusterSpec& cluster, double tokens)
      : trains_(workload.kind == WorkloadKind::Training), cluster_(cluster) {
    limits_.tokens = tokens;
  }

  Limits run(std::string_view text) {
    for (const std::string& part : words_between_commas(text)) {
      const std::size_t equals = part.find('=');
      if (equals == std::string::npos) {
        fail_input("limits: expected key=value such as token=25ms, got \"{}\"", part);
      }
      take(part.substr(0, equals), part.substr(equals + 1));
    }
    return limits_;
  }

 private:
  void take(const std::string& key, const std::string& text) {
    if (key == "token" || key == "step") {
      limits_.step_us = time_of(key, text);
    } else if (key == "first_token" || key == "latency") {
      if (trains_) fail_input("limit {}: training has no prompts; possible: step, time", key);
      (key == "latency" ? limits_.latency_us : limits_.first_token_us) = time_of(key, text);
    } else if (key == "tokens_per_s") {
      limits_.tokens_per_s = number_of(key, text);
    } else if (key == "per_gpu") {
      limits_.per_gpu = number_of(key, text);
    } else if (key == "memory") {
      limits_.memory_bytes = static_cast<std::int64_t>(number_of(key, text));
    } else if (key == "gpus") {
      limits_.gpus = static_cast<int>(std::min(number_of(key, text), 1e9));
    } else {
      take_priced(key, text);
    }
  }

  void take_priced(const std::string& key, const std::string& text) {
    if (key == "cost") {
      if (cluster_.price_per_device_hour <= 0) {
        fail_input("limit cost: {} has no price; give one with --price", cluster_.name);
      }
      limits_.cost_per_mtoken = number_of(key, text);
    } else if (key == "energy") {
      if (cluster_.device.watts <= 0) {
        fail_input("limit energy: no power is known of {}", cluster_.device.name);
      }
      limits_.joules_per_token = number_of(key, text);
    } else if (key == "time") {
      if (!trains_ || limits_.tokens <= 0) {
        fail_input("limit time: it is that of a training run; say of how many tokens: --tokens");
      }
      limits_.hours = time_of(key, text) / kHourUs;
    } else {
      const std::string near = nearest(key, keys());
      fail_input("limits: unknown key \"{}\"{}", key,
                 near.empty() ? fmt::format("; known: {}", fmt::join(keys(), " "))
                              : fmt::format(" (did you mean \"{}\"?)", near));
    }
  }

  bool trains_;
  const ClusterSpec& cluster_;
  Limits limits_;
};

}  // namespace

bool Limits::any() const {
  return step_us || first_token_us || latency_us || tokens_per_s || per_gpu || cost_per_mtoken ||
         joules_per_token || hours || memory_bytes || gpus;
}

Limits parse_limits(std::string_view text, const Workload& workload, const ClusterSpec& cluster,
                    double tokens) {
  return Reader(workload, cluster, tokens).run(text);
}

double tokens_of_step(const Workload& workload) {
  const auto batch = static_cast<double>(workload.global_batch);
  const bool trains = workload.kind == WorkloadKind::Training;
  return trains ? batch * static_cast<double>(workload.sequence) : batch;
}

TimeCaps time_caps(const Limits& limits, const Workload& workload, const ClusterSpec& cluster,
                   int world) {
  TimeCaps caps{.output = workload.output};
  const double tokens = tokens_of_step(workload);
  const auto cap = [&](double step_us, const char* limit) {
    if (step_us >= caps.step_us) return;
    caps.step_us = step_us;
    caps.step_limit = limit;
  };
  const double ranks = world;
  if (limits.step_us) cap(*limits.step_us, "step");
  if (limits.tokens_per_s) cap(tokens / *limits.tokens_per_s * 1e6, "tokens_per_s");
  if (limits.per_gpu) cap(tokens / (*limits.per_gpu * ranks) * 1e6, "per_gpu");
  if (limits.cost_per_mtoken) {
    const double per_us = cluster.price_per_device_hour * ranks / kHourUs;
    cap(*limits.cost_per_mtoken / 1e6 * tokens / per_us, "cost");
  }
  if (limits.joules_per_token) {
    cap(*limits.joules_per_token * tokens / (cluster.device.watts * ranks * 1e-6), "energy");
  }
  if (limits.hours) cap(*limits.hours * kHourUs * tokens / limits.tokens, "time");
  if (limits.first_token_us) caps.prompt_us = *limits.first_token_us;
  if (limits.latency_us) caps.latency_us = *limits.latency_us;
  return caps;
}

double TimeCaps::excess(const Times& times) const {
  const double latency = times.prompt_us + static_cast<double>(output) * times.step_us;
  return std::max({times.step_us / step_us, times.prompt_us / prompt_us, latency / latency_us});
}

std::vector<std::string> broken_limits(const TimeCaps& caps, const Times& times) {
  std::vector<std::string> broken;
  const auto check = [&](const char* what, const std::string& limit, double time_us,
                         double cap_us) {
    if (time_us <= cap_us) return;
    broken.push_back(fmt::format("{} takes {}, {} more than the {} that the limit {} allows", what,
                                 format_time(time_us), format_time(time_us - cap_us),
                                 format_time(cap_us), limit));
  };
  check("a step", caps.step_limit, times.step_us, caps.step_us);
  check("a prompt", "first_token", times.prompt_us, caps.prompt_us);
  check("an answer", "latency", times.prompt_us + static_cast<double>(caps.output) * times.step_us,
        caps.latency_us);
  return broken;
}

RunTotals run_totals(double tokens, double tokens_per_s, const ClusterSpec& cluster, int world) {
  RunTotals totals;
  if (tokens <= 0 || tokens_per_s <= 0) return totals;
  totals.hours = tokens / tokens_per_s / 3600;
  totals.money = totals.hours * cluster.price_per_device_hour * world;
  totals.kwh = totals.hours * cluster.device.watts * world / 1000;
  return totals;
}

}  // namespace imhotep::planner
