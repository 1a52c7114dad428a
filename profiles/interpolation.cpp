#include "profiles/interpolation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/fail.h"

namespace imhotep::profiles {
namespace {

constexpr int kNeighbours = 8;
constexpr std::size_t kMostResiduals = 1000;  // leave-one-out samples of a large table
constexpr double kSmallestKey = 1e-2;         // expected rows may be a fraction
constexpr double kNoiseFloor = 0.03;          // a clock, a cache and a neighbour: never less
constexpr double kUnknown = 0.35;             // half-width of a table of one point
constexpr double kPerOctave = 0.10;           // widening an octave beyond the measured box
constexpr double kWidest = 2.0;               // half-width that says "within a factor of seven"

double log_key(double value) { return std::log2(std::max(value, kSmallestKey)); }

}  // namespace

double noise_of(double spread) {
  // Interquartile range of a normal distribution: 1.349 sigma; 90 % interval: 1.645 sigma.
  return std::clamp(1.645 / 1.349 * spread, kNoiseFloor, kWidest);
}

double ninety_percent(const std::vector<double>& sorted) {
  if (sorted.empty()) return kUnknown;
  const auto count = static_cast<double>(sorted.size());
  const auto rank = static_cast<std::size_t>(std::ceil(0.9 * (count + 1)));
  if (rank <= sorted.size()) return sorted[rank - 1];
  return std::max(sorted.back() * (1 + 2 / count), kUnknown / count);
}

RatioTable::RatioTable(const std::vector<Point>& points, int keys) : keys_(keys) {
  if (points.empty()) fail("a table of ratios needs at least one point");
  lowest_.fill(std::numeric_limits<double>::infinity());
  highest_.fill(-std::numeric_limits<double>::infinity());
  for (const Point& point : points) {
    LogPoint logs{.log_ratio = std::log(point.ratio), .spread = point.spread};
    for (int i = 0; i < keys_; ++i) {
      logs.key[i] = log_key(point.key[i]);
      lowest_[i] = std::min(lowest_[i], logs.key[i]);
      highest_[i] = std::max(highest_[i], logs.key[i]);
    }
    points_.push_back(logs);
  }
}

Key RatioTable::inside(Key key, double& octaves_beyond) const {
  double square = 0;
  for (int i = 0; i < keys_; ++i) {
    const double moved = std::clamp(key[i], lowest_[i], highest_[i]);
    square += (key[i] - moved) * (key[i] - moved);
    key[i] = moved;
  }
  octaves_beyond = std::sqrt(square);
  return key;
}

RatioTable::Blend RatioTable::blend(const Key& key, const LogPoint* left_out) const {
  struct Near {
    double square = std::numeric_limits<double>::infinity();
    const LogPoint* point = nullptr;
  };
  std::array<Near, kNeighbours> nearest;  // ascending
  for (const LogPoint& point : points_) {
    if (&point == left_out) continue;
    double square = 0;
    for (int i = 0; i < keys_; ++i) square += (key[i] - point.key[i]) * (key[i] - point.key[i]);
    if (square >= nearest.back().square) continue;
    auto place = nearest.end() - 1;
    for (; place != nearest.begin() && (place - 1)->square > square; --place) *place = *(place - 1);
    *place = {square, &point};
  }
  Blend answer{.octaves = std::sqrt(nearest.front().square), .nearest = nearest.front().point};
  double weights = 0;
  for (const Near& near : nearest) {
    if (near.point == nullptr) break;
    const double weight = 1 / (near.square + 1e-9);
    weights += weight;
    answer.log_ratio += weight * near.point->log_ratio;
  }
  answer.log_ratio /= weights;
  return answer;
}

const std::vector<double>& RatioTable::residuals() const {
  if (!residuals_.empty() || points_.size() < 2) return residuals_;
  const std::size_t stride = (points_.size() + kMostResiduals - 1) / kMostResiduals;
  for (std::size_t i = 0; i < points_.size(); i += stride) {
    const LogPoint& point = points_[i];
    residuals_.push_back(std::abs(blend(point.key, &point).log_ratio - point.log_ratio));
  }
  std::sort(residuals_.begin(), residuals_.end());
  return residuals_;
}

Ratio RatioTable::at(const Key& key) const {
  Key logs{};
  for (int i = 0; i < keys_; ++i) logs[i] = log_key(key[i]);
  double beyond = 0;
  logs = inside(logs, beyond);
  const Blend found = blend(logs, nullptr);
  Ratio ratio{.exact = beyond < kSameKeyOctaves && found.octaves < kSameKeyOctaves,
              .outside = beyond >= kSameKeyOctaves};
  const double centre = ratio.exact ? found.nearest->log_ratio : found.log_ratio;
  const double noise = noise_of(found.nearest->spread);
  const double width = std::min(
      kWidest,
      ratio.exact ? noise : std::max(noise, ninety_percent(residuals())) + kPerOctave * beyond);
  ratio.value = std::exp(centre);
  ratio.low = std::exp(centre - width);
  ratio.high = std::exp(centre + width);
  return ratio;
}

}  // namespace imhotep::profiles
