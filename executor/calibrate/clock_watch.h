#pragma once
// Notices that the device is slower than it was: a hot processor lowers its clocks, a neighbour
// takes its share. One product of matrices is timed now and then and compared with its best.

#include <functional>

namespace imhotep::executor {

class ClockWatch {
 public:
  // `rate`: measures once, more is faster.
  explicit ClockWatch(std::function<double()> rate) : rate_(std::move(rate)) {}

  // Measures. Whether the device now runs below kSlowBelow of the best rate seen so far.
  bool slow();
  [[nodiscard]] double last_share() const { return last_share_; }      // of the best
  [[nodiscard]] double lowest_share() const { return lowest_share_; }  // of all that were measured

  static constexpr double kSlowBelow = 0.9;

 private:
  std::function<double()> rate_;
  double best_ = 0, last_share_ = 1, lowest_share_ = 1;
};

}  // namespace imhotep::executor
