#include "profiles/interpolation.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/base/random.h"

using namespace imhotep;
using namespace imhotep::profiles;

namespace {

// A smooth ratio over (rows, columns) with multiplicative noise, at random places.
std::vector<RatioTable::Point> noisy_points(std::uint64_t seed, int count, double noise) {
  std::vector<RatioTable::Point> points;
  for (int i = 0; i < count; ++i) {
    const double x = 10 * uniform(seed, i, 0), y = 8 * uniform(seed, i, 1);
    const double smooth = 1.2 + 2.0 / (1 + std::exp2(x - 3)) + 0.1 * y;
    points.push_back({.key = {std::exp2(x), std::exp2(y) * 16},
                      .ratio = smooth * std::exp(noise * normal(seed, i, 2))});
  }
  return points;
}

}  // namespace

TEST_CASE("a measured key returns the measured ratio, with the noise of its samples") {
  const RatioTable table({{.key = {8, 64}, .ratio = 2, .spread = 0.1},
                          {.key = {16, 64}, .ratio = 1.5},
                          {.key = {32, 64}, .ratio = 1.2}},
                         2);
  const Ratio ratio = table.at({8, 64});
  CHECK(ratio.exact);
  CHECK_FALSE(ratio.outside);
  CHECK(ratio.value == doctest::Approx(2));
  CHECK(std::log(ratio.high / ratio.value) == doctest::Approx(1.645 / 1.349 * 0.1));
  CHECK(ratio.low * ratio.high == doctest::Approx(4));
}

TEST_CASE("between two points the ratio lies between theirs, and nearer to the nearer") {
  const RatioTable table({{.key = {8}, .ratio = 2}, {.key = {128}, .ratio = 1}}, 1);
  double before = 2;
  for (const double x : {10.0, 20.0, 32.0, 50.0, 100.0}) {
    const Ratio ratio = table.at({x});
    CHECK_FALSE(ratio.exact);
    CHECK(ratio.value < before);
    CHECK(ratio.value > 1);
    before = ratio.value;
  }
  CHECK(table.at({32}).value == doctest::Approx(std::sqrt(2)));
}

TEST_CASE("any ratio lies within those of the table") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    const auto points = noisy_points(seed, 40, 0.1);
    double low = 1e9, high = 0;
    for (const auto& point : points) {
      low = std::min(low, point.ratio);
      high = std::max(high, point.ratio);
    }
    const RatioTable table(points, 2);
    for (int i = 0; i < 50; ++i) {
      const Key key{std::exp2(14 * uniform(seed, i, 7) - 2), std::exp2(16 * uniform(seed, i, 8))};
      const Ratio ratio = table.at(key);
      CHECK(ratio.value >= low * (1 - 1e-12));
      CHECK(ratio.value <= high * (1 + 1e-12));
      CHECK(ratio.low < ratio.value);
      CHECK(ratio.high > ratio.value);
    }
  }
}

TEST_CASE("beyond the measured box the nearest edge speaks, less certainly the farther") {
  const RatioTable table({{.key = {8}, .ratio = 2}, {.key = {64}, .ratio = 1.5}}, 1);
  const Ratio near = table.at({128}), far = table.at({1024});
  CHECK(near.outside);
  CHECK(near.value == doctest::Approx(1.5));
  CHECK(far.value == doctest::Approx(1.5));
  CHECK(far.high > near.high);
  CHECK(far.low < near.low);
}

TEST_CASE("90 % intervals of left-out points hold them in 80 to 97 % of cases") {
  for (const double noise : {0.02, 0.05, 0.15}) {
    int inside = 0, all = 0;
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
      const auto points = noisy_points(seed, 50, noise);
      for (std::size_t out = 0; out < points.size(); ++out) {
        auto rest = points;
        rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(out));
        const Ratio ratio = RatioTable(rest, 2).at(points[out].key);
        inside += ratio.low <= points[out].ratio && points[out].ratio <= ratio.high ? 1 : 0;
        ++all;
      }
    }
    const double coverage = static_cast<double>(inside) / all;
    CAPTURE(noise);
    MESSAGE("noise " << noise << ": coverage " << coverage << " of " << all);
    CHECK(coverage >= 0.80);
    CHECK(coverage <= 0.97);
  }
}

TEST_CASE("the half-width is a quantile of the residuals, wider than all when they are few") {
  std::vector<double> hundred;
  for (int i = 1; i <= 99; ++i) hundred.push_back(i * 0.01);
  CHECK(ninety_percent(hundred) == doctest::Approx(0.90));
  CHECK(ninety_percent({0.1, 0.2}) > 0.2);
  CHECK(ninety_percent({}) > 0.3);
}
