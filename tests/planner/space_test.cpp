#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/layout/groups.h"
#include "planner/space/architectures.h"
#include "planner/space/big_count.h"
#include "planner/space/receive_rows.h"
#include "tests/planner/small_models.h"

using namespace imhotep;
using namespace imhotep::planner;

namespace {

// Every combination of every degree, asked one by one whether it is legal.
std::set<std::string> brute_force(const Request& request) {
  std::set<std::string> hashes;
  const int world = request.worlds.front();
  const bool trains = request.workload.kind == WorkloadKind::Training;
  Plan plan = single_rank_plan(request.model, request.workload);
  plan.cluster = request.cluster.name;
  plan.device = request.cluster.device.kind;
  plan.prefill_chunk = usual_prefill_chunk(plan.device);
  plan.dtype = request.dtype;
  plan.world = world;
  plan.ranks_per_node = ranks_per_node(request.cluster, world);
  std::vector<int> kinds;  // distinct numbers of experts
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    if (std::find(kinds.begin(), kinds.end(), moe.experts) == kinds.end()) {
      kinds.push_back(moe.experts);
    }
  }
  struct Degrees {
    int expert, slicing, replica;
    ExchangeAlgorithm exchange;
  };
  std::vector<Degrees> all;
  for (int e = 1; e <= world; ++e) {
    for (int s = 1; s <= world; ++s) {
      for (int r = 1; r <= world; ++r) {
        for (const auto exchange : {ExchangeAlgorithm::Flat, ExchangeAlgorithm::Hierarchical,
                                    ExchangeAlgorithm::Coordinated, ExchangeAlgorithm::AllGather}) {
          if (e * s * r == world) all.push_back({e, s, r, exchange});
        }
      }
    }
  }
  std::vector<std::size_t> index(kinds.size(), 0);
  for (bool done = false; !done;) {
    for (MoeLayerPlan& moe : plan.moe_layers) {
      const auto kind = std::find(kinds.begin(), kinds.end(), moe.experts) - kinds.begin();
      const Degrees& d = all[index[kind]];
      moe.expert = d.expert, moe.slicing = d.slicing, moe.replica = d.replica;
      moe.exchange = d.exchange;
    }
    for (plan.tensor = 1; plan.tensor <= world; ++plan.tensor) {
      if (world % plan.tensor != 0) continue;
      plan.data = world / plan.tensor;
      const std::int64_t splits = trains ? request.workload.global_batch : 1;
      for (plan.micro_batch = 1; plan.micro_batch <= splits; ++plan.micro_batch) {
        plan.accumulation =
            trains ? request.workload.global_batch / plan.data / plan.micro_batch : 1;
        if (plan.accumulation < 1) continue;
        for (const auto order : {RankOrder::Consecutive, RankOrder::Strided}) {
          plan.rank_order = order;
          plan.zero = 0;
          plan.recompute = Recompute::None;
          if (!check_degrees(plan).feasible) continue;
          bool divides = plan.data > 1, places = false;
          for (const MoeLayerPlan& moe : plan.moe_layers) {
            divides = divides || moe.replica > 1;
            places = places || (moe.replica > 1 && moe.expert > 1);
          }
          // Another placement counts where it moves somebody to another node.
          places = places && plan.ranks_per_node < world;
          if (order == RankOrder::Strided && !places) continue;
          for (plan.zero = 0; plan.zero <= (trains && divides ? 1 : 0); ++plan.zero) {
            for (const auto recompute : {Recompute::None, Recompute::Full}) {
              plan.recompute = recompute;
              if (trains || recompute == Recompute::None) hashes.insert(plan_hash(plan));
            }
          }
        }
      }
    }
    done = true;
    for (std::size_t& i : index) {
      if (++i < all.size()) {
        done = false;
        break;
      }
      i = 0;
    }
  }
  return hashes;
}

}  // namespace

TEST_CASE("the space holds exactly the legal plans, each once") {
  for (const auto kind : {WorkloadKind::Training, WorkloadKind::Generation}) {
    for (const int world : {1, 2, 4, 8}) {
      for (const char* experts : {"4", "2x2,4x1", "0"}) {
        CAPTURE(world);
        CAPTURE(experts);
        const Request request = small_request(experts, world, kind);
        const Space space(request);
        std::set<std::string> found;
        std::uint64_t visited = 0;
        space.for_each([&](const Candidate& candidate) {
          const Plan plan = space.plan(candidate);
          const Verdict verdict = check_degrees(plan);
          const std::string reason = verdict.feasible ? "" : verdict.reasons.front();
          CHECK_MESSAGE(verdict.feasible, reason);
          found.insert(plan_hash(plan));
          ++visited;
        });
        CHECK(found.size() == visited);
        CHECK(count_text(space.size()) == std::to_string(visited));
        CHECK(found == brute_force(request));
      }
    }
  }
}

