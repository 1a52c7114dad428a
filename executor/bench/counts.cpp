#include "executor/bench/counts.h"

#include <map>
#include <numeric>

#include "executor/runtime/own_device.h"
#include "kernels/cuda_api.h"

namespace imhotep::executor {
namespace {

// Routes of each expert in the last run, layer by layer, by the balance statistics.
template <class Visit>
void for_each_count(const Plan& plan, const Runner& runner, Visit visit) {
  const Dtype wide = kernels::wide_dtype(plan.dtype);
  const auto* stats = runner.input<std::byte>("balance_stats");
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    const std::int64_t experts = plan.model.experts_at(layer);
    for (std::int64_t e = 0; e < experts; ++e) {
      visit(layer, e,
            wide == Dtype::F64 ? reinterpret_cast<const double*>(stats)[e]
                               : static_cast<double>(reinterpret_cast<const float*>(stats)[e]));
    }
    stats += 2 * experts * bytes_of(wide);
  }
}

}  // namespace

Touched touched_experts(const Plan& plan, const Runner& runner) {
  Touched touched;
  touched.by_layer.assign(plan.model.layers, 0);
  for_each_count(plan, runner, [&](int layer, std::int64_t, double routes) {
    if (routes <= 0) return;
    ++touched.by_layer[layer];
    ++touched.experts;
  });
  return touched;
}

std::vector<std::vector<double>> expert_shares(const Plan& plan, const Runner& runner) {
  std::map<int, std::vector<double>> layers;
  for_each_count(plan, runner,
                 [&](int layer, std::int64_t, double routes) { layers[layer].push_back(routes); });
  std::vector<std::vector<double>> shares;
  for (auto& [layer, counts] : layers) {
    const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
    if (total <= 0) return {};
    for (double& count : counts) count /= total;
    shares.push_back(std::move(counts));
  }
  return shares;
}

double decode_bytes(const Plan& plan, const WeightLayout& weights, const Touched& touched,
                    std::int64_t keys) {
  double bytes = 0;
  for (const Region& region : weights.regions) {
    for (const LocalTensor& tensor : region.tensors) {
      if (tensor.role == TensorRole::PositionEmbedding) continue;
      const double copies =
          tensor.expert_count > 0 ? static_cast<double>(touched.by_layer[tensor.layer]) : 1;
      bytes += copies * static_cast<double>(tensor.elements_per_tensor() * bytes_of(region.dtype));
    }
  }
  const double kv = 2.0 * plan.model.layers * plan.model.hidden;
  return bytes + kv * static_cast<double>(keys * bytes_of(plan.dtype));
}

double update_bytes(const WeightLayout& weights) {
  double bytes = 0;
  for (const Region& region : weights.regions) {
    const bool copied = region.dtype == Dtype::Bf16;
    const auto size = static_cast<double>(bytes_of(region.dtype));
    const double wide = region.dtype == Dtype::F64 ? 8 : 4;
    const double weight = copied ? size + 2 * wide : 2 * size;
    bytes += static_cast<double>(region.elements) * (size + 4 * wide + weight);
  }
  return bytes;
}

std::int64_t device_bytes_used(kernels::Device device) {
  if (device == kernels::Device::Cpu) return 0;
  const kernels::CudaDevice now = kernels::cuda_api().device(own_device());
  return now.memory_bytes - now.free_bytes;
}

}  // namespace imhotep::executor
