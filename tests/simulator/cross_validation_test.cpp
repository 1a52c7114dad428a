#include "simulator/cross_validation.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/base/error.h"
#include "core/base/random.h"
#include "simulator/cost/roofline.h"
#include "simulator/plan_order.h"
#include "tests/simulator/fixtures.h"

using namespace imhotep;
using namespace imhotep::simulator;
using imhotep::testing::empty_profile;
using imhotep::testing::round_cluster;

namespace {

// Products whose efficiency falls smoothly with size, with noise; `jump`: products of one (n, k)
// that nothing else foretells.
profiles::Profile product_profile(double noise, double jump = 1) {
  profiles::Profile profile = empty_profile(round_cluster());
  profiles::Table table{.family = "gemm", .variant = "nt", .keys = {"m", "n", "k"}};
  for (int m = 3; m <= 12; m += 3) {
    for (int n = 5; n <= 10; ++n) {
      for (int k = 5; k <= 10; ++k) {
        const std::vector<double> key = {std::exp2(m), std::exp2(n), std::exp2(k)};
        const auto described = profiles::description_of("gemm", "nt", key);
        const double roofline =
            roofline_us(work_of(*described, Dtype::F32), profile.device, Dtype::F32);
        const double ratio = (1 + 4.0 / m + 0.05 * n) * (n == 8 && k == 7 ? jump : 1);
        const auto index = 100 * static_cast<std::uint64_t>(n) + static_cast<std::uint64_t>(k);
        table.points.push_back(
            {.key = key, .time_us = roofline * ratio * std::exp(noise * normal(5, m, index))});
      }
    }
  }
  profile.tables.push_back(std::move(table));
  return profile;
}

const FamilyAccuracy& family(const std::vector<FamilyAccuracy>& all, const std::string& name) {
  for (const FamilyAccuracy& one : all) {
    if (one.family == name) return one;
  }
  FAIL("no such family");
  return all.front();
}

HeldOut step(double measured, double predicted) {
  return {.measured_us = measured,
          .predicted_us = predicted,
          .low_us = 0.9 * predicted,
          .high_us = 1.1 * predicted};
}

}  // namespace

TEST_CASE("accuracy is the median, the 90th percentile and the share inside its intervals") {
  std::vector<HeldOut> points;
  for (int i = 0; i <= 10; ++i) points.push_back(step(100, 100 + 2 * i));
  const Accuracy accuracy = accuracy_of(points);
  CHECK(accuracy.points == 11);
  CHECK(accuracy.median == doctest::Approx(0.10));
  CHECK(accuracy.p90 == doctest::Approx(0.18));
  CHECK(accuracy.coverage == doctest::Approx(6.0 / 11));  // 112 - 11.2 is still above 100
}

TEST_CASE("a smooth table foretells the shapes it lacks, and its intervals hold them") {
  for (const double noise : {0.02, 0.08}) {
    CAPTURE(noise);
    const auto all = cross_validate(product_profile(noise), {});
    const FamilyAccuracy& products = family(all, "gemm");
    CHECK(products.left_out == "n, k");
    CHECK(products.accuracy.points == 144);
    CHECK(products.accuracy.median < 1.5 * noise);
    CHECK(products.accuracy.coverage > 0.80);
    CHECK(products.accuracy.coverage < 0.98);
  }
}

TEST_CASE("a shape that behaves unlike its neighbours is told from them alone") {
  // Were points of the left-out (n, k) still used, they would foretell their own jump.
  const auto all = cross_validate(product_profile(0, 3), {});
  const auto shapes = cross_validate(product_profile(0, 3), {.left_out = {"gemm:m,n,k"}});
  CHECK(family(all, "gemm").accuracy.p90 > 0.02);
  CHECK(family(shapes, "gemm").left_out == "m, n, k");
  CHECK(family(shapes, "gemm").accuracy.median < 0.05);
}

TEST_CASE("what cannot be left out is refused by name, and lone points are counted") {
  const profiles::Profile profile = product_profile(0.02);
  CHECK_THROWS_AS((void)cross_validate(profile, {.left_out = {"gemm"}}), Error);
  CHECK_THROWS_AS((void)cross_validate(profile, {.left_out = {"gemm:width"}}), Error);
  CHECK_THROWS_AS((void)cross_validate(profile, {.left_out = {"gem:m"}}), Error);

  profiles::Profile two = empty_profile(round_cluster());
  two.tables.push_back({.family = "add",
                        .keys = {"elements"},
                        .points = {{.key = {64}, .time_us = 1}, {.key = {128}, .time_us = 2}}});
  two.tables.push_back(
      {.family = "fill", .keys = {"elements"}, .points = {{.key = {64}, .time_us = 1}}});
  const auto all = cross_validate(two, {});
  REQUIRE(all.size() == 1);
  CHECK(all[0].family == "add");
  CHECK(all[0].accuracy.points == 2);
}

TEST_CASE("sizes of a collective between its ends are left out one by one") {
  profiles::Profile profile = empty_profile(round_cluster());
  profiles::CollectiveTable table{.kind = "all_reduce", .group_size = 4};
  for (int i = 8; i <= 24; i += 2) {
    const double bytes = std::exp2(i);
    table.points.push_back({.bytes = bytes, .time_us = 12 + bytes / 5000});
  }
  profile.collectives.push_back(table);
  const auto all = cross_validate(profile, {});
  REQUIRE(all.size() == 1);
  CHECK(all[0].family == "all_reduce");
  CHECK(all[0].accuracy.points == 7);
  CHECK(all[0].accuracy.p90 < 0.02);  // a latency and a rate: exactly what two ends say
}

TEST_CASE("the order of plans counts pairs of one question, and regret is of the plan chosen") {
  const OrderAccuracy order = order_of({{"a", step(100, 90)},
                                        {"a", step(110, 80)},
                                        {"a", step(150, 200)},
                                        {"b", step(10, 1)},
                                        {"c", step(20, 30)},
                                        {"c", step(30, 40)}});
  CHECK(order.questions == 2);
  CHECK(order.pairs == 4);
  CHECK(order.kendall_tau == doctest::Approx(0.5));  // one of four pairs is turned round
  CHECK(order.worst_regret == doctest::Approx(0.1));
  CHECK(order.mean_regret == doctest::Approx(0.05));
  CHECK(order_of({}).kendall_tau == 0);
}
