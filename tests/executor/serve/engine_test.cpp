// The engine on one rank: texts of requests served together are the texts of each alone, as the
// loop of `imhotep generate` writes them.

#include "executor/serve/engine.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/base/error.h"
#include "tests/executor/serve/serving.h"

namespace imhotep::executor {
namespace {

struct Alone {
  Bootstrap ranks;
  CommunicatorPool pool{ranks};
};

std::vector<GenerationResult> generated(const Plan& plan, const std::vector<ServeRequest>& asked) {
  Alone alone;
  Generator generator(plan, Rank(0), alone.pool, 1);
  test::fill_weights(plan, generator.runner());
  std::vector<GenerationRequest> requests;
  for (const ServeRequest& r : asked) {
    requests.push_back({.prompt = r.prompt,
                        .max_tokens = r.max_tokens,
                        .temperature = r.temperature,
                        .top_k = r.top_k,
                        .top_p = r.top_p,
                        .seed = r.seed});
  }
  return generator.generate(requests, [](bool done) { return done; });
}

test::Served serve(const Plan& plan, const ServeShape& shape,
                   const std::vector<ServeRequest>& requests,
                   const std::vector<std::int32_t>& ends = {}) {
  Alone alone;
  const test::NumberWords words(plan.model.vocab, ends);
  return test::serve_all(plan, shape, requests, alone.ranks, alone.pool, words);
}

void check_same(const test::Served& served, const std::vector<GenerationResult>& expected) {
  REQUIRE(served.answers.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    const test::Answer& answer = served.answers.at(i + 1);
    CHECK(answer.tokens == expected[i].tokens);
    CHECK(answer.finish == Finish::Length);
    REQUIRE(answer.logprobs.size() == expected[i].logprobs.size());
    for (std::size_t t = 0; t < answer.logprobs.size(); ++t) {
      CHECK(std::abs(answer.logprobs[t] - expected[i].logprobs[t]) <= 1e-11);
    }
  }
}

}  // namespace

TEST_CASE("mixed requests served together are each as generated alone") {
  for (const char* model : {"nano-pr-moe-2-8", "nano-top2-moe-4", "nano-dense"}) {
    CAPTURE(std::string(model));
    const Plan plan = test::speaking_plan(model, 5);
    auto requests = test::mixed_requests(40, plan.model.vocab, 32, 5);
    for (std::size_t i = 0; i < requests.size(); i += 3) {
      requests[i].temperature = 0.9;
      requests[i].top_k = 50;
      requests[i].seed = i;
    }
    const auto expected = generated(plan, requests);
    const ServeShape shape = serve_shape(plan, {.sequences = 5, .chunk = 7, .kv_tokens = 5 * 32});
    const test::Served served = serve(plan, shape, requests);
    check_same(served, expected);
    CHECK(served.dropped_tokens == 0);
  }
}

TEST_CASE("texts stay what they are when pages run out and sequences are computed again") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 6);
  const auto requests = test::mixed_requests(40, plan.model.vocab, 32, 9);
  const ServeShape shape = serve_shape(plan, {.sequences = 6, .chunk = 8, .kv_tokens = 48});
  const test::Served served = serve(plan, shape, requests);
  CHECK(served.preemptions >= 5);
  check_same(served, generated(plan, requests));
}

TEST_CASE("every token that passes an MoE layer is counted at an expert") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 4);
  const auto requests = test::mixed_requests(30, plan.model.vocab, 32, 2);
  const test::Served served =
      serve(plan, serve_shape(plan, {.sequences = 4, .chunk = 8, .kv_tokens = 128}), requests);
  CHECK(served.steps > 64);
  CHECK(served.routed_tokens > 0);
  CHECK(served.dropped_tokens == 0);
}

TEST_CASE("an end token and a stop string end a text, but not before its least length") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 2);
  std::vector<ServeRequest> requests = {{.id = 1, .prompt = {1, 2, 3}, .max_tokens = 20}};
  requests[0].temperature = 0;
  const ServeShape shape = serve_shape(plan, {.sequences = 2, .chunk = 8, .kv_tokens = 64});
  const test::Answer whole = serve(plan, shape, requests).answers.at(1);
  const std::int32_t end = whole.tokens[4];
  const auto first = std::find(whole.tokens.begin(), whole.tokens.end(), end);
  const auto before = first - whole.tokens.begin();

  const test::Answer ended = serve(plan, shape, requests, {end}).answers.at(1);
  CHECK(ended.finish == Finish::Stop);
  CHECK(ended.tokens == std::vector<std::int32_t>(whole.tokens.begin(), first));
  CHECK(ended.generated == before + 1);

  requests[0].ignore_end = true;
  CHECK(serve(plan, shape, requests, {end}).answers.at(1).tokens == whole.tokens);
  requests[0].ignore_end = false;
  requests[0].min_tokens = 20;
  CHECK(serve(plan, shape, requests, {end}).answers.at(1).tokens == whole.tokens);

  requests[0].min_tokens = 0;
  requests[0].stop = {fmt::format("{}>", end)};  // inside a token's text
  const test::Answer stopped = serve(plan, shape, requests).answers.at(1);
  CHECK(stopped.finish == Finish::Stop);
  CHECK(stopped.text == whole.text.substr(0, whole.text.find(requests[0].stop[0])));
}

