#pragma once
// Models small enough for a check of every derivative, one of each kind, and one-rank plans.

#include <string>
#include <vector>

#include "core/spec/plan.h"

namespace imhotep::test {

struct TinyKind {
  std::string experts;  // empty: dense
  bool residual = false;
  int top_k = 1;
  DropPolicy drop = DropPolicy::None;
  AuxScope aux = AuxScope::Global;
};

// Four blocks of width 16 with two heads. Weights are drawn wide enough that gates decide clearly,
// and capacity is small enough that drop policies drop.
[[nodiscard]] inline ModelSpec tiny_model(const TinyKind& kind) {
  ModelSpec model{.name = "tiny", .layers = 4, .hidden = 16, .heads = 2, .vocab = 40};
  model.context = 8;
  model.experts = ExpertList::parse(kind.experts.empty() ? "0" : kind.experts);
  model.top_k = kind.top_k;
  model.residual = kind.residual;
  model.init_std = 0.3;
  model.router = {.drop = kind.drop,
                  .capacity_factor = 0.8,
                  .min_capacity = 1,
                  .aux_coefficient = 0.1,
                  .aux = kind.aux};
  check(model);
  return model;
}

struct TinyRun {
  std::int64_t sequence = 6, micro_batch = 2, accumulation = 1;
  Recompute recompute = Recompute::None;
  Dtype dtype = Dtype::F64;
};

[[nodiscard]] inline Plan tiny_plan(const ModelSpec& model, const TinyRun& run) {
  Workload workload{.global_batch = run.micro_batch * run.accumulation, .sequence = run.sequence};
  workload.optimizer = {.learning_rate = 0, .min_learning_rate = 0, .warmup_steps = 0};
  Plan plan = single_rank_plan(model, workload);
  plan.micro_batch = run.micro_batch;
  plan.accumulation = run.accumulation;
  plan.recompute = run.recompute;
  for (int l = 0; run.recompute == Recompute::Some && l < model.layers; l += 2) {
    plan.recompute_layers.push_back(l);
  }
  plan.dtype = run.dtype;
  return plan;
}

}  // namespace imhotep::test
