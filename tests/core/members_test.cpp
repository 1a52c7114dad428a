#include "core/layout/members.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

using namespace imhotep;

namespace {

// The same group as steps and as a list.
struct Both {
  Members steps;
  std::vector<Rank> list;
};

Both random_group(std::mt19937& random) {
  const auto up_to = [&](int most) { return 1 + static_cast<int>(random() % most); };
  const Members::Steps inner{.count = up_to(6), .stride = up_to(3)};
  const int span = (inner.count - 1) * inner.stride + 1;
  const Members::Steps outer{.count = up_to(6), .stride = span + up_to(5) - 1};
  const Rank first(up_to(9) - 1);
  Both both{.steps = Members(first, outer, inner), .list = {}};
  for (int o = 0; o < outer.count; ++o) {
    for (int i = 0; i < inner.count; ++i) {
      both.list.emplace_back(first.value + o * outer.stride + i * inner.stride);
    }
  }
  return both;
}

}  // namespace

TEST_CASE("a group of steps is the group of its list") {
  std::mt19937 random(3);
  for (int i = 0; i < 500; ++i) {
    CAPTURE(i);
    const auto [steps, list] = random_group(random);
    const Members listed(list);
    REQUIRE(steps.size() == list.size());
    CHECK(std::equal(steps.begin(), steps.end(), list.begin()));
    CHECK(steps == listed);
    CHECK((steps <=> listed) == std::strong_ordering::equal);
    for (int rank = 0; rank < 80; ++rank) {
      const auto found = std::find(list.begin(), list.end(), Rank(rank)) - list.begin();
      CHECK(steps.index_of(Rank(rank)) == static_cast<std::size_t>(found));
      CHECK(listed.index_of(Rank(rank)) == static_cast<std::size_t>(found));
    }
    const int ranks_per_node = 1 + static_cast<int>(random() % 8);
    std::map<int, int> nodes;
    for (const Rank rank : list) ++nodes[rank.value / ranks_per_node];
    int fullest = 0;
    for (const auto& [node, count] : nodes) {
      fullest = std::max(fullest, count);
      CHECK(steps.on_node(node, ranks_per_node) == count);
    }
    for (const Members* group : {&steps, &listed}) {
      const Members::Spread spread = group->spread(ranks_per_node);
      CHECK(spread.nodes == static_cast<int>(nodes.size()));
      CHECK(spread.first == nodes.begin()->second);
      CHECK(spread.fullest == fullest);
    }
  }
}

TEST_CASE("groups are ordered as their lists are, and told apart") {
  std::mt19937 random(4);
  for (int i = 0; i < 500; ++i) {
    CAPTURE(i);
    const Both a = random_group(random), b = random_group(random);
    CHECK((a.steps == b.steps) == (a.list == b.list));
    CHECK((a.steps < b.steps) == (a.list < b.list));
    CHECK((a.steps < Members(b.list)) == (a.list < b.list));
  }
}

TEST_CASE("a member that is added makes a list of the steps") {
  Members group(Rank(2), {.count = 3, .stride = 4});
  group.push_back(Rank(1));
  CHECK(group == Members({Rank(2), Rank(6), Rank(10), Rank(1)}));
  CHECK(group.at(3) == Rank(1));
  CHECK_THROWS_AS(static_cast<void>(group.at(4)), std::out_of_range);
  CHECK(Members().empty());
  CHECK(Members().index_of(Rank(0)) == 0);
}
