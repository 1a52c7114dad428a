#pragma once
// Plans for tests of groups and exchanges: legal degrees, no model.

#include <cstdint>
#include <string>

#include "core/spec/plan.h"

// One MoE layer with this exchange (where some legal degrees allow it: `found`), or three layers
// of any. Everything follows from the seed.
struct RandomPlan {
  imhotep::Plan plan;
  bool found = true;
};
[[nodiscard]] RandomPlan random_plan(std::uint64_t seed, int most_ranks,
                                     imhotep::ExchangeAlgorithm exchange);
[[nodiscard]] imhotep::Plan random_plan(std::uint64_t seed, int most_ranks);

[[nodiscard]] std::string describe(const imhotep::Plan& plan);
