#include "simulator/network/network.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "profiles/collective_way.h"
#include "profiles/interpolation.h"
#include "simulator/network/collectives.h"

namespace imhotep::simulator {
namespace {

using profiles::CollectivePoint;

constexpr double kFormulaLow = 0.6, kFormulaHigh = 2.0;  // no measurement at all
constexpr double kTransferWidth = 0.25;                  // least half-width of another group size
constexpr double kPerDoubling = 0.10;                    // of the group, or of the bytes beyond
constexpr double kSameBytes = 1.005;
constexpr double kAnyMessage = 1;  // bytes: an empty exchange still sends its headers

using Points = std::span<const CollectivePoint>;

// What the ends of some sizes say about those between: of all ways together the latency of the
// least and the rate of the largest; of one way the line through both. Points are interpolated as
// ratios to it.
struct Ends {
  double start_us = 0, rate = 0;
  Ends(Points points, bool all_ways) {
    const CollectivePoint &first = points.front(), &last = points.back();
    rate = all_ways ? last.time_us / last.bytes
                    : std::max(0.0, (last.time_us - first.time_us) / (last.bytes - first.bytes));
    start_us = first.time_us - (all_ways ? 0 : rate * first.bytes);
  }
  [[nodiscard]] double time_us(double bytes) const { return start_us + rate * bytes; }
};

double between(const Ends& ends, const CollectivePoint& a, const CollectivePoint& b, double bytes) {
  const double part = std::log(bytes / a.bytes) / std::log(b.bytes / a.bytes);
  const auto ratio = [&](const CollectivePoint& point) {
    return std::log(point.time_us / ends.time_us(point.bytes));
  };
  return ends.time_us(bytes) * std::exp(ratio(a) + part * (ratio(b) - ratio(a)));
}

// Beyond an end of one way's sizes, where another way begins: on along the line through the two
// points at that end, which no message undercuts by more than half.
double along(const CollectivePoint& end, const CollectivePoint& inner, double bytes) {
  const double rate = std::max((end.time_us - inner.time_us) / (end.bytes - inner.bytes), 0.0);
  return std::max(end.time_us + rate * (bytes - end.bytes), 0.5 * end.time_us);
}

// A time between the least and the largest size of a table. Requires: two points.
double inside_table(Points points, const CollectiveWays& ways, double bytes) {
  Points same = points;
  if (ways.several) {
    const auto way = [&](double size) {
      return profiles::collective_way(ways.kind, size, ways.ranks);
    };
    const auto here = [&](const CollectivePoint& point) { return way(point.bytes) == way(bytes); };
    const auto first = std::find_if(points.begin(), points.end(), here);
    const auto last = std::find_if_not(first, points.end(), here);
    if (last - first >= 2) same = {first, last};
  }
  const auto above = std::lower_bound(same.begin(), same.end(), bytes,
                                      [](const auto& point, double x) { return point.bytes < x; });
  if (above == same.begin()) return along(same[0], same[1], bytes);
  if (above == same.end()) return along(same.back(), same[same.size() - 2], bytes);
  return between({same, !ways.several}, *(above - 1), *above, bytes);
}

// Errors of predicting each inner point from the others.
double width_of(const std::vector<CollectivePoint>& points, const CollectiveWays& ways) {
  std::vector<double> residuals;
  for (std::size_t i = 1; i + 1 < points.size(); ++i) {
    std::vector<CollectivePoint> rest = points;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
    const double guess = inside_table(rest, ways, points[i].bytes);
    residuals.push_back(std::abs(std::log(guess / points[i].time_us)));
  }
  std::sort(residuals.begin(), residuals.end());
  return profiles::ninety_percent(residuals);
}

double doublings(double a, double b) { return std::abs(std::log2(a / b)); }

// A kind that moves rows in the same way, for profiles that lack this one.
std::string_view stand_in(std::string_view kind) {
  if (kind == "all_gather_rows") return "all_gather";
  if (kind == "all_gather") return "all_gather_rows";
  if (kind == "reduce_scatter") return "all_gather";
  if (kind == "exchange_rows all_gather") return "all_gather";
  if (kind == "exchange_rows coordinated") return "exchange_rows flat";
  if (kind.starts_with("exchange_counts")) return "exchange_rows flat";
  return {};
}

}  // namespace

CollectivePrices::CollectivePrices(const ClusterSpec& cluster,
                                   const std::optional<profiles::Profile>& profile)
    : cluster_(cluster) {
  if (!profile || profile->device.name != cluster.device.name) return;
  own_kernels_ = profile->kernels.empty();
  for (const profiles::CollectiveTable& measured : profile->collectives) {
    if (measured.points.empty() || measured.group_size < 2) continue;
    Table table{.kind = measured.kind,
                .layout = even_layout(measured.group_size, measured.nodes),
                .points = measured.points};
    std::sort(table.points.begin(), table.points.end(),
              [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
    table.ways = {.kind = table.kind,
                  .ranks = table.layout.size,
                  .several = own_kernels_ && cluster.device.kind == DeviceKind::Cuda &&
                             table.layout.nodes == 1};
    table.width = width_of(table.points, table.ways);
    tables_.push_back(std::move(table));
  }
}

CollectivePrices CollectivePrices::on(const ClusterSpec& cluster) const {
  CollectivePrices other(*this);
  other.cluster_ = cluster;
  return other;
}

const CollectivePrices::Table* CollectivePrices::nearest(std::string_view kind,
                                                         const GroupLayout& layout) const {
  const Table* best = nullptr;
  double best_distance = 0;
  for (const Table& table : tables_) {
    if (table.kind != kind) continue;
    // Another number of nodes means another link: worse than any difference in size.
    const double distance = doublings(table.layout.size, layout.size) +
                            100 * doublings(table.layout.nodes, layout.nodes);
    if (best != nullptr && best_distance <= distance) continue;
    best = &table;
    best_distance = distance;
  }
  return best;
}

Cost CollectivePrices::from_table(const Table& table, double bytes) const {
  const auto& points = table.points;
  const auto above = std::lower_bound(points.begin(), points.end(), bytes,
                                      [](const auto& point, double x) { return point.bytes < x; });
  const auto near = [&](auto point) {
    return point->bytes < bytes * kSameBytes && point->bytes * kSameBytes > bytes;
  };
  const auto cost = [](double time_us, double width, Source source) {
    return Cost{time_us, time_us * std::exp(-width), time_us * std::exp(width), source};
  };
  for (const auto& point : {above, above == points.begin() ? above : above - 1}) {
    if (point != points.end() && near(point)) {
      return cost(point->time_us, profiles::noise_of(point->spread), Source::Measured);
    }
  }
  if (above == points.begin() || above == points.end()) {
    const CollectivePoint& edge = above == points.end() ? points.back() : points.front();
    const double scale = collective_us(table.kind, bytes, table.layout, cluster_) /
                         collective_us(table.kind, edge.bytes, table.layout, cluster_);
    const double width = table.width + kPerDoubling * std::min(doublings(bytes, edge.bytes), 8.0);
    return cost(edge.time_us * scale, width, Source::Interpolated);
  }
  const double width = std::max(table.width, profiles::noise_of(above->spread));
  return cost(inside_table(points, table.ways, bytes), width, Source::Interpolated);
}

Cost CollectivePrices::price(const std::string& kind, double bytes,
                             const GroupLayout& layout) const {
  if (layout.size < 2) return {.source = Source::Measured};
  const double sent = std::max(bytes, kAnyMessage);
  const double formula = collective_us(kind, sent, layout, cluster_);
  const Table* table = nearest(kind, layout);
  if (table == nullptr) table = nearest(stand_in(kind), layout);
  if (table == nullptr) {
    return {formula, kFormulaLow * formula, kFormulaHigh * formula, Source::Roofline};
  }
  Cost cost = from_table(*table, sent);
  if (!own_kernels_) cost.source = Source::Interpolated;  // fitted, not measured
  // Reductions and gathers are the library's; an exchange is made of them in one's own way.
  const bool ours = own_kernels_ || !kind.starts_with("exchange_");
  if (table->kind == kind && table->layout == layout && ours) return cost;
  const double scale = formula / collective_us(table->kind, sent, table->layout, cluster_);
  const double width = std::max(kTransferWidth, std::log(cost.high_us / cost.time_us)) +
                       kPerDoubling * (doublings(table->layout.size, layout.size) +
                                       doublings(table->layout.nodes, layout.nodes));
  cost.time_us *= scale;
  cost.low_us = cost.time_us * std::exp(-width);
  cost.high_us = cost.time_us * std::exp(width);
  cost.source = Source::Transferred;
  return cost;
}

}  // namespace imhotep::simulator
