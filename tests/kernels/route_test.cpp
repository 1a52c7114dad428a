// Routing against a second implementation, against closed forms, and its gradient against central
// differences.

#include "kernels/route.h"

#include "core/base/capacity.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "tests/kernels/moe_support.h"
#include "tests/kernels/route_oracle.h"

namespace imhotep::kernels::test {
namespace {

template <class T>
struct Routed {
  std::vector<T> probs, weight, stats;
  Table expert, slot, exp_counts;
};

template <class T>
Routed<T> run(const Route& shape, const std::vector<T>& logits, const Inputs& in = {}) {
  const std::int64_t routes = shape.tokens * shape.k;
  Routed<T> out{std::vector<T>(logits.size(), T(-7)),
                std::vector<T>(routes, T(-7)),
                std::vector<T>(2 * shape.experts, T(-7)),
                Table(routes, -7),
                Table(routes, -7),
                Table(shape.experts, -7)};
  const auto or_null = [](const auto& values) { return values.empty() ? nullptr : values.data(); };
  route(queue_of<T>(), shape,
        {.logits = logits.data(),
         .used = or_null(in.used),
         .uniform = or_null(in.uniform),
         .noise = or_null(in.noise),
         .probs = out.probs.data(),
         .expert = out.expert.data(),
         .slot = out.slot.data(),
         .weight = out.weight.data(),
         .stats = out.stats.data(),
         .exp_counts = out.exp_counts.data(),
         .context = in.context});
  return out;
}

void check_against_oracle(const Route& shape, const Routed<double>& got, const Oracle& oracle) {
  const std::int64_t E = shape.experts;
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    double sum = 0;
    for (std::int64_t e = 0; e < E; ++e) sum += oracle.any(t, e) * oracle.probs[t * E + e];
    const double divisor = shape.k == 1 ? 1.0 : sum;
    for (std::int64_t c = 0; c < shape.k; ++c) {
      const std::int64_t r = t * shape.k + c;
      const auto& mask = oracle.mask[c];
      const auto begin = mask.begin() + t * E;
      const std::int64_t e = std::find(begin, begin + E, 1) - begin;
      REQUIRE(got.expert[r] == (e < E ? e : -1));
      REQUIRE(got.slot[r] == (e < E ? oracle.place[t * E + e] : -1));
      const double weight = e < E ? oracle.probs[t * E + e] / divisor : 0.0;
      REQUIRE(got.weight[r] == doctest::Approx(weight).epsilon(1e-13));
    }
  }
  for (std::int64_t e = 0; e < E; ++e) {
    double mass = 0;
    for (std::int64_t t = 0; t < shape.tokens; ++t) mass += oracle.probs[t * E + e];
    REQUIRE(got.stats[e] == oracle.counts[e]);
    REQUIRE(got.stats[E + e] == doctest::Approx(mass).epsilon(1e-12));
  }
  CHECK(scaled_error(got.probs, oracle.probs) < 1e-14);
}

std::vector<DropPolicy> policies_of(std::int64_t k) {
  using enum DropPolicy;
  if (k == 1) return {None, Random, Probability, Position};
  return {None, Probability, Position};
}

TEST_CASE("routing agrees with dense masks for every k and policy") {
  int cases = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const std::int64_t experts = random.between(2, 9), tokens = random.between(0, 40);
    for (std::int64_t k = 1; k <= std::min<std::int64_t>(experts, 5); ++k) {
      const auto logits = random.normals<double>(tokens * experts);
      Inputs in;
      in.uniform = random.uniforms(tokens * experts);
      if (seed % 3 == 0) in.used = random.table(tokens, 0, 2);
      if (seed % 4 == 0 && k <= 2) in.noise = random.normals<double>(tokens * experts);
      for (const DropPolicy policy : policies_of(k)) {
        const Route shape{tokens, experts, k, policy, random.between(0, 8)};
        CAPTURE(k);
        CAPTURE(static_cast<int>(policy));
        check_against_oracle(shape, run(shape, logits, in), solve(shape, logits, in));
        ++cases;
      }
    }
  }
  CHECK(cases > 400);
}

