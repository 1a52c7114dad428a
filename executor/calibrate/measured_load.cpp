#include "executor/calibrate/measured_load.h"

#include <algorithm>
#include <map>
#include <variant>

namespace imhotep::executor {
namespace {

struct Load {
  double active = 0, most = 0, routes = 0;
};

std::map<int, Load> loads_of(const Plan& plan, const Runner& runner) {
  std::map<int, Load> loads;
  const Dtype wide = kernels::wide_dtype(plan.dtype);
  const auto* stats = runner.input<std::byte>("balance_stats");
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    const std::int64_t experts = plan.model.experts_at(layer);
    if (experts == 0) continue;
    Load& load = loads[layer];
    for (std::int64_t e = 0; e < experts; ++e) {
      const double routes = wide == Dtype::F64
                                ? reinterpret_cast<const double*>(stats)[e]
                                : static_cast<double>(reinterpret_cast<const float*>(stats)[e]);
      load.active += routes > 0 ? 1 : 0;
      load.most = std::max(load.most, routes);
      load.routes += routes;
    }
    stats += 2 * experts * bytes_of(wide);
  }
  return loads;
}

}  // namespace

void note_load(const Plan& plan, const Runner& runner, std::span<ProbeReadings::Reading> readings) {
  if (plan.moe_layers.empty() || plan.model.top_k != 1) return;
  if (plan.workload.kind == WorkloadKind::Training && plan.model.router.drop != DropPolicy::None) {
    // The statistics count routes before any is dropped.
    for (ProbeReadings::Reading& reading : readings) {
      reading.known_load = !std::holds_alternative<GroupedGemm>(reading.operation.shape);
    }
    return;
  }
  const std::map<int, Load> loads = loads_of(plan, runner);
  for (ProbeReadings::Reading& reading : readings) {
    const auto found = loads.find(reading.operation.layer);
    if (found == loads.end() || found->second.routes == 0) continue;
    const Load& load = found->second;
    program::Shape& shape = reading.operation.shape;
    if (auto* product = std::get_if<GroupedGemm>(&shape)) {
      product->active = load.active;
      product->busiest = load.most / load.routes;
    } else if (auto* up = std::get_if<FewExpertsUp>(&shape)) {
      up->active = load.active;
    } else if (auto* down = std::get_if<FewExpertsDown>(&shape)) {
      down->active = load.active;
    }
  }
}

}  // namespace imhotep::executor
