#include "cli/bench_report.h"

#include <algorithm>

#include "cli/local_gpu.h"
#include "cli/prediction.h"
#include "core/base/clock.h"
#include "core/base/fail.h"
#include "executor/runtime/step_times.h"

namespace imhotep::cli {
namespace {

// In place of the row that the observed repetitions have, which were not on the clock.
void set_unaccounted(RunReport& report) {
  std::erase_if(report.operations,
                [](const OperationTime& row) { return row.operation == "unaccounted"; });
  double accounted = 0;
  for (const OperationTime& row : report.operations) accounted += row.measured_us;
  report.operations.push_back({.operation = "unaccounted",
                               .pass = "step",
                               .count = 1,
                               .measured_us = report.measured_us - accounted});
}

}  // namespace

void save_bench_report(const executor::BenchResult& result, const std::string& phase,
                       const std::string& command, const std::string& file) {
  if (result.clock_us.empty()) {
    fail_input("--report: a prompt of more than {} tokens takes several steps",
               result.plan.prefill_chunk);
  }
  Plan plan = result.plan;
  if (plan.device == DeviceKind::Cuda) plan.cluster = kLocalGpu;
  RunReport report{.plan = plan,
                   .plan_hash = plan_hash(plan),
                   .date = utc_now(),
                   .phase = phase,
                   .steps = static_cast<std::int64_t>(result.clock_us.size()),
                   .measured_us = executor::median(result.clock_us),
                   .spread = executor::relative_spread(result.clock_us),
                   .predicted_memory_bytes = result.memory_bytes + result.beside_bytes,
                   .measured_memory_bytes = result.device_bytes,
                   .operations = result.operations,
                   .expert_load = result.expert_load};
  const double prompts = phase == "prefill" ? static_cast<double>(plan.workload.global_batch) : 1;
  report.tokens_per_s = result.tokens / prompts / report.measured_us * 1e6;
  set_unaccounted(report);
  save_report(report, command, file);
}

}  // namespace imhotep::cli
