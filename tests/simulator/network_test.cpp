#include "simulator/network/network.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/base/error.h"
#include "simulator/network/collectives.h"
#include "tests/simulator/fixtures.h"

using namespace imhotep;
using namespace imhotep::simulator;
using imhotep::testing::empty_profile;
using imhotep::testing::round_cluster;

namespace {

const ClusterSpec kCluster = round_cluster();  // links: 1 us, 10000 B/us; 5 us, 1000 B/us

std::vector<Rank> ranks(std::initializer_list<int> values) {
  std::vector<Rank> members;
  for (const int value : values) members.emplace_back(value);
  return members;
}

}  // namespace

TEST_CASE("ranks of a node are counted where they sit") {
  CHECK(group_layout(ranks({0, 1, 2, 3}), 4) == GroupLayout{4, 1, 4});
  CHECK(group_layout(ranks({0, 4, 8}), 4) == GroupLayout{3, 3, 1});
  CHECK(group_layout(ranks({6, 1, 2, 5, 0}), 4) == GroupLayout{5, 2, 3});
  CHECK(even_layout(8, 2) == GroupLayout{8, 2, 4});
  CHECK(even_layout(2, 4) == GroupLayout{2, 2, 1});
}

TEST_CASE("collectives inside a node follow their closed forms") {
  const GroupLayout four{4, 1, 4};
  CHECK(all_gather_us(40000, four, kCluster) == doctest::Approx(3 * 1 + 0.75 * 4));
  CHECK(reduce_scatter_us(40000, four, kCluster) == doctest::Approx(6));
  // Ring 2 (3 + 3) = 12; tree 2 (2 + 4) = 12: equal at this size, tree below, ring above.
  CHECK(all_reduce_us(40000, four, kCluster) == doctest::Approx(12));
  CHECK(all_reduce_us(400, four, kCluster) == doctest::Approx(2 * (2 + 0.04)));
  CHECK(all_reduce_us(4e6, four, kCluster) == doctest::Approx(2 * (3 + 300)));
  CHECK(flat_exchange_us(40000, four, kCluster) == doctest::Approx(3 + 3));
}

TEST_CASE("collectives across nodes use both links") {
  const GroupLayout eight{8, 2, 4};
  // One hop of the ring crosses; half the bytes enter a node over its four links.
  CHECK(all_gather_us(80000, eight, kCluster) == doctest::Approx(6 + 5 + 0.5 * 80000 / 4000));
  // Three peers near, four far; the far half of the bytes is the slower.
  CHECK(flat_exchange_us(80000, eight, kCluster) == doctest::Approx(3 + 4 * 5 + 40));
  CHECK(hierarchical_exchange_us(80000, eight, kCluster) ==
        doctest::Approx((3 + 0.75 * 8) + (5 + 0.5 * 80) + 2 * 2 * 80000 / 10000.0));
  const GroupLayout apart{2, 2, 1};
  CHECK(all_gather_us(2000, apart, kCluster) == doctest::Approx(5 + 1));
}

TEST_CASE("two levels win for small messages and lose for large ones") {
  const GroupLayout many{32, 8, 4};
  CHECK(hierarchical_exchange_us(3200, many, kCluster) < flat_exchange_us(3200, many, kCluster));
  CHECK(hierarchical_exchange_us(3.2e7, many, kCluster) > flat_exchange_us(3.2e7, many, kCluster));
  const GroupLayout node{4, 1, 4};
  CHECK(hierarchical_exchange_us(3200, node, kCluster) == flat_exchange_us(3200, node, kCluster));
}

TEST_CASE("an all-gather dispatch of few rows beats counts and rows, of many rows it loses") {
  const GroupLayout node{8, 1, 8};
  const auto flat_us = [&](double rows) {
    return collective_us("exchange_counts flat", 8 * 8 * 4, node, kCluster) +
           collective_us("exchange_rows flat", rows * 4096, node, kCluster);
  };
  const auto gathered_us = [&](double rows) {
    return collective_us("exchange_rows all_gather", 8 * (64 * 4 + rows * 4096), node, kCluster);
  };
  CHECK(gathered_us(1) < flat_us(1));
  CHECK(gathered_us(10000) > flat_us(10000));
}

TEST_CASE("more bytes never take less time, and a group of one takes none") {
  for (const char* kind :
       {"all_reduce", "all_gather", "reduce_scatter", "all_gather_rows", "exchange_rows flat",
        "exchange_rows hierarchical", "exchange_rows coordinated", "exchange_rows all_gather",
        "exchange_counts flat"}) {
    CAPTURE(kind);
    for (const GroupLayout& layout : {GroupLayout{2, 1, 2}, GroupLayout{8, 2, 4}}) {
      double before = 0;
      for (double bytes = 8; bytes < 1e9; bytes *= 3) {
        const double now = collective_us(kind, bytes, layout, kCluster);
        CHECK(now >= before);
        before = now;
      }
    }
    CHECK(collective_us(kind, 1e6, {1, 1, 1}, kCluster) == 0);
  }
  CHECK_THROWS_AS((void)collective_us("gossip", 1, {2, 1, 2}, kCluster), Error);
}