TEST_CASE("every plan of sixteen ranks on four nodes is legal, and all exchanges occur") {
  const Space space(small_request("4x2,8x1", 16, WorkloadKind::Training));
  std::map<ExchangeAlgorithm, int> seen;
  space.for_each([&](const Candidate& candidate) {
    const Plan plan = space.plan(candidate);
    REQUIRE(check_degrees(plan).feasible);
    for (const MoeLayerPlan& moe : plan.moe_layers) ++seen[moe.exchange];
  });
  CHECK(seen.size() == 3);
}

TEST_CASE("device counts that are not given are the powers of two and the cluster") {
  CHECK(default_worlds(small_cluster(3, 4, true)) == std::vector<int>{1, 2, 4, 8, 12});
  CHECK(default_worlds(small_cluster(1, 4, true)) == std::vector<int>{1, 2, 4});
}

TEST_CASE("fixed degrees are read for all layers, by kind, and layer by layer") {
  const ModelSpec model = small_model("4x2,8x1");
  const FixedDegrees all = parse_fixed_degrees("tensor=2,expert=4,slicing=1,zero=0", model);
  CHECK(all.tensor == 2);
  CHECK(all.zero == 0);
  CHECK(all.expert == std::vector<int>{4, 4, 4});
  CHECK(all.slicing == std::vector<int>{1, 1, 1});
  CHECK(parse_fixed_degrees("expert=2x4,1x8", model).expert == std::vector<int>{2, 2, 1});
  CHECK(parse_fixed_degrees("expert=2x8", model).expert == std::vector<int>{0, 0, 2});
  CHECK(parse_fixed_degrees("expert=1,2,4,tensor=2", model).expert == std::vector<int>{1, 2, 4});
  CHECK(parse_fixed_degrees("expert=2x2,8x1", model).expert == std::vector<int>{2, 2, 8});
  CHECK(parse_fixed_degrees("exchange=coordinated,recompute=full", model).exchange ==
        ExchangeAlgorithm::Coordinated);
}

TEST_CASE("fixed degrees that cannot be read name the part and the nearest key") {
  const ModelSpec model = small_model("4x2,8x1");
  const auto message = [&](const char* text) -> std::string {
    try {
      static_cast<void>(parse_fixed_degrees(text, model));
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::Input);
      return error.what();
    }
    return "no error";
  };
  CHECK(message("tensr=2").find("did you mean \"tensor\"") != std::string::npos);
  CHECK(message("2").find("key=value") != std::string::npos);
  CHECK(message("tensor=two").find("\"two\"") != std::string::npos);
  CHECK(message("tensor=0").find(">= 1") != std::string::npos);
  CHECK(message("expert=1,2").find("3 MoE layers") != std::string::npos);
  CHECK(message("zero=2").find("possible: 0, 1") != std::string::npos);
  CHECK(message("exchange=flt").find("coordinated") != std::string::npos);
  CHECK(message("expert=4x4x4").find("4x4x4") != std::string::npos);
}

TEST_CASE("fixed degrees hold in every plan, and layers of one kind may then differ") {
  Request request = small_request("4x2,8x1", 8, WorkloadKind::Training);
  request.fixed = parse_fixed_degrees("tensor=2,expert=1,2,4,recompute=full", request.model);
  const Space space(request);
  CHECK(space.kinds().size() == 3);
  space.for_each([&](const Candidate& candidate) {
    const Plan plan = space.plan(candidate);
    CHECK(plan.tensor == 2);
    CHECK(plan.recompute == Recompute::Full);
    CHECK(plan.moe_layers[0].expert == 1);
    CHECK(plan.moe_layers[1].expert == 2);
    CHECK(plan.moe_layers[2].expert == 4);
  });
}

