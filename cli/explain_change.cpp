#include "cli/explain_change.h"

#include <cstdio>

#include "cli/plan_output.h"
#include "cli/plan_request.h"
#include "cli/signals.h"
#include "core/base/fail.h"
#include "core/base/units.h"

namespace imhotep::cli {
namespace {

using planner::Case;
using planner::Quantity;
using planner::RankedPlan;

bool trains(const Plan& plan) { return plan.workload.kind == WorkloadKind::Training; }

// "+8", "-8" or "16".
int world_after(const std::string& text, int now) {
  const bool relative = text.starts_with('+') || text.starts_with('-');
  const std::int64_t number = parse_integer(relative ? text.substr(1) : text);
  const std::int64_t world = !relative ? number : text[0] == '+' ? now + number : now - number;
  if (world < 1 || world > 1 << 16) {
    fail_input("--gpus {}: {} devices; possible: 1 to {}", text, world, 1 << 16);
  }
  return static_cast<int>(world);
}

double factor_of(const std::string& text) {
  const bool times = text.ends_with('x');
  const double factor = parse_number(times ? text.substr(0, text.size() - 1) : text);
  if (!(factor > 0)) fail_input("--link {}: expected a factor such as 2x or 0.5x", text);
  return factor;
}

std::string words_of(const ChangeOptions& options) {
  std::string words;
  const auto add = [&](const std::string& word) { words += (words.empty() ? "" : " ") + word; };
  if (!options.gpus.empty()) add("--gpus " + options.gpus);
  if (!options.link.empty()) add("--link " + options.link);
  if (options.skew) add(fmt::format("--skew {:g}", *options.skew));
  if (options.batch) add(fmt::format("--batch {}", *options.batch));
  return words;
}

Case apply(const ChangeOptions& options, const Plan& plan, Case one) {
  if (options.batch) {
    one = planner::changed(one, Quantity::Batch, static_cast<double>(*options.batch));
  }
  if (options.skew) {
    if (*options.skew < 0) fail_input("--skew {}: expected a number >= 0", *options.skew);
    one = planner::changed(one, Quantity::Skew, *options.skew);
  }
  if (!options.link.empty()) one = planner::changed(one, Quantity::Link, factor_of(options.link));
  if (options.gpus.empty()) return one;
  const int world = world_after(options.gpus, plan.world);
  ClusterSpec& cluster = one.request.cluster;
  if (cluster.device.kind == DeviceKind::Cuda && world > cluster.devices()) {
    cluster.nodes = (world - 1) / cluster.devices_per_node + 1;
  }
  one.request.worlds = {world};
  return one;
}

// The plan's degrees under the changed workload; a training batch is split anew.
std::string adapt(Plan& plan, const Case& one) {
  plan.workload = one.request.workload;
  if (trains(plan)) {
    const std::int64_t share = plan.micro_batch * plan.data;
    if (plan.workload.global_batch % share != 0) {
      return fmt::format("{} sequences cannot be split into micro-batches of {} on {} data ranks",
                         plan.workload.global_batch, plan.micro_batch, plan.data);
    }
    plan.accumulation = plan.workload.global_batch / share;
  }
  const Verdict verdict = check_degrees(plan);
  return verdict.feasible ? "" : verdict.reasons.front();
}

RankedPlan judged(const Plan& plan, const Case& one) {
  const simulator::Simulator simulator(one.request.cluster, one.profile);
  const ClusterSpec& cluster = one.request.cluster;
  RankedPlan ranked = planner::measure_memory(plan, planner::rank_memory_bytes(cluster, plan.world),
                                              cluster.device.libraries);
  ranked.plan.predicted = simulator.predict(plan);
  ranked.plan.predicted.memory_bytes = ranked.memory.total();
  return ranked;
}

std::string degrees_line(const Plan& plan) {
  std::string text = format_items(plan.world, "rank") + ", " + degrees_text(plan);
  for (const MoeGroup& group : moe_groups(plan)) {
    text += fmt::format("; {}: {}", group.title, degrees_text(*group.moe));
  }
  return text;
}

Json json_of_ranked(const RankedPlan& ranked) {
  return {{"world", ranked.plan.world},
          {"degrees", degrees_text(ranked.plan)},
          {"moe_layers", imhotep::json_of(ranked.plan.moe_layers)},
          {"time_us", ranked.plan.predicted.time_us.value},
          {"prompt_us", ranked.plan.predicted.prompt_us.value},
          {"tokens_per_s", ranked.plan.predicted.tokens_per_s},
          {"memory_bytes", ranked.memory.total()},
          {"feasible", ranked.verdict.feasible},
          {"reasons", ranked.verdict.reasons}};
}

std::string value_text(Quantity quantity, double value) {
  if (quantity == Quantity::Batch) return fmt::format("batch {:.0f}", value);
  if (quantity == Quantity::Skew) return fmt::format("skew {:.2f}", value);
  return fmt::format("link {:.2f}x", value);
}

}  // namespace

void declare_change(Arguments& arguments, ChangeOptions& options) {
  arguments.text("--gpus", options.gpus, "what if: other devices, +8 or 16");
  arguments.text("--link", options.link, "what if: links so many times as fast, 2x");
  arguments.number("--skew", options.skew, "what if: routing by a Zipf law with this exponent");
  arguments.integer("--batch", options.batch, "what if: so many sequences");
  arguments.flag("--flips", options.flips, "how far batch, skew and links may move");
}

Case case_of(const Plan& plan, const Judge& judge) {
  Case one{.request = {.model = plan.model,
                       .cluster = judge.cluster,
                       .workload = plan.workload,
                       .dtype = plan.dtype,
                       .worlds = {plan.world}},
           .profile = judge.profile,
           .objective = planner::default_objective(plan.workload.kind)};
  return one;
}

Changed change_of(const ChangeOptions& options, const Plan& plan, const Judge& judge) {
  const Case now = case_of(plan, judge), then = apply(options, plan, now);
  Changed changed{.change = words_of(options)};
  Plan same = plan;
  if (then.request.worlds.front() == plan.world) {
    changed.why_not_same = adapt(same, then);
    if (changed.why_not_same.empty()) changed.same = judged(same, then);
  } else {
    changed.why_not_same = fmt::format("it is one for {}", format_items(plan.world, "rank"));
  }
  changed.best = planner::best_of(then);
  const bool split = !options.batch;
  changed.flips = !changed.best || planner::degrees_key(changed.best->plan, split) !=
                                       planner::degrees_key(plan, split);
  return changed;
}

std::vector<planner::Flip> flips_of(const Plan& plan, const Judge& judge) {
  const Case now = case_of(plan, judge);
  std::vector<planner::Flip> flips;
  for (const Quantity quantity : {Quantity::Batch, Quantity::Link, Quantity::Skew}) {
    if (quantity == Quantity::Skew &&
        (plan.moe_layers.empty() || plan.workload.routing.kind == RoutingKind::Measured)) {
      continue;
    }
    flips.push_back(planner::flip_of(now, quantity, [] { return signal_exit_code() != 0; }));
  }
  return flips;
}

Json json_of(const Changed& changed) {
  Json out = {{"change", changed.change}, {"flips", changed.flips}};
  out["same"] = changed.same ? json_of_ranked(*changed.same) : Json(nullptr);
  if (!changed.same) out["why_not_same"] = changed.why_not_same;
  out["best"] = changed.best ? json_of_ranked(*changed.best) : Json(nullptr);
  return out;
}

Json json_of(const std::vector<planner::Flip>& flips) {
  Json out = Json::array();
  for (const planner::Flip& flip : flips) {
    Json one = {{"quantity", name_of(flip.quantity)}, {"now", flip.now}};
    one["below"] = flip.below ? Json(*flip.below) : Json(nullptr);
    one["above"] = flip.above ? Json(*flip.above) : Json(nullptr);
    if (flip.plan_below) one["plan_below"] = json_of_ranked(*flip.plan_below);
    if (flip.plan_above) one["plan_above"] = json_of_ranked(*flip.plan_above);
    out.push_back(std::move(one));
  }
  return out;
}

void print_change(const Changed& changed, const Plan& before) {
  const double was_us = before.predicted.time_us.value;
  fmt::print("\nWhat if {}?\n", changed.change);
  if (changed.same) {
    const double now_us = changed.same->plan.predicted.time_us.value;
    fmt::print("  this plan      {} instead of {} ({:+.1f} %)\n", format_time(now_us),
               format_time(was_us), 100 * (now_us - was_us) / was_us);
    for (const std::string& reason : changed.same->verdict.reasons) {
      fmt::print("                 does not fit: {}\n", reason);
    }
  } else {
    fmt::print("  this plan      cannot be kept: {}\n", changed.why_not_same);
  }
  if (!changed.best) {
    fmt::print("  the best plan  none fits\n");
  } else if (!changed.flips) {
    fmt::print("  the best plan  is still this one\n");
  } else {
    fmt::print("  the best plan  {}: {}\n", format_time(changed.best->plan.predicted.time_us.value),
               degrees_line(changed.best->plan));
  }
}

void print_flips(const std::vector<planner::Flip>& flips) {
  fmt::print("\nWhen does the best plan change?\n");
  for (const planner::Flip& flip : flips) {
    const std::string now = value_text(flip.quantity, flip.now);
    if (!flip.below && !flip.above) fmt::print("  {}: not within reach\n", now);
    if (flip.below && flip.plan_below) {
      fmt::print("  {} down to {}: {}\n", now, value_text(flip.quantity, *flip.below),
                 degrees_line(flip.plan_below->plan));
    }
    if (flip.above && flip.plan_above) {
      fmt::print("  {} up to {}: {}\n", now, value_text(flip.quantity, *flip.above),
                 degrees_line(flip.plan_above->plan));
    }
    if (flip.below && !flip.plan_below) {
      fmt::print("  {} down to {}: nothing is legal or fits\n", now,
                 value_text(flip.quantity, *flip.below));
    }
    if (flip.above && !flip.plan_above) {
      fmt::print("  {} up to {}: nothing is legal or fits\n", now,
                 value_text(flip.quantity, *flip.above));
    }
  }
}

}  // namespace imhotep::cli
