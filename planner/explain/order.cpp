#include "planner/explain/order.h"

#include <cmath>
#include <map>
#include <string>

namespace imhotep::planner {

Order order_of(const simulator::StepPrice& first, const simulator::StepPrice& second) {
  constexpr double kHalfWidth = 1.6448536;  // deviations from the middle to the end of 90 %
  constexpr double kUnknown = 0.03;         // of a step, as in the intervals themselves
  std::map<std::pair<std::string, int>, double> widths;
  const auto add = [&](const simulator::StepPrice& step, double sign) {
    for (const simulator::OperationTotal& total : step.operations) {
      widths[{total.name, static_cast<int>(total.pass)}] +=
          sign * (total.high_us - total.low_us) / 2;
    }
  };
  add(first, -1);
  add(second, 1);
  double squares = 0;
  for (const auto& [operation, width] : widths) squares += width * width;
  for (const simulator::StepPrice* step : {&first, &second}) {
    const double unknown = kUnknown * step->time_us.value;
    squares += unknown * unknown;
  }
  Order order{.difference_us = second.time_us.value - first.time_us.value,
              .deviation_us = std::sqrt(squares) / kHalfWidth};
  if (order.deviation_us <= 0) return order;
  const double away = std::abs(order.difference_us) / order.deviation_us;
  order.wrong = 0.5 * std::erfc(away / std::sqrt(2.0));
  return order;
}

}  // namespace imhotep::planner
