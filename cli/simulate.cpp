// imhotep simulate: time and memory of one plan, operation by operation.

#include <algorithm>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/plan_file.h"
#include "cli/plan_output.h"
#include "cli/plan_request.h"
#include "cli/ranks_per_node.h"
#include "cli/table.h"
#include "cli/traffic_forecast.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "simulator/engine/trace.h"

namespace imhotep::cli {
namespace {

struct Options {
  std::string plan, cluster, profile, trace, load;
  std::optional<ExecutionStyle> style;
  std::int64_t top = 15;
  std::optional<std::int64_t> ranks_per_node;
  TrafficRequestOptions traffic;
};

struct Simulation {
  Plan plan;
  simulator::StepPrice step;
  Estimate prompt_us;
  planner::RankedPlan memory;
  std::int64_t limit_bytes = 0;
};

bool trains(const Plan& plan) { return plan.workload.kind == WorkloadKind::Training; }

Simulation run(const Plan& plan, const Judge& judge) {
  Simulation result{.plan = plan};
  result.step =
      trains(plan) ? judge.simulator.training_step(plan) : judge.simulator.decode_step(plan);
  if (!trains(plan)) result.prompt_us = judge.simulator.prefill(plan).time_us;
  result.limit_bytes = planner::rank_memory_bytes(judge.cluster, plan.world);
  result.memory = planner::measure_memory(plan, result.limit_bytes, judge.cluster.device.libraries);
  return result;
}

// A micro-batch of training, or a decode step.
void write_trace(const Plan& plan, const Judge& judge, const std::string& file) {
  const program::Program program =
      trains(plan) ? program::build_train_step(plan, Rank(0))
                   : program::build_generate(plan, Rank(0), program::decode_shape(plan));
  const simulator::ProgramPrice priced = judge.simulator.price(program, plan);
  write_text_file(file, simulator::chrome_trace(program, priced.timeline));
}

Json json_of(const Simulation& result, const Judge& judge) {
  const simulator::StepPrice& step = result.step;
  Json out = {{"model", result.plan.model.name},
              {"cluster", judge.cluster.name},
              {"profile", judge.profile ? Json(judge.profile->name) : Json(nullptr)},
              {"prices", prices_text(judge.profile, judge.cluster)},
              {"style", name_of(result.plan.style)},
              {"executable", result.plan.executable},
              {"phase", trains(result.plan) ? "training" : "decode"}};
  out[trains(result.plan) ? "step_us" : "latency_us"] = step.time_us.value;
  out["low_us"] = step.time_us.low;
  out["high_us"] = step.time_us.high;
  if (!trains(result.plan)) out["prompt_us"] = result.prompt_us.value;
  out["tokens_per_s"] = step.tokens_per_s;
  out["cost_per_mtoken"] = step.cost_per_mtoken;
  out["overhead_us"] = step.overhead_us;
  out["exposed_us"] = step.exposed_us;
  out["memory_bytes"] = result.memory.memory.total();
  out["memory"] = Json::object();
  for (const auto& [kind, bytes] : memory_parts(result.memory.memory)) out["memory"][kind] = bytes;
  out["feasible"] = result.memory.verdict.feasible;
  out["reasons"] = result.memory.verdict.reasons;
  out["operations"] = Json::array();
  for (const simulator::OperationTotal& total : step.operations) {
    out["operations"].push_back({{"operation", total.name},
                                 {"pass", program::pass_name(total.pass)},
                                 {"count", total.count},
                                 {"time_us", total.time_us},
                                 {"low_us", total.low_us},
                                 {"high_us", total.high_us},
                                 {"source", simulator::source_name(total.source)}});
  }
  return out;
}

void print_operations(const simulator::StepPrice& step, std::size_t most, bool color) {
  std::vector<simulator::OperationTotal> sorted = step.operations;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.time_us > b.time_us; });
  Table table({{"operation"},
               {"pass"},
               {"a step", Align::Right},
               {"time", Align::Right},
               {"%", Align::Right},
               {"90 % interval", Align::Right},
               {"source"}});
  for (std::size_t i = 0; i < sorted.size() && i < most; ++i) {
    const simulator::OperationTotal& total = sorted[i];
    table.row({total.name, std::string(program::pass_name(total.pass)),
               fmt::format("{:.0f}", total.count), format_time(total.time_us),
               fmt::format("{:.1f}", 100 * total.time_us / step.time_us.value),
               format_time(total.low_us) + " .. " + format_time(total.high_us),
               std::string(simulator::source_name(total.source))});
  }
  std::fputs(table.text(2, color).c_str(), stdout);
  if (sorted.size() > most) fmt::print("  and {} more; --top N shows them\n", sorted.size() - most);
}

