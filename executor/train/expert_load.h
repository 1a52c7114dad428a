#pragma once
// Shares of routes by MoE layer and expert, averaged over the steps of a run.

#include <cstdint>
#include <vector>

namespace imhotep::executor {

using ExpertShares =
    std::vector<std::vector<double>>;  // by MoE layer and expert; a layer sums to 1

class ExpertLoadMean {
 public:
  // `shares` of so many steps. Every step chooses as often, so steps are what they weigh.
  // Requires: layers and experts of the first call.
  void add(const ExpertShares& shares, std::int64_t steps) {
    const double before = static_cast<double>(steps_), more = static_cast<double>(steps);
    if (mean_.empty()) mean_ = shares;
    for (std::size_t layer = 0; layer < shares.size(); ++layer) {
      for (std::size_t e = 0; e < shares[layer].size(); ++e) {
        double& mean = mean_[layer][e];
        mean = (mean * before + shares[layer][e] * more) / (before + more);
      }
    }
    steps_ += steps;
  }
  [[nodiscard]] const ExpertShares& mean() const { return mean_; }
  [[nodiscard]] std::int64_t steps() const { return steps_; }

 private:
  ExpertShares mean_;
  std::int64_t steps_ = 0;
};

}  // namespace imhotep::executor
