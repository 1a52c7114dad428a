#include <doctest/doctest.h>

#include "planner/search/evaluator.h"
#include "planner/search/priced_only.h"
#include "tests/planner/small_models.h"

using namespace imhotep;
using namespace imhotep::planner;

namespace {

Case small_case(const char* experts, int world, WorkloadKind kind) {
  Case one{.request = small_request(experts, world, kind), .objective = default_objective(kind)};
  return one;
}

}  // namespace

TEST_CASE("a pipeline is the sum of its parts, and cannot be run") {
  const Case one = small_case("4x2,8x1", 8, WorkloadKind::Training);
  const std::vector<PipelinePlan> all = price_pipelines(one);
  REQUIRE(all.size() == 1);  // 6 layers on 8 devices: only 2 stages cut both
  const PipelinePlan& two = all.front();
  CHECK(two.stages == 2);
  CHECK(two.plan.world == 4);
  CHECK(!two.plan.executable);
  const double slots = static_cast<double>(two.plan.accumulation) + 1;
  CHECK(two.bubble_us > 0);
  CHECK(two.step_us >= slots * two.bubble_us + two.transfer_us);  // one bubble is one stage
  const ClusterSpec& cluster = one.request.cluster;
  const double bytes = static_cast<double>(two.plan.micro_batch) * 32 * 64 * 4;
  CHECK(
      two.transfer_us ==
      doctest::Approx(slots * 2 * (cluster.inter.latency_us + bytes / cluster.inter.bytes_per_us)));
  Case tight = one;
  tight.request.cluster.device.memory_bytes = two.memory_bytes / 100;
  CHECK(price_pipelines(tight).empty());
}

TEST_CASE("the slower pool decides how many requests are answered") {
  const Case one = small_case("4x2,8x1", 8, WorkloadKind::Generation);
  const std::vector<PoolsPlan> all = price_pools(one);
  REQUIRE(!all.empty());
  for (const PoolsPlan& pools : all) {
    CHECK(pools.prefill.plan.world + pools.decode.plan.world == 8);
    CHECK((!pools.prefill.plan.executable && !pools.decode.plan.executable));
    const double prompts =
        pools.prefill.plan.data / pools.prefill.plan.predicted.prompt_us.value * 1e6;
    const double answers = 16 / (16 * pools.decode.plan.predicted.time_us.value) * 1e6;
    CHECK(pools.requests_per_s == doctest::Approx(std::min(prompts, answers)));
    CHECK(pools.first_token_us > pools.prefill.plan.predicted.prompt_us.value);
  }
}
