#pragma once
// How sure is the order of two plans? Both are priced from the same tables, so the error of one
// operation is common to both: only the difference of its widths counts. Errors of different
// operations are independent, and so is what no table knows of a step (docs/cost/intervals.md).

#include "simulator/step.h"

namespace imhotep::planner {

struct Order {
  double difference_us = 0;  // second minus first
  double deviation_us = 0;   // of that difference
  // Probability that the plan that seems slower is the faster one.
  double wrong = 0;
};

[[nodiscard]] Order order_of(const simulator::StepPrice& first, const simulator::StepPrice& second);

}  // namespace imhotep::planner
