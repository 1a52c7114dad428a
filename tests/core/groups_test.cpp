// Groups partition the ranks, and the exchange answers for every token and expert exactly once.

#include "core/layout/groups.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "tests/core/failure.h"
#include "tests/core/random_plans.h"

namespace imhotep {
namespace {

using GroupOf = std::function<Members(Rank)>;

// Every rank is in its own group, and all members of a group agree on it.
void check_partition(const Plan& plan, const GroupOf& group_of) {
  for (int r = 0; r < plan.world; ++r) {
    const Members group = group_of(Rank(r));
    REQUIRE(std::count(group.begin(), group.end(), Rank(r)) == 1);
    for (const Rank peer : group) REQUIRE(group_of(peer) == group);
  }
}

// Ranks to which the tensor group of data index `data` sends a row of `token` for expert rank
// `expert`, by the rule that packing follows: place in the group = expert rank of the lane, then
// copy.
std::vector<Rank> receivers(const Plan& plan, const MoeLayerPlan& moe, int data, std::int64_t token,
                            std::int64_t tokens, int expert) {
  std::vector<Rank> out;
  for (int t = 0; t < plan.tensor; ++t) {
    const ExchangePlace place = exchange_place(plan, moe, Rank(data * plan.tensor + t));
    const TokenRange own = token_share(tokens, place.shares, place.share);
    if (token < own.begin || token >= own.end || expert % place.lanes != place.lane) continue;
    for (int copy = 0; copy < place.copies; ++copy) {
      out.push_back(place.group.at((expert - place.lane) / place.lanes * place.copies + copy));
    }
  }
  return out;
}

void check_receivers(const Plan& plan, const MoeLayerPlan& moe, int data, std::int64_t tokens) {
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (int expert = 0; expert < moe.expert; ++expert) {
      std::set<int> slices, replicas;
      const std::vector<Rank> ranks = receivers(plan, moe, data, token, tokens, expert);
      REQUIRE(static_cast<int>(ranks.size()) == moe.slicing);
      for (const Rank rank : ranks) {
        const ExpertPlace place = expert_place(plan, moe, rank);
        REQUIRE(place.expert == expert);
        slices.insert(place.slice);
        replicas.insert(place.replica);
      }
      REQUIRE(static_cast<int>(slices.size()) == moe.slicing);
      REQUIRE(replicas.size() == 1);
    }
  }
}

void check_home_groups(const Plan& plan, const MoeLayerPlan& moe, Rank rank) {
  const ExchangePlace own = exchange_place(plan, moe, rank);
  REQUIRE(own.group.at(own.own_index) == rank);
  const int parts = std::max(own.shares, own.lanes);
  REQUIRE(static_cast<int>(own.share_group.size()) == parts);
  for (int q = 0; q < parts; ++q) {
    const ExchangePlace peer = exchange_place(plan, moe, own.share_group[q]);
    REQUIRE(std::max(peer.share, peer.lane) == q);
    REQUIRE(own.share_group[q].value / plan.tensor == rank.value / plan.tensor);
  }
  for (std::size_t s = 0; s < own.slice_group.size() && own.slice_group.size() > 1; ++s) {
    const ExchangePlace peer = exchange_place(plan, moe, own.slice_group[s]);
    REQUIRE(peer.share == own.share);
    REQUIRE(peer.lane == own.lane);
    const ExpertPlace place = expert_place(plan, moe, own.slice_group[s]);
    REQUIRE(place.slice == static_cast<int>(s));
    REQUIRE(place.expert == expert_place(plan, moe, rank).expert);
  }
  REQUIRE(own.copies * static_cast<int>(own.slice_group.size()) == moe.slicing);
}

template <class Check>
void for_random_layers(Check check) {
  for (std::uint64_t seed = 0; seed < 2 * test::kSeeds; ++seed) {
    const Plan plan = test::random_plan(seed);
    for (const MoeLayerPlan& moe : plan.moe_layers) {
      INFO("seed ", seed, ", layer ", moe.layer, ": tensor ", plan.tensor, " data ", plan.data,
           " expert ", moe.expert, " slicing ", moe.slicing, " exchange ", name_of(moe.exchange));
      check(plan, moe);
    }
  }
}

Plan plan_of(int tensor, int data, MoeLayerPlan moe) {
  Plan plan;
  plan.model.name = "plain";
  plan.model.layers = 2;
  plan.model.hidden = 64;
  plan.model.heads = 8;
  plan.model.experts.slots = {moe.experts};
  plan.tensor = tensor;
  plan.data = data;
  plan.world = tensor * data;
  plan.ranks_per_node = plan.world;
  moe.layer = 1;
  moe.replica = plan.world / moe.expert / moe.slicing;
  plan.moe_layers = {moe};
  plan.workload.global_batch = data;
  return plan;
}

Members members(std::initializer_list<int> ranks) {
  Members out;
  for (const int rank : ranks) out.emplace_back(rank);
  return out;
}

TEST_CASE("a rank's place and the rank at a place are inverse") {
  for_random_layers([](const Plan& plan, const MoeLayerPlan& moe) {
    for (int r = 0; r < plan.world; ++r) {
      const ExpertPlace place = expert_place(plan, moe, Rank(r));
      REQUIRE(rank_of(plan, moe, place) == Rank(r));
      REQUIRE((place.slice >= 0 && place.slice < moe.slicing));
      REQUIRE((place.expert >= 0 && place.expert < moe.expert));
      REQUIRE((place.replica >= 0 && place.replica < moe.replica));
    }
  });
}

TEST_CASE("all groups partition the ranks") {
  for_random_layers([](const Plan& plan, const MoeLayerPlan& moe) {
    check_partition(plan, [&](Rank) { return world_group(plan); });
    check_partition(plan, [&](Rank r) { return tensor_group(plan, r); });
    check_partition(plan, [&](Rank r) { return data_group(plan, r); });
    check_partition(plan, [&](Rank r) { return replica_group(plan, moe, r); });
    check_partition(plan, [&](Rank r) { return exchange_place(plan, moe, r).group; });
    check_partition(plan, [&](Rank r) { return exchange_place(plan, moe, r).share_group; });
    check_partition(plan, [&](Rank r) { return exchange_place(plan, moe, r).slice_group; });
  });
}

TEST_CASE("every token reaches every expert by as many receivers as slices, of one replica") {
  for_random_layers([](const Plan& plan, const MoeLayerPlan& moe) {
    const std::int64_t tokens = 1 + (plan.world + moe.layer) % 7;
    for (int data = 0; data < plan.data; ++data) check_receivers(plan, moe, data, tokens);
  });
}

TEST_CASE("share and slice groups list their members by share and by slice") {
  for_random_layers([](const Plan& plan, const MoeLayerPlan& moe) {
    for (int r = 0; r < plan.world; ++r) check_home_groups(plan, moe, Rank(r));
  });
}

TEST_CASE("token shares tile the tokens in blocks of one size, the last ones shorter") {
  for (std::int64_t tokens = 0; tokens < 20; ++tokens) {
    for (int shares = 1; shares < 9; ++shares) {
      const std::int64_t block = (tokens + shares - 1) / shares;
      std::int64_t at = 0;
      for (int share = 0; share < shares; ++share) {
        const TokenRange range = token_share(tokens, shares, share);
        CHECK(range.begin == at);
        CHECK(range.end - range.begin <= block);
        at = range.end;
      }
      CHECK(at == tokens);
    }
  }
}

TEST_CASE("16 ranks, 8 experts: tensor 4 x data 4 beside expert 8 x slicing 2") {
  // Source: DeepSpeed-MoE (arXiv 2201.05596), section 5.2, the example of 16 devices.
  const Plan plan = plan_of(4, 4, {.experts = 8, .expert = 8, .slicing = 2});
  const MoeLayerPlan& moe = plan.moe_layers[0];
  CHECK(check_degrees(plan).feasible);
  CHECK(tensor_group(plan, Rank(5)) == members({4, 5, 6, 7}));
  CHECK(data_group(plan, Rank(5)) == members({1, 5, 9, 13}));
  CHECK(replica_group(plan, moe, Rank(5)) == members({5}));
  const ExchangePlace place = exchange_place(plan, moe, Rank(5));
  CHECK(place.group == members({1, 3, 5, 7, 9, 11, 13, 15}));
  CHECK(place.slice_group == members({4, 5}));
  CHECK(place.share_group == members({5, 7}));
}

TEST_CASE("the coordinated exchange of 4 ranks, tensor 2, works in {0,2} and {1,3}") {
  // Source: DeepSpeed Inference, SC22 slides, the figure of the coordinated all-to-all.
  const Plan plan =
      plan_of(2, 2, {.experts = 4, .expert = 4, .exchange = ExchangeAlgorithm::Coordinated});
  CHECK(check_degrees(plan).feasible);
  CHECK(exchange_place(plan, plan.moe_layers[0], Rank(0)).group == members({0, 2}));
  CHECK(exchange_place(plan, plan.moe_layers[0], Rank(3)).group == members({1, 3}));
}

TEST_CASE("128 ranks hold layers of 32, 64 and 128 experts at 4, 2 and 1 replicas") {
  // Source: DeepSpeed-MoE (arXiv 2201.05596), section 4.1.3.
  for (const int experts : {32, 64, 128}) {
    const Plan plan = plan_of(1, 128, {.experts = experts, .expert = experts});
    CHECK(check_degrees(plan).feasible);
    CHECK(plan.moe_layers[0].replica == 128 / experts);
    CHECK(static_cast<int>(replica_group(plan, plan.moe_layers[0], Rank(77)).size()) ==
          128 / experts);
  }
}

TEST_CASE("exchanges that degrees do not allow are refused with the reason") {
  using test::contains;
  Plan plan = plan_of(1, 8, {.experts = 8, .expert = 8});
  MoeLayerPlan& moe = plan.moe_layers[0];
  CHECK(exchange_problem(plan, moe).empty());
  moe.exchange = ExchangeAlgorithm::Coordinated;
  CHECK(contains(exchange_problem(plan, moe), "tensor degree > slicing degree"));
  moe.exchange = ExchangeAlgorithm::Hierarchical;
  CHECK(contains(exchange_problem(plan, moe), "several ranks on several nodes"));
  plan.ranks_per_node = 4;
  CHECK(exchange_problem(plan, moe).empty());
  plan.ranks_per_node = 3;
  CHECK(contains(exchange_problem(plan, moe), "equally many ranks on every node"));
  moe.exchange = ExchangeAlgorithm::AllGather;
  CHECK(exchange_problem(plan, moe).empty());
  plan.device = DeviceKind::Cuda;
  CHECK(contains(exchange_problem(plan, moe), "CPU ranks only"));
  Plan alone = plan_of(1, 8, {.experts = 8, .expert = 1, .replica = 8});
  alone.moe_layers[0].exchange = ExchangeAlgorithm::AllGather;
  CHECK(contains(exchange_problem(alone, alone.moe_layers[0]), "groups of several ranks"));
}

TEST_CASE("the hierarchical exchange looks at every group, not only at that of rank 0") {
  // Nodes of 5: group {0,3,6,9} lies 2 and 2, group {2,5,8,11} lies 1, 2 and 1.
  Plan plan = plan_of(1, 12, {.experts = 4, .expert = 4});
  plan.rank_order = RankOrder::Strided;
  plan.ranks_per_node = 5;
  plan.moe_layers[0].exchange = ExchangeAlgorithm::Hierarchical;
  CHECK_FALSE(exchange_problem(plan, plan.moe_layers[0]).empty());
  plan.ranks_per_node = 6;
  CHECK(exchange_problem(plan, plan.moe_layers[0]).empty());
}

}  // namespace
}  // namespace imhotep
