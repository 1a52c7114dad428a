#include "tests/gui/samples.h"

#include "profiles/catalogue.h"

namespace imhotep::gui {

Question small_question() {
  Question asked =
      default_question(profiles::find_model("350m-pr-moe-32-64"),
                       profiles::find_cluster("azure-nd-a100-v4"), WorkloadKind::Training);
  asked.workload.global_batch = 16;
  asked.workload.sequence = 512;
  asked.goal.gpus = 8;
  asked.goal.profile = "none";
  return asked;
}

Question small_generation() {
  Question asked =
      default_question(profiles::find_model("350m-moe-32"),
                       profiles::find_cluster("azure-nd-a100-v4"), WorkloadKind::Generation);
  asked.workload.global_batch = 16;
  asked.goal.gpus = 8;
  asked.goal.profile = "none";
  return asked;
}

Plans small_plans() {
  static const Plans kPlans = [] {
    const Question asked = small_question();
    return std::make_shared<const PlanSet>(explore(asked, prices_of(asked), Stop()));
  }();
  return kPlans;
}

Plans many_plans(std::int64_t rows) {
  PlanSet many = *small_plans();
  const std::int64_t own = many.size();
  for (Column& column : many.columns) {
    column.values.resize(static_cast<std::size_t>(rows));
    for (std::int64_t row = own; row < rows; ++row) {
      const double wiggle = column.is_measure() ? 1 + 1e-4 * static_cast<double>(row / own) : 1;
      column.values[row] = column.values[row % own] * wiggle;
    }
  }
  return std::make_shared<const PlanSet>(std::move(many));
}

RunReport sample_report(const Plan& plan, const Prices& prices) {
  const simulator::Simulator simulator(*prices.simulator);
  const simulator::StepPrice step = simulator.training_step(plan);
  RunReport report;
  report.plan = plan;
  report.plan_hash = plan_hash(plan);
  report.machine = "a test";
  report.date = "2026-11-22T00:00:00Z";
  report.command = "none";
  report.phase = "training";
  report.steps = 10;
  report.measured_us = 1.1 * step.time_us.value;
  for (const simulator::OperationTotal& total : step.operations) {
    report.operations.push_back({.operation = total.name,
                                 .pass = std::string(program::pass_name(total.pass)),
                                 .count = static_cast<std::int64_t>(total.count),
                                 .measured_us = 1.1 * total.time_us});
  }
  report.expert_load = {{0.5, 0.5}, {0.25, 0.25, 0.3, 0.2}};
  return report;
}

}  // namespace imhotep::gui
