#pragma once
// How single intervals add up. Errors of one family come from one table and one kernel, so they
// rise and fall together: their widths add. Errors of different families are independent: their
// sums add as squares. What no table knows (clocks, contention, the walk over the program) is a
// floor that does not shrink with the number of operations. Derivation: docs/cost/intervals.md.

#include <array>

#include "core/spec/plan.h"
#include "profiles/description.h"
#include "simulator/cost/cost.h"

namespace imhotep::simulator {

class ErrorBudget {
 public:
  void add(int family, const Cost& cost, double times = 1) {
    below_[family] += times * (cost.time_us - cost.low_us);
    above_[family] += times * (cost.high_us - cost.time_us);
  }
  // Time of the host, which no family of the device has.
  void add_host(double below_us, double above_us) {
    below_[profiles::kFamilies] += below_us;
    above_[profiles::kFamilies] += above_us;
  }
  void add(const ErrorBudget& other, double times = 1) {
    for (int f = 0; f < kSources; ++f) {
      below_[f] += times * other.below_[f];
      above_[f] += times * other.above_[f];
    }
  }
  // The 90 % interval around a sum of that value.
  [[nodiscard]] Estimate around(double value) const;

 private:
  static constexpr int kSources = profiles::kFamilies + 1;
  std::array<double, kSources> below_{}, above_{};
};

}  // namespace imhotep::simulator
