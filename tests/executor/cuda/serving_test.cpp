// A GPU serves as a CPU rank generates: many requests in mixed steps, replayed as graphs, give the
// greedy text of each alone; and alternatives are read from the device.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/base/random.h"
#include "executor/generate/generator.h"
#include "executor/serve/engine.h"
#include "executor/train/initialize.h"
#include "tests/executor/serve/serving.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kRoom = 200;  // tokens of a request

ModelSpec small_model(const char* experts, bool residual, int top_k) {
  ModelSpec model{.name = "small", .layers = 4, .hidden = 128, .heads = 2, .vocab = 1000};
  model.context = 256;
  model.experts = ExpertList::parse(experts);
  model.residual = residual;
  model.top_k = top_k;
  check(model);
  return model;
}

Plan serving_plan(const ModelSpec& model, DeviceKind device, Dtype dtype) {
  Workload workload{.kind = WorkloadKind::Generation, .global_batch = 24};
  workload.prompt = kRoom / 2;
  workload.output = kRoom / 2;
  Plan plan = single_rank_plan(model, workload);
  plan.device = device;
  plan.dtype = dtype;
  return plan;
}

test::Served served_on(const Plan& plan, const std::vector<ServeRequest>& requests) {
  const Bootstrap alone;
  CommunicatorPool pool(alone);
  const ServeShape shape =
      serve_shape(plan, {.sequences = 24, .chunk = 320, .kv_tokens = 24 * kRoom});
  Stepper stepper(plan, Rank(0), pool, shape, 1);
  test::fill_weights(plan, stepper.runner());
  if (plan.device == DeviceKind::Cuda) stepper.warm_up();
  return test::serve_with(stepper, plan, shape, requests, alone,
                          test::NumberWords(plan.model.vocab));
}

// The first tokens that differ end a comparison: what follows answers another text.
struct Comparison {
  std::int64_t equal = 0, all = 0;
  double worst = 0;  // difference of log-probabilities of equal tokens
};

Comparison compare(const test::Served& one, const test::Served& other) {
  Comparison result;
  for (const auto& [id, answer] : one.answers) {
    const test::Answer& beside = other.answers.at(id);
    REQUIRE(answer.tokens.size() == beside.tokens.size());
    result.all += static_cast<std::int64_t>(answer.tokens.size());
    for (std::size_t i = 0; i < answer.tokens.size(); ++i) {
      if (answer.tokens[i] != beside.tokens[i]) break;
      ++result.equal;
      result.worst = std::max(result.worst, std::abs(answer.logprobs[i] - beside.logprobs[i]));
    }
  }
  return result;
}

}  // namespace

TEST_CASE("60 requests served at once by a GPU have the texts that a CPU rank gives them") {
  const auto requests = test::mixed_requests(60, 1000, kRoom, 3);
  for (const bool residual : {true, false}) {
    CAPTURE(residual);
    const ModelSpec model = small_model(residual ? "4,8" : "8", residual, residual ? 1 : 2);
    const test::Served cpu = served_on(serving_plan(model, DeviceKind::Cpu, Dtype::F32), requests);
    const test::Served gpu = served_on(serving_plan(model, DeviceKind::Cuda, Dtype::F32), requests);
    CHECK(gpu.dropped_tokens == 0);
    const Comparison same = compare(cpu, gpu);
    CAPTURE(same.equal);
    CAPTURE(same.all);
    CHECK(static_cast<double>(same.equal) >= 0.99 * static_cast<double>(same.all));
    CHECK(same.worst <= 1e-3);
  }
}

TEST_CASE("in bf16 requests served at once are nearly as each alone, whatever step they share") {
  const auto requests = test::mixed_requests(40, 1000, kRoom, 4);
  const ModelSpec model = small_model("4,8", true, 1);
  const Plan plan = serving_plan(model, DeviceKind::Cuda, Dtype::Bf16);
  const test::Served together = served_on(plan, requests);
  test::Served alone;
  for (std::size_t i = 0; i < requests.size(); i += 8) {
    alone.answers.merge(served_on(plan, {requests[i]}).answers);
  }
  const Comparison same = compare(alone, together);
  CAPTURE(same.equal);
  CAPTURE(same.all);
  CHECK(same.equal > 0);
  CHECK(same.worst <= 0.25);
}

TEST_CASE("alternatives from a GPU add up and begin with the greedy token") {
  for (const Dtype dtype : {Dtype::F32, Dtype::Bf16}) {
    const Plan plan = serving_plan(small_model("4,8", true, 1), DeviceKind::Cuda, dtype);
    const Bootstrap alone;
    CommunicatorPool pool(alone);
    const ServeShape shape = serve_shape(plan, {.sequences = 4, .chunk = 8, .kv_tokens = 64});
    Stepper stepper(plan, Rank(0), pool, shape, 1);
    test::fill_weights(plan, stepper.runner());
    stepper.warm_up();
    SequenceOrder sequence{.piece = {.request = 3, .count = 2, .samples = true}, .tokens = {4, 5}};
    sequence.sampling.temperature = 0;
    sequence.alternatives = plan.model.vocab;
    const StepOrder order{.bucket = 1, .ranks = {{.sequences = {sequence}, .pages = {{0, 0, 0}}}}};
    const Sampled sampled = stepper.run(order).sampled.at(0);
    REQUIRE(static_cast<int>(sampled.alternatives.size()) == plan.model.vocab);
    CHECK(std::abs(sampled.alternatives[0].logprob - sampled.logprob) <= 1e-4);
    const bool tied = sampled.alternatives[0].logprob == sampled.alternatives[1].logprob;
    if (!tied) CHECK(sampled.alternatives[0].token == sampled.token);
    double sum = 0;
    for (const Alternative& one : sampled.alternatives) sum += std::exp(one.logprob);
    CHECK(std::abs(sum - 1) <= 1e-6);
  }
}

}  // namespace imhotep::executor
