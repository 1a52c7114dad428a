// How long a search takes: every legal plan of a model on 128 devices, roofline prices, one core.
// Not a test: ninja bench_planner && tests/planner/bench_planner

#include <benchmark/benchmark.h>

#include "planner/search/search.h"
#include "profiles/catalogue.h"

namespace imhotep::planner {
namespace {

void search_all_plans(benchmark::State& state, const char* model, WorkloadKind kind) {
  Request request{.model = profiles::find_model(model),
                  .cluster = profiles::find_cluster("azure-nd-a100-v4"),
                  .dtype = Dtype::Bf16,
                  .worlds = {128}};
  request.workload.kind = kind;
  request.workload.global_batch = kind == WorkloadKind::Training ? 512 : 128;
  request.workload.sequence = 2048;
  double plans = 0;
  for (auto one : state) {
    const Space space(request);
    const simulator::Simulator simulator(request.cluster);
    const SearchResult result = search(space, simulator, {.objective = default_objective(kind)});
    plans = static_cast<double>(result.evaluated);
  }
  state.counters["plans"] = plans;
}

BENCHMARK_CAPTURE(search_all_plans, moe_128_training, "1.3b-moe-128", WorkloadKind::Training)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(search_all_plans, moe_128_generation, "1.3b-moe-128", WorkloadKind::Generation)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(search_all_plans, pr_moe_training, "1.3b-pr-moe-64-128", WorkloadKind::Training)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace imhotep::planner

BENCHMARK_MAIN();
