#include "simulator/cost/measured_table.h"

#include <algorithm>
#include <cmath>

#include "simulator/cost/roofline.h"

namespace imhotep::simulator {
namespace {

constexpr std::size_t kFewestForFit = 12, kFitted = 200, kCompared = 2000;
constexpr double kWorthIt = 0.86;                     // of the roofline's error
constexpr double kExplained = 1e-3;                   // less than any clock's noise
constexpr double kLeastShare = 1e-3, kMostShare = 4;  // caches may be faster than memory
constexpr double kLeastStartUs = 0.1;

std::vector<MeasuredPoint> some_of(std::span<const MeasuredPoint> points, std::size_t most) {
  const std::size_t stride = (points.size() + most - 1) / most;
  std::vector<MeasuredPoint> some;
  for (std::size_t i = 0; i < points.size(); i += stride) some.push_back(points[i]);
  return some;
}

// Coordinate descent in logarithms, in ever smaller steps, on the mean |ln(measured / base)|.
class Fit {
 public:
  Fit(std::span<const MeasuredPoint> points, const DeviceSpec& device, Dtype dtype)
      : points_(some_of(points, kFitted)), device_(device), dtype_(dtype) {}

  KernelBase run(bool walks) {
    double shortest_us = points_.front().time_us, deepest = 0;
    for (const MeasuredPoint& point : points_) {
      shortest_us = std::min(shortest_us, point.time_us);
      deepest = std::max(deepest, point.work.depth);
    }
    best_ = {.start_us = kFirstStart * shortest_us};
    if (walks && deepest > 0) best_.step_us = kFirstWalk * shortest_us / deepest;
    error_ = error(best_);
    for (double step = 2; step > 1.02; step = std::sqrt(step)) {
      for (int round = 0; round < 4 && improve(step); ++round) {
      }
    }
    return best_;
  }

 private:
  static constexpr double kFirstStart = 0.8, kFirstWalk = 0.1;  // of the shortest time

  [[nodiscard]] double error(const KernelBase& base) const {
    double sum = 0;
    for (const MeasuredPoint& point : points_) {
      sum += std::abs(std::log(point.time_us / base.time_us(point.work, device_, dtype_)));
    }
    return sum / static_cast<double>(points_.size());
  }

  bool improve(double step) {
    bool better = false;
    for (double KernelBase::*constant :
         {&KernelBase::start_us, &KernelBase::step_us, &KernelBase::compute, &KernelBase::memory}) {
      for (const double factor : {step, 1 / step}) better |= attempt(constant, factor);
    }
    return better;
  }

  bool attempt(double KernelBase::*constant, double factor) {
    KernelBase changed = best_;
    changed.*constant *= factor;
    changed.start_us = std::max(changed.start_us, kLeastStartUs);
    changed.compute = std::clamp(changed.compute, kLeastShare, kMostShare);
    changed.memory = std::clamp(changed.memory, kLeastShare, kMostShare);
    const double error = this->error(changed);
    if (error >= error_) return false;
    best_ = changed;
    error_ = error;
    return true;
  }

  std::vector<MeasuredPoint> points_;
  const DeviceSpec& device_;
  Dtype dtype_;
  double error_ = 0;
  KernelBase best_;
};

std::vector<profiles::RatioTable::Point> ratios_of(std::span<const MeasuredPoint> points,
                                                   const KernelBase& base, const DeviceSpec& device,
                                                   Dtype dtype) {
  std::vector<profiles::RatioTable::Point> ratios;
  for (const MeasuredPoint& point : points) {
    ratios.push_back({.key = point.key,
                      .ratio = point.time_us / base.time_us(point.work, device, dtype),
                      .spread = point.spread});
  }
  return ratios;
}

// Of a large table some of the points speak.
KernelBase choose_base(std::span<const MeasuredPoint> all, int keys, const DeviceSpec& device,
                       Dtype dtype) {
  const KernelBase roofline{.start_us = least_start_us(device)};
  if (all.size() < kFewestForFit) return roofline;
  const std::vector<MeasuredPoint> points = some_of(all, kCompared);
  const auto error = [&](const KernelBase& base) {
    return profiles::RatioTable(ratios_of(points, base, device, dtype), keys).typical_error();
  };
  const bool deep = std::any_of(points.begin(), points.end(),
                                [](const MeasuredPoint& point) { return point.work.depth > 0; });
  KernelBase best = roofline;
  double least = kWorthIt * error(roofline);
  if (least < kExplained) return roofline;
  for (const bool walks : {false, true}) {
    if (walks && !deep) continue;
    const KernelBase fitted = Fit(points, device, dtype).run(walks);
    const double now = error(fitted);
    if (now >= least) continue;
    least = now;
    best = fitted;
  }
  return best;
}

}  // namespace

double KernelBase::time_us(const profiles::Work& work, const DeviceSpec& device,
                           Dtype dtype) const {
  return start_us + step_us * work.depth +
         bound_us({.flops = work.flops / compute, .bytes = work.bytes / memory}, device, dtype);
}

MeasuredTable::MeasuredTable(std::span<const MeasuredPoint> points, int keys,
                             const DeviceSpec& device, Dtype dtype)
    : base_(choose_base(points, keys, device, dtype)),
      ratios_(ratios_of(points, base_, device, dtype), keys) {}

MeasuredTable::Answer MeasuredTable::at(const profiles::Key& key, const profiles::Work& work,
                                        const DeviceSpec& device, Dtype dtype,
                                        const profiles::RatioTable::Mask* left_out) const {
  const profiles::Ratio ratio = ratios_.at(key, left_out);
  return {.time_us = ratio.value * base_.time_us(work, device, dtype), .ratio = ratio};
}

}  // namespace imhotep::simulator
