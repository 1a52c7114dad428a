#pragma once
// Clusters, models and plans small enough to reckon by hand.

#include <string>

#include "core/spec/cluster.h"
#include "core/spec/plan.h"
#include "profiles/profile.h"

namespace imhotep::testing {

// Round figures: 100 GFLOPS fp32, 10 GB/s, links of 1 and 5 us at 10 and 1 GB/s.
inline ClusterSpec round_cluster(int per_node = 4, int nodes = 2) {
  return {.name = "round",
          .device = {.name = "Round device",
                     .kind = DeviceKind::Cpu,
                     .memory_bytes = std::int64_t{1} << 34,
                     .memory_bytes_per_us = 10000,
                     .fp32_flops_per_us = 100000,
                     .bf16_flops_per_us = 200000,
                     .launch_us = 1},
          .devices_per_node = per_node,
          .nodes = nodes,
          .intra = {.name = "in", .latency_us = 1, .bytes_per_us = 10000},
          .inter = {.name = "out", .latency_us = 5, .bytes_per_us = 1000},
          .price_per_device_hour = 3.6};
}

inline profiles::Profile empty_profile(const ClusterSpec& cluster) {
  return {.name = cluster.name,
          .device = cluster.device,
          .date = "2026-01-01T00:00:00Z",
          .method = "invented"};
}

inline ModelSpec small_pyramid() {
  return {.name = "small",
          .layers = 4,
          .hidden = 64,
          .heads = 4,
          .vocab = 1000,
          .context = 128,
          .experts = {{4, 8}},
          .residual = true};
}

inline Plan plan_of(const ModelSpec& model, WorkloadKind kind = WorkloadKind::Training) {
  const Workload workload{
      .kind = kind, .global_batch = 8, .sequence = 32, .prompt = 48, .output = 16};
  return single_rank_plan(model, workload);
}

// World = data, experts spread over all ranks as far as they reach.
inline Plan data_plan(const ModelSpec& model, int ranks, int ranks_per_node,
                      WorkloadKind kind = WorkloadKind::Training) {
  Plan plan = plan_of(model, kind);
  plan.world = plan.data = ranks;
  plan.ranks_per_node = ranks_per_node;
  plan.micro_batch = std::max<std::int64_t>(plan.micro_batch / ranks, 1);
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.expert = std::min(ranks, moe.experts);
    moe.replica = ranks / moe.expert;
  }
  return plan;
}

}  // namespace imhotep::testing
