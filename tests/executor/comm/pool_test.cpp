#include <doctest/doctest.h>

#include <algorithm>

#include "core/base/error.h"
#include "executor/comm/communicator_pool.h"
#include "tests/executor/comm/plans.h"
#include "tests/executor/mpi_main.h"

using namespace imhotep;
using namespace imhotep::executor;

TEST_CASE("the bootstrap carries texts, bytes and agreement") {
  const Bootstrap& ranks = test_bootstrap();
  std::string text = ranks.rank() == 1 ? "from one" : "";
  ranks.broadcast(text, 1);
  CHECK(text == "from one");
  const auto all = ranks.gather(std::string(ranks.rank(), 'x'));
  REQUIRE(all.size() == static_cast<std::size_t>(ranks.rank() == 0 ? ranks.world() : 0));
  for (std::size_t r = 0; r < all.size(); ++r) CHECK(all[r] == std::string(r, 'x'));
  CHECK(ranks.all_true(true));
  CHECK_FALSE(ranks.all_true(ranks.rank() != 2));
  CHECK(ranks.largest(ranks.rank()) == ranks.world() - 1);
}

TEST_CASE("groups of many random plans are made without waiting in a circle, and shared") {
  const Bootstrap& ranks = test_bootstrap();
  CommunicatorPool pool(ranks);
  const Rank own(ranks.rank());
  std::size_t asked = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const Plan plan = random_plan(seed, ranks.world());
    CAPTURE(seed);
    CAPTURE(describe(plan));
    pool.prepare(plan);
    for (const Members& group : plan_groups(plan)) {
      if (std::find(group.begin(), group.end(), own) == group.end()) continue;
      ++asked;
      Communicator& communicator = pool.get(group);
      CHECK(communicator.members() == group);
      CHECK(group[communicator.rank()] == own);
      double sum = 1 + own.value, expected = 0;
      for (const Rank member : group) expected += 1 + member.value;
      communicator.all_reduce(&sum, 1, Dtype::F64);
      CHECK(sum == expected);
    }
  }
  if (ranks.rank() == 0) MESSAGE(asked << " groups used, " << pool.size() << " made");
  CHECK(pool.size() < asked / 2);
}

TEST_CASE("a group in another order is another group") {
  CommunicatorPool pool(test_bootstrap());
  const Members forward = {Rank(0), Rank(2), Rank(1)}, other = {Rank(0), Rank(1), Rank(2)};
  pool.prepare({forward, other});
  if (test_bootstrap().rank() > 2) return;
  std::int32_t order[3] = {}, own = test_bootstrap().rank();
  pool.get(forward).all_gather(&own, order, sizeof own);
  CHECK(order[1] == 2);
  pool.get(other).all_gather(&own, order, sizeof own);
  CHECK(order[1] == 1);
}

TEST_CASE("groups that nobody prepared, and plans for more ranks, are refused") {
  CommunicatorPool pool(test_bootstrap());
  CHECK_THROWS_AS(static_cast<void>(pool.get({Rank(0), Rank(1)})), Error);
  Plan plan;
  plan.world = plan.data = test_bootstrap().world() + 1;
  CHECK_THROWS_AS(pool.prepare(plan), Error);
  CHECK(pool.get({Rank(test_bootstrap().rank())}).size() == 1);
}
