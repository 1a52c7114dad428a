#include "simulator/plan_order.h"

#include <algorithm>
#include <map>

namespace imhotep::simulator {

OrderAccuracy order_of(const std::vector<PlanResult>& plans) {
  std::map<std::string, std::vector<const HeldOut*>> by_question;
  for (const PlanResult& plan : plans) by_question[plan.question].push_back(&plan.step);
  OrderAccuracy order;
  double agreement = 0;
  for (const auto& [question, steps] : by_question) {
    if (steps.size() < 2) continue;
    ++order.questions;
    for (std::size_t a = 0; a < steps.size(); ++a) {
      for (std::size_t b = a + 1; b < steps.size(); ++b) {
        const double product = (steps[a]->measured_us - steps[b]->measured_us) *
                               (steps[a]->predicted_us - steps[b]->predicted_us);
        if (product == 0) continue;
        ++order.pairs;
        agreement += product > 0 ? 1 : -1;
      }
    }
    const auto chosen = *std::min_element(steps.begin(), steps.end(), [](auto* a, auto* b) {
      return a->predicted_us < b->predicted_us;
    });
    const auto best = *std::min_element(steps.begin(), steps.end(), [](auto* a, auto* b) {
      return a->measured_us < b->measured_us;
    });
    const double regret = chosen->measured_us / best->measured_us - 1;
    order.mean_regret += regret;
    order.worst_regret = std::max(order.worst_regret, regret);
  }
  if (order.pairs > 0) order.kendall_tau = agreement / static_cast<double>(order.pairs);
  if (order.questions > 0) order.mean_regret /= static_cast<double>(order.questions);
  return order;
}

}  // namespace imhotep::simulator
