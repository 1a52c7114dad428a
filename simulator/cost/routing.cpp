#include "simulator/cost/routing.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "core/base/capacity.h"
#include "core/base/fail.h"

namespace imhotep::simulator {
namespace {

constexpr double kPoissonBelow = 30;  // means from which a normal distribution serves

std::vector<double> normalised(std::vector<double> shares) {
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares)
    share = sum > 0 ? share / sum : 1.0 / static_cast<double>(shares.size());
  return shares;
}

// Bins of equal share count once, with a multiplicity: uniform routing costs one power a step.
std::map<double, int> multiplicities(std::span<const double> shares) {
  std::map<double, int> bins;
  for (const double share : shares) ++bins[share];
  return bins;
}

// sum over x >= 0 of 1 - P(all bins <= x), bins Poisson.
double fullest_poisson(const std::map<double, int>& bins, double rows) {
  struct Bin {
    double term, below, mean;
    int count;
  };
  std::vector<Bin> all;
  for (const auto& [share, count] : bins) {
    const double mean = share * rows, first = std::exp(-mean);
    all.push_back({.term = first, .below = first, .mean = mean, .count = count});
  }
  double sum = 0;
  for (int x = 0; x < 1000; ++x) {
    double together = 1;
    for (Bin& bin : all) {
      together *= std::pow(std::min(bin.below, 1.0), bin.count);
      bin.term *= bin.mean / (x + 1);
      bin.below += bin.term;
    }
    sum += 1 - together;
    if (1 - together < 1e-9) break;
  }
  return sum;
}

// high - integral of P(all bins <= x), bins normal with the variance of a Poisson.
double fullest_normal(const std::map<double, int>& bins, double rows) {
  const double top = bins.rbegin()->first * rows, deviation = std::sqrt(top);
  const double low = top - 5 * deviation, high = top + 6 * deviation;
  constexpr int kSteps = 64;
  double integral = 0;
  for (int i = 0; i < kSteps; ++i) {
    const double x = low + (i + 0.5) * (high - low) / kSteps;
    double together = 1;
    for (const auto& [share, count] : bins) {
      const double mean = share * rows;
      const double below = 0.5 * std::erfc((mean - x) / std::sqrt(2 * std::max(mean, 1e-12)));
      together *= std::pow(below, count);
    }
    integral += together * (high - low) / kSteps;
  }
  return high - integral;
}

// Rows that routing decides have room above their expectation.
bool decided_by_routing(const Rows& rows) {
  return static_cast<double>(rows.bound) > rows.expected * (1 + 1e-9);
}

Rows loaded(const Rows& rows, const RoutedLoad& load) {
  if (!decided_by_routing(rows)) return rows;
  return {.bound = rows.bound,
          .expected = std::min(load.factor * rows.expected, static_cast<double>(rows.bound))};
}

struct UnderLoad {
  const RoutedLoad& load;
  template <class T>
  T operator()(T shape) const {
    if constexpr (std::is_same_v<T, ExchangeRows>) {
      shape.send = loaded(shape.send, load);
      shape.receive = loaded(shape.receive, load);
    } else if constexpr (std::is_same_v<T, GroupedGemm>) {
      shape.rows = loaded(shape.rows, load);
      shape.active = load.active;
      shape.busiest = load.busiest;
    } else if constexpr (std::is_same_v<T, FewExpertsUp> || std::is_same_v<T, FewExpertsDown>) {
      shape.active = load.active;
    } else if constexpr (requires { shape.rows.expected; }) {
      shape.rows = loaded(shape.rows, load);
    }
    return shape;
  }
};

}  // namespace

std::vector<double> expert_shares(const RoutingSpec& routing, int experts, int moe_index) {
  std::vector<double> shares(experts, 1.0);
  if (routing.kind == RoutingKind::Zipf) {
    for (int e = 0; e < experts; ++e) shares[e] = std::pow(e + 1.0, -routing.skew);
  }
  if (routing.kind == RoutingKind::Measured) {
    if (moe_index >= static_cast<int>(routing.histograms.size()) ||
        routing.histograms[moe_index].size() != shares.size()) {
      fail_input("routing.histograms: expected {} shares for MoE layer {}, got {}", experts,
                 moe_index,
                 moe_index < static_cast<int>(routing.histograms.size())
                     ? routing.histograms[moe_index].size()
                     : 0);
    }
    shares = routing.histograms[moe_index];
  }
  return normalised(std::move(shares));
}

