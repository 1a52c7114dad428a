// Routing on a GPU against the CPU's fp32 form: choices, slots and counts are equal, numbers close.

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/kernels/cuda/device_route.h"
#include "tests/kernels/golden_case.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels {
namespace {

using test::Random;
using test::Table;

struct Inputs {
  std::vector<float> logits;
  Table used;
  std::vector<double> uniform, noise;
  RouteContext context = {.seed = 3, .step = 5, .layer = 2, .token_base = 640};
};

struct Routed {
  std::vector<float> probs, weight, stats;
  Table expert, slot, exp_counts;
};

Routed run(const golden::RunRoute& route_with, const Route& shape, const Inputs& in,
           bool slots = true) {
  const auto routes = static_cast<std::size_t>(shape.tokens * shape.k);
  const auto experts = static_cast<std::size_t>(shape.experts);
  Routed out{std::vector<float>(in.logits.size()),
             std::vector<float>(routes),
             std::vector<float>(2 * experts),
             Table(routes),
             Table(routes, -1),
             Table(experts)};
  const auto or_null = [](const auto& values) { return values.empty() ? nullptr : values.data(); };
  route_with(shape, {.logits = in.logits.data(),
                     .used = or_null(in.used),
                     .uniform = or_null(in.uniform),
                     .noise = or_null(in.noise),
                     .probs = out.probs.data(),
                     .expert = out.expert.data(),
                     .slot = slots ? out.slot.data() : nullptr,
                     .weight = out.weight.data(),
                     .stats = out.stats.data(),
                     .exp_counts = out.exp_counts.data(),
                     .context = in.context});
  return out;
}

golden::RunRoute on(const DeviceQueue& queue) {
  return [&queue](const Route& shape, const RouteOperands& host) { route_on(queue, shape, host); };
}

void check_same(const Routed& got, const Routed& expected) {
  REQUIRE(got.expert == expected.expert);
  REQUIRE(got.slot == expected.slot);
  REQUIRE(got.exp_counts == expected.exp_counts);
  check_close(got.probs, expected.probs, tolerance(Dtype::F32));
  check_close(got.weight, expected.weight, tolerance(Dtype::F32));
  check_close(got.stats, expected.stats, tolerance(Dtype::F32));
}

void check(const DeviceQueue& queue, const Route& shape, const Inputs& in, bool slots = true) {
  CAPTURE(shape.tokens);
  CAPTURE(shape.experts);
  CAPTURE(shape.k);
  CAPTURE(static_cast<int>(shape.policy));
  CAPTURE(shape.capacity);
  check_same(run(on(queue), shape, in, slots), run(golden::route_on_cpu, shape, in, slots));
}

Inputs random_inputs(Random& random, const Route& shape, std::uint64_t seed) {
  Inputs in;
  const std::int64_t cells = shape.tokens * shape.experts;
  in.logits = random.normals<float>(cells);
  const bool ties = seed % 3 == 0 && shape.policy != DropPolicy::Probability;
  for (float& logit : in.logits) logit = ties ? std::round(2 * logit) / 2 : logit;
  if (seed % 2 == 0) in.uniform = random.uniforms(cells);
  for (double& draw : in.uniform) draw = ties ? std::round(16 * draw) / 16 : draw;
  if (seed % 5 == 0) in.used = random.table(shape.tokens, 0, 3);
  if (seed % 4 == 1 && shape.k <= 2) in.noise = random.normals<double>(cells);
  return in;
}

TEST_CASE("routing agrees with the CPU for all sizes, choices and policies") {
  using enum DropPolicy;
  const DeviceQueue queue(Dtype::F32);
  const std::vector<std::int64_t> experts{1, 2, 5, 8, 31, 32, 36, 64, 100, 128, 130, 256, 300};
  const std::vector<std::int64_t> tokens{0, 1, 3, 64, 129, 700, 4100};
  std::uint64_t seed = 0;
  for (const std::int64_t e : experts) {
    for (const std::int64_t t : tokens) {
      for (const std::int64_t k : {1, 2, 3, 6}) {
        if (k > e || t * e * k > 700000) continue;
        for (const DropPolicy policy : {None, Random, Probability, Position}) {
          if (policy == Random && k != 1) continue;
          ++seed;
          CAPTURE(seed);
          test::Random random(seed);
          const Route shape{t, e, k, policy, seed % 7 == 0 ? 0 : 1 + t * k / (e + 1)};
          check(queue, shape, random_inputs(random, shape, seed), seed % 2 == 1);
        }
      }
    }
  }
  CHECK(seed > 500);
  CHECK(queue.fault().fault == Fault::None);
}

TEST_CASE("more experts than lanes hold at once, and as many choices as experts") {
  const DeviceQueue queue(Dtype::F32);
  Random random(7);
  for (const Route& shape : {Route{70, 1024, 1}, Route{513, 1000, 3, DropPolicy::Position, 2},
                             Route{90, 12, 12}, Route{40, 70, 70, DropPolicy::Probability, 9}}) {
    check(queue, shape, {.logits = random.normals<float>(shape.tokens * shape.experts)});
  }
}

TEST_CASE("real sizes agree: hashed draws, skew, and everything to one expert") {
  const DeviceQueue queue(Dtype::F32);
  Random random(11);
  for (const std::int64_t experts : {32, 64, 128}) {
    const Route shape{16384, experts, 1, DropPolicy::Random, 16384 / experts};
    Inputs in{.logits = random.normals<float>(shape.tokens * experts)};
    check(queue, shape, in);
    for (std::int64_t t = 0; t < shape.tokens; t += 2) in.logits[t * experts + 3] += 4;
    check(queue, shape, in, false);
  }
  const Route shape{5000, 16, 1, DropPolicy::Random, 1234};
  Inputs in{.logits = random.normals<float>(shape.tokens * 16)};
  for (std::int64_t t = 0; t < shape.tokens; ++t) in.logits[t * 16 + 9] += 40;
  check(queue, shape, in);
}

TEST_CASE("equal rows have equal probabilities, so the earlier tokens survive") {
  const DeviceQueue queue(Dtype::F32);
  const std::vector<float> row{0.3F, -1, 2, 2, 0.1F, -4};
  for (const std::int64_t tokens : {50, 3000}) {
    Inputs in;
    for (std::int64_t t = 0; t < tokens; ++t) {
      in.logits.insert(in.logits.end(), row.begin(), row.end());
    }
    const auto out = run(on(queue), {tokens, 6, 2, DropPolicy::Probability, 20}, in);
    for (std::int64_t t = 0; t < tokens; ++t) {
      REQUIRE(out.expert[2 * t] == (t < 20 ? 2 : -1));
      REQUIRE(out.expert[2 * t + 1] == (t < 20 ? 3 : -1));
      REQUIRE(out.slot[2 * t] == (t < 20 ? t : -1));
      REQUIRE(out.weight[2 * t] == (t < 20 ? 0.5F : 0.0F));
    }
  }
}

TEST_CASE("the same routing twice gives the same bits, on a bf16 queue as on fp32") {
  const DeviceQueue single(Dtype::F32), half(Dtype::Bf16);
  Random random(5);
  for (const Route& shape : {Route{60, 128, 1}, Route{9000, 48, 2, DropPolicy::Probability, 300}}) {
    const Inputs in{.logits = random.normals<float>(shape.tokens * shape.experts)};
    const Routed first = run(on(single), shape, in);
    for (const Routed& again : {run(on(single), shape, in), run(on(half), shape, in)}) {
      CHECK(again.probs == first.probs);
      CHECK(again.stats == first.stats);
      CHECK(again.weight == first.weight);
      CHECK(again.expert == first.expert);
      CHECK(again.slot == first.slot);
    }
  }
}

TEST_CASE("the gradient to the logits agrees with the CPU") {
  const DeviceQueue queue(Dtype::Bf16);  // all operands are wide
  for (const std::int64_t experts : {1, 6, 32, 61, 128, 200, 520}) {
    for (const std::int64_t k : {1, 2, 3, 9}) {
      for (const std::int64_t tokens : {0, 1, 77, 2500}) {
        if (k > experts) continue;
        CAPTURE(experts);
        CAPTURE(k);
        CAPTURE(tokens);
        Random random(static_cast<std::uint64_t>(experts * 10 + k));
        const Route shape{tokens, experts, k, DropPolicy::Position, 1 + tokens * k / experts};
        const Routed routed =
            run(golden::route_on_cpu, shape, {.logits = random.normals<float>(tokens * experts)});
        const auto d_weight = random.normals<float>(tokens * k);
        const RouteGrad grad{tokens, experts, k, tokens % 2 == 0 ? 0.0 : 0.8,
                             static_cast<double>(2 * tokens)};
        std::vector<float> expected(routed.probs.size());
        route_grad(Queue{}, grad,
                   {routed.probs.data(), routed.expert.data(), routed.weight.data(),
                    d_weight.data(), routed.stats.data(), expected.data()});
        const auto probs = queue.upload_raw(routed.probs), weight = queue.upload_raw(routed.weight),
                   d = queue.upload_raw(d_weight), stats = queue.upload_raw(routed.stats);
        const auto expert = queue.upload_raw(routed.expert);
        const auto d_logits = unwritten<float>(queue, tokens * experts);
        route_grad(queue, grad,
                   {probs.data(), static_cast<const std::int32_t*>(expert.data()), weight.data(),
                    d.data(), stats.data(), d_logits.data()});
        check_close(queue.download_raw<float>(d_logits), expected, chained_tolerance(Dtype::F32));
      }
    }
  }
}

TEST_CASE("the golden routing cases are reproduced on the GPU") {
  const DeviceQueue queue(Dtype::F32);
  std::ifstream stream(IMHOTEP_SOURCE_DIR "/tests/data/golden/deepspeed.json");
  const auto file = nlohmann::json::parse(stream);
  int cases = 0;
  for (const auto& item : file.items()) {
    const std::string& name = item.key();
    if (!item.value().contains("slot")) continue;
    CAPTURE(name);
    golden::Case fields(item.value());
    CHECK_NOTHROW(golden::check_routing_case(fields, on(queue)));
    CHECK_NOTHROW(fields.finish());
    ++cases;
  }
  CHECK(cases >= 6);
}

}  // namespace
}  // namespace imhotep::kernels
