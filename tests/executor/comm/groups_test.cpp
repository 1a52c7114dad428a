#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "executor/comm/communicator_pool.h"
#include "tests/executor/comm/plans.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

Members ranks(std::initializer_list<int> values) {
  Members members;
  for (const int value : values) members.emplace_back(value);
  return members;
}

}  // namespace

TEST_CASE("every group of every rank is in the plan's list, once and in order") {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Plan plan = random_plan(seed, 16);
    CAPTURE(seed);
    CAPTURE(describe(plan));
    const std::vector<Members> groups = plan_groups(plan);
    CHECK(std::is_sorted(groups.begin(), groups.end()));
    const std::set<Members> known(groups.begin(), groups.end());
    CHECK(known.size() == groups.size());
    const auto has = [&](const Members& group) {
      return group.size() < 2 || known.contains(group);
    };
    for (int r = 0; r < plan.world; ++r) {
      const Rank rank(r);
      CHECK(has(world_group(plan)));
      CHECK(has(tensor_group(plan, rank)));
      CHECK(has(data_group(plan, rank)));
      for (const MoeLayerPlan& moe : plan.moe_layers) {
        const ExchangePlace place = exchange_place(plan, moe, rank);
        CHECK(has(replica_group(plan, moe, rank)));
        CHECK(has(place.group));
        CHECK(has(place.share_group));
        CHECK(has(place.slice_group));
        CHECK(place.group[place.own_index] == rank);
      }
    }
  }
}

TEST_CASE("a hierarchical layer brings the groups of its two steps") {
  Plan plan;
  plan.world = plan.data = 8;
  plan.ranks_per_node = 4;
  // The first layer shares the group but not the algorithm.
  plan.moe_layers = {
      {.layer = 1, .experts = 8, .expert = 8},
      {.layer = 3, .experts = 8, .expert = 8, .exchange = ExchangeAlgorithm::Hierarchical}};
  const std::vector<Members> expected = {ranks({0, 1, 2, 3}), ranks({0, 1, 2, 3, 4, 5, 6, 7}),
                                         ranks({0, 4}),       ranks({1, 5}),
                                         ranks({2, 6}),       ranks({3, 7}),
                                         ranks({4, 5, 6, 7})};
  CHECK(plan_groups(plan) == expected);
}

TEST_CASE("a grid finds its nodes in a group of any order") {
  const Members group = ranks({6, 1, 3, 4});
  const NodeGrid grid = node_grid(group, 4);
  CHECK(grid.nodes == 2);
  CHECK(grid.per_node == 2);
  CHECK(inside_node(group, grid, 0) == ranks({1, 3}));
  CHECK(inside_node(group, grid, 1) == ranks({6, 4}));
  CHECK(across_nodes(group, grid, 0) == ranks({1, 6}));
  CHECK(across_nodes(group, grid, 1) == ranks({3, 4}));
  CHECK_THROWS_AS(static_cast<void>(node_grid(ranks({0, 1, 4}), 4)), Error);
}