TEST_CASE("equal logits go to the lower expert, equal scores to the earlier token") {
  const std::vector<float> logits(5 * 4, 0.5F);
  const auto top1 = run<float>({5, 4, 1, DropPolicy::Probability, 2}, logits);
  CHECK(top1.expert == Table{0, 0, -1, -1, -1});
  CHECK(top1.slot == Table{0, 1, -1, -1, -1});
  CHECK(top1.weight == std::vector<float>{0.25F, 0.25F, 0, 0, 0});
  const auto top3 = run<float>({2, 4, 3, DropPolicy::None, 0}, std::vector<float>(8, -1.0F));
  CHECK(top3.expert == Table{0, 1, 2, 0, 1, 2});
  CHECK(top3.slot == Table{0, 0, 0, 1, 1, 1});
}

TEST_CASE("a second choice is placed after all first choices, dropped ones included") {
  // Tokens 0 to 2 choose expert 0 first, token 3 chooses it second: slot 3, over a capacity of 2.
  const std::vector<double> logits{3, 1, 0, 3, 1, 0, 3, 0, 1, 2, 0, 3};
  const auto all = run<double>({4, 3, 2, DropPolicy::None, 0}, logits);
  CHECK(all.expert == Table{0, 1, 0, 1, 0, 2, 2, 0});
  CHECK(all.slot == Table{0, 0, 1, 1, 2, 1, 0, 3});
  const auto capped = run<double>({4, 3, 2, DropPolicy::Position, 2}, logits);
  CHECK(capped.expert == Table{0, 1, 0, 1, -1, 2, 2, -1});
  CHECK(capped.weight[4] == 0.0);
  CHECK(capped.weight[5] == 1.0);  // the survivor of a token takes all the weight
  CHECK(capped.weight[6] == 1.0);
  CHECK(capped.exp_counts == Table{4, 2, 2});
  CHECK(capped.stats[0] == 3.0);  // the balance loss counts first choices only
}

TEST_CASE("capacity is rounded as the source rounds it") {
  CHECK(route_capacity(20, 4, 1, 1.0, 4) == 5);
  CHECK(route_capacity(20, 4, 2, 1.0, 4) == 10);
  CHECK(route_capacity(20, 4, 3, 0.8, 2) == 12);  // 13 in fp64
  CHECK(route_capacity(21, 4, 1, 1.0, 4) == 6);
  CHECK(route_capacity(3, 128, 1, 1.0, 4) == 4);
  CHECK(route_capacity(1000, 7, 1, 1.25, 1) == 179);
}

TEST_CASE("random selection is a function of seed, step, layer, global token and expert") {
  const Route shape{64, 4, 1, DropPolicy::Random, 9};
  const auto logits = Random(5).normals<float>(64 * 4);
  Inputs hashed, given;
  hashed.context = {.seed = 11, .step = 3, .layer = 2, .token_base = 640};
  for (std::uint64_t t = 0; t < 64; ++t) {
    for (std::uint64_t e = 0; e < 4; ++e) {
      given.uniform.push_back(uniform(hash(11, 3, 2), 640 + t, e));
    }
  }
  const auto expected = run(shape, logits, given);
  CHECK(run(shape, logits, hashed).expert == expected.expert);
  for (RouteContext other : {RouteContext{12, 3, 2, 640}, RouteContext{11, 4, 2, 640},
                             RouteContext{11, 3, 3, 640}, RouteContext{11, 3, 2, 641}}) {
    Inputs in;
    in.context = other;
    CHECK(run(shape, logits, in).expert != expected.expert);
  }
}

TEST_CASE("fp32 routing agrees with fp64 routing") {
  for (const std::int64_t experts : {3, 16, 37, 128}) {
    const auto logits = Random(9).normals<float>(50 * experts);
    const Route shape{50, experts, 2, DropPolicy::Position, 4};
    const auto single = run(shape, logits);
    const auto full = run(shape, cast<double>(logits));
    CHECK(single.expert == full.expert);
    CHECK(single.slot == full.slot);
    CHECK(scaled_error(single.weight, full.weight) < 1e-6);
    CHECK(scaled_error(single.stats, full.stats) < 1e-6);
  }
}

std::vector<double> gradient(const Route& shape, const Routed<double>& routed,
                             const std::vector<double>& d_weight, const std::vector<double>& stats,
                             double aux, double tokens) {
  std::vector<double> d_logits(routed.probs.size(), -7);
  route_grad(queue_of<double>(), {shape.tokens, shape.experts, shape.k, aux, tokens},
             {.probs = routed.probs.data(),
              .expert = routed.expert.data(),
              .weight = routed.weight.data(),
              .d_weight = d_weight.data(),
              .stats = stats.data(),
              .d_logits = d_logits.data()});
  return d_logits;
}

