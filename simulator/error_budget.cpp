#include "simulator/error_budget.h"

#include <algorithm>
#include <cmath>

namespace imhotep::simulator {
namespace {

constexpr double kFloor = 0.03;  // of the value, either side

template <std::size_t Count>
double root_of_squares(const std::array<double, Count>& widths, double floor) {
  double squares = floor * floor;
  for (const double width : widths) squares += width * width;
  return std::sqrt(squares);
}

}  // namespace

Estimate ErrorBudget::around(double value) const {
  const double below = root_of_squares(below_, kFloor * value);
  return {.value = value,
          .low = std::max(value - below, 0.0),
          .high = value + root_of_squares(above_, kFloor * value)};
}

}  // namespace imhotep::simulator
