#include "simulator/traffic/traffic.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>

#include "core/base/fail.h"
#include "core/base/random.h"

namespace imhotep::simulator {
namespace {

// The requests of a run and who of them comes next.
class Arrivals {
 public:
  Arrivals(std::span<const TrafficRequest> requests, const TrafficOptions& options)
      : requests_(requests),
        closed_(options.concurrency > 0),
        client_us_(options.client_us),
        turnaround_us_(options.turnaround_us) {
    ask(options.concurrency, 0);
  }

  [[nodiscard]] bool left() const { return next_ < requests_.size(); }
  [[nodiscard]] bool due(double now) const {
    return left() && !(closed_ && free_us_.empty()) && next_us() <= now;
  }
  // When the next one comes, if nothing else happens before. Requires: left(), and in a closed loop
  // a client that waits for nothing.
  [[nodiscard]] double next_us() const {
    return closed_ ? free_us_.front() : requests_[next_].arrival_us;
  }
  std::size_t take() {
    if (closed_) free_us_.pop_front();
    return next_++;
  }
  void answered(std::int64_t count, double now) { ask(count, now + turnaround_us_); }

 private:
  // Clients ask one after the other.
  void ask(std::int64_t count, double from_us) {
    for (; closed_ && count > 0; --count) {
      free_us_.push_back(std::max(from_us, last_us_));
      last_us_ = free_us_.back() + client_us_;
    }
  }

  std::span<const TrafficRequest> requests_;
  bool closed_;
  double client_us_, turnaround_us_, last_us_ = 0;
  std::deque<double> free_us_;  // when clients ask
  std::size_t next_ = 0;
};

// Requests that wait for their first place, the oldest first.
class Waiting {
 public:
  explicit Waiting(double limit_us) : limit_us_(limit_us) {}
  void add(std::size_t request) {
    if (limit_us_ > 0) requests_.push_back(request);
  }
  // Ends those that have waited too long; returns how many.
  std::int64_t expire(double now, std::vector<RequestTimes>& all, schedule::Scheduler& scheduler) {
    std::int64_t ended = 0;
    for (; !requests_.empty(); requests_.pop_front()) {
      RequestTimes& times = all[requests_.front()];
      if (times.placed_us >= 0) continue;
      if (now - times.arrival_us <= limit_us_) break;
      scheduler.cancel(requests_.front());
      times.refused = true;
      ++ended;
    }
    return ended;
  }

 private:
  double limit_us_;
  std::deque<std::size_t> requests_;
};

}  // namespace

StepLoad load_of(const schedule::Step& step) {
  StepLoad load{.bucket = step.bucket};
  for (const schedule::RankBatch& batch : step.ranks) {
    double keys = 0;
    for (const schedule::Piece& piece : batch.pieces) {
      const auto first = static_cast<double>(piece.first), count = static_cast<double>(piece.count);
      keys += count * (first + (count + 1) / 2);
    }
    load.rows = std::max(load.rows, batch.rows);
    load.samples = std::max(load.samples, batch.samples);
    load.keys = std::max(load.keys, keys);
  }
  return load;
}

double RequestTimes::per_token_us() const {
  return output > 1 ? (last_us - first_us) / static_cast<double>(output - 1) : 0;
}

TrafficResult simulate_traffic(std::span<const TrafficRequest> requests,
                               const TrafficOptions& options, const StepTime& time) {
  schedule::Scheduler scheduler(options.limits);
  TrafficResult result;
  result.requests.resize(requests.size());
  Arrivals arrivals(requests, options);
  Waiting waiting(options.queue_limit_us);
  double now = 0;
  for (;;) {
    while (arrivals.due(now)) {
      const double asked_us = arrivals.next_us();
      const std::size_t index = arrivals.take();
      const TrafficRequest& request = requests[index];
      RequestTimes& times = result.requests[index];
      times.arrival_us = asked_us;
      times.refused = scheduler.is_full();
      if (times.refused) {
        arrivals.answered(1, now);
        continue;
      }
      scheduler.submit({.id = index,
                        .prompt = request.prompt,
                        .output = request.output,
                        .priority = request.priority,
                        .client = request.client,
                        .arrival_us = times.arrival_us});
      waiting.add(index);
    }
    arrivals.answered(waiting.expire(now, result.requests, scheduler), now);
    const auto step = scheduler.next(now);
    if (!step) {
      if (!arrivals.left()) break;
      now = std::max(now, arrivals.next_us());
      continue;
    }
    for (const schedule::RequestId id : step->admitted) {
      if (result.requests[id].placed_us < 0) result.requests[id].placed_us = now;
    }
    now += time(load_of(*step));
    for (const schedule::RankBatch& batch : step->ranks) {
      for (const schedule::Piece& piece : batch.pieces) {
        if (!piece.samples) continue;
        RequestTimes& times = result.requests[piece.request];
        if (times.first_us < 0) {
          times.first_us = now;
        } else {
          times.gaps_us.push_back(now - times.last_us);
        }
        times.last_us = now;
        ++times.output;
      }
    }
    arrivals.answered(static_cast<std::int64_t>(scheduler.complete({}).size()), now);
  }
  result.end_us = now;
  result.steps = scheduler.counts().steps;
  result.preemptions = scheduler.counts().preemptions;
  return result;
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - std::floor(at)) * (values[above] - values[below]);
}

