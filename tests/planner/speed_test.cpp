#include <doctest/doctest.h>

#include <ctime>

#include "planner/search/search.h"
#include "profiles/catalogue.h"

using namespace imhotep;
using namespace imhotep::planner;

namespace {

#ifdef IMHOTEP_SANITIZED
constexpr double kSlowdown = 30;
#else
constexpr double kSlowdown = 1;
#endif

// Processor time of listing and ranking every plan on 128 devices; it does not see other programs.
double seconds_of(const char* model, WorkloadKind kind) {
  Request request{.model = profiles::find_model(model),
                  .cluster = profiles::find_cluster("azure-nd-a100-v4"),
                  .dtype = Dtype::Bf16,
                  .worlds = {128}};
  request.workload.kind = kind;
  request.workload.global_batch = kind == WorkloadKind::Training ? 512 : 128;
  request.workload.sequence = 2048;
  const std::clock_t start = std::clock();
  const Space space(request);
  const simulator::Simulator simulator(request.cluster);
  const SearchResult result = search(space, simulator, {.objective = default_objective(kind)});
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  CHECK(result.plans.size() == 5);
  CHECK(result.evaluated == result.enumerated);
  return seconds;
}

}  // namespace

TEST_CASE("every plan of 1.3b-moe-128 on 128 devices is ranked in under a second") {
  CHECK(seconds_of("1.3b-moe-128", WorkloadKind::Training) < 1 * kSlowdown);
  CHECK(seconds_of("1.3b-moe-128", WorkloadKind::Generation) < 1 * kSlowdown);
}

TEST_CASE("half a million plans of a pyramid with two kinds of layers take a few seconds") {
  CHECK(seconds_of("1.3b-pr-moe-64-128", WorkloadKind::Training) < 3 * kSlowdown);
}