double expected_active(std::span<const double> shares, double rows) {
  double active = 0;
  for (const double share : shares) active += 1 - std::pow(1 - std::min(share, 1.0), rows);
  return active;
}

double expected_fullest(std::span<const double> shares, double rows) {
  if (shares.empty() || rows <= 0) return 0;
  const std::map<double, int> bins = multiplicities(shares);
  const double mean = bins.rbegin()->first * rows;
  if (shares.size() == 1) return mean;
  const double fullest =
      mean < kPoissonBelow ? fullest_poisson(bins, rows) : fullest_normal(bins, rows);
  return std::clamp(fullest, std::max(mean, std::min(1.0, rows)), rows);
}

std::vector<double> rank_shares(std::span<const double> shares, int ranks) {
  std::vector<double> sums(ranks, 0.0);
  const std::size_t each = shares.size() / ranks;
  for (std::size_t e = 0; e < each * ranks; ++e) sums[e / each] += shares[e];
  return sums;
}

double busiest_rank_rows(std::span<const double> shares, int ranks, double rows) {
  std::vector<double> sums = rank_shares(shares, ranks);
  // Sums of equal shares differ in the last bit; equal bins must count as equal.
  for (double& sum : sums) sum = std::round(sum * 1e12) / 1e12;
  return expected_fullest(sums, rows);
}

RoutedLoad routed_load(std::span<const double> shares, int expert_degree, double mean_rows) {
  const std::vector<double> ranks = rank_shares(shares, expert_degree);
  const auto busiest = std::max_element(ranks.begin(), ranks.end()) - ranks.begin();
  const std::size_t each = shares.size() / expert_degree;
  const auto own = shares.subspan(static_cast<std::size_t>(busiest) * each, each);
  const std::vector<double> local = normalised({own.begin(), own.end()});
  RoutedLoad load;
  load.rows = expert_degree == 1
                  ? mean_rows
                  : busiest_rank_rows(shares, expert_degree, mean_rows * expert_degree);
  load.factor = mean_rows > 0 ? load.rows / mean_rows : 1;
  load.active = expected_active(local, load.rows);
  load.busiest = load.rows > 0 ? expected_fullest(local, load.rows) / load.rows : 0;
  return load;
}

program::Shape under_load(const program::Shape& shape, const RoutedLoad& load) {
  return std::visit([&](const auto& s) -> program::Shape { return UnderLoad{load}(s); }, shape);
}

double routed_rows(const program::Shape& shape) {
  return std::visit(
      []<class T>(const T& s) -> double {
        if constexpr (std::is_same_v<T, ExchangeRows>) {
          return std::max(s.send.expected, s.receive.expected);
        } else if constexpr (requires { s.rows.expected; }) {
          return s.rows.expected;
        } else if constexpr (std::is_same_v<T, FewExpertsUp> || std::is_same_v<T, FewExpertsDown>) {
          return static_cast<double>(s.tokens * s.k);
        } else {
          return 0;
        }
      },
      shape);
}

double keep_within_capacity(std::vector<double>& shares, double routes, double capacity) {
  const auto kept = [&](double share) {
    return routes * share * kept_part(routes, share, capacity);
  };
  double sum = 0;
  const double even = kept(1 / static_cast<double>(shares.size()));
  for (double& share : shares) sum += share = kept(share);
  const double part = sum / (even * static_cast<double>(shares.size()));
  shares = normalised(std::move(shares));
  return part;
}

bool counts_whole_group(const program::Shape& shape) {
  return std::holds_alternative<FewExpertsUp>(shape) ||
         std::holds_alternative<FewExpertsDown>(shape);
}

}  // namespace imhotep::simulator
