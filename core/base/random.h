#pragma once
// Random numbers by counter: a value is a pure function of a seed and up to three coordinates, so
// that it does not depend on the order in which ranks ask for it.
// Source: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators" (2014):
// the finaliser of splitmix64, applied once a coordinate.

#include <cmath>
#include <cstdint>

namespace imhotep {

[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

[[nodiscard]] constexpr std::uint64_t hash(std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0,
                                           std::uint64_t c = 0) {
  return mix64(mix64(mix64(mix64(seed) ^ a) ^ b) ^ c);
}

// In [0, 1), 53 bits.
[[nodiscard]] constexpr double uniform(std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0,
                                       std::uint64_t c = 0) {
  return static_cast<double>(hash(seed, a, b, c) >> 11) * 0x1p-53;
}

// Mean 0, variance 1, by Box and Muller; two independent uniforms a value.
[[nodiscard]] inline double normal(std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0,
                                   std::uint64_t c = 0) {
  const std::uint64_t bits = hash(seed, a, b, c);
  const double radius = static_cast<double>((bits >> 11) + 1) * 0x1p-53;  // (0, 1]
  const double angle = static_cast<double>(mix64(bits) >> 11) * 0x1p-53;
  return std::sqrt(-2.0 * std::log(radius)) * std::cos(6.283185307179586 * angle);
}

}  // namespace imhotep
