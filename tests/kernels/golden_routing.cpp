#include <algorithm>
#include <optional>

#include "core/base/capacity.h"
#include "kernels/route.h"
#include "tests/kernels/golden_case.h"

namespace imhotep::golden {
namespace {

// Without a given policy: draws mean random selection; k = 1 and 2 are first come, first served;
// more choices keep the largest probabilities, the default of the reference.
DropPolicy policy_of(Case& fields, std::int64_t k) {
  const bool drawn = fields.has("uniform");
  const auto name =
      fields.get_or<std::string>("policy", drawn ? "random" : (k <= 2 ? "position" : "probs"));
  if (drawn && name != "random") fail("draws do not go with policy '{}'", name);
  if (name == "random" && drawn) return DropPolicy::Random;
  if (name == "position") return DropPolicy::Position;
  if (name == "probs") return DropPolicy::Probability;
  fail("policy '{}' is unknown", name);
}

std::vector<double> noise_of(Case& fields, std::int64_t count) {
  if (fields.has("gumbel") && fields.has("noise")) fail("both 'gumbel' and 'noise' are given");
  return fields.draws(fields.has("gumbel") ? "gumbel" : "noise", count);
}

// Choice-major [k][tokens], as the files have it.
template <class T>
std::vector<T> choice_major(const Routing& routing, const std::vector<T>& token_major) {
  std::vector<T> out;
  for (std::int64_t c = 0; c < routing.k; ++c) {
    for (std::int64_t t = 0; t < routing.tokens; ++t) out.push_back(token_major[t * routing.k + c]);
  }
  return out;
}

void compare_table(Case& fields, const Routing& routing) {
  const std::int64_t routes = routing.tokens * routing.k;
  if (fields.has("expert")) {
    expect_equal("expert", choice_major(routing, routing.expert),
                 fields.integers("expert", routes));
  }
  if (fields.has("slot")) {
    auto slot = choice_major(routing, routing.slot);
    const auto expected = fields.integers("slot", routes);
    for (std::int64_t r = 0; r < routes; ++r) {
      if (slot[r] == -1) slot[r] = expected[r];  // the files keep no slot of a dropped route
    }
    expect_equal("slot", slot, expected);
  }
  if (fields.has("gate")) {
    expect_close("gate", choice_major(routing, routing.weight), fields.floats("gate", routes), 1e-6,
                 1);
  }
  if (fields.has("exp_counts")) {
    expect_equal("exp_counts", routing.exp_counts, fields.integers("exp_counts", routing.experts));
  }
}

// The limit that the kernel gets; dropless cases state the fullest expert instead.
std::int64_t capacity_of(Case& fields, const Routing& routing) {
  if (!fields.has("cf")) return 0;
  return route_capacity(routing.tokens, routing.experts, routing.k, fields.get<double>("cf"),
                        fields.get_or<std::int64_t>("min_capacity", 4));
}

}  // namespace

void route_on_cpu(const Route& shape, const kernels::RouteOperands& operands) {
  kernels::route(kernels::Queue{}, shape, operands);
}

Routing check_routing(Case& fields, std::int64_t tokens, std::int64_t experts, std::int64_t k,
                      const std::vector<float>& logits, const RunRoute& run) {
  Routing out{tokens,
              experts,
              k,
              std::vector<float>(logits.size()),
              std::vector<float>(tokens * k),
              std::vector<float>(2 * experts),
              std::vector<std::int32_t>(tokens * k),
              std::vector<std::int32_t>(tokens * k),
              std::vector<std::int32_t>(experts),
              0};
  const std::int64_t capacity = capacity_of(fields, out);
  const DropPolicy policy = policy_of(fields, k);
  const auto uniform = fields.draws("uniform", tokens * experts);
  const auto noise = noise_of(fields, tokens * experts);
  std::vector<std::int32_t> used;
  if (fields.has("used")) used = fields.integers("used", tokens);
  run({tokens, experts, k, policy, capacity},
      {.logits = logits.data(),
       .used = used.empty() ? nullptr : used.data(),
       .uniform = uniform.empty() ? nullptr : uniform.data(),
       .noise = noise.empty() ? nullptr : noise.data(),
       .probs = out.probs.data(),
       .expert = out.expert.data(),
       .slot = out.slot.data(),
       .weight = out.weight.data(),
       .stats = out.stats.data(),
       .exp_counts = out.exp_counts.data()});
  if (fields.has("capacity")) {
    const auto fullest = *std::max_element(out.exp_counts.begin(), out.exp_counts.end());
    expect_equal<std::int64_t>("capacity", {fields.has("cf") ? capacity : fullest},
                               {fields.get<std::int64_t>("capacity")});
  }
  out.l_aux =
      kernels::balance_loss(Dtype::F32, out.stats.data(), experts, k, static_cast<double>(tokens));
  expect_close<double, double>("l_aux", {out.l_aux}, {fields.get<double>("l_aux")}, 1e-6, 1);
  compare_table(fields, out);
  return out;
}

void check_routing_case(Case& fields, const RunRoute& run) {
  const auto tokens = fields.get<std::int64_t>("tokens");
  const auto experts = fields.get<std::int64_t>("experts");
  const auto routes = static_cast<std::int64_t>(fields.object("expert").size());
  if (tokens < 1 || routes % tokens != 0) fail("{} routes of {} tokens", routes, tokens);
  const std::int64_t k = routes / tokens;
  if (fields.get_or("k", k) != k)
    fail("k = {}, but the table has {} choices", fields.get<int>("k"), k);
  fields.get<std::int64_t>("capacity");
  (void)check_routing(fields, tokens, experts, k, fields.floats("logits", tokens * experts), run);
}

}  // namespace imhotep::golden
