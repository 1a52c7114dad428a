#pragma once
// What a run measured of a step, as a report: plan, times and operations. Machine, command and
// prediction are for the caller.

#include <string>

#include "executor/runtime/step_times.h"

namespace imhotep::executor {

// `tokens`: of a step, all ranks.
[[nodiscard]] RunReport step_report(const Plan& plan, const std::string& phase,
                                    const StepTimes& times, double tokens);

}  // namespace imhotep::executor
