// Simulated serving against what can be said without simulation.
#include "simulator/traffic/traffic.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/base/error.h"

namespace imhotep::simulator {
namespace {

TrafficOptions one_at_a_time() {
  return {.limits = {.sequences = 1,
                     .pages = 64,
                     .page_size = 16,
                     .max_context = 1024,
                     .buckets = schedule::usual_buckets(1, 128),
                     .max_waiting = 1000000}};
}

TrafficOptions many(std::int64_t sequences) {
  TrafficOptions options = one_at_a_time();
  options.limits.sequences = sequences;
  options.limits.pages = sequences * 64;
  options.limits.buckets = schedule::usual_buckets(sequences, 128);
  return options;
}

double thousand(const StepLoad&) { return 1000; }

}  // namespace

TEST_CASE("a lone request waits for nobody: its times are steps") {
  const std::vector<TrafficRequest> requests = {{.arrival_us = 500, .prompt = 300, .output = 4}};
  const auto result = simulate_traffic(requests, one_at_a_time(), thousand);
  const RequestTimes& times = result.requests[0];
  CHECK(times.queue_us() == 0);
  CHECK(times.first_token_us() == 3000);  // chunks of 128, 128 and 44
  CHECK(times.per_token_us() == 1000);
  CHECK(times.gaps_us == std::vector<double>(3, 1000.0));
  CHECK(times.last_us == 500 + 6000);
}

TEST_CASE("requests that come during a step wait for its end") {
  const std::vector<TrafficRequest> requests = {{.prompt = 10, .output = 2},
                                                {.arrival_us = 1, .prompt = 10, .output = 1}};
  const auto result = simulate_traffic(requests, many(2), thousand);
  CHECK(result.requests[1].queue_us() == 999);
  CHECK(result.requests[1].first_us == 2000);
  CHECK(result.steps == 2);
}

TEST_CASE("one server with fixed service is the queue of Pollaczek and Khinchine") {
  // M/D/1: mean wait = rho / (2 (1 - rho)) service times. Service: one step of 1 ms.
  const TrafficShape shape{.prompt_low = 8, .prompt_high = 8, .output_low = 1, .output_high = 1};
  for (const double rho : {0.3, 0.6, 0.8}) {
    CAPTURE(rho);
    const auto requests = poisson_traffic(shape, rho * 1000, 60000, 3);
    const auto summary = summarize(simulate_traffic(requests, one_at_a_time(), thousand));
    const double expected = 1000 * rho / (2 * (1 - rho));
    CHECK(std::abs(summary.queue_us.mean - expected) < 0.05 * expected);
    CHECK(std::abs(summary.requests_per_s - rho * 1000) < 0.02 * rho * 1000);
  }
}

TEST_CASE("a closed loop keeps as many requests open as it has clients") {
  const std::vector<TrafficRequest> requests(40, {.prompt = 16, .output = 5});
  TrafficOptions options = many(8);
  options.concurrency = 4;
  const auto result = simulate_traffic(requests, options, thousand);
  // Ten rounds of four: all four prompts pass in one step, then four more steps.
  CHECK(result.steps == 50);
  CHECK(result.end_us == 50000);
  CHECK(summarize(result).tokens_per_s == doctest::Approx(40 * 5 / 0.05));
}

TEST_CASE("clients of a closed loop ask one after the other") {
  const std::vector<TrafficRequest> requests(8, {.prompt = 16, .output = 5});
  TrafficOptions options = many(8);
  options.concurrency = 4;
  options.client_us = 10;
  const auto result = simulate_traffic(requests, options, thousand);
  // The first asks and starts a step alone; the other three come during it and wait for its end.
  CHECK(result.requests[0].first_us == 1000);
  for (int i = 1; i < 4; ++i) {
    CHECK(result.requests[i].arrival_us == 10 * i);
    CHECK(result.requests[i].first_us == 2000);
  }
  CHECK(result.requests[4].arrival_us == result.requests[0].last_us);
}

TEST_CASE("a client that is answered asks too late for the step that begins at once") {
  const std::vector<TrafficRequest> requests(8, {.prompt = 16, .output = 5});
  TrafficOptions options = many(8);
  options.concurrency = 4;
  options.client_us = 10;
  options.turnaround_us = 100;
  const auto result = simulate_traffic(requests, options, thousand);
  // The first is answered a step before the others, which keep the server busy meanwhile.
  CHECK(result.requests[0].last_us == 5000);
  CHECK(result.requests[4].arrival_us == 5100);
  CHECK(result.requests[4].queue_us() == 900);
  CHECK(result.requests[4].first_us == 7000);
  // The others are answered together; of them the first finds a server that is busy with the
  // fourth.
  CHECK(result.requests[5].arrival_us == 6100);
  CHECK(result.requests[6].arrival_us == 6110);
  CHECK(result.requests[6].first_us == 8000);
}

TEST_CASE("the load of a step is that of its busiest data rank") {
  schedule::Step step{.bucket = 2, .ranks = {}, .admitted = {}, .preempted = {}};
  step.ranks.resize(2);
  step.ranks[0] = {.pieces = {{.first = 10, .count = 1}}, .pages = {}, .rows = 1, .samples = 1};
  step.ranks[1] = {.pieces = {{.first = 0, .count = 4}}, .pages = {}, .rows = 4, .samples = 0};
  const StepLoad load = load_of(step);
  CHECK(load.rows == 4);
  CHECK(load.samples == 1);
  CHECK(load.keys == 11);  // 11 against 1 + 2 + 3 + 4
}

TEST_CASE("the highest rate within limits is where the limit begins to bind") {
  const TrafficShape shape{.prompt_low = 8, .prompt_high = 8, .output_low = 1, .output_high = 1};
  const ServiceLimits limits{.first_token_us = 5000};
  const auto options = one_at_a_time();
  const double rate = highest_rate(shape, options, thousand, limits, 4000, 7);
  CHECK(rate > 300);
  CHECK(rate < 1000);
  const auto at = [&](double r) {
    return meets(summarize(simulate_traffic(poisson_traffic(shape, r, 4000, 7), options, thousand)),
                 limits);
  };
  CHECK(at(rate));
  CHECK_FALSE(at(1.03 * rate));
  CHECK(highest_rate(shape, options, thousand, {.first_token_us = 10}, 100, 7) == 0);
}

TEST_CASE("a full queue refuses, and refused requests are counted apart") {
  TrafficOptions options = one_at_a_time();
  options.limits.max_waiting = 3;
  const std::vector<TrafficRequest> requests(10, {.prompt = 4, .output = 2});
  const auto summary = summarize(simulate_traffic(requests, options, thousand));
  CHECK(summary.served == 3);
  CHECK(summary.refused == 7);
  CHECK_FALSE(meets(summary, {}));
}

TEST_CASE("requests that wait beyond the limit end between two steps, and free their clients") {
  // One at a time, two steps of 1 ms each: request i begins after 2 i ms.
  TrafficOptions options = one_at_a_time();
  options.queue_limit_us = 5000;
  const std::vector<TrafficRequest> requests(10, {.prompt = 4, .output = 2});
  const auto summary = summarize(simulate_traffic(requests, options, thousand));
  CHECK(summary.served == 3);  // after 0, 2 and 4 ms
  CHECK(summary.refused == 7);
  CHECK(summary.queue_us.max == 4000);
  options.queue_limit_us = 0;
  CHECK(summarize(simulate_traffic(requests, options, thousand)).served == 10);
  // Two clients and one place: one always waits for two steps.
  options.concurrency = 2;
  options.queue_limit_us = 1500;
  const auto closed = summarize(simulate_traffic(requests, options, thousand));
  CHECK(closed.served + closed.refused == 10);
  CHECK(closed.served >= 3);
  CHECK(closed.refused >= 3);
}

TEST_CASE("goodput counts the served requests that keep both limits") {
  // One at a time, a step of 1 ms: request i has its first token after 1 + 2 i ms.
  const std::vector<TrafficRequest> requests(5, {.prompt = 4, .output = 2});
  const auto result = simulate_traffic(requests, one_at_a_time(), thousand);
  CHECK(goodput(result, 0, 0).requests == 5);
  CHECK(goodput(result, 5000, 0).requests == 3);
  CHECK(goodput(result, 5000, 999).requests == 0);
  CHECK(goodput(result, 5000, 1000).requests_per_s == doctest::Approx(3 / 10e-3));
  const auto summary = summarize(result);
  CHECK(summary.whole_us.min == 2000);
  CHECK(summary.whole_us.max == 10000);
  CHECK(summary.first_token_us.deviation == doctest::Approx(2000 * std::sqrt(2.0)));
}

TEST_CASE("in overload a short queue keeps the latency of what is accepted, and refuses the rest") {
  // Four at a time, 20 steps of 1 ms each: the server ends 200 requests a second at most.
  TrafficOptions options = many(4);
  const TrafficShape shape{.prompt_low = 8, .prompt_high = 8, .output_low = 20, .output_high = 20};
  const auto at = [&](double rate, std::int64_t queue) {
    options.limits.max_waiting = queue;
    return summarize(simulate_traffic(poisson_traffic(shape, rate, 4000, 5), options, thousand));
  };
  const auto calm = at(100, 8), flooded = at(1000, 8), unbounded = at(1000, 1000000);
  CHECK(calm.refused < 40);
  CHECK(flooded.refused > 3000);
  CHECK(flooded.requests_per_s > 180);
  // A place in the queue is worth a quarter of a request's time: at most 8 / 4 x 20 ms and one
  // step.
  CHECK(flooded.first_token_us.max <= 2 * 20000 + 2000);
  CHECK(flooded.gap_us.p99 <= calm.gap_us.p99);
  CHECK(unbounded.refused == 0);
  CHECK(unbounded.first_token_us.p50 > 50 * flooded.first_token_us.p50);
}

TEST_CASE("traces are read line by line, and wrong lines are named") {
  const auto requests = parse_trace("# head\n0.5, 10,20\n\n1,3,4\n", "t.csv");
  REQUIRE(requests.size() == 2);
  CHECK(requests[0].arrival_us == 500000);
  CHECK(requests[1].output == 4);
  for (const char* text : {"", "1,2", "x,1,1", "2,1,1\n1,1,1", "1,0,1", "-1,1,1"}) {
    CAPTURE(std::string(text));
    CHECK_THROWS_AS(static_cast<void>(parse_trace(text, "t.csv")), Error);
  }
  CHECK_THROWS_WITH(static_cast<void>(parse_trace("1,1,1\nbad", "t.csv")),
                    doctest::Contains("t.csv:2"));
}

TEST_CASE("percentiles lie between the two nearest values") {
  CHECK(percentile({3, 1, 2}, 0.5) == 2);
  CHECK(percentile({1, 2}, 0.25) == doctest::Approx(1.25));
  CHECK(percentile({}, 0.5) == 0);
  CHECK(percentiles({1, 2, 3, 4, 5}).mean == 3);
}

}  // namespace imhotep::simulator
