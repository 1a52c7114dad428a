#include "core/spec/plan.h"

#include <algorithm>

#include "core/base/content_hash.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"

namespace imhotep {
namespace {

Plan plan_of(const JsonDocument& document) {
  auto plan = read_document<Plan>(document, kPlanSchema);
  try {
    check(plan.model);
  } catch (const Error& error) {
    fail_input("{}: {}", document.name(), error.what());
  }
  const Verdict verdict = check_degrees(plan);
  if (!verdict.feasible) {
    fail_input("{}: {}", document.name(), fmt::join(verdict.reasons, "; "));
  }
  return plan;
}

}  // namespace

const MoeLayerPlan* Plan::moe(int layer) const {
  for (const MoeLayerPlan& candidate : moe_layers) {
    if (candidate.layer == layer) return &candidate;
  }
  return nullptr;
}

bool Plan::recomputes(int layer) const {
  if (recompute != Recompute::Some) return recompute == Recompute::Full;
  return std::binary_search(recompute_layers.begin(), recompute_layers.end(), layer);
}

Plan read_plan(const std::string& file) { return plan_of(JsonDocument::read(file)); }

Plan parse_plan(const std::string& text, const std::string& name) {
  return plan_of(JsonDocument::parse(text, name));
}

std::string plan_text(const Plan& plan) { return document_of(plan, kPlanSchema).dump(2) + "\n"; }

void write_plan(const Plan& plan, const std::string& file) {
  write_text_file(file, plan_text(plan));
}

std::string plan_hash(const Plan& plan) {
  Json body = document_of(plan, kPlanSchema);
  body.erase("predicted");
  return content_hash(body.dump());
}

Plan single_rank_plan(const ModelSpec& model, const Workload& workload) {
  Plan plan;
  plan.model = model;
  plan.workload = workload;
  plan.cluster = "local";
  for (int layer = 0; layer < model.layers; ++layer) {
    const int experts = model.experts_at(layer);
    if (experts > 0) plan.moe_layers.push_back({.layer = layer, .experts = experts});
  }
  if (workload.kind == WorkloadKind::Training) plan.micro_batch = workload.global_batch;
  return plan;
}

}  // namespace imhotep
