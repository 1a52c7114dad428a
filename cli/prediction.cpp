#include "cli/prediction.h"

#include <algorithm>
#include <cstdio>

#include "cli/local_gpu.h"
#include "cli/plan_request.h"
#include "cli/ranks.h"
#include "cli/table.h"
#include "core/base/fail.h"
#include "core/base/units.h"
#include "profiles/catalogue.h"

namespace imhotep::cli {

simulator::Simulator simulator_for(const Plan& plan, const std::string& profile) {
  const ClusterSpec cluster = find_cluster(plan.cluster.empty() ? "local" : plan.cluster);
  return simulator::Simulator(cluster, choose_profile(profile, cluster));
}

double relative_error(double predicted, double measured) {
  return measured > 0 ? (predicted - measured) / measured : 0;
}

void add_prediction(RunReport& report, const simulator::StepPrice& price) {
  report.predicted_us = price.time_us.value;
  report.low_us = price.time_us.low;
  report.high_us = price.time_us.high;
  for (OperationTime& row : report.operations) {
    if (row.operation == "unaccounted") {
      row.predicted_us = row.low_us = row.high_us = price.overhead_us;
      row.source = "measured";
      continue;
    }
    for (const simulator::OperationTotal& total : price.operations) {
      if (total.name != row.operation || program::pass_name(total.pass) != row.pass) continue;
      row.predicted_us = total.time_us;
      row.low_us = total.low_us;
      row.high_us = total.high_us;
      row.source = simulator::source_name(total.source);
    }
  }
}

void predict_report(RunReport& report, const simulator::Simulator& simulator) {
  Plan plan = report.plan;
  if (!report.expert_load.empty()) {
    plan.workload.routing = {.kind = RoutingKind::Measured, .histograms = report.expert_load};
  }
  add_prediction(report, simulator.step(plan, report.phase));
}

RunReport save_report(RunReport report, const std::string& command, const std::string& file) {
  report.machine = machine_text();
  report.command = command;
  predict_report(report, simulator_for(report.plan));
  write_report(report, file);
  return report;
}

double parse_share(const std::string& text) {
  const bool percent = !text.empty() && text.back() == '%';
  try {
    return parse_number(percent ? text.substr(0, text.size() - 1) : text) / (percent ? 100 : 1);
  } catch (const Error&) {
    fail_input("expected a share such as 10% or 0.1, got \"{}\"", text);
  }
}

void print_comparison(const RunReport& report, bool color, std::size_t rows) {
  Table table({{"operation"},
               {"pass"},
               {"a step", Align::Right},
               {"predicted", Align::Right},
               {"90 % interval", Align::Right},
               {"measured", Align::Right},
               {"error", Align::Right},
               {"source"}});
  std::vector<const OperationTime*> order;
  for (const OperationTime& row : report.operations) order.push_back(&row);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return a->measured_us > b->measured_us; });
  const auto interval = [](double low, double high) {
    return fmt::format("{} .. {}", format_time(low), format_time(high));
  };
  const auto percent = [](double error) { return fmt::format("{:+.1f} %", 100 * error); };
  for (std::size_t i = 0; i < order.size() && i < rows; ++i) {
    const OperationTime& row = *order[i];
    table.row({row.operation, row.pass, std::to_string(row.count), format_time(row.predicted_us),
               interval(row.low_us, row.high_us), format_time(row.measured_us),
               percent(relative_error(row.predicted_us, row.measured_us)), row.source});
  }
  table.row({"step", report.phase, "1", format_time(report.predicted_us),
             interval(report.low_us, report.high_us), format_time(report.measured_us),
             percent(relative_error(report.predicted_us, report.measured_us)), ""});
  std::fputs(table.text(2, color).c_str(), stdout);
}

}  // namespace imhotep::cli
