#include "simulator/cost/routing.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/base/random.h"

using namespace imhotep;
using namespace imhotep::simulator;

namespace {

// Fullest bin and bins in use, on average over many draws.
struct Drawn {
  double fullest = 0, active = 0;
};
Drawn draw(const std::vector<double>& shares, int rows, std::uint64_t seed, int repeats = 3000) {
  Drawn mean;
  for (int r = 0; r < repeats; ++r) {
    std::vector<int> bins(shares.size(), 0);
    for (int i = 0; i < rows; ++i) {
      double left = uniform(seed, r, i);
      std::size_t bin = 0;
      while (bin + 1 < shares.size() && left >= shares[bin]) left -= shares[bin++];
      ++bins[bin];
    }
    mean.fullest += *std::max_element(bins.begin(), bins.end());
    mean.active +=
        static_cast<double>(std::count_if(bins.begin(), bins.end(), [](int n) { return n > 0; }));
  }
  mean.fullest /= repeats;
  mean.active /= repeats;
  return mean;
}

}  // namespace

TEST_CASE("shares sum to one: uniform, Zipf and measured") {
  const auto uniform_shares = expert_shares({}, 8, 0);
  CHECK(uniform_shares[3] == doctest::Approx(1.0 / 8));
  const auto zipf = expert_shares({.kind = RoutingKind::Zipf, .skew = 1}, 4, 0);
  CHECK(std::accumulate(zipf.begin(), zipf.end(), 0.0) == doctest::Approx(1));
  CHECK(zipf[0] / zipf[3] == doctest::Approx(4));
  const RoutingSpec measured{.kind = RoutingKind::Measured, .histograms = {{1, 3}, {2, 1, 1}}};
  CHECK(expert_shares(measured, 3, 1)[0] == doctest::Approx(0.5));
  CHECK_THROWS_AS((void)expert_shares(measured, 3, 0), Error);
  CHECK_THROWS_AS((void)expert_shares(measured, 3, 2), Error);
}

TEST_CASE("distinct experts under uniform routing are E(1 - (1 - 1/E)^rows)") {
  const std::vector<double> shares(64, 1.0 / 64);
  for (const double rows : {1.0, 8.0, 64.0, 1000.0}) {
    CHECK(expected_active(shares, rows) ==
          doctest::Approx(64 * (1 - std::pow(1 - 1.0 / 64, rows))));
  }
  CHECK(expected_active(shares, 0) == 0);
}

TEST_CASE("the fullest bin agrees with draws, uniform and skewed, few rows and many") {
  const std::uint64_t seed = 20260101;
  CAPTURE(seed);
  for (const int bins : {2, 8, 32}) {
    for (const int rows : {1, 16, 200, 2000}) {
      for (const double skew : {0.0, 0.7}) {
        CAPTURE(bins);
        CAPTURE(rows);
        CAPTURE(skew);
        const auto shares = expert_shares({.kind = RoutingKind::Zipf, .skew = skew}, bins, 0);
        const Drawn drawn = draw(shares, rows, seed, rows > 1000 ? 300 : 2000);
        CHECK(expected_fullest(shares, rows) == doctest::Approx(drawn.fullest).epsilon(0.08));
        CHECK(expected_active(shares, rows) == doctest::Approx(drawn.active).epsilon(0.03));
      }
    }
  }
}

TEST_CASE("the fullest bin is never below the mean nor above all rows") {
  for (const int bins : {1, 2, 16, 128}) {
    for (const double rows : {0.3, 1.0, 7.0, 100.0, 5000.0}) {
      const std::vector<double> shares(bins, 1.0 / bins);
      const double fullest = expected_fullest(shares, rows);
      CHECK(fullest >= rows / bins * (1 - 1e-12));
      CHECK(fullest <= rows);
    }
  }
}

TEST_CASE("experts lie on ranks in blocks") {
  const std::vector<double> shares{0.4, 0.2, 0.3, 0.1};
  const auto ranks = rank_shares(shares, 2);
  CHECK(ranks[0] == doctest::Approx(0.6));
  CHECK(ranks[1] == doctest::Approx(0.4));
  const RoutedLoad load = routed_load(shares, 2, 5000);
  CHECK(load.rows == doctest::Approx(6000).epsilon(0.01));
  CHECK(load.factor == doctest::Approx(1.2).epsilon(0.01));
  CHECK(load.active == doctest::Approx(2));
  CHECK(load.busiest == doctest::Approx(2.0 / 3).epsilon(0.01));
}

TEST_CASE("capacity keeps fewer routes where experts are unevenly liked") {
  // Four experts, 400 routes, 100 slots each: of 10, 10, 40 and 340 routes 10, 10, 40 and 100 stay.
  std::vector<double> shares = {0.025, 0.025, 0.1, 0.85};
  const double kept = keep_within_capacity(shares, 400, 100);
  const std::vector<double> even = {0.25, 0.25, 0.25, 0.25};
  std::vector<double> same = even;
  CHECK(keep_within_capacity(same, 400, 100) == doctest::Approx(1));
  CHECK(same == even);
  // An even spread loses the tail of a binomial of deviation 8.7 beyond its mean: 3.5 of 100.
  CHECK(kept == doctest::Approx(160 / (4 * 96.5)).epsilon(0.01));
  CHECK(shares[3] == doctest::Approx(100.0 / 160).epsilon(0.01));
  std::vector<double> roomy = {0.5, 0.5};
  CHECK(keep_within_capacity(roomy, 10, 1000) == doctest::Approx(1));
}

TEST_CASE("gathered decode steps count the rows of their whole group") {
  CHECK(counts_whole_group(FewExpertsUp{}));
  CHECK(counts_whole_group(FewExpertsDown{}));
  CHECK_FALSE(counts_whole_group(GroupedGemm{}));
}

TEST_CASE("only rows that routing decides change, and never beyond their bound") {
  const RoutedLoad load{.rows = 150, .factor = 1.5, .active = 3, .busiest = 0.5};
  const GroupedGemm experts{
      .rows = {400, 100}, .experts = 4, .n = 8, .k = 8, .active = 4, .busiest = 0.3};
  const auto loaded = std::get<GroupedGemm>(under_load(experts, load));
  CHECK(loaded.rows.expected == 150);
  CHECK(loaded.active == 3);
  CHECK(loaded.busiest == 0.5);
  const auto exchange = std::get<ExchangeRows>(
      under_load(ExchangeRows{.send = {100, 100}, .receive = {120, 100}, .hidden = 8}, load));
  CHECK(exchange.send.expected == 100);
  CHECK(exchange.receive.expected == 120);
  const FewExpertsUp few{.tokens = 8, .experts = 8, .k = 2, .hidden = 4, .ffn = 4, .active = 7};
  CHECK(routed_rows(few) == 16);
  CHECK(std::get<FewExpertsUp>(under_load(few, load)).active == load.active);
  CHECK(routed_rows(Gemm{.m = 4, .n = 4, .k = 4}) == 0);
  CHECK(routed_rows(experts) == 100);
}
