#include "simulator/program_totals.h"

#include <algorithm>

namespace imhotep::simulator {

// Names are literals: almost always the same pointer is the same name, so text is compared once
// a pointer.
OperationTotal& ProgramTotals::total_of(const program::Operation& operation) {
  auto& known = known_[static_cast<int>(operation.pass)];
  const auto found = known.find(operation.name);
  if (found != known.end()) return step_.operations[found->second];
  std::vector<OperationTotal>& all = step_.operations;
  std::size_t index = 0;
  while (index < all.size() &&
         (all[index].name != operation.name || all[index].pass != operation.pass)) {
    ++index;
  }
  if (index == all.size()) all.push_back({.name = operation.name, .pass = operation.pass});
  known.emplace(operation.name, index);
  return all[index];
}

void ProgramTotals::add(const program::Program& program, const ProgramPrice& price, double times) {
  for (std::size_t i = 0; i < program.operations.size(); ++i) {
    OperationTotal& total = total_of(program.operations[i]);
    const Cost& cost = price.costs[i];
    total.count += times;
    total.time_us += times * cost.time_us;
    total.low_us += times * cost.low_us;
    total.high_us += times * cost.high_us;
    total.source = std::max(total.source, cost.source);
  }
  step_.time_us.value += times * price.timeline.makespan_us;
  step_.exposed_us += times * price.exposed_us;
  const auto steps = static_cast<double>(price.timeline.critical_path.size());
  step_.overhead_us += times * gap_us_ * std::max(steps - 1, 0.0);
  errors_.add(price.errors, times);
}

}  // namespace imhotep::simulator
