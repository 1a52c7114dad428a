#include "tests/core/samples.h"

namespace imhotep::test {

Workload sample_workload() {
  Workload workload;
  workload.kind = WorkloadKind::Generation;
  workload.global_batch = 16;
  workload.sequence = 48;
  workload.prompt = 20;
  workload.output = 30;
  workload.optimizer = {.learning_rate = 1e-3,
                        .min_learning_rate = 1e-5,
                        .warmup_steps = 7,
                        .decay_steps = 300,
                        .beta1 = 0.8,
                        .beta2 = 0.99,
                        .epsilon = 1e-9,
                        .weight_decay = 0.05,
                        .clip = 0.5};
  workload.routing.kind = RoutingKind::Measured;
  workload.routing.histograms = {{0.25, 0.75}, {0.1, 0.2, 0.3, 0.4}};
  return workload;
}

Plan sample_plan() {
  Plan plan;
  plan.model.name = "sample";
  plan.model.layers = 4;
  plan.model.hidden = 64;
  plan.model.heads = 8;
  plan.model.vocab = 300;
  plan.model.context = 64;
  plan.model.experts.slots = {2, 4};
  plan.model.residual = true;
  plan.model.init_std = 0.03;
  plan.model.router.drop = DropPolicy::Random;
  plan.model.router.aux = AuxScope::Local;
  plan.workload = sample_workload();
  plan.cluster = "sample-cluster";
  plan.device = DeviceKind::Cuda;
  plan.dtype = Dtype::Bf16;
  plan.world = 8;
  plan.tensor = 2;
  plan.data = 4;
  plan.ranks_per_node = 4;
  plan.moe_layers = {{.layer = 1,
                      .experts = 2,
                      .expert = 2,
                      .slicing = 1,
                      .replica = 4,
                      .exchange = ExchangeAlgorithm::Coordinated,
                      .receive_rows = 40},
                     {.layer = 3, .experts = 4, .expert = 2, .slicing = 4, .replica = 1}};
  plan.zero = 1;
  plan.micro_batch = 2;
  plan.accumulation = 3;
  plan.recompute = Recompute::Full;
  plan.page_size = 8;
  plan.prefill_chunk = 32;
  plan.predicted.time_us = {.value = 1234.5, .low = 1100, .high = 1.0 / 3};
  plan.predicted.prompt_us = {.value = 5e4, .low = 4e4, .high = 6e4};
  plan.predicted.tokens_per_s = 12345.678;
  plan.predicted.memory_bytes = 9007199254740993;  // beyond what a double holds
  plan.predicted.cost_per_mtoken = 0.37;
  plan.predicted.profile = "h100";
  plan.predicted.profile_hash = "0123456789abcdef";
  plan.executable = false;
  return plan;
}

RunReport sample_report() {
  RunReport report;
  report.plan = sample_plan();
  report.plan_hash = plan_hash(report.plan);
  report.machine = "a \"quoted\" machine, naïve\n";
  report.date = "2025-01-02T03:04:05Z";
  report.command = "imhotep generate";
  report.phase = "decode";
  report.steps = 40;
  report.predicted_us = 1000;
  report.low_us = 900;
  report.high_us = 1100;
  report.measured_us = 1050.25;
  report.spread = 0.02;
  report.tokens_per_s = 321;
  report.first_loss = 5.5;
  report.last_loss = 2.25;
  report.replayed = 3;
  report.overflow_rows = 70000;
  report.predicted_memory_bytes = 1 << 30;
  report.measured_memory_bytes = (1 << 30) + 4096;
  report.operations = {{.operation = "experts_up",
                        .pass = "forward",
                        .count = 2,
                        .predicted_us = 10,
                        .low_us = 9,
                        .high_us = 12,
                        .measured_us = 11,
                        .spread = 0.1,
                        .source = "interpolated"}};
  report.expert_load = {{0.5, 0.5}, {0.25, 0.25, 0.25, 0.25}};
  return report;
}

ClusterSpec sample_cluster() {
  ClusterSpec cluster;
  cluster.name = "sample-cluster";
  cluster.device = {.name = "device",
                    .kind = DeviceKind::Cuda,
                    .memory_bytes = 80'000'000'000,
                    .memory_bytes_per_us = 3.35e6,
                    .fp32_flops_per_us = 67e6,
                    .bf16_flops_per_us = 989e6,
                    .launch_us = 3,
                    .watts = 700};
  cluster.devices_per_node = 4;
  cluster.nodes = 2;
  cluster.intra = {.name = "inside", .latency_us = 1.06, .bytes_per_us = 315e3};
  cluster.inter = {.name = "between", .latency_us = 4, .bytes_per_us = 46e3};
  cluster.overlap = false;
  cluster.price_per_device_hour = 2.5;
  cluster.currency = "EUR";
  cluster.source = "made up for the test";
  return cluster;
}

}  // namespace imhotep::test
