#pragma once
// The loss curve as an SVG picture: training loss by step, and held-out loss where it was measured.

#include <string>
#include <vector>

namespace imhotep::executor {

struct LossPoint {
  double step = 0, loss = 0;
};

[[nodiscard]] std::string loss_picture(const std::string& title,
                                       const std::vector<LossPoint>& training,
                                       const std::vector<LossPoint>& held_out);

}  // namespace imhotep::executor
