#include <doctest/doctest.h>

#include "core/base/error.h"
#include "executor/comm/communicator.h"

using namespace imhotep;
using namespace imhotep::executor;

TEST_CASE("pieces that touch become one and empty pieces vanish") {
  PieceLists lists(4, 3);
  lists.add(0, 0, 8);
  lists.add(0, 8, 0);
  lists.add(0, 8, 4);
  lists.add(2, 12, 4);  // touches the last piece of member 0, but is not its
  lists.add(2, 32, 4);
  REQUIRE(lists.of(0).size() == 1);
  CHECK(lists.of(0)[0].bytes == 12);
  CHECK(lists.of(1).empty());
  REQUIRE(lists.of(2).size() == 2);
  CHECK(lists.of(2)[0].offset == 12);
  CHECK(lists.of(2)[1].offset == 32);
  CHECK(lists.of(3).empty());
  CHECK(lists.bytes(2) == 8);
}

TEST_CASE("lists that are filled again forget what they held") {
  PieceLists lists(3);
  for (int m = 0; m < 3; ++m) lists.add(m, 10 * m, 10);
  lists.clear();
  CHECK(lists.of(0).empty());
  lists.add(1, 5, 5);
  CHECK(lists.of(0).empty());
  CHECK(lists.bytes(1) == 5);
  CHECK(lists.of(2).empty());
  CHECK_THROWS_AS(lists.add(0, 0, 1), Error);
}

TEST_CASE("a group of one moves its own pieces and sends nothing") {
  const auto alone = make_lone_communicator(Rank(5));
  const char in[] = "abcdef";
  char out[8] = "-------";
  PieceLists from(1, 2), to(1, 3);
  from.add(0, 0, 2);
  from.add(0, 3, 3);
  to.add(0, 5, 1);
  to.add(0, 1, 3);
  to.add(0, 0, 1);
  alone->transfer("test", in, out, from, to);
  CHECK(std::string(out) == "fbde-a-");
  CHECK(alone->traffic() == Traffic{});
  double sum = 3;
  alone->all_reduce(&sum, 1, Dtype::F64);
  CHECK(sum == 3);
  double part = 0;
  alone->reduce_scatter(&sum, &part, 1, Dtype::F64);
  CHECK(part == 3);
}

TEST_CASE("a rank that keeps other bytes than it expects is told so") {
  const auto alone = make_lone_communicator(Rank(5));
  char in[4] = {}, out[4] = {};
  PieceLists from(1), to(1);
  from.add(0, 0, 2);
  to.add(0, 0, 3);
  CHECK_THROWS_WITH_AS(alone->transfer("test", in, out, from, to),
                       "test over ranks {5}, at rank 5: keeps 2 bytes but expects 3", Error);
}
