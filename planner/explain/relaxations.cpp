#include "planner/explain/relaxations.h"

#include <algorithm>
#include <optional>

#include "core/base/fail.h"

namespace imhotep::planner {
namespace {

class Relaxer {
 public:
  Relaxer(const Request& request, const simulator::Simulator& simulator, Objective objective,
          const Limits& limits)
      : request_(request), simulator_(simulator), objective_(objective), limits_(limits) {}

  std::vector<Relaxation> run() {
    more_devices();
    if (request_.workload.kind == WorkloadKind::Training) {
      halve("--sequence", &Workload::sequence);
    } else {
      halve("--batch", &Workload::global_batch);
      halve("--prompt", &Workload::prompt);
    }
    narrower_type();
    free_degrees();
    looser_limits();
    return std::move(found_);
  }

 private:
  bool attempt(const Request& request, const std::string& change) {
    std::optional<Space> space;
    try {
      space.emplace(request);
    } catch (const Error&) {
      return false;  // the change leaves no legal plan
    }
    SearchResult result =
        search(*space, simulator_, {.objective = objective_, .top = 1, .limits = limits_});
    const Rejections& why = result.rejections;
    state_alone_ = why.memory() > 0 && why.activations == 0 && why.limits == 0;
    if (result.plans.empty()) return false;
    found_.push_back({.change = change, .plan = std::move(result.plans.front())});
    return true;
  }

  void more_devices() {
    const int most = *std::max_element(request_.worlds.begin(), request_.worlds.end());
    for (const int world : default_worlds(request_.cluster)) {
      if (world <= most) continue;
      Request request = request_;
      request.worlds = {world};
      if (attempt(request, fmt::format("--gpus {}", world))) return;
    }
    more_nodes(std::max(most, request_.cluster.devices()));
  }

  // What the cluster has is not enough: more nodes of it, twice as many each time. A node more
  // changes no price, so the simulator of the question serves.
  void more_nodes(int most) {
    constexpr int kDoublings = 4;
    if (request_.cluster.device.kind == DeviceKind::Cpu) return;
    Request request = request_;
    for (int i = 0; i < kDoublings; ++i) {
      most *= 2;
      request.cluster.nodes = (most - 1) / request.cluster.devices_per_node + 1;
      request.worlds = {most};
      if (attempt(request, fmt::format("--nodes {} --gpus {}", request.cluster.nodes, most)))
        return;
    }
  }

  void halve(const char* flag, std::int64_t Workload::*size) {
    Request request = request_;
    while (request.workload.*size > 1) {
      request.workload.*size /= 2;
      if (attempt(request, fmt::format("{} {}", flag, request.workload.*size))) return;
      if (state_alone_) return;  // no plan fails by what depends on the workload
    }
  }

  void narrower_type() {
    if (bytes_of(request_.dtype) <= 2) return;
    Request request = request_;
    const bool device = request_.cluster.device.kind == DeviceKind::Cuda;
    if (!device && request_.dtype == Dtype::F32) return;  // bf16 does not run on processors
    request.dtype = device ? Dtype::Bf16 : Dtype::F32;
    attempt(request, fmt::format("--dtype {}", name_of(request.dtype)));
  }

  void free_degrees() {
    Request request = request_;
    request.fixed = {.rank_order = request_.fixed.rank_order};
    const FixedDegrees& fixed = request_.fixed;
    const bool any = fixed.tensor || fixed.data || fixed.zero || fixed.micro_batch ||
                     fixed.accumulation || fixed.recompute || fixed.exchange ||
                     !fixed.expert.empty() || !fixed.slicing.empty() || !fixed.replica.empty();
    if (any) attempt(request, "without --fix");
  }

  // What the best plan without the limits of time and money reaches; and without that of memory.
  void looser_limits() {
    if (!limits_.any()) return;
    const Limits asked = limits_;
    if (asked.memory_bytes) {
      limits_.memory_bytes.reset();
      attempt(request_, "without the limit memory");
    }
    limits_ = {.memory_bytes = asked.memory_bytes, .gpus = asked.gpus};
    attempt(request_, "without the limits of time and money");
    limits_ = asked;
  }

  const Request& request_;
  const simulator::Simulator& simulator_;
  Objective objective_;
  Limits limits_;
  std::vector<Relaxation> found_;
  bool state_alone_ = false;  // of the last attempt: weights, gradients and optimizer are too much
};

}  // namespace

std::vector<Relaxation> nearest_relaxations(const Request& request,
                                            const simulator::Simulator& simulator,
                                            Objective objective, const Limits& limits) {
  return Relaxer(request, simulator, objective, limits).run();
}

}  // namespace imhotep::planner
