#include "executor/runtime/step_report.h"

#include "core/base/clock.h"

namespace imhotep::executor {

RunReport step_report(const Plan& plan, const std::string& phase, const StepTimes& times,
                      double tokens) {
  RunReport report{.plan = plan,
                   .plan_hash = plan_hash(plan),
                   .date = utc_now(),
                   .phase = phase,
                   .steps = times.steps(),
                   .measured_us = times.step_us(),
                   .spread = times.spread(),
                   .operations = times.operations()};
  if (report.measured_us > 0) report.tokens_per_s = tokens / report.measured_us * 1e6;
  return report;
}

}  // namespace imhotep::executor
