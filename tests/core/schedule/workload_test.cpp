// Whole workloads against a model that reads its own pages: whatever is admitted, preempted or
// cancelled, every text is the text of the request alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "tests/core/schedule/paged_model.h"

namespace imhotep::schedule {
namespace {

std::int64_t between(std::mt19937_64& draw, std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(draw() % static_cast<std::uint64_t>(high - low + 1));
}

Limits random_limits(std::mt19937_64& draw) {
  Limits limits{.data = static_cast<int>(between(draw, 1, 3)),
                .sequences = between(draw, 1, 6),
                .pages = between(draw, 4, 14),
                .page_size = between(draw, 1, 5)};
  limits.max_context = between(draw, 8, 40);
  limits.buckets = usual_buckets(limits.sequences, between(draw, 1, 12));
  limits.aging_us = 50;
  return limits;
}

std::vector<Request> random_requests(std::mt19937_64& draw, const Limits& limits) {
  const std::int64_t room = std::min(limits.max_context, limits.pages * limits.page_size);
  std::vector<Request> requests;
  for (RequestId id = 1; id <= 25; ++id) {
    Request request{.id = id, .prompt = between(draw, 1, room)};
    request.output = between(draw, 1, room + 1 - request.prompt);
    request.priority = static_cast<int>(between(draw, -1, 1));
    request.client = static_cast<std::uint64_t>(between(draw, 0, 2));
    request.arrival_us = static_cast<double>(between(draw, 0, 120));
    requests.push_back(request);
  }
  std::sort(requests.begin(), requests.end(),
            [](const auto& a, const auto& b) { return a.arrival_us < b.arrival_us; });
  return requests;
}

std::vector<std::int64_t> text_alone(const Limits& limits, const Request& request) {
  Scheduler scheduler(limits);
  test::PagedModel model(limits);
  model.begin(request);
  scheduler.submit(request);
  while (const auto step = scheduler.next(0)) {
    model.run(*step);
    scheduler.complete({});
  }
  return model.texts.at(request.id);
}

struct Outcome {
  std::map<RequestId, std::vector<std::int64_t>> texts;
  std::vector<RequestId> ended;
  Counts counts;
};

Outcome serve(const Limits& limits, const std::vector<Request>& requests) {
  Scheduler scheduler(limits);
  test::PagedModel model(limits);
  Outcome outcome;
  std::size_t next = 0;
  for (double now = 0; outcome.ended.size() < requests.size(); now += 1) {
    REQUIRE(now < 20000);
    for (; next < requests.size() && requests[next].arrival_us <= now; ++next) {
      model.begin(requests[next]);
      scheduler.submit(requests[next]);
    }
    const auto step = scheduler.next(now);
    const Counts counts = scheduler.counts();
    REQUIRE(counts.pages_used <= counts.pages);
    if (!step) continue;
    model.run(*step);
    for (const RequestId id : scheduler.complete({})) outcome.ended.push_back(id);
  }
  outcome.texts = model.texts;
  outcome.counts = scheduler.counts();
  return outcome;
}

}  // namespace

TEST_CASE("every text of a random workload is the text of the request alone") {
  std::int64_t preemptions = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 draw(seed);
    const Limits limits = random_limits(draw);
    const auto requests = random_requests(draw, limits);
    const Outcome outcome = serve(limits, requests);
    preemptions += outcome.counts.preemptions;
    CHECK(outcome.counts.pages_used == 0);
    for (const Request& request : requests) {
      const auto& text = outcome.texts.at(request.id);
      CHECK(static_cast<std::int64_t>(text.size()) == request.prompt + request.output);
      CHECK(text == text_alone(limits, request));
    }
  }
  CHECK(preemptions > 100);
}

TEST_CASE("the same requests give the same steps") {
  for (std::uint64_t seed = 100; seed < 110; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 draw(seed);
    const Limits limits = random_limits(draw);
    const auto requests = random_requests(draw, limits);
    const Outcome a = serve(limits, requests), b = serve(limits, requests);
    CHECK(a.ended == b.ended);
    CHECK(a.counts.steps == b.counts.steps);
  }
}

TEST_CASE("requests that vanish at any moment leave the others' texts as they are") {
  for (std::uint64_t seed = 200; seed < 230; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 draw(seed);
    const Limits limits = random_limits(draw);
    const auto requests = random_requests(draw, limits);
    Scheduler scheduler(limits);
    test::PagedModel model(limits);
    std::set<RequestId> open;
    std::size_t next = 0;
    for (double now = 0; next < requests.size() || !open.empty(); now += 1) {
      REQUIRE(now < 20000);
      for (; next < requests.size() && requests[next].arrival_us <= now; ++next) {
        model.begin(requests[next]);
        scheduler.submit(requests[next]);
        open.insert(requests[next].id);
      }
      if (!open.empty() && draw() % 5 == 0) {
        const RequestId id = *std::next(open.begin(), static_cast<long>(draw() % open.size()));
        CHECK(scheduler.cancel(id));
        model.texts.erase(id);
        open.erase(id);
      }
      const auto step = scheduler.next(now);
      if (!step) continue;
      model.run(*step);
      for (const RequestId id : scheduler.complete({})) open.erase(id);
    }
    CHECK(scheduler.counts().pages_used == 0);
    for (const auto& [id, text] : model.texts) {
      const auto request = std::find_if(requests.begin(), requests.end(),
                                        [wanted = id](const Request& r) { return r.id == wanted; });
      CHECK(text == text_alone(limits, *request));
    }
  }
}

TEST_CASE("a request of low priority ends although important ones never cease") {
  Limits limits{.sequences = 2,
                .pages = 8,
                .page_size = 4,
                .max_context = 32,
                .buckets = usual_buckets(2, 8),
                .aging_us = 100};
  Scheduler scheduler(limits);
  scheduler.submit({.id = 1, .prompt = 8, .output = 20, .priority = -3});
  RequestId id = 1;
  double ended_at = -1;
  for (double now = 0; now < 3000 && ended_at < 0; now += 1) {
    while (scheduler.counts().waiting < 4) {
      scheduler.submit({.id = ++id, .prompt = 8, .output = 8, .priority = 2, .arrival_us = now});
    }
    REQUIRE(scheduler.next(now));
    for (const RequestId ended : scheduler.complete({})) {
      if (ended == 1) ended_at = now;
    }
  }
  CHECK(ended_at > 0);
}

TEST_CASE("a client that floods does not keep another one waiting") {
  Limits limits{.sequences = 2,
                .pages = 16,
                .page_size = 4,
                .max_context = 32,
                .buckets = usual_buckets(2, 8)};
  Scheduler scheduler(limits);
  std::map<std::uint64_t, std::int64_t> tokens;
  std::map<RequestId, std::uint64_t> owner;
  RequestId id = 0;
  const auto ask = [&](std::uint64_t client, double now) {
    owner[++id] = client;
    scheduler.submit({.id = id, .prompt = 4, .output = 8, .client = client, .arrival_us = now});
  };
  for (int i = 0; i < 200; ++i) ask(1, 0);  // the flood
  ask(2, 0);
  for (double now = 0; now < 400; now += 1) {
    const auto step = scheduler.next(now);
    REQUIRE(step);
    for (const Piece& piece : step->ranks[0].pieces) tokens[owner[piece.request]] += piece.samples;
    for (const RequestId ended : scheduler.complete({})) {
      if (owner[ended] == 2) ask(2, now);  // one at a time
    }
  }
  CHECK(4 * tokens[2] > tokens[1]);  // one request at a time against two hundred
}

}  // namespace imhotep::schedule
