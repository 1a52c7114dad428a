#pragma once
// Measures what one rank does against what its device could do: training and generation steps,
// one MoE layer, the gate, the optimizer. Random data and weights from a seed, never zeros.
// Counts are those of the mathematics: FLOPs of the products, each byte read or written once.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/spec/cluster.h"
#include "core/spec/plan.h"
#include "core/spec/report.h"
#include "executor/bench/routing.h"
#include "executor/comm/bootstrap.h"
#include "kernels/queue.h"

namespace imhotep::executor {

struct BenchRequest {
  ModelSpec model;
  kernels::Device device = kernels::Device::Cpu;
  Dtype dtype = Dtype::F32;
  std::int64_t batch = 8;  // sequences; tokens in all for layer and gate
  std::int64_t sequence = 256;
  std::int64_t context = 128;  // decode: keys in the cache; prefill: tokens a prompt
  int repeats = 30;
  std::uint64_t seed = 1;
  Routing routing = Routing::Natural;
  bool backward = false;    // layer: forward and backward
  bool operations = false;  // time every operation too, in further repetitions
  std::string only;         // decode, layer: operations of this name alone; times are of one
  std::string folder;  // load: where the checkpoint is written; empty: that for temporary files
  // Ranks and degrees (world, tensor, data, zero, rank order, MoE layers); default: one rank.
  // Collective over them then; batch, tokens and FLOPs count all ranks, bytes are not counted.
  std::optional<Plan> layout;
  LibraryBytes libraries;  // of the cluster, for the prediction of memory
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

struct BenchResult {
  std::vector<double> times_us;
  double flops = 0, bytes = 0, tokens = 0;       // of one repetition
  double distinct_experts = -1;                  // touched in all MoE layers; -1: not counted
  std::vector<OperationTime> operations;         // one by one, where asked for
  double ceiling_bytes_per_us = 0;               // load: of reading the file alone
  Plan plan;                                     // training, decode, prefill: what ran
  std::vector<std::vector<double>> expert_load;  // share of routes by layer and expert; of prompts
                                                 // and only with operations that of a chunk
  std::vector<double> clock_us;                  // with operations: the same on the host's clock
  std::int64_t memory_bytes = 0;                 // of the programs' buffers
  std::int64_t beside_bytes = 0;                 // predicted beside them, on a GPU
  std::int64_t device_bytes = 0;         // taken from the device, libraries included; GPU only
  [[nodiscard]] double time_us() const;  // median
  [[nodiscard]] double spread() const;   // interquartile range / median
};

// One optimizer step of batch x sequence tokens, host work included.
[[nodiscard]] BenchResult bench_training(const BenchRequest& request, const Bootstrap& bootstrap);
// One token for each of `batch` sequences that hold `context` keys; the step as it is replayed.
[[nodiscard]] BenchResult bench_decode(const BenchRequest& request, const Bootstrap& bootstrap);
// Prompts of `context` tokens, `batch` of them, in the plan's chunks.
[[nodiscard]] BenchResult bench_prefill(const BenchRequest& request, const Bootstrap& bootstrap);
// The routed experts of the model's first MoE layer on `batch` tokens: gate, dispatch, both
// products, combine; with `backward` all their gradients too.
[[nodiscard]] BenchResult bench_layer(const BenchRequest& request, const Bootstrap& bootstrap);
// fp32 logits of `batch` tokens -> dispatch table (route and pack).
[[nodiscard]] BenchResult bench_gate(const BenchRequest& request, const Bootstrap& bootstrap);
// AdamW over the model's parameters.
[[nodiscard]] BenchResult bench_optimizer(const BenchRequest& request, const Bootstrap& bootstrap);
// A checkpoint of the model's weights from a disk to where one rank keeps them; at most 5
// repetitions.
[[nodiscard]] BenchResult bench_load(const BenchRequest& request, const Bootstrap& bootstrap);

}  // namespace imhotep::executor
