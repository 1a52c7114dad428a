// imhotep explain: why a plan takes as long as it does, why not another one, why it does not fit.

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/explain_change.h"
#include "cli/plan_file.h"
#include "cli/plan_output.h"
#include "cli/table.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "planner/explain/anatomy.h"
#include "planner/explain/order.h"

namespace imhotep::cli {
namespace {

using planner::Anatomy;
using planner::RankedPlan;

struct Options {
  std::string plan, other, fix, cluster, profile;
  std::int64_t top = 10;
  ChangeOptions change;
};

struct Explained {
  RankedPlan plan;
  Anatomy anatomy;
};

struct Explanation {
  Explained first;
  std::optional<Explained> second;
  std::vector<planner::Difference> differences;
  std::optional<planner::Order> order;
  std::vector<planner::Relaxation> relaxations;
  std::optional<Changed> changed;
  std::vector<planner::Flip> flips;
  std::int64_t limit_bytes = 0;
};

// The plan to compare with: a file, or the best one with the degrees that --fix asks for.
std::optional<Plan> other_plan(const Options& options, const Plan& plan, const Judge& judge) {
  if (!options.other.empty() && !options.fix.empty()) {
    fail_input("compare with a file or with --fix, not with both");
  }
  if (!options.other.empty()) return read_plan_argument(options.other);
  if (options.fix.empty()) return std::nullopt;
  planner::Request request = case_of(plan, judge).request;
  request.fixed = planner::parse_fixed_degrees(options.fix, plan.model);
  const planner::Space space(request);
  const auto found =
      planner::search(space, judge.simulator,
                      {.objective = planner::default_objective(plan.workload.kind), .top = 1});
  if (!found.plans.empty()) return found.plans.front().plan;
  if (!found.rejected.empty()) return found.rejected.front().plan;
  return std::nullopt;
}

// Other degrees on the same ranks first, then what else could change.
std::vector<planner::Relaxation> relaxations(const Plan& plan, const Judge& judge) {
  const planner::Request request = case_of(plan, judge).request;
  const planner::Objective objective = planner::default_objective(plan.workload.kind);
  const planner::Space space(request);
  auto found = planner::search(space, judge.simulator, {.objective = objective, .top = 1});
  if (!found.plans.empty()) {
    return {{.change = "other degrees", .plan = std::move(found.plans.front())}};
  }
  return planner::nearest_relaxations(request, judge.simulator, objective);
}

Explained examine(const Plan& plan, const Judge& judge) {
  const std::int64_t limit = planner::rank_memory_bytes(judge.cluster, plan.world);
  return {.plan = planner::measure_memory(plan, limit, judge.cluster.device.libraries),
          .anatomy = planner::anatomy(plan, judge.simulator)};
}

Explanation explain_plan(const Options& options, const Plan& plan, const Judge& judge) {
  Explanation result{.first = examine(plan, judge)};
  result.limit_bytes = planner::rank_memory_bytes(judge.cluster, plan.world);
  if (const std::optional<Plan> other = other_plan(options, plan, judge)) {
    result.second = examine(*other, judge);
    result.differences =
        planner::differences(result.first.anatomy.step, result.second->anatomy.step);
    result.order = planner::order_of(result.first.anatomy.step, result.second->anatomy.step);
  }
  if (!result.first.plan.verdict.feasible) result.relaxations = relaxations(plan, judge);
  if (options.change.any()) result.changed = change_of(options.change, plan, judge);
  if (options.change.flips) result.flips = flips_of(plan, judge);
  return result;
}

// What a plan decides beside its degrees.
std::string chosen_text(const Plan& plan) {
  std::string text = fmt::format("{}, batch {}", name_of(plan.dtype), plan.workload.global_batch);
  if (plan.workload.kind == WorkloadKind::Generation) {
    return text +
           fmt::format(", KV cache of {} tokens a data rank", plan.kv_pages() * plan.page_size);
  }
  if (plan.moe_layers.empty()) return text;
  return text + ", " + planner::gate_text(plan.model.router);
}

Json json_of(const Explained& explained) {
  const Anatomy& anatomy = explained.anatomy;
  const bool trains = explained.plan.plan.workload.kind == WorkloadKind::Training;
  Json out = {{"plan_hash", plan_hash(explained.plan.plan)},
              {"world", explained.plan.plan.world},
              {"degrees", degrees_text(explained.plan.plan)},
              {"choice", json_of_choice(explained.plan.plan)}};
  out[trains ? "step_us" : "latency_us"] = anatomy.step.time_us.value;
  out["low_us"] = anatomy.step.time_us.low;
  out["high_us"] = anatomy.step.time_us.high;
  out["binds"] = planner::what_binds(anatomy);
  out["overhead_us"] = anatomy.step.overhead_us;
  out["hidden_us"] = anatomy.hidden_us;
  out["classes"] = Json::array();
  for (const planner::ClassShare& share : anatomy.classes) {
    out["classes"].push_back({{"class", planner::class_name(share.kind)},
                              {"time_us", share.time_us},
                              {"bound", planner::bound_name(share.bound())},
                              {"flops", share.flops},
                              {"bytes", share.bytes}});
  }
  out["memory_bytes"] = explained.plan.memory.total();
  out["memory"] = Json::object();
  for (const auto& [kind, bytes] : memory_parts(explained.plan.memory)) out["memory"][kind] = bytes;
  out["feasible"] = explained.plan.verdict.feasible;
  out["reasons"] = explained.plan.verdict.reasons;
  return out;
}

void print_json(const Explanation& result) {
  Json out = json_of(result.first);
  out["memory_limit_bytes"] = result.limit_bytes;
  if (!result.relaxations.empty()) {
    out["relaxations"] = Json::array();
    for (const planner::Relaxation& relaxation : result.relaxations) {
      out["relaxations"].push_back({{"change", relaxation.change},
                                    {"degrees", degrees_text(relaxation.plan.plan)},
                                    {"memory_bytes", relaxation.plan.memory.total()}});
    }
  }
  if (result.changed) out["what_if"] = cli::json_of(*result.changed);
  if (!result.flips.empty()) out["flips"] = cli::json_of(result.flips);
  if (result.second) {
    out["against"] = json_of(*result.second);
    out["order"] = {{"difference_us", result.order->difference_us},
                    {"deviation_us", result.order->deviation_us},
                    {"probability_wrong", result.order->wrong}};
    out["differences"] = Json::array();
    for (const planner::Difference& difference : result.differences) {
      out["differences"].push_back({{"operation", difference.operation},
                                    {"pass", difference.pass},
                                    {"first_us", difference.first_us},
                                    {"second_us", difference.second_us}});
    }
  }
  std::puts(out.dump(2).c_str());
}

void print_anatomy(const Explained& explained, const Session& session) {
  const Anatomy& anatomy = explained.anatomy;
  const double step_us = anatomy.step.time_us.value;
  fmt::print("{}, {}: {}\n", explained.plan.plan.model.name,
             format_items(explained.plan.plan.world, "rank"), degrees_text(explained.plan.plan));
  fmt::print("  {:<24}{}\n", "chosen", chosen_text(explained.plan.plan));
  for (const MoeGroup& group : moe_groups(explained.plan.plan)) {
    fmt::print("  {:<24}{}\n", group.title, degrees_text(*group.moe));
  }
  fmt::print("  {:<24}{}\n", "step", interval_text(anatomy.step.time_us));
  fmt::print("  {}.\n\n", planner::what_binds(anatomy));
  Table table({{"class"},
               {"time", Align::Right},
               {"% of the step", Align::Right},
               {"bound by"},
               {"FLOPs", Align::Right},
               {"bytes", Align::Right}});
  for (const planner::ClassShare& share : anatomy.classes) {
    table.row({planner::class_name(share.kind), format_time(share.time_us),
               fmt::format("{:.1f}", 100 * share.time_us / step_us),
               planner::bound_name(share.bound()), format_count(share.flops),
               format_bytes(share.bytes)});
  }
  table.row({"in no operation", format_time(anatomy.step.overhead_us),
             fmt::format("{:.1f}", 100 * anatomy.step.overhead_us / step_us), "", "", ""});
  if (anatomy.hidden_us > 0) {
    table.row({"hidden communication", "-" + format_time(anatomy.hidden_us),
               fmt::format("-{:.1f}", 100 * anatomy.hidden_us / step_us), "", "", ""});
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
}

void print_memory(const Explanation& result) {
  const auto bytes = [](std::int64_t count) { return format_bytes(static_cast<double>(count)); };
  const RankedPlan& plan = result.first.plan;
  fmt::print("\n  memory of rank {}: {} of {}:", plan.fullest.value, bytes(plan.memory.total()),
             bytes(result.limit_bytes));
  for (const auto& [kind, count] : memory_parts(plan.memory)) {
    fmt::print(" {} {}", kind, bytes(count));
  }
  fmt::print("\n");
  for (const std::string& reason : plan.verdict.reasons) fmt::print("  does not fit: {}\n", reason);
  for (const planner::Relaxation& relaxation : result.relaxations) {
    fmt::print("  would fit: {}: {}, {}\n", relaxation.change, degrees_text(relaxation.plan.plan),
               bytes(relaxation.plan.memory.total()));
  }
}

// Intervals know nothing that would make smaller probabilities mean anything.
std::string percent_of(double probability) {
  constexpr double kLeast = 1e-4;
  if (probability < kLeast) return "below 0.01 %";
  return fmt::format("of {:.2g} %", 100 * probability);
}

void print_comparison(const Explanation& result, const Explained& other, const Options& options,
                      const Session& session) {
  const double first_us = result.first.anatomy.step.time_us.value;
  const double second_us = other.anatomy.step.time_us.value;
  fmt::print(
      "\nThe other plan takes {} ({:+.1f} %). By the intervals, this order is wrong with a "
      "probability {}.\n",
      format_time(second_us), 100 * (second_us - first_us) / first_us,
      percent_of(result.order->wrong));
  Table table({{"operation"},
               {"pass"},
               {"this plan", Align::Right},
               {"the other", Align::Right},
               {"difference", Align::Right}});
  for (std::size_t i = 0; i < result.differences.size(); ++i) {
    if (i >= static_cast<std::size_t>(options.top)) break;
    const planner::Difference& difference = result.differences[i];
    const double more_us = difference.second_us - difference.first_us;
    table.row({difference.operation, difference.pass, format_time(difference.first_us),
               format_time(difference.second_us),
               (more_us < 0 ? "-" : "+") + format_time(std::abs(more_us))});
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
}

int explain(const Options& options, const Session& session) {
  const Plan plan = read_plan_argument(options.plan);
  const Judge judge = judge_for(plan, options.cluster, options.profile);
  const Explanation result = explain_plan(options, plan, judge);
  if (session.json) {
    print_json(result);
    return 0;
  }
  print_anatomy(result.first, session);
  print_memory(result);
  if (result.changed) {
    Plan before = plan;
    before.predicted.time_us = result.first.anatomy.step.time_us;
    print_change(*result.changed, before);
  }
  if (!result.flips.empty()) print_flips(result.flips);
  if (result.second) {
    fmt::print("\nAgainst ");
    print_anatomy(*result.second, session);
    print_comparison(result, *result.second, options, session);
  }
  return 0;
}

}  // namespace

Run setup_explain(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  arguments.required("PLAN", options->plan, "a plan file; - is standard input");
  arguments.text("OTHER", options->other, "why not this plan?");
  arguments.text("--fix", options->fix, "why not these degrees? tensor=2,expert=4");
  arguments.text("--cluster", options->cluster, "another cluster than the plan's");
  arguments.text("--profile", options->profile, "a profile's name or file; none: roofline");
  arguments.integer("--top", options->top, "differences to show");
  declare_change(arguments, options->change);
  arguments.example("imhotep explain plan.json");
  arguments.example("imhotep explain plan.json --gpus +8 --link 2x --skew 1.2 --batch 64");
  arguments.example("imhotep explain plan.json --fix tensor=8");
  return [options](const Session& session) { return explain(*options, session); };
}

}  // namespace imhotep::cli
