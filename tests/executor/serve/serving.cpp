#include "tests/executor/serve/serving.h"

namespace imhotep::test {

using namespace executor;

Served serve_with(Stepper& stepper, const Plan& plan, const ServeShape& shape,
                  const std::vector<ServeRequest>& requests, const Bootstrap& ranks,
                  const Vocabulary& vocabulary) {
  if (ranks.rank() != 0 && plan.world > 1) {
    Engine::follow(stepper, ranks);
    return {};
  }
  Metrics metrics({});
  Engine engine(
      plan, shape, vocabulary,
      {.max_waiting = 100000, .queue_limit_us = 0, .request_limit_us = 0, .drain_limit_us = 1e12},
      metrics);
  Served served;
  std::size_t open = requests.size();
  engine.on_events = [&](const std::vector<ServeEvent>& events) {
    for (const ServeEvent& event : events) {
      Answer& answer = served.answers[event.id];
      answer.text += event.text;
      for (const TokenReport& token : event.tokens) {
        answer.tokens.push_back(token.token);
        answer.logprobs.push_back(token.logprob);
      }
      answer.generated = event.generated;
      if (event.finish == Finish::None) continue;
      answer.finish = event.finish;
      if (--open == 0) engine.drain();
    }
  };
  if (engine.submit(requests) != Refusal::None) throw std::runtime_error("refused");
  if (requests.empty()) engine.drain();
  engine.run(stepper, ranks, [] { return false; });
  metrics.read([&](const Metrics::Values& v) {
    served.preemptions = v.preemptions;
    served.steps = v.steps;
    served.dropped_tokens = v.dropped_tokens;
    for (const ExpertLoad& load : v.experts) {
      for (const double tokens : load.tokens) served.routed_tokens += tokens;
    }
    return 0;
  });
  return served;
}

Served serve_all(const Plan& plan, const ServeShape& shape,
                 const std::vector<ServeRequest>& requests, const Bootstrap& ranks,
                 CommunicatorPool& pool, const Vocabulary& vocabulary) {
  const bool single = plan.world == 1;
  Stepper stepper(plan, Rank(single ? 0 : ranks.rank()), pool, shape, ranks.world());
  fill_weights(plan, stepper.runner());
  return serve_with(stepper, plan, shape, requests, ranks, vocabulary);
}

std::vector<ServeRequest> mixed_requests(int count, int vocab, std::int64_t room,
                                         std::uint64_t seed) {
  std::vector<ServeRequest> requests;
  for (int i = 0; i < count; ++i) {
    const std::uint64_t draw = hash(seed, static_cast<std::uint64_t>(i));
    const auto prompt = static_cast<int>(1 + draw % static_cast<std::uint64_t>(room - 2));
    const auto most = static_cast<std::uint64_t>(room + 1 - prompt);
    ServeRequest request{.id = static_cast<schedule::RequestId>(i + 1),
                         .prompt = prompt_of(seed + draw, prompt, vocab),
                         .max_tokens = static_cast<std::int64_t>(1 + (draw >> 20) % most)};
    request.temperature = 0;
    request.client = draw % 3;
    request.priority = static_cast<int>((draw >> 8) % 3);
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace imhotep::test