TEST_CASE("alternatives are sorted, add up, and hold the greedy token first") {
  const Plan plan = test::speaking_plan("nano-top2-moe-4", 2);
  const ServeShape shape = serve_shape(plan, {.sequences = 2, .chunk = 8, .kv_tokens = 64});
  Alone alone;
  Stepper stepper(plan, Rank(0), alone.pool, shape, 1);
  test::fill_weights(plan, stepper.runner());
  SequenceOrder sequence{.piece = {.request = 3, .count = 2, .samples = true}, .tokens = {4, 5}};
  sequence.alternatives = plan.model.vocab;
  StepOrder order{.bucket = 1, .ranks = {{.sequences = {sequence}, .pages = {{0, 0, 0}}}}};
  const StepOutcome outcome = stepper.run(order);
  REQUIRE(outcome.sampled.size() == 1);
  const Sampled& sampled = outcome.sampled[0];
  REQUIRE(static_cast<int>(sampled.alternatives.size()) == plan.model.vocab);
  CHECK(sampled.alternatives[0].token == sampled.token);
  CHECK(std::abs(sampled.alternatives[0].logprob - sampled.logprob) <= 1e-12);
  double sum = 0, last = 0;
  for (const Alternative& one : sampled.alternatives) {
    CHECK(one.logprob <= last);
    last = one.logprob;
    sum += std::exp(one.logprob);
  }
  CHECK(std::abs(sum - 1) <= 1e-12);
}

TEST_CASE("warming up leaves texts and counts as they are without it") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 5);
  const ServeShape shape = serve_shape(plan, {.sequences = 5, .chunk = 16, .kv_tokens = 160});
  const auto requests = test::mixed_requests(20, plan.model.vocab, 32, 4);
  Alone alone;
  const test::NumberWords words(plan.model.vocab);
  Stepper stepper(plan, Rank(0), alone.pool, shape, 1);
  test::fill_weights(plan, stepper.runner());
  stepper.warm_up();
  CHECK(stepper.program_us() == 0);
  const auto all = [&] {
    BucketLoad sum;
    for (const BucketLoad& load : stepper.bucket_loads()) {
      sum.steps += load.steps;
      sum.rows += load.rows;
      sum.active_experts += load.active_experts;
    }
    return sum;
  };
  CHECK(all().active_experts == 0);
  const test::Served served = test::serve_with(stepper, plan, shape, requests, alone.ranks, words);
  check_same(served, generated(plan, requests));
  CHECK(served.dropped_tokens == 0);
  // Between one expert a layer and all of them in each step.
  const auto steps = static_cast<double>(served.steps);
  double experts = 0;
  for (const MoeLayerPlan& moe : plan.moe_layers) experts += moe.experts;
  const BucketLoad sum = all();
  CHECK(sum.steps == steps);
  CHECK(sum.rows >= 20);
  CHECK(sum.active_experts >= steps * static_cast<double>(plan.moe_layers.size()));
  CHECK(sum.active_experts < steps * experts);
}

TEST_CASE("the pages of a cache are as many as fit, and a context is no longer than they are") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 4);
  const ServeShape wanted = serve_shape(plan, {.sequences = 4, .chunk = 16, .kv_tokens = 4 * 32});
  const auto bytes_with = [&](std::int64_t pages) {
    ServeShape shape = wanted;
    shape.pages = pages;
    Alone alone;
    return Stepper(plan, Rank(0), alone.pool, shape, 1).runner().memory().bytes();
  };
  const std::int64_t two = bytes_with(2), five = bytes_with(5);
  REQUIRE(five > two);
  CHECK(fit_pages(plan, wanted, five).pages == 5);
  CHECK(fit_pages(plan, wanted, five - 1).pages == 4);
  CHECK(fit_pages(plan, wanted, two).max_context == 2 * plan.page_size);
  const ServeShape ample = fit_pages(plan, wanted, std::int64_t{1} << 40);
  CHECK(ample.pages == wanted.pages);
  CHECK(ample.max_context == wanted.max_context);
  CHECK_THROWS_AS(static_cast<void>(fit_pages(plan, wanted, 1000)), Error);
}

TEST_CASE("a wished context bounds requests and the cache that is made for them") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 4);
  const ServeShape shape = serve_shape(plan, {.max_context = 12});
  CHECK(shape.max_context == 12);
  CHECK(shape.pages == 4 * 3);
  CHECK(serve_shape(plan, {.max_context = 1 << 20}).max_context == plan.model.context);
}

