#include <doctest/doctest.h>

#include <algorithm>

#include "planner/explain/anatomy.h"
#include "planner/explain/relaxations.h"
#include "tests/planner/small_models.h"

using namespace imhotep;
using namespace imhotep::planner;

namespace {

Plan some_plan(const char* fixed, WorkloadKind kind, bool overlap = false) {
  Request request = small_request("4x2,8x1", 8, kind, overlap);
  request.fixed = parse_fixed_degrees(fixed, request.model);
  return Space(request).plan({});
}

double time_of(const Anatomy& anatomy, OperationClass kind) {
  for (const ClassShare& share : anatomy.classes) {
    if (share.kind == kind) return share.time_us;
  }
  return 0;
}

}  // namespace

TEST_CASE("the classes of a step sum to its operations, and with the overhead to its time") {
  for (const auto kind : {WorkloadKind::Training, WorkloadKind::Generation}) {
    const Plan plan = some_plan("tensor=2,expert=4,slicing=1", kind);
    const simulator::Simulator simulator(small_cluster(4, 4, false));
    const Anatomy result = anatomy(plan, simulator);
    double classes = 0, operations = 0, bounds = 0;
    for (const ClassShare& share : result.classes) {
      classes += share.time_us;
      for (const double us : share.bound_us) bounds += us;
    }
    for (const auto& total : result.step.operations) operations += total.time_us;
    CHECK(classes == doctest::Approx(operations).epsilon(1e-9));
    CHECK(bounds == doctest::Approx(operations).epsilon(1e-9));
    CHECK(classes + result.step.overhead_us ==
          doctest::Approx(result.step.time_us.value).epsilon(1e-6));
    CHECK(result.hidden_us == doctest::Approx(0).epsilon(1e-6));
  }
}

TEST_CASE("communication is bound by the network and only where there are peers") {
  const simulator::Simulator simulator(small_cluster(4, 4, true));
  const Anatomy sliced =
      anatomy(some_plan("tensor=4,expert=1,slicing=4", WorkloadKind::Training), simulator);
  const Anatomy spread =
      anatomy(some_plan("tensor=1,expert=4,slicing=1", WorkloadKind::Training), simulator);
  CHECK(time_of(sliced, OperationClass::TensorCollective) > 0);
  CHECK(time_of(spread, OperationClass::TensorCollective) == 0);
  CHECK(time_of(sliced, OperationClass::Exchange) == 0);
  CHECK(time_of(spread, OperationClass::Exchange) > 0);
  for (const ClassShare& share : spread.classes) {
    if (share.kind == OperationClass::Exchange) CHECK(share.bound() == Bound::Network);
  }
  CHECK(what_binds(spread).find("bound by") != std::string::npos);
}

TEST_CASE("differences join operations by name and pass, the largest first") {
  const simulator::Simulator simulator(small_cluster(4, 4, false));
  const auto a = simulator.training_step(some_plan("tensor=1,expert=4", WorkloadKind::Training));
  const auto b = simulator.training_step(some_plan("tensor=2,expert=4", WorkloadKind::Training));
  const std::vector<Difference> all = differences(a, b);
  double first = 0, second = 0;
  for (const Difference& difference : all) {
    first += difference.first_us;
    second += difference.second_us;
  }
  double operations_a = 0, operations_b = 0;
  for (const auto& total : a.operations) operations_a += total.time_us;
  for (const auto& total : b.operations) operations_b += total.time_us;
  CHECK(first == doctest::Approx(operations_a).epsilon(1e-9));
  CHECK(second == doctest::Approx(operations_b).epsilon(1e-9));
  CHECK(std::is_sorted(all.begin(), all.end(), [](const Difference& x, const Difference& y) {
    return std::abs(x.first_us - x.second_us) > std::abs(y.first_us - y.second_us);
  }));
  const auto sum = std::find_if(all.begin(), all.end(), [](const Difference& difference) {
    return difference.operation == "projection_sum" && difference.pass == "forward";
  });
  REQUIRE(sum != all.end());
  CHECK(sum->first_us == 0);
  CHECK(sum->second_us > 0);
}

TEST_CASE("where a whole cluster is too small, more nodes of it are named") {
  // 1.6 billion weights of experts: 1.6 GB of state a rank when 16 divide them, half of it for 32.
  Request request = small_request("64x3", 16, WorkloadKind::Training);
  request.model.hidden = 1024;
  request.cluster.device.memory_bytes = 1'400'000'000;
  const simulator::Simulator simulator(request.cluster);
  const Space space(request);
  const SearchResult all = search(space, simulator, {});
  REQUIRE(all.plans.empty());
  REQUIRE(all.rejections.activations == 0);
  const auto found = nearest_relaxations(request, simulator, Objective::Throughput);
  REQUIRE(!found.empty());
  CHECK(found.front().change == "--nodes 8 --gpus 32");
  CHECK(found.front().plan.plan.world == 32);
  for (const Relaxation& relaxation : found) {
    CHECK(relaxation.plan.memory.total() <= request.cluster.device.memory_bytes);
    CHECK(relaxation.change.find("--sequence") == std::string::npos);
  }
}

TEST_CASE("relaxations are searched: each named change really fits") {
  Request request = small_request("4x2,8x1", 2, WorkloadKind::Training);
  request.workload.sequence = 128;
  const simulator::Simulator roomy(request.cluster);
  const Space space(request);
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  space.for_each([&](const Candidate& candidate) {
    least = std::min(least, program::plan_memory(space.plan(candidate), Rank(0)).total());
  });
  request.cluster.device.memory_bytes = least - 1;
  const simulator::Simulator simulator(request.cluster);
  const auto found = nearest_relaxations(request, simulator, Objective::Throughput);
  REQUIRE(found.size() >= 3);
  CHECK(found[0].change == "--gpus 4");
  CHECK(found[1].change == "--sequence 64");
  CHECK(found[2].change == "--dtype bf16");
  for (const Relaxation& relaxation : found) {
    CHECK(relaxation.plan.memory.total() <= request.cluster.device.memory_bytes);
  }
}
