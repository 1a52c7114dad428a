#include "executor/serve/served_steps.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/fail.h"

namespace imhotep::executor {

void ServedSteps::end_step(const schedule::Bucket& bucket, double time_us, std::int64_t rows,
                           double contexts) {
  const auto operations = std::exchange(current_, {});
  if (bucket.rows != bucket.samples || rows == 0) return;
  OneBucket& one = buckets_[bucket.rows];
  for (const auto& [operation, operation_us] : operations) one.times.add(operation, operation_us);
  one.times.end_step(time_us);
  one.rows += static_cast<double>(rows);
  one.contexts += contexts;
}

RunReport ServedSteps::report(Plan plan) const {
  if (buckets_.empty()) fail("a report needs at least one step that only generates");
  const auto& [rows, most] = *std::max_element(
      buckets_.begin(), buckets_.end(),
      [](const auto& a, const auto& b) { return a.second.times.steps() < b.second.times.steps(); });
  plan.workload.global_batch = rows * plan.data;
  plan.workload.prompt = std::max<std::int64_t>(1, std::llround(most.contexts / most.rows));
  plan.workload.output = 1;
  return step_report(plan, "decode", most.times, static_cast<double>(rows * plan.data));
}

}  // namespace imhotep::executor
