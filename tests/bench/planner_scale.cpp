// How a search grows with the cluster: MODEL on 64 to 4096 A100s, one line each.
// Not a test: ninja planner_scale && tests/planner/planner_scale [MODEL]

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "planner/search/search.h"
#include "profiles/catalogue.h"

namespace imhotep::planner {
namespace {

double peak_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1e3;
}

void line(const char* model, WorkloadKind kind, int world) {
  Request request{.model = profiles::find_model(model),
                  .cluster = profiles::find_cluster("azure-ndm-a100-v4"),
                  .dtype = Dtype::Bf16,
                  .worlds = {world}};
  request.cluster.nodes = world / 8;
  request.workload.kind = kind;
  request.workload.global_batch = kind == WorkloadKind::Training ? 4096 : world;
  request.workload.sequence = 2048;
  const auto begin = std::chrono::steady_clock::now();
  const Space space(request);
  const double listing = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const simulator::Simulator simulator(request.cluster);
  const SearchResult result = search(space, simulator, {.objective = default_objective(kind), .layerwise = true, .threads = 2});
  std::printf("%s %s %d: frames %zu enumerated %s evaluated %s pruned %s feasible %zu  %.2f s  %.0f MB\n",
              model, kind == WorkloadKind::Training ? "training" : "generation", world,
              space.frames().size(), count_text(result.enumerated).c_str(),
              count_text(result.evaluated).c_str(), count_text(result.pruned).c_str(),
              result.plans.size(), result.seconds, peak_mb());
  const LayerwiseResult& l = *result.layers;
  std::printf("   layers: enumerated %s evaluated %s memory %s slow %s dominated %s better %d proved %d gap %g problems %d\n", l.enumerated.text().c_str(), l.evaluated.text().c_str(), l.over_memory.text().c_str(), l.too_slow.text().c_str(), l.dominated.text().c_str(), l.better.has_value(), l.proved, l.gap, l.problems);
  std::printf("   listing %.2f s\n", listing);
  if (l.better) { for (const auto& moe : l.better->plan.moe_layers) std::printf(" %dx%dx%d%s", moe.expert, moe.slicing, moe.replica, std::string(name_of(moe.exchange)).substr(0,1).c_str()); std::printf(" t%d mb %ld zero %d order %d rec %s\n", l.better->plan.tensor, l.better->plan.micro_batch, l.better->plan.zero, (int)l.better->plan.rank_order, std::string(name_of(l.better->plan.recompute)).c_str());
    for (const auto& r : result.plans) { std::printf("   plan t%d mb %ld zero %d order %d rec %s %g us:", r.plan.tensor, r.plan.micro_batch, r.plan.zero, (int)r.plan.rank_order, std::string(name_of(r.plan.recompute)).c_str(), r.plan.predicted.time_us.value); auto m = r.plan.moe_layers[0]; std::printf(" %dx%dx%d%s\n", m.expert, m.slicing, m.replica, std::string(name_of(m.exchange)).c_str()); }
 std::printf("   better: %g us against %g, recomputes %zu\n", l.better->plan.predicted.time_us.value, result.best_sum ? result.best_sum->first : 0.0, l.better->plan.recompute_layers.size()); }
  std::fflush(stdout);
}

}  // namespace
}  // namespace imhotep::planner

int main(int count, char** words) {
  using namespace imhotep;
  const char* model = count > 1 ? words[1] : "47b-moe-128";
  const int most = count > 2 ? std::atoi(words[2]) : 4096;
  for (const auto kind : {WorkloadKind::Training, WorkloadKind::Generation}) {
    for (int world = 64; world <= most; world *= 4) planner::line(model, kind, world);
  }
}
