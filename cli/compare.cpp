// imhotep compare: predicted against measured, operation by operation.

#include <cmath>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/comparison_picture.h"
#include "cli/prediction.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "executor/runtime/step_times.h"

namespace imhotep::cli {
namespace {

struct Options {
  std::vector<std::string> reports;
  std::string cluster, profile, fail_over, picture;
  bool stored = false;
};

Json json_of_report(const std::string& file, const RunReport& report) {
  Json rows = Json::array();
  for (const OperationTime& row : report.operations) {
    rows.push_back({{"operation", row.operation},
                    {"pass", row.pass},
                    {"predicted_us", row.predicted_us},
                    {"low_us", row.low_us},
                    {"high_us", row.high_us},
                    {"measured_us", row.measured_us},
                    {"error", relative_error(row.predicted_us, row.measured_us)},
                    {"inside", row.low_us <= row.measured_us && row.measured_us <= row.high_us},
                    {"source", row.source}});
  }
  return {{"report", file},
          {"plan_hash", report.plan_hash},
          {"phase", report.phase},
          {"predicted_us", report.predicted_us},
          {"low_us", report.low_us},
          {"high_us", report.high_us},
          {"measured_us", report.measured_us},
          {"error", relative_error(report.predicted_us, report.measured_us)},
          {"rows", rows}};
}

RunReport read_with_prediction(const std::string& file, const Options& options) {
  RunReport report = read_report(file);
  if (options.stored) return report;
  Plan plan = report.plan;
  if (!options.cluster.empty()) plan.cluster = options.cluster;
  predict_report(report, simulator_for(plan, options.profile));
  return report;
}

// "2 ranks, tensor 2 x data 1, 4: 1x2x1, 8: 2x1x1, 8 x 256"
std::string label_of(const Plan& plan) {
  std::string text = fmt::format("{}, tensor {} x data {}", format_items(plan.world, "rank"),
                                 plan.tensor, plan.data);
  int known = 0;
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    if (plan.world > 1 && moe.experts != known) {
      text += fmt::format(", {}: {}x{}x{}", moe.experts, moe.expert, moe.slicing, moe.replica);
    }
    known = moe.experts;
  }
  text += fmt::format(", {} x {}", plan.workload.global_batch, plan.workload.sequence);
  return plan.recompute == Recompute::Full ? text + ", recompute" : text;
}

int compare(const Options& options, const Session& session) {
  Json all = Json::array();
  std::vector<double> errors;
  std::vector<ComparedStep> steps;
  for (const std::string& file : options.reports) {
    const RunReport report = read_with_prediction(file, options);
    if (report.measured_us <= 0) fail_input("{}: the report holds no measured step", file);
    errors.push_back(std::abs(relative_error(report.predicted_us, report.measured_us)));
    steps.push_back({.label = label_of(report.plan),
                     .measured_us = report.measured_us,
                     .predicted_us = report.predicted_us,
                     .low_us = report.low_us,
                     .high_us = report.high_us});
    if (session.json) {
      all.push_back(json_of_report(file, report));
      continue;
    }
    fmt::print("{}: {} of {} on {}\n", file, report.phase, report.plan.model.name,
               format_items(report.plan.world, "rank"));
    print_comparison(report, session.color, 30);
    fmt::print("  90 % interval {} to {}\n\n", format_time(report.low_us),
               format_time(report.high_us));
  }
  const double typical = executor::median(errors);
  if (!options.picture.empty()) {
    write_text_file(options.picture,
                    comparison_picture("Step time, predicted and measured", steps));
  }
  if (session.json) {
    Json json = all.size() == 1 ? all[0] : Json{{"reports", all}};
    json["median_error"] = typical;
    fmt::print("{}\n", json.dump(2));
  } else if (errors.size() > 1) {
    fmt::print("median error of {} steps: {:.1f} %\n", errors.size(), 100 * typical);
  }
  if (!options.fail_over.empty() && typical > parse_share(options.fail_over)) {
    raise(ErrorKind::Gate, fmt::format("the error of {:.1f} % exceeds --fail-over {}",
                                       100 * typical, options.fail_over));
  }
  return 0;
}

}  // namespace

Run setup_compare(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  arguments.texts("REPORT", options->reports, "report.json of one or several runs");
  arguments.text("--cluster", options->cluster, "where the runs were; default: the plans' own");
  arguments.text("--profile", options->profile, "a profile's name or file; none: roofline");
  arguments.text("--fail-over", options->fail_over, "exit 4 above this error: 10%");
  arguments.output("--picture", options->picture, "write an SVG picture of the steps");
  arguments.flag("--stored", options->stored, "the prediction stored in the report, not a new one");
  arguments.example("imhotep compare run/a/report.json");
  arguments.example("imhotep compare run/*/report.json --fail-over 10%");
  return [options](const Session& session) {
    if (options->reports.empty()) fail_input("compare needs a report; try: imhotep compare --help");
    if (!options->fail_over.empty()) static_cast<void>(parse_share(options->fail_over));
    return compare(*options, session);
  };
}

}  // namespace imhotep::cli
