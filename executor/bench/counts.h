#pragma once
// What a benchmark's work must move at least, from the layout of the weights.

#include "core/layout/weights.h"
#include "executor/runtime/runner.h"

namespace imhotep::executor {

struct Touched {
  std::vector<std::int64_t> by_layer;  // experts with at least one route; 0: no experts
  double experts = 0;                  // in all layers
};
// From the balance statistics of the last run.
[[nodiscard]] Touched touched_experts(const Plan& plan, const Runner& runner);

// Share of the last run's routes by MoE layer and expert, as reports keep it; empty where a layer
// had none. Of this rank's tokens.
[[nodiscard]] std::vector<std::vector<double>> expert_shares(const Plan& plan,
                                                             const Runner& runner);

// Weights read once, experts only where touched, and `keys` cached tokens of all layers.
[[nodiscard]] double decode_bytes(const Plan& plan, const WeightLayout& weights,
                                  const Touched& touched, std::int64_t keys);
// Gradient read; weight, both moments and the fp32 copy read and written (a bf16 weight is only
// written).
[[nodiscard]] double update_bytes(const WeightLayout& weights);

// Memory taken from the current device by this and other programs; 0 on a CPU.
[[nodiscard]] std::int64_t device_bytes_used(kernels::Device device);

}  // namespace imhotep::executor