Percentiles percentiles(const std::vector<double>& values) {
  if (values.empty()) return {};
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {.mean = mean,
          .p50 = percentile(values, 0.5),
          .p90 = percentile(values, 0.9),
          .p95 = percentile(values, 0.95),
          .p99 = percentile(values, 0.99),
          .min = percentile(values, 0),
          .max = percentile(values, 1),
          .deviation = std::sqrt(squares / count)};
}

namespace {

// What the sums over a run are divided by: from the first arrival to the last token of those that
// were served.
struct Span {
  double begin = INFINITY, end = 0;
  void add(const RequestTimes& times) {
    begin = std::min(begin, times.arrival_us);
    end = std::max(end, times.last_us);
  }
  [[nodiscard]] double per_s(double count) const {
    return end > begin ? count / (end - begin) * 1e6 : 0;
  }
};

bool served(const RequestTimes& times) { return !times.refused && times.first_us >= 0; }

}  // namespace

TrafficSummary summarize(const TrafficResult& result) {
  std::vector<double> queue, first, per_token, gaps, whole;
  TrafficSummary summary;
  double tokens = 0;
  Span span;
  for (const RequestTimes& times : result.requests) {
    if (!served(times)) {
      ++summary.refused;
      continue;
    }
    ++summary.served;
    span.add(times);
    tokens += static_cast<double>(times.output);
    queue.push_back(times.queue_us());
    first.push_back(times.first_token_us());
    whole.push_back(times.whole_us());
    if (times.output > 1) per_token.push_back(times.per_token_us());
    gaps.insert(gaps.end(), times.gaps_us.begin(), times.gaps_us.end());
  }
  summary.tokens_per_s = span.per_s(tokens);
  summary.requests_per_s = span.per_s(static_cast<double>(summary.served));
  summary.queue_us = percentiles(queue);
  summary.first_token_us = percentiles(first);
  summary.per_token_us = percentiles(per_token);
  summary.gap_us = percentiles(gaps);
  summary.whole_us = percentiles(whole);
  return summary;
}

Goodput goodput(const TrafficResult& result, double first_token_limit_us,
                double per_token_limit_us) {
  Goodput good;
  Span span;
  for (const RequestTimes& times : result.requests) {
    if (!served(times)) continue;
    span.add(times);
    good.requests +=
        (first_token_limit_us <= 0 || times.first_token_us() <= first_token_limit_us) &&
        (per_token_limit_us <= 0 || times.per_token_us() <= per_token_limit_us);
  }
  good.requests_per_s = span.per_s(static_cast<double>(good.requests));
  return good;
}

bool meets(const TrafficSummary& summary, const ServiceLimits& limits) {
  return summary.refused == 0 &&
         (limits.first_token_us <= 0 || summary.first_token_us.p99 <= limits.first_token_us) &&
         (limits.per_token_us <= 0 || summary.per_token_us.p99 <= limits.per_token_us);
}

double highest_rate(const TrafficShape& shape, const TrafficOptions& options, const StepTime& time,
                    const ServiceLimits& limits, std::int64_t count, std::uint64_t seed) {
  // The same draws at every rate: only the distances between arrivals shrink.
  const auto holds = [&](double rate) {
    const auto requests = poisson_traffic(shape, rate, count, seed);
    return meets(summarize(simulate_traffic(requests, options, time)), limits);
  };
  double low = 0, high = 1e-3;
  while (high < 1e9 && holds(high)) {
    low = high;
    high *= 2;
  }
  if (low == 0) return 0;
  while (high - low > 0.01 * low) {
    const double middle = (low + high) / 2;
    (holds(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace imhotep::simulator
