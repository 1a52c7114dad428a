#include "profiles/interpolation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/fail.h"

namespace imhotep::profiles {
namespace {

constexpr std::size_t kMostResiduals = 1000;  // leave-one-out samples of a large table
constexpr std::size_t kFewestResiduals = 9;   // of which a quantile can be said
constexpr double kSmallestKey = 1e-2;         // expected rows may be a fraction
constexpr double kNoiseFloor = 0.03;          // a clock, a cache and a neighbour: never less
constexpr double kUnknown = 0.35;             // half-width of a table of one point
constexpr double kPerOctave = 0.10;           // widening an octave beyond the measured box
constexpr double kWidest = 2.0;               // half-width that says "within a factor of seven"

constexpr double kReach = 1.1;         // weights end a little beyond the last neighbour
constexpr double kSoftSquare = 0.02;   // octaves squared: nearer points weigh no more
constexpr double kRidge = 0.01;        // of the sum of weights
constexpr double kBeyondRange = 0.25;  // of the neighbours' range
// Octaves around a point within which others are left out with it.
constexpr double kRadius[] = {kSameKeyOctaves, 0.3, 0.75, 1.5, 3};

constexpr std::size_t kFewestForMeasure = 24, kMeasureSamples = 200;
constexpr double kMore = 2;  // of a key in distances
constexpr double kWorthAStep = 0.95;

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
      logs.octaves[i] = log_key(point.key[i]);
      lowest_[i] = std::min(lowest_[i], logs.octaves[i]);
      highest_[i] = std::max(highest_[i], logs.octaves[i]);
    }
    logs.key = logs.octaves;
    points_.push_back(logs);
  }
  const auto [least, most] =
      std::minmax_element(points_.begin(), points_.end(),
                          [](const auto& a, const auto& b) { return a.log_ratio < b.log_ratio; });
  least_ = least->log_ratio;
  most_ = most->log_ratio;
  choose_measure();
}

void RatioTable::take(const Step& step) {
  measure_.push_back(step);
  for (LogPoint& point : points_) point.key = measured(point.octaves);
}

Key RatioTable::measured(Key key) const {
  for (const Step& step : measure_) {
    if (step.other >= 0) {
      key[step.key] += key[step.other];
    } else {
      key[step.key] *= step.factor;
    }
  }
  return key;
}

double RatioTable::typical_error() const {
  const std::size_t stride = (points_.size() + kMeasureSamples - 1) / kMeasureSamples;
  std::vector<double> errors;
  for (std::size_t i = 0; i < points_.size(); i += stride) {
    const LogPoint& point = points_[i];
    const Blend found = blend(point.key, kSameKeyOctaves);
    if (found.nearest == nullptr) continue;  // a table of one point
    errors.push_back(std::abs(found.log_ratio - point.log_ratio));
  }
  if (errors.empty()) return kWidest;
  const auto middle = errors.begin() + static_cast<std::ptrdiff_t>(errors.size() / 2);
  std::nth_element(errors.begin(), middle, errors.end());
  return *middle;
}

// Which points are near? Along some keys a kernel changes (the width of a head), along others it
// only grows, and some matter only as a product (rows times heads). The table's own points say so:
// every step that lowers their leave-one-out error is taken.
void RatioTable::choose_measure() {
  if (keys_ < 2 || points_.size() < kFewestForMeasure) return;
  double best = typical_error();
  const auto try_step = [&](const Step& step) {
    take(step);
    const double error = typical_error();
    if (error < kWorthAStep * best) {
      best = error;
      return;
    }
    measure_.pop_back();
    for (LogPoint& point : points_) point.key = measured(point.octaves);
  };
  const auto varies = [&](int i) { return highest_[i] - lowest_[i] > kSameKeyOctaves; };
  for (int i = 0; i < keys_; ++i) {
    for (int other = 0; other < keys_; ++other) {
      if (i != other && varies(i) && varies(other)) try_step({.key = i, .other = other});
    }
  }
  for (int i = 0; i < keys_; ++i) {
    for (const double factor : {kMore, 1 / kMore}) {
      if (varies(i)) try_step({.key = i, .factor = factor});
    }
  }
}

