#include "cli/plan_ranges.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "cli/plan_output.h"
#include "cli/signals.h"
#include "cli/table.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "planner/objective/robust.h"
#include "planner/search/priced_only.h"
#include "planner/space/architectures.h"

namespace imhotep::cli {
namespace {

using planner::Case;
using planner::Quantity;
using planner::RankedPlan;

constexpr int kInfeasible = static_cast<int>(ErrorKind::Infeasible);

bool stop() { return signal_exit_code() != 0; }

Case case_of(const PlanRequest& asked) {
  return {.request = asked.request,
          .profile = asked.profile,
          .objective = asked.objective,
          .limits = asked.limits};
}

Json json_of(const RankedPlan& ranked) {
  const Plan& plan = ranked.plan;
  return {{"world", plan.world},
          {"degrees", degrees_text(plan)},
          {"moe_layers", imhotep::json_of(plan.moe_layers)},
          {"time_us", plan.predicted.time_us.value},
          {"prompt_us", plan.predicted.prompt_us.value},
          {"tokens_per_s", plan.predicted.tokens_per_s},
          {"cost_per_mtoken", plan.predicted.cost_per_mtoken},
          {"memory_bytes", ranked.memory.total()},
          {"hash", plan_hash(plan)}};
}

std::string layers_text(const Plan& plan) {
  std::string text;
  for (const MoeGroup& group : moe_groups(plan)) {
    text += fmt::format("{}{} x {} x {} {}", text.empty() ? "" : " | ", group.moe->expert,
                        group.moe->slicing, group.moe->replica, name_of(group.moe->exchange));
  }
  return text.empty() ? "-" : text;
}

std::string plan_line(const Plan& plan) {
  return fmt::format("{}, {}", degrees_text(plan), layers_text(plan));
}

std::string value_text(Quantity quantity, double value) {
  return quantity == Quantity::Batch ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

int print_bands(const PlanRequest& asked, const planner::Range& range, const Session& session) {
  const std::vector<planner::Band> bands = planner::bands(case_of(asked), range, stop);
  bool any = false;
  for (const planner::Band& band : bands) any = any || band.plan.has_value();
  if (session.json) {
    Json out = {{"quantity", name_of(range.quantity)}, {"bands", Json::array()}};
    for (const planner::Band& band : bands) {
      out["bands"].push_back({{"from", band.from},
                              {"to", band.to},
                              {"plan", band.plan ? json_of(*band.plan) : Json(nullptr)}});
    }
    std::puts(out.dump(2).c_str());
    return any ? 0 : kInfeasible;
  }
  fmt::print("{} on {}, {}: the best plan by {}\n", asked.request.model.name,
             asked.request.cluster.name, asked.devices_text, name_of(range.quantity));
  Table table({{name_of(range.quantity)}, {"step at its start", Align::Right}, {"plan"}});
  for (const planner::Band& band : bands) {
    table.row({value_text(range.quantity, band.from) + " to " + value_text(range.quantity, band.to),
               band.plan ? format_time(band.plan->plan.predicted.time_us.value) : "-",
               band.plan ? plan_line(band.plan->plan) : "no plan fits"});
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
  return any ? 0 : kInfeasible;
}

std::string ratios_text(const std::vector<double>& ratios) {
  std::string text;
  for (const double ratio : ratios) {
    text += text.empty() ? "" : " ";
    text += std::isinf(ratio) ? "does not fit" : fmt::format("{:.3f}", ratio);
  }
  return text;
}

Json json_of(const planner::RobustPlan& plan) {
  Json ratios = Json::array();
  for (const double ratio : plan.ratio) {
    ratios.push_back(std::isinf(ratio) ? Json(nullptr) : Json(ratio));
  }
  return {{"plan", json_of(plan.plan)},
          {"ratios", ratios},
          {"worst", std::isinf(plan.worst) ? Json(nullptr) : Json(plan.worst)}};
}

int print_robust(const PlanRequest& asked, const planner::Range& range, const std::string& file,
                 const Session& session) {
  const std::vector<Case> cases = planner::cases_of(case_of(asked), range);
  const planner::RobustResult found = planner::most_robust(cases, stop);
  if (found.best && !file.empty()) write_plan(found.best->plan.plan, file);
  std::vector<double> values;
  for (const Case& one : cases) {
    values.push_back(range.quantity == Quantity::Link ? one.request.cluster.intra.bytes_per_us /
                                                            asked.request.cluster.intra.bytes_per_us
                                                      : planner::value_of(one, range.quantity));
  }
  if (session.json) {
    Json out = {{"quantity", name_of(range.quantity)},
                {"values", values},
                {"best", found.best ? json_of(*found.best) : Json(nullptr)},
                {"specialists", Json::array()},
                {"evaluated", found.evaluated},
                {"pruned", found.pruned}};
    for (const auto& one : found.specialists) out["specialists"].push_back(json_of(one));
    std::puts(out.dump(2).c_str());
    return found.best ? 0 : kInfeasible;
  }
  if (!found.best) {
    fmt::print("No plan fits in all cases.\n");
    return kInfeasible;
  }
  fmt::print("{} on {}, {}: time by that of the best plan of each case\n", asked.request.model.name,
             asked.request.cluster.name, asked.devices_text);
  Table table({{"plan"}, {"worst", Align::Right}, {name_of(range.quantity) + " " + [&] {
                 std::vector<std::string> names;
                 for (const double value : values) {
                   names.push_back(value_text(range.quantity, value));
                 }
                 return fmt::to_string(fmt::join(names, " "));
               }()}});
  const auto row = [&](const std::string& name, const planner::RobustPlan& plan) {
    table.row({name + ": " + plan_line(plan.plan.plan),
               std::isinf(plan.worst) ? "-" : fmt::format("{:.3f}", plan.worst),
               ratios_text(plan.ratio)});
  };
  row("most robust", *found.best);
  for (std::size_t i = 0; i < found.specialists.size(); ++i) {
    row("best at " + value_text(range.quantity, values[i]), found.specialists[i]);
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
  return 0;
}

// The best plan of one number of devices and one batch.
struct Point {
  std::int64_t batch = 0;
  double latency_us = 0, per_gpu = 0;
  RankedPlan plan;
};

std::vector<Point> points_of(const PlanRequest& asked) {
  std::vector<Point> points;
  const bool trains = asked.request.workload.kind == WorkloadKind::Training;
  std::vector<std::int64_t> batches = {asked.request.workload.global_batch};
  for (std::int64_t batch = 1; !trains && batch < asked.request.workload.global_batch; batch *= 2) {
    batches.push_back(batch);
  }
  for (const int world : asked.request.worlds) {
    for (const std::int64_t batch : batches) {
      if (stop()) return points;
      Case one = case_of(asked);
      one.request.worlds = {world};
      one.request.workload.global_batch = batch;
      one.objective = planner::Objective::Token;
      std::optional<RankedPlan> best = planner::best_of(one);
      if (!best) continue;
      const Prediction& predicted = best->plan.predicted;
      points.push_back({.batch = batch,
                        .latency_us = predicted.time_us.value,
                        .per_gpu = predicted.tokens_per_s / world,
                        .plan = std::move(*best)});
    }
  }
  return points;
}

// Neither faster nor more per device elsewhere, by more than rounding.
std::vector<Point> front_of(std::vector<Point> points) {
  std::stable_sort(points.begin(), points.end(), [](const Point& a, const Point& b) {
    return a.latency_us != b.latency_us ? a.latency_us < b.latency_us : a.per_gpu > b.per_gpu;
  });
  std::vector<Point> front;
  for (Point& point : points) {
    if (front.empty() || point.per_gpu > front.back().per_gpu) front.push_back(std::move(point));
  }
  return front;
}

int print_front(const PlanRequest& asked, const Session& session) {
  const std::vector<Point> points = points_of(asked), front = front_of(points);
  if (session.json) {
    Json out = {{"points", points.size()}, {"front", Json::array()}};
    for (const Point& point : front) {
      out["front"].push_back({{"gpus", point.plan.plan.world},
                              {"batch", point.batch},
                              {"time_us", point.latency_us},
                              {"tokens_per_s_per_gpu", point.per_gpu},
                              {"plan", json_of(point.plan)}});
    }
    std::puts(out.dump(2).c_str());
    return front.empty() ? kInfeasible : 0;
  }
  fmt::print("{} on {}: {} of {} combinations of devices and batch are on the front\n",
             asked.request.model.name, asked.request.cluster.name, front.size(), points.size());
  Table table({{"devices", Align::Right},
               {"batch", Align::Right},
               {"step", Align::Right},
               {"prompt", Align::Right},
               {"tokens/s/device", Align::Right},
               {"a million tokens", Align::Right},
               {"plan"}});
  for (const Point& point : front) {
    const Prediction& predicted = point.plan.plan.predicted;
    const bool priced = predicted.cost_per_mtoken > 0;
    table.row({std::to_string(point.plan.plan.world), std::to_string(point.batch),
               format_time(point.latency_us),
               predicted.prompt_us.value > 0 ? format_time(predicted.prompt_us.value) : "-",
               format_count(point.per_gpu),
               priced ? fmt::format("{:.3g} {}", predicted.cost_per_mtoken,
                                    asked.request.cluster.currency)
                      : "-",
               plan_line(point.plan.plan)});
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
  return front.empty() ? kInfeasible : 0;
}

// Models of the same size by the time of their best plan.
int print_architectures(const PlanRequest& asked, const Session& session) {
  struct Entry {
    planner::Architecture architecture;
    std::optional<RankedPlan> best;
    double score = 0;
  };
  std::vector<Entry> entries;
  for (planner::Architecture& one : planner::architectures_of(asked.request.model)) {
    if (stop()) break;
    Case with = case_of(asked);
    with.request.model = one.model;
    Entry entry{.architecture = std::move(one), .best = planner::best_of(with)};
    entry.score = std::numeric_limits<double>::infinity();
    if (entry.best) {
      const Plan& plan = entry.best->plan;
      entry.score = planner::score(asked.objective, plan.workload, plan.world,
                                   {.step_us = plan.predicted.time_us.value,
                                    .prompt_us = plan.predicted.prompt_us.value})
                        .first;
    }
    entries.push_back(std::move(entry));
  }
  const double own = entries.empty() ? 0 : entries.front().score;
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.score < b.score; });
  if (session.json) {
    Json out = {{"architectures", Json::array()}};
    for (const Entry& entry : entries) {
      out["architectures"].push_back({{"model", imhotep::json_of(entry.architecture.model)},
                                      {"core_parameters", entry.architecture.core_parameters},
                                      {"plan", entry.best ? json_of(*entry.best) : Json(nullptr)}});
    }
    std::puts(out.dump(2).c_str());
    return 0;
  }
  fmt::print(
      "{} on {}, {}: models of the same size by the speed of their best plan. How well they "
      "learn is not asked.\n",
      asked.request.model.name, asked.request.cluster.name, asked.devices_text);
  Table table({{"experts, routing, depth"},
               {"parameters", Align::Right},
               {"step", Align::Right},
               {"against it", Align::Right},
               {"plan"}});
  for (const Entry& entry : entries) {
    table.row({entry.architecture.change, format_count(entry.architecture.core_parameters),
               entry.best ? format_time(entry.best->plan.predicted.time_us.value) : "-",
               entry.best ? fmt::format("{:+.1f} %", 100 * (entry.score / own - 1)) : "-",
               entry.best ? plan_line(entry.best->plan) : "no plan fits"});
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
  return 0;
}

int print_pipelines(const PlanRequest& asked, const Session& session) {
  const std::optional<RankedPlan> plain = planner::best_of(case_of(asked));
  const std::vector<planner::PipelinePlan> pipelines = planner::price_pipelines(case_of(asked));
  if (session.json) {
    Json out = {{"without", plain ? json_of(*plain) : Json(nullptr)}, {"pipelines", Json::array()}};
    for (const planner::PipelinePlan& one : pipelines) {
      out["pipelines"].push_back({{"stages", one.stages},
                                  {"step_us", one.step_us},
                                  {"bubble_us", one.bubble_us},
                                  {"transfer_us", one.transfer_us},
                                  {"memory_bytes", one.memory_bytes},
                                  {"executable", false},
                                  {"stage", degrees_text(one.plan)},
                                  {"moe_layers", imhotep::json_of(one.plan.moe_layers)}});
    }
    std::puts(out.dump(2).c_str());
    return 0;
  }
  fmt::print("Priced only, not executable: {} in pipeline stages. Without: {}\n",
             asked.request.model.name,
             plain ? format_time(plain->plan.predicted.time_us.value) : "no plan fits");
  Table table({{"stages", Align::Right},
               {"step", Align::Right},
               {"bubble", Align::Right},
               {"transfers", Align::Right},
               {"memory", Align::Right},
               {"a stage"}});
  for (const planner::PipelinePlan& one : pipelines) {
    table.row({std::to_string(one.stages), format_time(one.step_us), format_time(one.bubble_us),
               format_time(one.transfer_us), format_bytes(static_cast<double>(one.memory_bytes)),
               format_items(one.plan.world, "rank") + ", " + plan_line(one.plan)});
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
  return 0;
}

int print_pools(const PlanRequest& asked, const Session& session) {
  const std::vector<planner::PoolsPlan> pools = planner::price_pools(case_of(asked));
  if (session.json) {
    Json out = {{"pools", Json::array()}};
    for (const planner::PoolsPlan& one : pools) {
      out["pools"].push_back({{"prefill", json_of(one.prefill)},
                              {"decode", json_of(one.decode)},
                              {"first_token_us", one.first_token_us},
                              {"requests_per_s", one.requests_per_s},
                              {"together_per_s", one.together_per_s},
                              {"executable", false}});
    }
    std::puts(out.dump(2).c_str());
    return 0;
  }
  fmt::print("Priced only, not executable: {} with devices of their own for prompts\n",
             asked.request.model.name);
  Table table({{"prefill + decode"},
               {"first token", Align::Right},
               {"token", Align::Right},
               {"requests/s", Align::Right},
               {"together", Align::Right}});
  for (const planner::PoolsPlan& one : pools) {
    table.row(
        {fmt::format("{} + {}", one.prefill.plan.world, one.decode.plan.world),
         format_time(one.first_token_us), format_time(one.decode.plan.predicted.time_us.value),
         fmt::format("{:.4g}", one.requests_per_s), fmt::format("{:.4g}", one.together_per_s)});
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
  return 0;
}

int print_priced_only(const PlanRequest& asked, const Session& session) {
  if (asked.request.worlds.size() != 1) fail_input("--priced-only: say how many devices: --gpus N");
  const bool trains = asked.request.workload.kind == WorkloadKind::Training;
  return trains ? print_pipelines(asked, session) : print_pools(asked, session);
}

}  // namespace

void declare_ranges(Arguments& arguments, RangeOptions& options) {
  arguments.text("--bands", options.bands, "how the best plan depends on batch, skew or link");
  arguments.text("--robust", options.robust, "the plan whose worst case is best: skew=0:1.5");
  arguments.flag("--front", options.front, "what no other device count or batch beats");
  arguments.flag("--architectures", options.architectures, "the speed of models of the same size");
  arguments.flag("--priced-only", options.priced_only, "pipeline stages; pools for prompts");
}

int plan_ranges(const PlanRequest& asked, const RangeOptions& options, const std::string& file,
                const Session& session) {
  const int wanted = (options.bands.empty() ? 0 : 1) + (options.robust.empty() ? 0 : 1) +
                     (options.front ? 1 : 0) + (options.architectures ? 1 : 0) +
                     (options.priced_only ? 1 : 0);
  if (wanted > 1) {
    fail_input("ask for one of --bands, --robust, --front, --architectures and --priced-only");
  }
  if (options.priced_only) return print_priced_only(asked, session);
  if (options.architectures) return print_architectures(asked, session);
  if (!options.bands.empty()) {
    return print_bands(asked, planner::parse_range(options.bands), session);
  }
  if (!options.robust.empty()) {
    return print_robust(asked, planner::parse_range(options.robust), file, session);
  }
  return print_front(asked, session);
}

}  // namespace imhotep::cli