TEST_CASE("impossible degrees are refused with the possible ones") {
  Request request = small_request("4x2,8x1", 8, WorkloadKind::Training);
  const auto message = [&](const char* fixed) -> std::string {
    request.fixed = parse_fixed_degrees(fixed, request.model);
    try {
      const Space space(request);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::Input);
      return error.what();
    }
    return "no error";
  };
  CHECK(message("tensor=3").find("possible: 1, 2, 4") != std::string::npos);
  CHECK(message("expert=8").find("expert 8 does not divide 4 experts") != std::string::npos);
  CHECK(message("micro_batch=5").find("micro_batch") != std::string::npos);
  request.workload.sequence = 4096;
  CHECK(message("tensor=1").find("context of 128") != std::string::npos);
}

TEST_CASE("rows to receive are the worst case for few ranks and follow the formula for many") {
  Request request = small_request("8", 8, WorkloadKind::Training);
  request.fixed = parse_fixed_degrees("expert=8,tensor=1,micro_batch=2", request.model);
  const Space few(request);
  few.for_each([&](const Candidate& candidate) {
    CHECK(few.plan(candidate).moe_layers.front().receive_rows == 0);
  });
  request.worlds = {16};
  request.fixed = parse_fixed_degrees("expert=8,slicing=1,tensor=1,micro_batch=1", request.model);
  const Space many(request);
  // 32 tokens a rank from 8 peers: expectation 32 of at most 256, deviation sqrt(32 * 7/8).
  const auto expected =
      static_cast<std::int64_t>(std::ceil(2 * 32 + 6 * std::sqrt(32 * (1 - 32.0 / 256)) + 64));
  many.for_each([&](const Candidate& candidate) {
    CHECK(many.plan(candidate).moe_layers.front().receive_rows == expected);
  });
}

TEST_CASE("ranks on processors share the memory of their node, devices do not") {
  ClusterSpec cluster = small_cluster(1, 4, false);
  CHECK(rank_memory_bytes(cluster, 1) == cluster.device.memory_bytes);
  cluster.device.kind = DeviceKind::Cpu;
  CHECK(rank_memory_bytes(cluster, 1) == 4 * cluster.device.memory_bytes);
  CHECK(rank_memory_bytes(cluster, 8) == cluster.device.memory_bytes / 2);
  CHECK(ranks_per_node(cluster, 8) == 8);
  CHECK(ranks_per_node(cluster, 2) == 2);
}

TEST_CASE("models of the same size keep to the budget, and the model itself comes first") {
  ModelSpec model = small_model("16x2,32x1");
  model.layers = 16;
  model.experts = ExpertList::parse("16x6,32x2");
  model.router.drop = DropPolicy::Random;
  const std::vector<Architecture> all = architectures_of(model);
  REQUIRE(all.size() > 6);
  CHECK(all.front().model == model);
  std::set<std::string> shapes;
  bool shallower = false, narrow = false, two = false;
  for (const Architecture& one : all) {
    CHECK(one.core_parameters == doctest::Approx(all.front().core_parameters).epsilon(0.05));
    check(one.model);
    shapes.insert(one.change);
    shallower = shallower || one.model.layers == 14;
    narrow = narrow || !one.model.residual;
    two = two || one.model.top_k == 2;
    for (const int experts : one.model.experts.slots) CHECK(experts % 4 == 0);
  }
  CHECK(shapes.size() == all.size());
  CHECK((shallower && narrow && two));
  CHECK_THROWS_AS(static_cast<void>(architectures_of(small_model("0"))), Error);
}

TEST_CASE("a count of any size adds, multiplies and is written in full") {
  BigCount count(1);
  for (int i = 0; i < 40; ++i) count *= 1'000'000'007;
  CHECK(count.text().size() == 361);
  CHECK(count.text().substr(0, 10) == "1000000280");
  BigCount more = count;
  more += BigCount(12);
  CHECK(more > count);
  more -= count;
  CHECK(more.text() == "12");
  more -= count;
  CHECK(more == BigCount(0));
  CHECK(more.text() == "0");
  BigCount power(1);
  for (int i = 0; i < 4; ++i) power *= 1ULL << 32;
  power -= BigCount(1);
  CHECK(power.text() == "340282366920938463463374607431768211455");
  CHECK(power.value() == doctest::Approx(3.4028236692093846e38));
  CHECK(!power.exact_as_double());
  CHECK(BigCount(1ULL << 53).exact_as_double());
}

TEST_CASE("counts beyond sixty-four bits are written in full") {
  CHECK(count_text(0) == "0");
  CHECK(count_text(static_cast<Count>(1) << 100) == "1267650600228229401496703205376");
}