Key RatioTable::inside(Key octaves, double& octaves_beyond) const {
  double square = 0;
  for (int i = 0; i < keys_; ++i) {
    const double moved = std::clamp(octaves[i], lowest_[i], highest_[i]);
    square += (octaves[i] - moved) * (octaves[i] - moved);
    octaves[i] = moved;
  }
  octaves_beyond = std::sqrt(square);
  return octaves;
}

RatioTable::Nearest RatioTable::nearest(const Key& key, double radius, const Mask* left_out) const {
  Nearest found;
  found.fill({std::numeric_limits<double>::infinity(), nullptr});
  for (std::size_t p = 0; p < points_.size(); ++p) {
    if (left_out != nullptr && (*left_out)[p]) continue;
    const LogPoint& point = points_[p];
    double square = 0;
    for (int i = 0; i < keys_; ++i) square += (key[i] - point.key[i]) * (key[i] - point.key[i]);
    if (square >= found.back().square || square < radius * radius) continue;
    auto place = found.end() - 1;
    for (; place != found.begin() && (place - 1)->square > square; --place) *place = *(place - 1);
    *place = {square, &point};
  }
  return found;
}

// Weighted least squares of log ratio = a + b · (key - here): `a` is the answer. A ridge keeps the
// slope flat in directions in which the points do not differ.
double RatioTable::plane(const Key& key, const Nearest& near) const {
  const auto last =
      std::find_if(near.begin(), near.end(), [](const Near& one) { return one.point == nullptr; });
  const double reach = kReach * std::sqrt((last - 1)->square) + kSameKeyOctaves;
  constexpr int kMost = kMostKeys + 1;
  std::array<std::array<double, kMost + 1>, kMost> a{};
  const int unknowns = keys_ + 1;
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (auto one = near.begin(); one != last; ++one) {
    const double part = std::sqrt(one->square) / reach;
    const double tricube = std::pow(1 - part * part * part, 3);
    const double weight = tricube / (one->square + kSoftSquare);
    std::array<double, kMost> x{1};
    for (int i = 0; i < keys_; ++i) x[i + 1] = one->point->key[i] - key[i];
    for (int r = 0; r < unknowns; ++r) {
      for (int c = 0; c < unknowns; ++c) a[r][c] += weight * x[r] * x[c];
      a[r][kMost] += weight * x[r] * one->point->log_ratio;
    }
    low = std::min(low, one->point->log_ratio);
    high = std::max(high, one->point->log_ratio);
  }
  for (int r = 1; r < unknowns; ++r) a[r][r] += kRidge * a[0][0];
  // Symmetric and positive definite: elimination needs no pivots. From the last unknown down.
  for (int r = unknowns - 1; r > 0; --r) {
    for (int above = 0; above < r; ++above) {
      const double factor = a[above][r] / a[r][r];
      for (int c = 0; c <= r; ++c) a[above][c] -= factor * a[r][c];
      a[above][kMost] -= factor * a[r][kMost];
    }
  }
  const double margin = kBeyondRange * (high - low);
  return std::clamp(a[0][kMost] / a[0][0], std::max(low - margin, least_),
                    std::min(high + margin, most_));
}

RatioTable::Blend RatioTable::blend(const Key& key, double radius, const Mask* left_out) const {
  const Nearest near = nearest(key, radius, left_out);
  if (near.front().point == nullptr) return {.octaves = std::numeric_limits<double>::infinity()};
  return {.log_ratio = plane(key, near),
          .octaves = std::sqrt(near.front().square),
          .nearest = near.front().point};
}

const RatioTable::Residuals& RatioTable::residuals_of(int index) const {
  Residuals& all = widths_->near[index];
  std::call_once(all.once, [&] { compute(all, kRadius[index]); });
  return all;
}

