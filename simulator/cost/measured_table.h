#pragma once
// A table of measured points as a function. What its kernel costs in any case (a start, and a walk
// along the sum that one tile takes) and how fast it computes and reads are fitted to the table:
//
//   base = start + step · depth + max( FLOPs / (c · peak), bytes / (m · bandwidth) )
//
// and what is left, measured / base, is interpolated between points (profiles/interpolation.h).
// Derivation: docs/cost/interpolation.md.

#include <span>
#include <vector>

#include "core/spec/cluster.h"
#include "profiles/description.h"
#include "profiles/interpolation.h"

namespace imhotep::simulator {

// The four constants of a base. Rates are shares of a device's peaks, so that they can be taken to
// another device.
struct KernelBase {
  double start_us = 0, step_us = 0;  // step: of each element that one tile sums over
  double compute = 1, memory = 1;

  [[nodiscard]] double time_us(const profiles::Work& work, const DeviceSpec& device,
                               Dtype dtype) const;
};

struct MeasuredPoint {
  profiles::Key key{};
  profiles::Work work;
  double time_us = 0, spread = 0;
};

// Of one family, variant and dtype. For several threads.
class MeasuredTable {
 public:
  // The base is the roofline, or one of two fits (with and without the walk) by the least mean
  // |ln(measured / base)|: whichever foretells the table's points best from one another.
  // Requires: at least one point.
  MeasuredTable(std::span<const MeasuredPoint> points, int keys, const DeviceSpec& device,
                Dtype dtype);

  struct Answer {
    double time_us = 0;
    profiles::Ratio ratio;  // to the base
  };
  // On any device. With `left_out`: from the other points only; the base stays.
  [[nodiscard]] Answer at(const profiles::Key& key, const profiles::Work& work,
                          const DeviceSpec& device, Dtype dtype,
                          const profiles::RatioTable::Mask* left_out = nullptr) const;
  [[nodiscard]] const KernelBase& base() const { return base_; }

 private:
  KernelBase base_;
  profiles::RatioTable ratios_;
};

}  // namespace imhotep::simulator
