// imhotep validate: how wrong a profile is, on shapes and on plans that it did not measure.

#include <algorithm>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/local_gpu.h"
#include "cli/plan_request.h"
#include "cli/prediction.h"
#include "cli/table.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "profiles/catalogue.h"
#include "simulator/plan_order.h"

namespace imhotep::cli {
namespace {

struct Options {
  std::string profile, cluster, fail_over, least_coverage;
  std::vector<std::string> reports, left_out;
  std::int64_t points = 2000, worst = 0;
};

struct Step {
  std::string file, step;
  simulator::HeldOut times;
  std::int64_t predicted_bytes = 0, measured_bytes = 0;  // 0: not in the report
};

struct Plans {
  std::vector<Step> list;
  simulator::Accuracy steps;
  simulator::OrderAccuracy order;
};

// What two plans must share to be answers to one question.
std::string question_of(const RunReport& report) {
  const Workload& w = report.plan.workload;
  return fmt::format("{} {} {} {} {} {}", report.phase, report.plan.model.name, w.global_batch,
                     w.sequence, w.prompt, w.output);
}

// One line that tells plans of a question apart.
std::string step_text(const RunReport& report) {
  const Plan& plan = report.plan;
  const Workload& w = plan.workload;
  std::string text = fmt::format("{} {}, {} x {}", report.phase, plan.model.name, w.global_batch,
                                 report.phase == "training" ? w.sequence : w.prompt);
  text += fmt::format("; tensor {} data {}", plan.tensor, plan.data);
  if (!plan.moe_layers.empty()) {
    const MoeLayerPlan& moe = plan.moe_layers.back();
    text += fmt::format(" expert {} slicing {}", moe.expert, moe.slicing);
  }
  if (report.phase != "training") return text;
  return text + fmt::format(" ZeRO {}, micro-batch {} x {}, recompute {}", plan.zero,
                            plan.micro_batch, plan.accumulation, name_of(plan.recompute));
}

Plans validate_plans(const Options& options, const profiles::Profile& profile) {
  std::vector<simulator::PlanResult> plans;
  std::vector<simulator::HeldOut> steps;
  std::vector<Step> list;
  for (const std::string& file : options.reports) {
    RunReport report = read_report(file);
    if (report.measured_us <= 0) fail_input("{}: the report holds no measured step", file);
    const std::string& cluster = options.cluster.empty() ? report.plan.cluster : options.cluster;
    const simulator::Simulator simulator(find_cluster(cluster.empty() ? "local" : cluster),
                                         profile);
    predict_report(report, simulator);
    plans.push_back({.question = question_of(report),
                     .step = {.measured_us = report.measured_us,
                              .predicted_us = report.predicted_us,
                              .low_us = report.low_us,
                              .high_us = report.high_us}});
    steps.push_back(plans.back().step);
    list.push_back({file, step_text(report), steps.back(), report.predicted_memory_bytes,
                    report.measured_memory_bytes});
  }
  return {.list = std::move(list), .steps = accuracy_of(steps), .order = order_of(plans)};
}

std::string percent(double value) { return fmt::format("{:.1f} %", 100 * value); }

// Of the steps whose reports hold both.
simulator::Accuracy memory_accuracy(const std::vector<Step>& steps) {
  std::vector<simulator::HeldOut> bytes;
  for (const Step& step : steps) {
    if (step.predicted_bytes <= 0 || step.measured_bytes <= 0) continue;
    bytes.push_back({.measured_us = static_cast<double>(step.measured_bytes),
                     .predicted_us = static_cast<double>(step.predicted_bytes)});
  }
  return accuracy_of(bytes);
}

Json json_of(const simulator::Accuracy& accuracy) {
  return {{"points", accuracy.points},
          {"median_error", accuracy.median},
          {"p90_error", accuracy.p90},
          {"coverage", accuracy.coverage}};
}

void print_json(const profiles::Profile& profile,
                const std::vector<simulator::FamilyAccuracy>& families,
                const std::optional<Plans>& plans) {
  Json list = Json::array();
  for (const simulator::FamilyAccuracy& family : families) {
    Json one = {{"family", family.family}, {"left_out", family.left_out}};
    one.update(json_of(family.accuracy));
    one["alone"] = family.alone;
    one["inside_grid"] = json_of(family.inside_grid);
    for (const simulator::HeldOut& point : family.worst) {
      one["worst"].push_back({{"point", point.what},
                              {"measured_us", point.measured_us},
                              {"predicted_us", point.predicted_us},
                              {"outside_grid", point.outside}});
    }
    list.push_back(std::move(one));
  }
  Json json = {{"profile", profile.name},
               {"hash", profile.hash},
               {"skipped", profile.skipped},
               {"families", std::move(list)}};
  if (plans) {
    json["plans"] = json_of(plans->steps);
    for (const Step& step : plans->list) {
      json["plans"]["steps"].push_back({{"report", step.file},
                                        {"step", step.step},
                                        {"measured_us", step.times.measured_us},
                                        {"predicted_us", step.times.predicted_us},
                                        {"low_us", step.times.low_us},
                                        {"high_us", step.times.high_us},
                                        {"predicted_memory_bytes", step.predicted_bytes},
                                        {"measured_memory_bytes", step.measured_bytes}});
    }
    const simulator::Accuracy memory = memory_accuracy(plans->list);
    if (memory.points > 0) {
      json["plans"]["memory"] = {
          {"points", memory.points}, {"median_error", memory.median}, {"p90_error", memory.p90}};
    }
    json["plans"]["questions"] = plans->order.questions;
    json["plans"]["pairs"] = plans->order.pairs;
    json["plans"]["kendall_tau"] = plans->order.kendall_tau;
    json["plans"]["mean_regret"] = plans->order.mean_regret;
    json["plans"]["worst_regret"] = plans->order.worst_regret;
  }
  fmt::print("{}\n", json.dump(2));
}

void print_steps(const std::vector<Step>& steps, bool color) {
  Table table({{"step"},
               {"predicted", Align::Right},
               {"90 % interval", Align::Right},
               {"measured", Align::Right},
               {"error", Align::Right},
               {"inside", Align::Right}});
  for (const Step& one : steps) {
    const simulator::HeldOut& times = one.times;
    const bool inside = times.low_us <= times.measured_us && times.measured_us <= times.high_us;
    table.row(
        {one.step, format_time(times.predicted_us),
         fmt::format("{} .. {}", format_time(times.low_us), format_time(times.high_us)),
         format_time(times.measured_us),
         fmt::format("{:+.1f} %", 100 * relative_error(times.predicted_us, times.measured_us)),
         inside ? "yes" : "no"});
  }
  std::fputs(table.text(2, color).c_str(), stdout);
}

void print_worst(const std::vector<simulator::FamilyAccuracy>& families, bool color) {
  Table table({{"worst points"},
               {"predicted", Align::Right},
               {"measured", Align::Right},
               {"error", Align::Right},
               {"in the grid", Align::Right}});
  bool any = false;
  for (const simulator::FamilyAccuracy& family : families) {
    for (const simulator::HeldOut& point : family.worst) {
      table.row(
          {point.what, format_time(point.predicted_us), format_time(point.measured_us),
           fmt::format("{:+.1f} %", 100 * relative_error(point.predicted_us, point.measured_us)),
           point.outside ? "no" : "yes"});
      any = true;
    }
  }
  if (any) std::fputs(table.text(2, color).c_str(), stdout);
}

void print_text(const profiles::Profile& profile,
                const std::vector<simulator::FamilyAccuracy>& families,
                const std::optional<Plans>& plans, bool color) {
  fmt::print("profile {} of {}, {}\n", profile.name, profile.device.name, profile.date);
  if (!profile.skipped.empty()) {
    fmt::print("{} rows skipped; the first: {}\n", profile.skipped.size(), profile.skipped[0]);
  }
  Table table({{"family"},
               {"left out together"},
               {"points", Align::Right},
               {"median", Align::Right},
               {"p90", Align::Right},
               {"inside 90 %", Align::Right},
               {"in the grid", Align::Right},
               {"median", Align::Right},
               {"p90", Align::Right}});
  for (const simulator::FamilyAccuracy& family : families) {
    const simulator::Accuracy &a = family.accuracy, &in = family.inside_grid;
    table.row({family.family, family.left_out, std::to_string(a.points), percent(a.median),
               percent(a.p90), percent(a.coverage), std::to_string(in.points),
               in.points > 0 ? percent(in.median) : "", in.points > 0 ? percent(in.p90) : ""});
  }
  std::fputs(table.text(2, color).c_str(), stdout);
  print_worst(families, color);
  if (!plans) return;
  print_steps(plans->list, color);
  const simulator::Accuracy& a = plans->steps;
  fmt::print("{} steps of plans: median {}, p90 {}, {} inside their 90 % intervals\n", a.points,
             percent(a.median), percent(a.p90), percent(a.coverage));
  if (const simulator::Accuracy memory = memory_accuracy(plans->list); memory.points > 0) {
    fmt::print("memory of {} of them: median {}, p90 {}\n", memory.points, percent(memory.median),
               percent(memory.p90));
  }
  if (plans->order.questions == 0) return;
  fmt::print(
      "order of plans: Kendall tau {:.2f} over {} pairs; the plan chosen is {} slower than the "
      "best (at most {})\n",
      plans->order.kendall_tau, plans->order.pairs, percent(plans->order.mean_regret),
      percent(plans->order.worst_regret));
}

// Whatever misses a limit, all of it, in one message.
void check_limits(const Options& options, const std::vector<simulator::FamilyAccuracy>& families,
                  const std::optional<Plans>& plans) {
  std::string missed;
  const auto check = [&](const std::string& name, const simulator::Accuracy& a) {
    if (!options.fail_over.empty() && a.median > parse_share(options.fail_over)) {
      missed += fmt::format("; {}: median error {}", name, percent(a.median));
    }
    if (!options.least_coverage.empty() && a.coverage < parse_share(options.least_coverage)) {
      missed += fmt::format("; {}: {} inside", name, percent(a.coverage));
    }
  };
  for (const simulator::FamilyAccuracy& family : families) check(family.family, family.accuracy);
  if (plans) check("steps of plans", plans->steps);
  if (!missed.empty()) raise(ErrorKind::Gate, "limits missed" + missed);
}

int validate(const Options& options, const Session& session) {
  const profiles::Profile profile = named_profile(options.profile);
  const auto families = simulator::cross_validate(
      profile, {.left_out = options.left_out,
                .most_points = static_cast<std::size_t>(options.points),
                .worst = static_cast<std::size_t>(std::max<std::int64_t>(options.worst, 0))});
  std::optional<Plans> plans;
  if (!options.reports.empty()) plans = validate_plans(options, profile);
  if (session.json) {
    print_json(profile, families, plans);
  } else {
    print_text(profile, families, plans, session.color);
  }
  check_limits(options, families, plans);
  return 0;
}

}  // namespace

Run setup_validate(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  arguments.required("PROFILE", options->profile, "a profile's name or file");
  arguments.texts("--reports", options->reports,
                  "report.json of runs that were not measured for it");
  arguments.text("--cluster", options->cluster, "where the runs were; default: the plans' own");
  arguments.texts("--leave-out", options->left_out, "keys left out together: gemm:n,k");
  arguments.integer("--points", options->points, "of each table, at most");
  arguments.integer("--worst", options->worst, "points of each family to name, the worst first");
  arguments.text("--fail-over", options->fail_over, "exit 4 when a median error is above: 10%");
  arguments.text("--least-coverage", options->least_coverage,
                 "exit 4 when fewer points lie inside their intervals: 85%");
  arguments.example("imhotep validate local");
  arguments.example("imhotep validate h100.json --reports run/*/report.json --fail-over 10%");
  return [options](const Session& session) { return validate(*options, session); };
}

}  // namespace imhotep::cli