void RatioTable::compute(Residuals& all, double radius) const {
  const std::size_t stride = (points_.size() + kMostResiduals - 1) / kMostResiduals;
  std::vector<double> distances;
  for (std::size_t i = 0; i < points_.size(); i += stride) {
    const LogPoint& point = points_[i];
    const Blend found = blend(point.key, radius);
    if (found.nearest == nullptr) continue;  // all others are nearer
    distances.push_back(found.octaves);
    all.errors.push_back(std::abs(found.log_ratio - point.log_ratio));
  }
  std::sort(all.errors.begin(), all.errors.end());
  std::sort(distances.begin(), distances.end());
  if (!distances.empty()) all.octaves = distances[distances.size() / 2];
}

// Between the two sets of residuals whose points were as far from their neighbours.
double RatioTable::width_at(double octaves) const {
  double below = 0, below_octaves = 0, width = 0;
  for (int index = 0; index < kRadii; ++index) {
    const Residuals& all = residuals_of(index);
    if (index > 0 && all.errors.size() < kFewestResiduals) break;
    // More distance never makes surer, whatever a few points say.
    width = std::max(width, ninety_percent(all.errors));
    if (octaves <= all.octaves) {
      if (index == 0 || all.octaves - below_octaves < kSameKeyOctaves) return width;
      const double part = (octaves - below_octaves) / (all.octaves - below_octaves);
      return below + part * (width - below);
    }
    below = width;
    below_octaves = all.octaves;
  }
  return width + kPerOctave * (octaves - below_octaves);
}

const std::vector<double>& RatioTable::residuals_without(int key) const {
  Residuals& all = widths_->unseen[key];
  std::call_once(all.once, [&] { compute_without(all, key); });
  return all.errors;
}

void RatioTable::compute_without(Residuals& all, int key) const {
  const std::size_t stride = (points_.size() + kMostResiduals - 1) / kMostResiduals;
  Mask mask(points_.size());
  for (std::size_t i = 0; i < points_.size(); i += stride) {
    const LogPoint& point = points_[i];
    for (std::size_t p = 0; p < points_.size(); ++p) {
      mask[p] = std::abs(points_[p].octaves[key] - point.octaves[key]) < kSameKeyOctaves;
    }
    const Blend found = blend(point.key, 0, &mask);
    if (found.nearest == nullptr) continue;
    all.errors.push_back(std::abs(found.log_ratio - point.log_ratio));
  }
  std::sort(all.errors.begin(), all.errors.end());
}

// A value of a key that no point has: what such values cost, by leaving out all points of one.
double RatioTable::width_of_unseen(const Key& octaves, const Mask* left_out) const {
  double width = 0;
  for (int i = 0; i < keys_; ++i) {
    bool seen = highest_[i] - lowest_[i] < kSameKeyOctaves;
    for (std::size_t p = 0; p < points_.size() && !seen; ++p) {
      if (left_out != nullptr && (*left_out)[p]) continue;
      seen = std::abs(points_[p].octaves[i] - octaves[i]) < kSameKeyOctaves;
    }
    if (seen) continue;
    const std::vector<double>& errors = residuals_without(i);
    if (errors.size() >= kFewestResiduals) width = std::max(width, ninety_percent(errors));
  }
  return width;
}

Ratio RatioTable::at(const Key& key, const Mask* left_out) const {
  Key logs{};
  for (int i = 0; i < keys_; ++i) logs[i] = log_key(key[i]);
  double beyond = 0;
  logs = inside(logs, beyond);
  const Key place = measured(logs);
  const Nearest near = nearest(place, 0, left_out);
  if (near.front().point == nullptr) fail("no point of the table is left to tell from");
  const double octaves = std::sqrt(near.front().square);
  Ratio ratio{.exact = beyond < kSameKeyOctaves && octaves < kSameKeyOctaves,
              .outside = beyond >= kSameKeyOctaves};
  const double centre = ratio.exact ? near.front().point->log_ratio : plane(place, near);
  const double noise = noise_of(near.front().point->spread);
  double width = noise;
  if (!ratio.exact) {
    width = std::max({noise, width_at(octaves), width_of_unseen(logs, left_out)});
    width = std::min(width + kPerOctave * beyond, kWidest);
  }
  ratio.value = std::exp(centre);
  ratio.low = std::exp(centre - width);
  ratio.high = std::exp(centre + width);
  return ratio;
}

}  // namespace imhotep::profiles