TEST_CASE("measured sizes return what was measured, between them its two ends speak") {
  profiles::Profile profile = empty_profile(kCluster);
  profile.collectives.push_back(
      {.kind = "all_reduce", .group_size = 2, .points = {{1024, 4, 0.1}, {16384, 16, 0.02}}});
  const CollectivePrices prices(kCluster, profile);
  const Cost measured = prices.price("all_reduce", 1024, {2, 1, 2});
  CHECK(measured.source == Source::Measured);
  CHECK(measured.time_us == doctest::Approx(4));
  CHECK(measured.high_us == doctest::Approx(4 * std::exp(1.645 / 1.349 * 0.1)));
  const Cost middle = prices.price("all_reduce", 4096, {2, 1, 2});
  CHECK(middle.source == Source::Interpolated);
  // Both ends are 0.8 of (4 + bytes x 16 / 16384), and so is what lies between them.
  CHECK(middle.time_us == doctest::Approx(0.8 * 8));
  // Beyond the table the formula scales its edge.
  const double scale = collective_us("all_reduce", 1e6, {2, 1, 2}, kCluster) /
                       collective_us("all_reduce", 16384, {2, 1, 2}, kCluster);
  CHECK(prices.price("all_reduce", 1e6, {2, 1, 2}).time_us == doctest::Approx(16 * scale));
}

TEST_CASE("sizes that go another way say nothing about those of this one") {
  ClusterSpec gpus = kCluster;
  gpus.device.kind = DeviceKind::Cuda;
  profiles::Profile profile = empty_profile(gpus);
  // Gathers of two: our kernel up to 1 MiB, NCCL above.
  profiles::CollectiveTable table{.kind = "all_gather", .group_size = 2};
  for (const double bytes : {256.0, 65536.0, 1048576.0}) {
    table.points.push_back({.bytes = bytes, .time_us = 4 + 2 * bytes / 1048576});
  }
  for (const double bytes : {4194304.0, 16777216.0, 67108864.0}) {
    table.points.push_back({.bytes = bytes, .time_us = 30 + bytes / 500000});
  }
  profile.collectives.push_back(table);
  const CollectivePrices prices(gpus, profile);
  const GroupLayout two{2, 1, 2};
  CHECK(prices.price("all_gather", 524288, two).time_us == doctest::Approx(5).epsilon(0.001));
  CHECK(prices.price("all_gather", 2e6, two).time_us == doctest::Approx(34).epsilon(0.001));
  CHECK(prices.price("all_gather", 8e6, two).time_us == doctest::Approx(46).epsilon(0.001));
  // Others' kernels know no such ways: between the least and the largest of all sizes.
  profile.kernels = "others'";
  CHECK(CollectivePrices(gpus, profile).price("all_gather", 2e6, two).time_us < 25);
}

TEST_CASE("other groups and kindred kinds are transfers, strangers are formulas") {
  profiles::Profile profile = empty_profile(kCluster);
  profile.collectives.push_back(
      {.kind = "exchange_rows flat", .group_size = 2, .points = {{1000, 10, 0}, {100000, 30, 0}}});
  const CollectivePrices prices(kCluster, profile);
  const Cost four = prices.price("exchange_rows flat", 1000, {4, 1, 4});
  CHECK(four.source == Source::Transferred);
  const double scale =
      flat_exchange_us(1000, {4, 1, 4}, kCluster) / flat_exchange_us(1000, {2, 1, 2}, kCluster);
  CHECK(four.time_us == doctest::Approx(10 * scale));
  CHECK(prices.price("exchange_rows coordinated", 1000, {2, 1, 2}).source == Source::Transferred);
  CHECK(prices.price("exchange_rows coordinated", 1000, {2, 1, 2}).time_us == doctest::Approx(10));
  const Cost stranger = prices.price("all_reduce", 1000, {2, 1, 2});
  CHECK(stranger.source == Source::Roofline);
  CHECK(stranger.time_us == doctest::Approx(all_reduce_us(1000, {2, 1, 2}, kCluster)));
  profile.device.name = "Another device";
  CHECK(CollectivePrices(kCluster, profile).price("exchange_rows flat", 1000, {2, 1, 2}).source ==
        Source::Roofline);
}

TEST_CASE("nothing to send still costs a message, alone it costs nothing") {
  const CollectivePrices prices(kCluster, std::nullopt);
  CHECK(prices.price("exchange_rows flat", 0, {2, 1, 2}).time_us > 0.9);
  CHECK(prices.price("exchange_rows flat", 1000, {1, 1, 1}).time_us == 0);
}
