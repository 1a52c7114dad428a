#pragma once
// Predicted and measured step times of several reports as an SVG picture: a bar for what was
// measured, a mark with its 90 % interval for what was predicted.

#include <string>
#include <vector>

namespace imhotep::cli {

struct ComparedStep {
  std::string label;
  double measured_us = 0, predicted_us = 0, low_us = 0, high_us = 0;
};

[[nodiscard]] std::string comparison_picture(const std::string& title,
                                             const std::vector<ComparedStep>& steps);

}  // namespace imhotep::cli
