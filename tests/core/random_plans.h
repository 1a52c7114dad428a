#pragma once
// Random small models and legal plans for them, from a seed.

#include <cstdint>

#include "core/spec/plan.h"

namespace imhotep::test {

inline constexpr std::uint64_t kSeeds = 60;  // plans a property is tried on

// Hidden at most 96, world at most 24; pyramids, residual layers, dense blocks, both rank orders,
// all exchanges. Every plan passes check_degrees.
[[nodiscard]] Plan random_plan(std::uint64_t seed);

}  // namespace imhotep::test
