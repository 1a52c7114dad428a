// Generation on one rank: the KV cache, the pages and the chunks of a prompt change nothing that
// a full forward pass over the whole text would not say.

#include "executor/generate/generator.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/base/error.h"
#include "core/program/build.h"
#include "tests/executor/generate/setup.h"

namespace imhotep::executor {
namespace {

constexpr const char* kModels[] = {"nano-pr-moe-2-8", "nano-top2-moe-4", "nano-moe-8",
                                   "nano-dense"};

bool alone(bool done) { return done; }

std::vector<GenerationResult> generate(const Plan& plan,
                                       const std::vector<GenerationRequest>& requests) {
  const Bootstrap ranks;
  CommunicatorPool pool(ranks);
  Generator generator(plan, Rank(0), pool, 1);
  test::fill_weights(plan, generator.runner());
  return generator.generate(requests, alone);
}

std::vector<GenerationRequest> requests_of(const Plan& plan, int count) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < count; ++i) {
    requests.push_back(
        {.prompt = test::prompt_of(i, 3 + 5 * i % 12, plan.model.vocab), .max_tokens = 6 + i % 5});
  }
  return requests;
}

void check_same(const std::vector<GenerationResult>& a, const std::vector<GenerationResult>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t r = 0; r < a.size(); ++r) {
    CAPTURE(r);
    CHECK(a[r].tokens == b[r].tokens);
    CHECK(a[r].stopped == b[r].stopped);
    REQUIRE(a[r].logprobs.size() == b[r].logprobs.size());
    for (std::size_t i = 0; i < a[r].logprobs.size(); ++i) {
      CHECK(std::abs(a[r].logprobs[i] - b[r].logprobs[i]) <= 1e-12);
    }
  }
}

// Logits of full forward passes: what evaluation computes, read before the next operation.
class FullForward {
 public:
  explicit FullForward(const Plan& plan)
      : plan_(plan),
        pool_(ranks_),
        runner_(plan, Rank(0), {program::build_evaluate(plan, Rank(0), 1)}, pool_) {
    test::fill_weights(plan, runner_);
    runner_.observe([this](const program::Operation& op, double) {
      if (std::string_view(op.name) != "head") return;
      const auto* logits = reinterpret_cast<const double*>(runner_.buffer(0, "logits"));
      logits_.assign(logits, logits + plan_.workload.sequence * plan_.model.padded_vocab());
    });
  }

  // The most probable word after the text, and its log-probability.
  std::pair<std::int32_t, double> next(const std::vector<std::int32_t>& text) {
    const auto sequence = static_cast<std::size_t>(plan_.workload.sequence);
    for (std::size_t i = 0; i < sequence; ++i) {
      // What follows the text is masked, whatever it is.
      runner_.input<std::int32_t>("tokens")[i] = i < text.size() ? text[i] : 7;
      runner_.input<std::int32_t>("targets")[i] = 0;
      runner_.input<std::int32_t>("positions")[i] = static_cast<std::int32_t>(i);
    }
    runner_.run(0, {});
    const double* row =
        logits_.data() + static_cast<std::int64_t>(text.size() - 1) * plan_.model.padded_vocab();
    const auto best = std::max_element(row, row + plan_.model.vocab) - row;
    double sum = 0;
    for (int word = 0; word < plan_.model.vocab; ++word) sum += std::exp(row[word] - row[best]);
    return {static_cast<std::int32_t>(best), -std::log(sum)};
  }

 private:
  Plan plan_;
  Bootstrap ranks_;
  CommunicatorPool pool_;
  Runner runner_;
  std::vector<double> logits_;
};

}  // namespace

TEST_CASE("a larger KV cache than the batch needs changes no text") {
  Plan plan = test::speaking_plan("nano-pr-moe-2-8", 3);
  const auto expected = generate(plan, requests_of(plan, 7));
  const std::int64_t bytes = program::plan_memory(plan, Rank(0)).total();
  plan.kv_tokens = 3 * 32 + 64;
  check_same(generate(plan, requests_of(plan, 7)), expected);
  CHECK(program::plan_memory(plan, Rank(0)).total() > bytes);
}

TEST_CASE("greedy text with the KV cache is the greedy text of full forward passes") {
  for (const char* model : kModels) {
    CAPTURE(std::string(model));
    const Plan plan = test::speaking_plan(model, 3);
    const auto requests = requests_of(plan, 7);  // more than fit at once
    const auto results = generate(plan, requests);
    FullForward full(plan);
    for (std::size_t r = 0; r < requests.size(); ++r) {
      std::vector<std::int32_t> text = requests[r].prompt;
      REQUIRE(static_cast<std::int64_t>(results[r].tokens.size()) == requests[r].max_tokens);
      for (std::size_t i = 0; i < results[r].tokens.size(); ++i) {
        const auto [token, logprob] = full.next(text);
        CHECK(results[r].tokens[i] == token);
        CHECK(std::abs(results[r].logprobs[i] - logprob) <= 1e-11);
        text.push_back(token);
      }
    }
  }
}

