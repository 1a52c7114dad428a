#pragma once
// Small requests for tests of the planner.

#include "planner/space/space.h"
#include "simulator/step.h"

namespace imhotep::planner {

inline ModelSpec small_model(const char* experts, bool residual = true) {
  ModelSpec model;
  model.name = "small";
  model.layers = 6;
  model.hidden = 64;
  model.heads = 4;
  model.vocab = 512;
  model.context = 128;
  model.experts = ExpertList::parse(experts);
  model.residual = residual;
  return model;
}

inline ClusterSpec small_cluster(int nodes, int devices_per_node, bool overlap) {
  ClusterSpec cluster;
  cluster.name = "small";
  cluster.device = {.name = "device",
                    .kind = DeviceKind::Cuda,
                    .memory_bytes = 1'000'000'000,
                    .memory_bytes_per_us = 1e6,
                    .fp32_flops_per_us = 1e7,
                    .bf16_flops_per_us = 1e8,
                    .launch_us = 2};
  cluster.devices_per_node = devices_per_node;
  cluster.nodes = nodes;
  cluster.intra = {.name = "near", .latency_us = 2, .bytes_per_us = 1e5};
  cluster.inter = {.name = "far", .latency_us = 5, .bytes_per_us = 1e4};
  cluster.overlap = overlap;
  cluster.price_per_device_hour = 2;
  return cluster;
}

inline Request small_request(const char* experts, int world, WorkloadKind kind,
                             bool overlap = false) {
  Request request{.model = small_model(experts), .cluster = small_cluster(4, 4, overlap)};
  request.workload.kind = kind;
  request.workload.global_batch = 16;
  request.workload.sequence = 32;
  request.workload.prompt = 16;
  request.workload.output = 16;
  request.worlds = {world};
  return request;
}

}  // namespace imhotep::planner
