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

// Part of an expert's routes that fit its capacity, in the mean, when each of `routes` chooses it
// with probability `share`: a binomial cut at the capacity, by its normal approximation.
[[nodiscard]] inline double kept_part(double routes, double share, double capacity) {
  const double mean = routes * share, deviation = std::sqrt(routes * share * (1 - share));
  if (mean <= 0) return 1;
  if (deviation <= 0) return std::min(1.0, capacity / mean);
  const double z = (capacity - mean) / deviation;
  const double density = std::exp(-z * z / 2) / std::sqrt(2 * M_PI);
  const double above = 0.5 * std::erfc(z / std::sqrt(2.0));
  return std::clamp(1 - deviation * (density - z * above) / mean, 0.0, 1.0);
}

}  // namespace imhotep
