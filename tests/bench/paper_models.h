#pragma once
// Plans as papers describe them, for the tables of docs/validation: degrees by hand, styles, and
// the cluster with as many nodes as the plan needs.

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "core/layout/groups.h"
#include "core/spec/plan.h"
#include "planner/space/receive_rows.h"
#include "planner/space/request.h"
#include "profiles/catalogue.h"
#include "profiles/profile.h"
#include "simulator/step.h"

namespace imhotep::paper {

struct Setup {
  std::string model;
  ExecutionStyle style = ExecutionStyle::Imhotep;
  int gpus = 8, tensor = 1;
  std::string cluster = "azure-nd-a100-v4";
};

inline ClusterSpec cluster_of(const Setup& setup) {
  ClusterSpec cluster = profiles::find_cluster(setup.cluster);
  cluster.nodes =
      std::max(1, (setup.gpus + cluster.devices_per_node - 1) / cluster.devices_per_node);
  return cluster;
}

inline simulator::Simulator simulator_of(const Setup& setup,
                                         simulator::StyleConstants constants = {}) {
  static std::map<std::string, std::optional<profiles::Profile>> read;
  const ClusterSpec cluster = cluster_of(setup);
  const auto known = read.find(cluster.name);
  const auto found = known != read.end()
                         ? known
                         : read.emplace(cluster.name, profiles::find_profile(cluster)).first;
  return simulator::Simulator(cluster, found->second, constants);
}

// Experts over as many GPUs as there are of either, then sliced over the rest; the exchange of
// DeepSpeed's inference is coordinated where tensor slicing lets it, else flat (which the style may
// turn into two levels). Source: DeepSpeed-MoE (arXiv 2201.05596), sections 5.2 and 5.3.
inline void add_experts(const Setup& setup, Plan& plan) {
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    const int experts = plan.model.experts_at(layer);
    if (experts == 0) continue;
    MoeLayerPlan moe{.layer = layer, .experts = experts, .expert = std::min(experts, setup.gpus)};
    const int spare = setup.gpus / moe.expert;
    moe.slicing = setup.tensor > 1 ? std::min(spare, setup.tensor) : 1;
    moe.replica = spare / moe.slicing;
    if (setup.style == ExecutionStyle::DeepspeedInference) {
      moe.exchange = ExchangeAlgorithm::Coordinated;
      if (!exchange_problem(plan, moe).empty()) moe.exchange = ExchangeAlgorithm::Flat;
    }
    moe.receive_rows = planner::receive_rows_bound(plan, moe);
    plan.moe_layers.push_back(moe);
  }
}

inline Plan plan_of(const Setup& setup, const Workload& workload) {
  const ClusterSpec cluster = cluster_of(setup);
  Plan plan;
  plan.model = profiles::find_model(setup.model);
  plan.workload = workload;
  plan.cluster = setup.cluster;
  plan.style = setup.style;
  plan.executable = setup.style == ExecutionStyle::Imhotep;
  plan.device = DeviceKind::Cuda;
  plan.dtype = Dtype::Bf16;
  plan.world = setup.gpus;
  plan.tensor = setup.tensor;
  plan.data = setup.gpus / setup.tensor;
  plan.ranks_per_node = planner::ranks_per_node(cluster, setup.gpus);
  plan.prefill_chunk = usual_prefill_chunk(plan.device);
  if (workload.kind == WorkloadKind::Training) {
    plan.micro_batch = workload.global_batch / plan.data;
  }
  add_experts(setup, plan);
  return plan;
}

// Eight sequences a model-parallel replica. Prompt and answer are not printed; 128 and 100 tokens
// are assumed, and matter little: a cache of 200 tokens is a thousandth of the weights read.
inline Workload eight_each(const Setup& setup) {
  return {.kind = WorkloadKind::Generation,
          .global_batch = 8L * setup.gpus / setup.tensor,
          .prompt = 128,
          .output = 100};
}

}  // namespace imhotep::paper
