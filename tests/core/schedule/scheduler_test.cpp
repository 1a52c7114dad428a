// Rules of the scheduler, one by one.
#include "core/schedule/scheduler.h"

#include <doctest/doctest.h>

#include "core/base/error.h"

namespace imhotep::schedule {
namespace {

Limits small_limits() {
  return {.data = 1,
          .sequences = 4,
          .pages = 16,
          .page_size = 4,
          .max_context = 64,
          .buckets = usual_buckets(4, 16)};
}

std::vector<std::int64_t> counts_of(const Step& step) {
  std::vector<std::int64_t> counts;
  for (const Piece& piece : step.ranks[0].pieces) counts.push_back(piece.count);
  return counts;
}

using Ids = std::vector<RequestId>;

}  // namespace

TEST_CASE("buckets grow by powers of two, and prompts come with one sample or with many") {
  const std::vector<Bucket> expected = {{1, 1}, {2, 2},  {4, 4},  {6, 6},  {8, 1},
                                        {8, 6}, {16, 1}, {16, 6}, {20, 1}, {20, 6}};
  CHECK(usual_buckets(6, 20) == expected);
  CHECK(usual_buckets(1, 1) == std::vector<Bucket>{{1, 1}});
  CHECK(usual_buckets(8, 4).back() == Bucket{8, 8});
}

TEST_CASE("a prompt passes in chunks, then one token at a time") {
  Scheduler s(small_limits());
  s.submit({.id = 1, .prompt = 20, .output = 3});
  auto step = s.next(0);
  REQUIRE(step);
  CHECK(counts_of(*step) == std::vector<std::int64_t>{16});
  CHECK_FALSE(step->ranks[0].pieces[0].samples);
  CHECK(step->ranks[0].pages.size() == 5);
  CHECK(s.complete({}).empty());
  step = s.next(1);
  CHECK(counts_of(*step) == std::vector<std::int64_t>{4});
  CHECK(step->ranks[0].pieces[0].samples);
  CHECK(s.complete({}).empty());
  step = s.next(2);
  CHECK(step->ranks[0].pieces[0].first == 20);
  CHECK(step->bucket == 0);
  CHECK(s.complete({}).empty());
  REQUIRE(s.next(3));
  CHECK(s.complete({}) == Ids{1});
  CHECK_FALSE(s.next(4));
  CHECK(s.counts().pages_used == 0);
}

TEST_CASE("decoding goes on while another prompt is read") {
  Scheduler s(small_limits());
  s.submit({.id = 1, .prompt = 3, .output = 9});
  REQUIRE(s.next(0));
  s.complete({});
  s.submit({.id = 2, .prompt = 30, .output = 2});
  const auto step = s.next(1);
  CHECK(counts_of(*step) == std::vector<std::int64_t>{1, 15});
  CHECK(step->ranks[0].pieces[0].samples);
}

TEST_CASE("a stopped request ends before its length") {
  Scheduler s(small_limits());
  s.submit({.id = 5, .prompt = 2, .output = 30});
  REQUIRE(s.next(0));
  const RequestId stopped[] = {5};
  CHECK(s.complete(stopped) == Ids{5});
  CHECK_FALSE(s.next(0));
}

TEST_CASE("what can never run is said, and what does not fit the queue is not taken") {
  Limits limits = small_limits();
  limits.max_waiting = 1;
  Scheduler s(limits);
  CHECK(s.problem({.prompt = 64, .output = 1}).empty());
  CHECK_FALSE(s.problem({.prompt = 64, .output = 2}).empty());
  CHECK_FALSE(s.problem({.prompt = 0}).empty());
  CHECK_FALSE(s.problem({.output = 0}).empty());
  CHECK_FALSE(s.problem({.prompt = 1, .output = INT64_MAX}).empty());
  CHECK_THROWS_AS(s.submit({.id = 1, .prompt = 65}), Error);
  s.submit({.id = 1});
  CHECK(s.is_full());
  CHECK_THROWS_AS(s.submit({.id = 2}), Error);
}

TEST_CASE("cancelling frees the place at once, waiting or running") {
  Scheduler s(small_limits());
  for (RequestId id = 1; id <= 6; ++id) s.submit({.id = id, .prompt = 4, .output = 4});
  REQUIRE(s.next(0));
  s.complete({});
  CHECK(s.counts().running == 4);
  CHECK(s.cancel(1));
  CHECK(s.cancel(6));
  CHECK_FALSE(s.cancel(6));
  CHECK(s.counts().pages_used == 3 * 1);
  const auto step = s.next(1);
  CHECK(step->admitted == Ids{5});
}

TEST_CASE("a higher priority goes first and takes the place of a lower one") {
  Limits limits = small_limits();
  limits.sequences = 1;
  limits.buckets = usual_buckets(1, 16);
  Scheduler s(limits);
  s.submit({.id = 1, .prompt = 4, .output = 4, .priority = 0});
  REQUIRE(s.next(0));
  s.complete({});
  s.submit({.id = 2, .prompt = 4, .output = 1, .priority = 0});
  s.submit({.id = 3, .prompt = 4, .output = 1, .priority = 5});
  const auto step = s.next(1);
  CHECK(step->preempted == Ids{1});
  CHECK(step->admitted == Ids{3});
  CHECK(s.complete({}) == Ids{3});
  CHECK(s.next(2)->admitted == Ids{1});  // came before 2
  s.complete({});
}

TEST_CASE("of two clients the one with less service goes first") {
  Limits limits = small_limits();
  limits.sequences = 1;
  limits.buckets = usual_buckets(1, 16);
  Scheduler s(limits);
  for (RequestId id = 1; id <= 3; ++id) {
    s.submit({.id = id, .prompt = 10, .output = 1, .client = 7, .arrival_us = 0});
  }
  s.submit({.id = 9, .prompt = 10, .output = 1, .client = 8, .arrival_us = 5});
  Ids order;
  while (const auto step = s.next(10)) {
    for (const RequestId id : step->admitted) order.push_back(id);
    s.complete({});
  }
  CHECK(order == Ids{1, 9, 2, 3});
}

TEST_CASE("requests are spread over data ranks") {
  Limits limits = small_limits();
  limits.data = 3;
  Scheduler s(limits);
  for (RequestId id = 1; id <= 6; ++id) s.submit({.id = id, .prompt = 4, .output = 4});
  const auto step = s.next(0);
  for (const RankBatch& batch : step->ranks) CHECK(batch.pieces.size() == 2);
}

TEST_CASE("limits under which nothing could run are refused") {
  Limits limits = small_limits();
  limits.buckets = {{2, 2}};
  CHECK_THROWS_AS(Scheduler{limits}, Error);
  limits = small_limits();
  limits.pages = 0;
  CHECK_THROWS_AS(Scheduler{limits}, Error);
}

}  // namespace imhotep::schedule
