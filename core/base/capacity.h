#pragma once
// Routes that one expert accepts from the tokens of one rank.

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace imhotep {

// max(ceil(tokens / experts · factor · k), least): every choice adds its even share.
// The product is rounded to fp32 as in the source: 5 · (0.8 · 3) is 12 there, 12 + 2e-15 in fp64.
// Source: DeepSpeed, sharded_moe.py (top-2 and top-k multiply the capacity factor by k).
[[nodiscard]] inline std::int64_t route_capacity(std::int64_t tokens, std::int64_t experts,
                                                 std::int64_t k, double factor,
                                                 std::int64_t least) {
  const double even = static_cast<double>(tokens) / static_cast<double>(experts);
  const double scaled = factor * static_cast<double>(k);
  const float rows = std::ceil(static_cast<float>(even) * static_cast<float>(scaled));
  return std::max(static_cast<std::int64_t>(rows), least);
}

}  // namespace imhotep