TEST_CASE("a plan that names its KV cache is served with it") {
  Plan plan = test::speaking_plan("nano-pr-moe-2-8", 4);
  plan.kv_tokens = 160;  // 4 sequences of 32 tokens need 128
  CHECK(check_degrees(plan).feasible);
  CHECK(serve_shape(plan).pages == 160 / plan.page_size);
  CHECK(serve_shape(plan, {.kv_tokens = 48}).pages == 48 / plan.page_size);
  plan.kv_tokens = 127 - 3;
  CHECK_FALSE(check_degrees(plan).feasible);
}

TEST_CASE("when a step fails, every request is told why, and the failure goes on") {
  const Plan plan = test::speaking_plan("nano-dense", 2);
  const ServeShape shape = serve_shape(plan, {.sequences = 2, .chunk = 8, .kv_tokens = 64});
  const test::NumberWords one_word(1);  // has no text for any other token
  Alone alone;
  Stepper stepper(plan, Rank(0), alone.pool, shape, 1);
  test::fill_weights(plan, stepper.runner());
  Metrics metrics({});
  Engine engine(plan, shape, one_word, {}, metrics);
  std::map<schedule::RequestId, std::vector<ServeEvent>> news;
  engine.on_events = [&](const std::vector<ServeEvent>& events) {
    for (const ServeEvent& event : events) news[event.id].push_back(event);
  };
  std::vector<ServeRequest> requests;
  for (schedule::RequestId id = 1; id <= 3; ++id) {
    requests.push_back({.id = id, .prompt = {1, 2}, .max_tokens = 30});
  }
  REQUIRE(engine.submit(requests) == Refusal::None);
  CHECK_THROWS(engine.run(stepper, alone.ranks, [] { return false; }));
  REQUIRE(news.size() == 3);
  for (const auto& [id, events] : news) {
    CAPTURE(id);
    CHECK(events.back().finish == Finish::Failed);
    CHECK(events.back().reason.find("a step failed") != std::string::npos);
    const auto ends = std::count_if(events.begin(), events.end(), [](const ServeEvent& event) {
      return event.finish != Finish::None;
    });
    CHECK(ends == 1);
  }
  CHECK(engine.submit(requests) == Refusal::Draining);
}

TEST_CASE("too many requests are refused, and a draining engine takes none") {
  const Plan plan = test::speaking_plan("nano-dense", 2);
  const test::NumberWords words(plan.model.vocab);
  Metrics metrics({});
  Engine engine(plan, serve_shape(plan), words, {.max_waiting = 3}, metrics);
  const ServeRequest request{.id = 1, .prompt = {1}};
  CHECK(engine.submit({request, request}) == Refusal::None);
  CHECK(engine.submit({request, request}) == Refusal::Full);
  CHECK(engine.submit({request}) == Refusal::None);
  CHECK(engine.submit({request}) == Refusal::Full);
  CHECK(engine.retry_after_s() >= 1);
  engine.drain();
  CHECK(engine.submit({request}) == Refusal::Draining);
}

TEST_CASE("a request that waits too long ends with a reason, and a drain ends what runs too long") {
  const Plan plan = test::speaking_plan("nano-dense", 2);
  const ServeShape shape = serve_shape(plan, {.sequences = 1, .chunk = 8, .kv_tokens = 32});
  const test::NumberWords words(plan.model.vocab);
  Alone alone;
  Stepper stepper(plan, Rank(0), alone.pool, shape, 1);
  test::fill_weights(plan, stepper.runner());
  for (const bool drains : {false, true}) {
    CAPTURE(drains);
    Metrics metrics({});
    EngineOptions options{.drain_limit_us = 1};
    if (!drains) options = {.queue_limit_us = 1, .request_limit_us = 1, .drain_limit_us = 1e12};
    Engine engine(plan, shape, words, options, metrics);
    std::map<schedule::RequestId, ServeEvent> last;
    engine.on_events = [&](const std::vector<ServeEvent>& events) {
      for (const ServeEvent& event : events) {
        if (event.finish != Finish::None) last[event.id] = event;
        if (last.size() == 3) engine.drain();
      }
    };
    std::vector<ServeRequest> requests;
    for (schedule::RequestId id = 1; id <= 3; ++id) {
      requests.push_back({.id = id, .prompt = {1, 2}, .max_tokens = 30});
    }
    REQUIRE(engine.submit(requests) == Refusal::None);
    if (drains) engine.drain();
    engine.run(stepper, alone.ranks, [] { return false; });
    REQUIRE(last.size() == 3);
    CHECK(last.at(3).finish == (drains ? Finish::Shutdown : Finish::Timeout));
    CHECK_FALSE(last.at(3).reason.empty());
  }
}

}  // namespace imhotep::executor
