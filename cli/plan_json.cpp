// The answer of `imhotep plan --json`. Its names are a contract: docs/cli.md.

#include <cstdio>

#include "cli/plan_output.h"
#include "core/base/json_fields.h"

namespace imhotep::cli {
namespace {

// Counts beyond 2^53 are decimal strings: not every reader of JSON keeps larger integers.
Json json_of_count(planner::Count count) {
  constexpr planner::Count kExact = static_cast<planner::Count>(1) << 53;
  if (count <= kExact) return static_cast<std::uint64_t>(count);
  return planner::count_text(count);
}

Json json_of_count(const planner::BigCount& count) {
  if (count.exact_as_double()) return static_cast<std::uint64_t>(count.value());
  return count.text();
}

Json json_of_memory(const program::MemoryUse& memory) {
  Json out = Json::object();
  for (const auto& [kind, bytes] : memory_parts(memory)) out[kind] = bytes;
  return out;
}

Json json_of_plan(const planner::RankedPlan& ranked) {
  const Plan& plan = ranked.plan;
  Json out;
  out["degrees"] = {{"world", plan.world},
                    {"tensor", plan.tensor},
                    {"data", plan.data},
                    {"zero", plan.zero},
                    {"micro_batch", plan.micro_batch},
                    {"accumulation", plan.accumulation},
                    {"recompute", name_of(plan.recompute)},
                    {"rank_order", name_of(plan.rank_order)}};
  if (!plan.recompute_layers.empty()) out["degrees"]["recompute_layers"] = plan.recompute_layers;
  out["choice"] = json_of_choice(plan);
  out["moe_layers"] = json_of(plan.moe_layers);
  out["predicted"] = json_of(plan.predicted);
  out["predicted"]["memory"] = json_of_memory(ranked.memory);
  out["feasible"] = ranked.verdict.feasible;
  out["reasons"] = ranked.verdict.reasons;
  return out;
}

Json json_of_request(const PlanRequest& asked) {
  return {{"model", asked.request.model.name},
          {"cluster", asked.request.cluster.name},
          {"gpus", asked.request.worlds},
          {"workload", json_of(asked.request.workload)},
          {"dtype", name_of(asked.request.dtype)},
          {"combinations", asked.open.combinations()},
          {"objective", name_of(asked.objective)},
          {"profile", asked.profile ? Json(asked.profile->name) : Json(nullptr)},
          {"prices", asked.prices_text}};
}

Json json_of_alternatives(const std::vector<planner::SearchedAlternative>& alternatives) {
  Json out = Json::array();
  for (const planner::SearchedAlternative& one : alternatives) {
    planner::BigCount pruned = one.enumerated;
    pruned -= one.evaluated;
    out.push_back({{"choice", one.choice},
                   {"enumerated", json_of_count(one.enumerated)},
                   {"evaluated", json_of_count(one.evaluated)},
                   {"pruned", json_of_count(pruned)},
                   {"among_best", one.best.has_value()}});
    if (!one.refused.empty()) out.back()["refused"] = one.refused;
  }
  return out;
}

Json json_of_search(const planner::SearchResult& found) {
  const PlanCounts counts = counts_of(found);
  Json out = {{"enumerated", json_of_count(counts.enumerated)},
              {"evaluated", json_of_count(counts.evaluated)},
              {"pruned", json_of_count(counts.pruned)},
              {"seconds", found.seconds},
              {"interrupted", found.interrupted},
              {"rejected",
               {{"weights", json_of_count(found.rejections.weights)},
                {"state", json_of_count(found.rejections.state)},
                {"activations", json_of_count(found.rejections.activations)},
                {"limits", json_of_count(found.rejections.limits)}}},
              {"alike",
               {{"enumerated", json_of_count(found.enumerated)},
                {"evaluated", json_of_count(found.evaluated)},
                {"pruned", json_of_count(found.pruned)}}}};
  if (!found.layers || !found.layers->enumerated.any()) return out;
  const planner::LayerwiseResult& layers = *found.layers;
  out["bounded"] = {{"over_memory", json_of_count(layers.over_memory)},
                    {"too_slow", json_of_count(layers.too_slow)},
                    {"dominated", json_of_count(layers.dominated)}};
  out["proved"] = layers.proved && !found.interrupted;
  out["gap"] = layers.gap;
  return out;
}

}  // namespace

Json json_of_choice(const Plan& plan) {
  return {{"dtype", name_of(plan.dtype)},
          {"drop", name_of(plan.model.router.drop)},
          {"capacity_factor", plan.model.router.capacity_factor},
          {"batch", plan.workload.global_batch},
          {"kv_tokens", plan.kv_tokens}};
}

PlanCounts counts_of(const planner::SearchResult& found) {
  PlanCounts counts{.enumerated = planner::enumerated_plans(found),
                    .evaluated = planner::evaluated_plans(found)};
  counts.pruned = counts.enumerated;
  counts.pruned -= counts.evaluated;
  return counts;
}

std::vector<std::pair<std::string, std::int64_t>> memory_parts(const program::MemoryUse& memory) {
  constexpr const char* kNames[program::kBufferKinds] = {
      "weights",     "gradients", "optimizer", "kv_cache", "inputs",
      "activations", "exchange",  "scratch",  // these two lie within the activations' arena
      "workspace",   "libraries"};
  std::vector<std::pair<std::string, std::int64_t>> parts;
  for (int kind = 0; kind < program::kBufferKinds; ++kind) {
    if (memory.by_kind[kind] > 0) parts.emplace_back(kNames[kind], memory.by_kind[kind]);
  }
  return parts;
}

void print_plan_json(const PlanAnswer& answer) {
  const planner::SearchResult& found = answer.found;
  Json out;
  if (found.plans.empty()) {
    out["error"] = {{"code", static_cast<int>(ErrorKind::Infeasible)},
                    {"message", infeasible_text(answer)}};
  }
  out["request"] = json_of_request(answer.asked);
  out["plans"] = Json::array();
  for (const auto* list : {&found.plans, &found.rejected}) {
    for (const planner::RankedPlan& ranked : *list) out["plans"].push_back(json_of_plan(ranked));
  }
  out["search"] = json_of_search(found);
  if (answer.alternatives.size() > 1) {
    out["search"]["alternatives"] = json_of_alternatives(answer.alternatives);
  }
  if (!answer.relaxations.empty()) {
    out["relaxations"] = Json::array();
    for (const planner::Relaxation& relaxation : answer.relaxations) {
      out["relaxations"].push_back(
          {{"change", relaxation.change}, {"plan", json_of_plan(relaxation.plan)}});
    }
  }
  if (!found.plans.empty()) out["plan"] = Json::parse(plan_text(found.plans.front().plan));
  std::puts(out.dump(2).c_str());
}

}  // namespace imhotep::cli