void print_screen(const Simulation& result, const Judge& judge, const Options& options,
                  const Session& session) {
  const Plan& plan = result.plan;
  const auto bytes = [](std::int64_t count) { return format_bytes(static_cast<double>(count)); };
  fmt::print("{} on {}, {}: {}\n", plan.model.name, judge.cluster.name,
             format_items(plan.world, "rank"), degrees_text(plan));
  for (const MoeGroup& group : moe_groups(plan)) {
    fmt::print("  {:<24}{}\n", group.title, degrees_text(*group.moe));
  }
  fmt::print("  {:<24}{}\n", "workload", describe(plan.workload));
  if (plan.style != ExecutionStyle::Imhotep) {
    fmt::print("  {:<24}{} (priced, not run)\n", "style", name_of(plan.style));
  }
  fmt::print("  {:<24}{}\n\n", "prices", prices_text(judge.profile, judge.cluster));
  fmt::print("  {:<24}{}\n", trains(plan) ? "step" : "decode step",
             interval_text(result.step.time_us));
  if (!trains(plan)) fmt::print("  {:<24}{}\n", "prompt", interval_text(result.prompt_us));
  fmt::print("  {:<24}{}/s\n", "tokens", format_count(result.step.tokens_per_s));
  fmt::print("  {:<24}{} exposed, {} in no operation\n", "communication",
             format_time(result.step.exposed_us), format_time(result.step.overhead_us));
  fmt::print("  {:<24}{} of {} on rank {}:", "memory", bytes(result.memory.memory.total()),
             bytes(result.limit_bytes), result.memory.fullest.value);
  for (const auto& [kind, count] : memory_parts(result.memory.memory)) {
    fmt::print(" {} {}", kind, bytes(count));
  }
  fmt::print("\n\n");
  print_operations(result.step, static_cast<std::size_t>(options.top), session.color);
}

int simulate(const Options& options, const Session& session) {
  Plan plan = read_plan_argument(options.plan);
  if (options.style) plan.style = *options.style;
  if (plan.style != ExecutionStyle::Imhotep) plan.executable = false;
  draw_nodes(plan, options.ranks_per_node);
  if (!options.load.empty()) plan.workload.routing = measured_routing(options.load);
  const Judge judge = judge_for(plan, options.cluster, options.profile);
  const Simulation result = run(plan, judge);
  if (!options.trace.empty()) write_trace(plan, judge, options.trace);
  TrafficForecast traffic;
  if (options.traffic.asked()) {
    traffic = forecast_traffic(plan, judge, options.traffic, session.color);
  }
  if (session.json) {
    Json json = json_of(result, judge);
    if (options.traffic.asked()) json["traffic"] = Json::parse(traffic.json);
    std::puts(json.dump(2).c_str());
  } else {
    print_screen(result, judge, options, session);
    if (options.traffic.asked()) fmt::print("\n{}", traffic.text);
  }
  for (const std::string& reason : result.memory.verdict.reasons) {
    std::fprintf(stderr, "imhotep: this plan does not fit: %s\n", reason.c_str());
  }
  return 0;
}

}  // namespace

Run setup_simulate(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  arguments.required("PLAN", options->plan, "a plan file; - is standard input");
  arguments.text("--cluster", options->cluster, "another cluster than the plan's");
  arguments.text("--profile", options->profile, "a profile's name or file; none: roofline");
  arguments.choice("--style", options->style, "whose way to carry it out instead of the plan's");
  arguments.text("--load", options->load, "routing as this report.json counted it");
  arguments.output("--trace", options->trace, "write a Chrome trace of one pass here");
  arguments.integer("--top", options->top, "operations to show");
  declare_ranks_per_node(arguments, options->ranks_per_node);
  add_traffic_options(arguments, options->traffic);
  arguments.example("imhotep simulate plan.json --trace trace.json");
  arguments.example("imhotep simulate plan.json --rate 20 --limit-first 500");
  arguments.example("imhotep plan nano-moe-8 --gpus 2 --json | imhotep simulate - --json");
  return [options](const Session& session) { return simulate(*options, session); };
}

}  // namespace imhotep::cli
