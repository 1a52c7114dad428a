// The answer of `imhotep plan` for people: what was asked, the plan, its rivals, what was rejected
// and why, what to type next. One screen.

#include <cstdio>

#include "cli/plan_output.h"
#include "cli/table.h"
#include "core/base/fail.h"
#include "core/base/units.h"

namespace imhotep::cli {
namespace {

using planner::RankedPlan;

std::string bytes_text(std::int64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

std::string count_text(planner::Count count) {
  std::string digits = planner::count_text(count);
  for (int i = static_cast<int>(digits.size()) - 3; i > 0; i -= 3) digits.insert(i, ",");
  return digits;
}

// Exact while a person can read it.
std::string count_text(const planner::BigCount& count) {
  if (count.value() < 1e15) return count_text(static_cast<planner::Count>(count.value()));
  std::string text = fmt::format("{:.1e}", count.value());
  return text.replace(text.find("e+"), 2, " x 10^");
}

std::int64_t limit_of(const PlanAnswer& answer, int world) {
  return planner::memory_limit_bytes(answer.asked.request, answer.asked.limits, world);
}

std::string memory_text(const PlanAnswer& answer, const RankedPlan& ranked) {
  const std::int64_t limit = limit_of(answer, ranked.plan.world), used = ranked.memory.total();
  return fmt::format("{} of {} ({:.0f} %)", bytes_text(used), bytes_text(limit),
                     100.0 * static_cast<double>(used) / static_cast<double>(limit));
}

void print_asked(const PlanAnswer& answer, const Session& session) {
  const PlanRequest& asked = answer.asked;
  const char* bold = session.color ? "\033[1m" : "";
  const char* plain = session.color ? "\033[0m" : "";
  fmt::print("{}{} on {}, {}{}\n", bold, asked.request.model.name, asked.request.cluster.name,
             asked.devices_text, plain);
  fmt::print("  workload   {}, {}\n", asked.workload_text, asked.dtype_text);
  fmt::print("  objective  {}\n", asked.objective_text);
  fmt::print("  prices     {}\n\n", asked.prices_text);
}

// Days, money and energy of the whole training run.
void print_run(const PlanAnswer& answer, double tokens_per_s, int world) {
  const ClusterSpec& cluster = answer.asked.request.cluster;
  const planner::RunTotals totals =
      planner::run_totals(answer.asked.limits.tokens, tokens_per_s, cluster, world);
  if (totals.hours <= 0 || answer.asked.request.workload.kind != WorkloadKind::Training) return;
  fmt::print("  {:<24}{:.3g} days", format_count(answer.asked.limits.tokens) + " tokens",
             totals.hours / 24);
  if (totals.money > 0) fmt::print(", {} {}", format_count(totals.money), cluster.currency);
  if (totals.kwh > 0) fmt::print(", {} kWh of the devices", format_count(totals.kwh));
  fmt::print("\n");
}

void print_best(const PlanAnswer& answer, const Session& session) {
  const RankedPlan& best = answer.found.plans.front();
  const Prediction& predicted = best.plan.predicted;
  const bool trains = best.plan.workload.kind == WorkloadKind::Training;
  const char* green = session.color ? "\033[32m" : "";
  const char* plain = session.color ? "\033[0m" : "";
  fmt::print("{}Best plan{}  {}: {}\n", green, plain, format_items(best.plan.world, "rank"),
             degrees_text(best.plan));
  const std::string choice = choice_text(answer.asked, best.plan);
  if (!choice.empty()) fmt::print("  {:<24}{}\n", "chosen", choice);
  for (const MoeGroup& group : moe_groups(best.plan)) {
    fmt::print("  {:<24}{}\n", group.title, degrees_text(*group.moe));
  }
  fmt::print("  {:<24}{}\n", trains ? "step" : "decode step", interval_text(predicted.time_us));
  if (!trains) fmt::print("  {:<24}{}\n", "prompt", interval_text(predicted.prompt_us));
  fmt::print("  {:<24}{}/s", "tokens", format_count(predicted.tokens_per_s));
  if (predicted.cost_per_mtoken > 0) {
    fmt::print(", {:.4g} {} a million", predicted.cost_per_mtoken,
               answer.asked.request.cluster.currency);
  }
  fmt::print("\n  {:<24}{} a {}\n", "memory", memory_text(answer, best),
             best.plan.device == DeviceKind::Cuda ? "device" : "rank");
  print_run(answer, predicted.tokens_per_s, best.plan.world);
  fmt::print("\n");
}

// "64 x 1 x 2 flat" for every run of like layers.
std::string short_degrees(const Plan& plan) {
  std::string text;
  for (const MoeGroup& group : moe_groups(plan)) {
    const MoeLayerPlan& moe = *group.moe;
    text += fmt::format("{}{} x {} x {} {}", text.empty() ? "" : " | ", moe.expert, moe.slicing,
                        moe.replica, name_of(moe.exchange).substr(0, 4));
  }
  return text.empty() ? "-" : text;
}

void print_rivals(const PlanAnswer& answer, const Session& session) {
  const bool trains = answer.asked.request.workload.kind == WorkloadKind::Training;
  std::vector<Column> columns = {{"#", Align::Right},
                                 {trains ? "step" : "decode", Align::Right},
                                 {trains ? "tokens/s" : "prompt", Align::Right},
                                 {"memory", Align::Right},
                                 {"tensor x data"}};
  if (trains) columns.insert(columns.end(), {{"ZeRO"}, {"micro x acc"}, {"recompute"}});
  const bool open = answer.alternatives.size() > 1;
  if (open) columns.push_back({"chosen"});
  columns.push_back({"expert x slicing x replica"});
  Table table(std::move(columns));
  int place = 0;
  for (const RankedPlan& ranked : answer.found.plans) {
    const Plan& plan = ranked.plan;
    const double share = static_cast<double>(ranked.memory.total()) /
                         static_cast<double>(limit_of(answer, plan.world));
    std::vector<std::string> cells = {
        std::to_string(++place), format_time(plan.predicted.time_us.value),
        trains ? format_count(plan.predicted.tokens_per_s)
               : format_time(plan.predicted.prompt_us.value),
        fmt::format("{} {:3.0f} %", bytes_text(ranked.memory.total()), 100 * share),
        fmt::format("{} x {} = {}", plan.tensor, plan.data, plan.world)};
    if (trains) {
      cells.push_back(std::to_string(plan.zero));
      cells.push_back(fmt::format("{} x {}", plan.micro_batch, plan.accumulation));
      cells.push_back(name_of(plan.recompute));
    }
    if (open) cells.push_back(choice_text(answer.asked, plan));
    cells.push_back(short_degrees(plan));
    table.row(std::move(cells));
  }
  std::fputs(table.text(2, session.color).c_str(), stdout);
}

void print_rejected(const PlanAnswer& answer) {
  const planner::Rejections& rejections = answer.found.rejections;
  if (rejections.total() == 0) {
    fmt::print("\n{}\n", answer.found.pruned == 0 ? "Every legal plan fits the memory."
                                                  : "No plan that was looked at was too large.");
    return;
  }
  fmt::print("\nRejected: {} of {} plans whose like layers are alike\n",
             count_text(rejections.total()), count_text(answer.found.enumerated));
  const auto line = [](planner::Count count, const char* why) {
    if (count > 0) fmt::print("  {:>12}  {}\n", count_text(count), why);
  };
  line(rejections.weights, "by their weights alone");
  line(rejections.state, "with gradients and optimizer state");
  line(rejections.activations, "with activations, inputs and caches");
  line(rejections.limits, "by the limits that were asked for");
  if (!answer.found.rejected.empty()) {
    const RankedPlan& fastest = answer.found.rejected.front();
    fmt::print("  The best of them ({}, {}): {}\n", degrees_text(fastest.plan),
               short_degrees(fastest.plan),
               fastest.verdict.reasons.empty() ? "" : fastest.verdict.reasons.front());
  }
}

void print_alternatives(const PlanAnswer& answer) {
  std::size_t none = 0, among = 0;
  for (const planner::SearchedAlternative& one : answer.alternatives) {
    none += one.refused.empty() ? 0 : 1;
    among += one.best ? 1 : 0;
  }
  fmt::print("{} combinations of what was open: {} had plans among the best when looked at",
             answer.alternatives.size(), among);
  if (none > 0) fmt::print(", {} have no legal plan", none);
  fmt::print("\n");
}

void print_proof(const PlanAnswer& answer) {
  const planner::SearchResult& found = answer.found;
  const PlanCounts counts = counts_of(found);
  fmt::print("{}Looked at {} plans in {:.2f} s, {} pruned{}\n", found.plans.empty() ? "\n" : "",
             count_text(counts.evaluated), found.seconds, count_text(counts.pruned),
             found.interrupted ? "; stopped early, this is the best so far" : "");
  if (answer.alternatives.size() > 1) print_alternatives(answer);
  if (!found.layers || !found.layers->enumerated.any() || found.interrupted) return;
  const planner::LayerwiseResult& layers = *found.layers;
  if (found.plans.empty()) {
    if (layers.proved) fmt::print("None of {} fits\n", count_text(layers.enumerated));
    return;
  }
  const std::string says =
      layers.proved
          ? "No sum of block times is less"
          : fmt::format("No sum of block times is less by more than {:.2g} %", 100 * layers.gap);
  fmt::print(
      "{}, whatever each layer does: of {} plans {} cannot fit, {} are too slow, {} are "
      "dominated\n",
      says, count_text(layers.enumerated), count_text(layers.over_memory),
      count_text(layers.too_slow), count_text(layers.dominated));
}

void print_next(const PlanAnswer& answer) {
  const std::string file = answer.file.empty() ? "plan.json" : answer.file;
  fmt::print("\nNext:\n");
  if (answer.file.empty()) {
    fmt::print("  imhotep {} -o {}\n", fmt::join(answer.command, " "), file);
  } else {
    fmt::print("  written to {}\n", file);
  }
  fmt::print("  imhotep explain {0}\n  imhotep simulate {0} --trace trace.json\n", file);
  const Plan& best = answer.found.plans.front().plan;
  if (best.workload.kind == WorkloadKind::Training && best.device == DeviceKind::Cpu) {
    fmt::print("  mpirun -n {} imhotep train {} --data DIR --out RUN\n", best.world, file);
  }
}

void print_nothing_fits(const PlanAnswer& answer) {
  fmt::print("No plan fits. {}\n", infeasible_text(answer));
  print_rejected(answer);
  if (answer.relaxations.empty()) return;
  fmt::print("\nWhat would fit:\n");
  for (const planner::Relaxation& relaxation : answer.relaxations) {
    const RankedPlan& plan = relaxation.plan;
    fmt::print("  {:<38}{} a step, {} a device\n", relaxation.change,
               format_time(plan.plan.predicted.time_us.value), bytes_text(plan.memory.total()));
  }
}

}  // namespace

std::string degrees_text(const Plan& plan) {
  std::string text = fmt::format("tensor {} x data {}", plan.tensor, plan.data);
  if (plan.rank_order == RankOrder::Strided) text += ", experts strided over nodes";
  if (plan.workload.kind != WorkloadKind::Training) return text;
  const std::string recompute =
      plan.recompute == Recompute::Some
          ? fmt::format("{} of {} blocks", plan.recompute_layers.size(), plan.model.layers)
          : name_of(plan.recompute);
  return text + fmt::format(", ZeRO {}, micro-batch {} x accumulation {}, recompute {}", plan.zero,
                            plan.micro_batch, plan.accumulation, recompute);
}

std::string degrees_text(const MoeLayerPlan& moe) {
  return fmt::format("expert {} x slicing {} x replica {}, {}", moe.expert, moe.slicing,
                     moe.replica, name_of(moe.exchange));
}

std::vector<MoeGroup> moe_groups(const Plan& plan) {
  std::vector<MoeGroup> groups;
  std::vector<int> layers;
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    MoeLayerPlan alike = moe;
    if (!groups.empty()) alike.layer = groups.back().moe->layer;
    if (groups.empty() || !(alike == *groups.back().moe)) {
      groups.push_back({.title = {}, .moe = &moe});
      layers.push_back(0);
    }
    ++layers.back();
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    groups[i].title = fmt::format("{} experts x {} layer{}", groups[i].moe->experts, layers[i],
                                  layers[i] == 1 ? "" : "s");
  }
  return groups;
}

std::string interval_text(const Estimate& estimate) {
  return fmt::format("{} ({} .. {})", format_time(estimate.value), format_time(estimate.low),
                     format_time(estimate.high));
}

std::string infeasible_text(const PlanAnswer& answer) {
  const planner::SearchResult& found = answer.found;
  if (found.nearest && !found.nearest->verdict.reasons.empty()) {
    return fmt::format("Of the plans that fit, the nearest to the limits ({} ranks, {}): {}.",
                       found.nearest->plan.world, degrees_text(found.nearest->plan),
                       fmt::join(found.nearest->verdict.reasons, "; "));
  }
  if (!found.smallest || found.smallest->verdict.reasons.empty()) {
    return found.interrupted ? "The search was stopped before it found one." : "No plan is legal.";
  }
  return fmt::format("The plan that needs least ({}) does not fit: {}.",
                     degrees_text(found.smallest->plan), found.smallest->verdict.reasons.front());
}

void print_plan_screen(const PlanAnswer& answer, const Session& session) {
  print_asked(answer, session);
  if (answer.found.plans.empty()) {
    print_nothing_fits(answer);
  } else {
    print_best(answer, session);
    print_rivals(answer, session);
    print_rejected(answer);
  }
  print_proof(answer);
  if (!answer.found.plans.empty()) print_next(answer);
}

}  // namespace imhotep::cli