TEST_CASE("prompts in chunks and pages of any size give the same text") {
  for (const char* model : kModels) {
    CAPTURE(std::string(model));
    Plan plan = test::speaking_plan(model, 3);
    const auto requests = requests_of(plan, 5);
    const auto reference = generate(plan, requests);
    for (const int chunk : {1, 3, 5, 7, 13}) {
      for (const int page : {1, 3, 32}) {
        CAPTURE(chunk);
        CAPTURE(page);
        plan.prefill_chunk = chunk;
        plan.page_size = page;
        check_same(generate(plan, requests), reference);
      }
    }
  }
}

TEST_CASE("a request's text does not depend on the requests beside it") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 4);
  auto requests = requests_of(plan, 6);
  for (GenerationRequest& request : requests) request.temperature = 0.9;
  const auto together = generate(plan, requests);
  for (std::size_t r = 0; r < requests.size(); ++r) {
    check_same(generate(plan, {requests[r]}), {together[r]});
  }
}

TEST_CASE("a generator can be asked again") {
  const Plan plan = test::speaking_plan("nano-top2-moe-4", 2);
  const Bootstrap ranks;
  CommunicatorPool pool(ranks);
  Generator generator(plan, Rank(0), pool, 1);
  test::fill_weights(plan, generator.runner());
  const auto requests = requests_of(plan, 5);
  const auto first = generator.generate(requests, alone);
  check_same(generator.generate(requests, alone), first);
  const GenerationTimes& times = generator.times();
  CHECK(times.prefill_steps == 5);
  CHECK(times.decode_steps == static_cast<std::int64_t>(times.decode_step_us.size()));
}

TEST_CASE("sampled text is a function of the seed") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 3);
  std::vector<GenerationRequest> requests;
  for (const std::uint64_t seed : {1, 1, 2}) {
    requests.push_back({.prompt = {4, 8, 15},
                        .max_tokens = 12,
                        .temperature = 1.3,
                        .top_k = 40,
                        .top_p = 0.95,
                        .seed = seed});
  }
  const auto results = generate(plan, requests);
  CHECK(results[0].tokens == results[1].tokens);
  CHECK(results[0].tokens != results[2].tokens);
  check_same(generate(plan, requests), results);
}

TEST_CASE("the whole context can be filled, and not a token more") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 2);
  // The last token is never read, so it needs no place in the cache.
  const std::vector<GenerationRequest> full(
      2, {.prompt = test::prompt_of(1, 20, 256), .max_tokens = 13});
  for (const GenerationResult& result : generate(plan, full)) CHECK(result.tokens.size() == 13);
  auto beyond = full;
  beyond[1].max_tokens = 14;
  CHECK_THROWS_WITH_AS(generate(plan, beyond), doctest::Contains("context of 32"), Error);
}

TEST_CASE("a stop token ends a text and is not part of it") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 2);
  auto requests = requests_of(plan, 1);
  const auto whole = generate(plan, requests)[0].tokens;
  requests[0].stop_token = whole[3];
  const auto first = std::find(whole.begin(), whole.end(), whole[3]) - whole.begin();
  const GenerationResult stopped = generate(plan, requests)[0];
  CHECK(stopped.stopped);
  CHECK(stopped.tokens == std::vector<std::int32_t>(whole.begin(), whole.begin() + first));
  CHECK(stopped.logprobs.size() == stopped.tokens.size());
}

TEST_CASE("requests that make no sense are refused") {
  const Plan plan = test::speaking_plan("nano-pr-moe-2-8", 2);
  const auto kind_of = [&](const GenerationRequest& request) {
    try {
      static_cast<void>(generate(plan, {request}));
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind{};
  };
  CHECK(kind_of({.prompt = {}}) == ErrorKind::Input);
  CHECK(kind_of({.prompt = {1}, .max_tokens = 0}) == ErrorKind::Input);
  CHECK(kind_of({.prompt = {1}, .max_tokens = INT64_MAX}) == ErrorKind::Input);
  CHECK(kind_of({.prompt = {1, -1}}) == ErrorKind::Input);
  CHECK(kind_of({.prompt = {1, 256}}) == ErrorKind::Input);
  CHECK(kind_of({.prompt = {1}, .temperature = -1}) == ErrorKind::Input);
  CHECK(kind_of({.prompt = {1}, .temperature = std::nan("")}) == ErrorKind::Input);
  CHECK(kind_of({.prompt = {1}}) == ErrorKind{});
}

}  // namespace imhotep::executor
