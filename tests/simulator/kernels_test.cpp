#include "simulator/cost/kernels.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/base/error.h"
#include "simulator/cost/roofline.h"
#include "tests/simulator/fixtures.h"

using namespace imhotep;
using namespace imhotep::simulator;
using imhotep::testing::empty_profile;
using imhotep::testing::round_cluster;

namespace {

const ClusterSpec kCluster = round_cluster();

Gemm gemm(std::int64_t m, std::int64_t n, std::int64_t k) {
  return {.m = m, .n = n, .k = k, .transpose_b = true};
}

profiles::Profile gemm_profile() {
  profiles::Profile profile = empty_profile(kCluster);
  profile.tables.push_back({.family = "gemm",
                            .variant = "nt",
                            .keys = {"m", "n", "k"},
                            .points = {{.key = {64, 256, 256}, .time_us = 130, .spread = 0.05},
                                       {.key = {512, 256, 256}, .time_us = 800, .spread = 0.01}}});
  return profile;
}

Cost price(const profiles::Profile& profile, const program::Shape& shape, Dtype dtype = Dtype::F32,
           int busy = 1) {
  return KernelPrices(kCluster.device, profile).price(profiles::describe(shape), dtype, busy);
}

}  // namespace

TEST_CASE("the roofline is the slower of arithmetic and memory, and the launch") {
  const DeviceSpec& device = kCluster.device;
  CHECK(roofline_us({.flops = 1e6, .bytes = 100}, device, Dtype::F32) == doctest::Approx(11));
  CHECK(roofline_us({.flops = 1e6, .bytes = 100}, device, Dtype::Bf16) == doctest::Approx(6));
  CHECK(roofline_us({.flops = 1e6, .bytes = 100}, device, Dtype::F64) == doctest::Approx(21));
  CHECK(roofline_us({.flops = 1e3, .bytes = 1e6}, device, Dtype::F32) == doctest::Approx(101));
}

TEST_CASE("without a profile every family has a price by the roofline and a wide interval") {
  const KernelPrices prices(kCluster.device, std::nullopt);
  const program::Shape shapes[] = {gemm(64, 64, 64), LayerNorm{8, 64}, AdamW{.elements = 1000},
                                   Route{.tokens = 16, .experts = 4}, ClipScale{}};
  for (const program::Shape& shape : shapes) {
    const profiles::Description described = profiles::describe(shape);
    const Cost cost = prices.price(described, Dtype::F32, 1);
    CHECK(cost.source == Source::Roofline);
    CHECK(cost.time_us >
          roofline_us(work_of(described, Dtype::F32), kCluster.device, Dtype::F32) * 0.999);
    CHECK(cost.high_us > 2 * cost.time_us);
    CHECK(cost.low_us < 0.75 * cost.time_us);
  }
}

TEST_CASE("a measured key returns the measured time, with an interval of its spread") {
  const Cost cost = price(gemm_profile(), gemm(64, 256, 256));
  CHECK(cost.source == Source::Measured);
  CHECK(cost.time_us == doctest::Approx(130));
  CHECK(cost.high_us == doctest::Approx(130 * std::exp(1.645 / 1.349 * 0.05)));
  CHECK(cost.low_us == doctest::Approx(130 * std::exp(-1.645 / 1.349 * 0.05)));
}

TEST_CASE("between two points efficiency lies between theirs") {
  const auto efficiency = [](const Gemm& shape, double time_us) {
    return roofline_us(work_of(profiles::describe(shape), Dtype::F32), kCluster.device,
                       Dtype::F32) /
           time_us;
  };
  const double low = efficiency(gemm(64, 256, 256), 130),
               high = efficiency(gemm(512, 256, 256), 800);
  REQUIRE(low < high);
  for (const std::int64_t m : {80, 128, 200, 256, 400}) {
    const Cost cost = price(gemm_profile(), gemm(m, 256, 256));
    CAPTURE(m);
    CHECK(cost.source == Source::Interpolated);
    CHECK(efficiency(gemm(m, 256, 256), cost.time_us) > low);
    CHECK(efficiency(gemm(m, 256, 256), cost.time_us) < high);
  }
}

TEST_CASE("another variant or dtype is a transfer, and says so with a wider interval") {
  const Cost own = price(gemm_profile(), gemm(64, 256, 256));
  Gemm biased = gemm(64, 256, 256);
  biased.epilogue = Epilogue::Bias;
  for (const Cost& cost :
       {price(gemm_profile(), biased), price(gemm_profile(), gemm(64, 256, 256), Dtype::Bf16)}) {
    CHECK(cost.source == Source::Transferred);
    CHECK(cost.high_us / cost.time_us > own.high_us / own.time_us);
    CHECK(cost.high_us / cost.time_us >= std::exp(0.2499));
  }
}

