#include "core/base/random.h"

#include <doctest/doctest.h>

#include <set>

namespace imhotep {
namespace {

TEST_CASE("every coordinate changes the hash") {
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < 6; ++i) {
    for (std::uint64_t a = 0; a < 6; ++a) {
      for (std::uint64_t b = 0; b < 6; ++b) {
        for (std::uint64_t c = 0; c < 6; ++c) seen.insert(hash(i, a, b, c));
      }
    }
  }
  CHECK(seen.size() == 6 * 6 * 6 * 6);
  static_assert(mix64(0) == 0xE220A8397B1DCDAFULL);  // the first value of splitmix64 with seed 0
}

TEST_CASE("uniform values fill [0, 1) evenly") {
  int bins[10] = {};
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const double value = uniform(7, i);
    REQUIRE(value >= 0);
    REQUIRE(value < 1);
    ++bins[static_cast<int>(value * 10)];
  }
  for (const int count : bins) CHECK(std::abs(count - 10000) < 500);
}

TEST_CASE("normal values have the moments of the normal distribution") {
  double sum = 0, squares = 0, fourth = 0;
  constexpr int kDraws = 200000;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double value = normal(9, i / 1000, i % 1000);
    REQUIRE(std::isfinite(value));
    sum += value;
    squares += value * value;
    fourth += value * value * value * value;
  }
  CHECK(std::abs(sum / kDraws) < 0.01);
  CHECK(squares / kDraws == doctest::Approx(1).epsilon(0.02));
  CHECK(fourth / kDraws == doctest::Approx(3).epsilon(0.05));
}

}  // namespace
}  // namespace imhotep