TEST_CASE("the gradient of weights and balance loss agrees with central differences") {
  const double aux = 0.7;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    CAPTURE(seed);
    for (std::int64_t k = 1; k <= 4; ++k) {
      for (const DropPolicy policy : policies_of(k)) {
        Random random(seed);
        const Route shape{11, 5, k, policy, seed % 2 == 0 ? 0 : 1 + 2 * k};
        CAPTURE(k);
        CAPTURE(static_cast<int>(policy));
        auto logits = random.normals<double>(11 * 5);
        Inputs in;
        in.uniform = random.uniforms(11 * 5);
        const auto d_weight = random.normals<double>(11 * k);
        const auto loss = [&] {
          const auto out = run(shape, logits, in);
          return dot(out.weight, d_weight) +
                 aux * balance_loss(Dtype::F64, out.stats.data(), 5, k, 11);
        };
        const auto routed = run(shape, logits, in);
        const auto exact = gradient(shape, routed, d_weight, routed.stats, aux, 11);
        CHECK(scaled_error(exact, numeric_gradient(logits, loss)) < 1e-6);
      }
    }
  }
}

TEST_CASE("two ranks with summed statistics give the gradient of one") {
  const std::int64_t tokens = 14, experts = 6, k = 2, half = 7;
  Random random(3);
  const auto logits = random.normals<double>(tokens * experts);
  const auto d_weight = random.normals<double>(tokens * k);
  const auto whole = run<double>({tokens, experts, k}, logits);
  const auto expected = gradient({tokens, experts, k}, whole, d_weight, whole.stats, 0.3, tokens);
  std::vector<double> stats(2 * experts), joined;
  std::vector<Routed<double>> parts;
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const auto first = logits.begin() + rank * half * experts;
    parts.push_back(run<double>({half, experts, k}, {first, first + half * experts}));
    for (std::int64_t i = 0; i < 2 * experts; ++i) stats[i] += parts[rank].stats[i];
  }
  CHECK(scaled_error(stats, whole.stats) < 1e-14);
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const auto first = d_weight.begin() + rank * half * k;
    const auto part =
        gradient({half, experts, k}, parts[rank], {first, first + half * k}, stats, 0.3, tokens);
    joined.insert(joined.end(), part.begin(), part.end());
  }
  CHECK(scaled_error(joined, expected) < 1e-13);
}

TEST_CASE("a balanced gate has a balance loss of one") {
  const std::vector<double> stats{5, 5, 5, 5, 5, 5, 5, 5};
  CHECK(balance_loss(Dtype::F64, stats.data(), 4, 1, 20) == doctest::Approx(1.0));
  const std::vector<float> three{15, 15, 15, 15, 5, 5, 5, 5};
  CHECK(balance_loss(Dtype::F32, three.data(), 4, 3, 20) == doctest::Approx(1.0));
}

TEST_CASE("the slot table and the counts may be left out") {
  const Route shape{30, 4, 1, DropPolicy::Probability, 3};
  const auto logits = Random(6).normals<float>(30 * 4);
  const auto full = run(shape, logits);
  std::vector<float> probs(120), weight(30), stats(8);
  Table expert(30);
  route(queue_of<float>(), shape,
        {.logits = logits.data(),
         .probs = probs.data(),
         .expert = expert.data(),
         .weight = weight.data(),
         .stats = stats.data()});
  CHECK(expert == full.expert);
  CHECK(weight == full.weight);
}

TEST_CASE("impossible routings are refused") {
  const std::vector<float> logits(8, 0.0F);
  CHECK_THROWS_AS(run<float>({2, 4, 5}, logits), Error);
  CHECK_THROWS_AS(run<float>({2, 4, 2, DropPolicy::Random, 1}, logits), Error);
  Inputs noisy;
  noisy.noise.assign(8, 0.0);
  CHECK_THROWS_AS(run<float>({2, 4, 3}, logits, noisy), Error);
  CHECK_THROWS_WITH(route({Device::Cpu, Dtype::Bf16, nullptr}, {2, 4, 1}, {}),
                    "route: this build has no kernel for bf16 on a CPU queue");
}

}  // namespace
}  // namespace imhotep::kernels::test