TEST_CASE("the nearest variant and the nearest number of busy ranks speak") {
  profiles::Profile profile = gemm_profile();
  profiles::Table crowded = profile.tables[0];
  crowded.ranks = 2;
  for (auto& point : crowded.points) point.time_us *= 1.5;
  profile.tables.push_back(crowded);
  profiles::Table transposed = profile.tables[0];
  transposed.variant = "tn accumulate";
  for (auto& point : transposed.points) point.time_us *= 3;
  profile.tables.push_back(transposed);
  CHECK(price(profile, gemm(64, 256, 256), Dtype::F32, 1).time_us == doctest::Approx(130));
  CHECK(price(profile, gemm(64, 256, 256), Dtype::F32, 2).time_us == doctest::Approx(195));
  const Cost four = price(profile, gemm(64, 256, 256), Dtype::F32, 4);
  CHECK(four.time_us == doctest::Approx(195));
  CHECK(four.high_us > price(profile, gemm(64, 256, 256), Dtype::F32, 2).high_us);
  const Gemm tn{.m = 64, .n = 256, .k = 256, .transpose_a = true};
  const Cost other = price(profile, tn);
  CHECK(other.source == Source::Transferred);
  const Gemm tn_measured{.m = 64, .n = 256, .k = 256, .transpose_a = true, .accumulate = true};
  CHECK(price(profile, tn_measured).time_us == doctest::Approx(390));
}

TEST_CASE("a profile of another device lends its efficiency, not its time") {
  profiles::Profile profile = gemm_profile();
  profile.device.name = "Another device";
  profile.device.fp32_flops_per_us /= 10;
  const Cost cost = price(profile, gemm(512, 256, 256));
  CHECK(cost.source == Source::Transferred);
  const profiles::Work work = work_of(profiles::describe(gemm(512, 256, 256)), Dtype::F32);
  const double ratio = 800 / roofline_us(work, profile.device, Dtype::F32);
  CHECK(cost.time_us == doctest::Approx(ratio * roofline_us(work, kCluster.device, Dtype::F32)));
}

TEST_CASE("a table of short walks is told from a start and a walk of its own") {
  // One tile each: a start of 3 us and 2 ns an element of the sum, whatever the roofline says.
  const auto truth = [](double k) { return 3 + 0.002 * k; };
  std::vector<MeasuredPoint> points;
  for (int n = 4; n <= 8; ++n) {
    for (int k = 6; k <= 13; ++k) {
      const Gemm shape = gemm(16, 1 << n, 1 << k);
      const profiles::Description described = profiles::describe(shape);
      points.push_back({.key = described.key,
                        .work = work_of(described, Dtype::Bf16),
                        .time_us = truth(1 << k)});
    }
  }
  DeviceSpec fast = kCluster.device;
  fast.bf16_flops_per_us = 1e9;
  fast.memory_bytes_per_us = 1e7;
  const MeasuredTable table(points, 3, fast, Dtype::Bf16);
  CHECK(table.base().step_us == doctest::Approx(0.002).epsilon(0.1));
  CHECK(table.base().start_us == doctest::Approx(3).epsilon(0.1));
  // Far beyond the table, where a ratio to the roofline would be stuck.
  const profiles::Description deep = profiles::describe(gemm(16, 64, 1 << 15));
  const double told = table.at(deep.key, work_of(deep, Dtype::Bf16), fast, Dtype::Bf16).time_us;
  CHECK(told == doctest::Approx(truth(1 << 15)).epsilon(0.1));
}

TEST_CASE("a table that the roofline explains, or of few points, keeps the roofline") {
  std::vector<MeasuredPoint> points;
  for (int m = 3; m <= 12; ++m) {
    for (int n = 5; n <= 10; ++n) {
      const profiles::Description described = profiles::describe(gemm(1 << m, 1 << n, 512));
      const profiles::Work work = work_of(described, Dtype::F32);
      points.push_back({.key = described.key,
                        .work = work,
                        .time_us = 1.5 * roofline_us(work, kCluster.device, Dtype::F32)});
    }
  }
  const double launch = least_start_us(kCluster.device);
  const auto is_roofline = [&](std::span<const MeasuredPoint> some) {
    const KernelBase base = MeasuredTable(some, 3, kCluster.device, Dtype::F32).base();
    return base.start_us == launch && base.step_us == 0 && base.compute == 1 && base.memory == 1;
  };
  CHECK(is_roofline(points));
  CHECK(is_roofline(std::span(points).first(5)));
}

TEST_CASE("communication has no price on one device") {
  const KernelPrices prices(kCluster.device, std::nullopt);
  CHECK_THROWS_AS((void)prices.price(profiles::describe(AllReduce{8}), Dtype::F32, 1), Error);
}
