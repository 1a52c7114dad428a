#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "planner/search/evaluator.h"
#include "planner/search/pool.h"
#include "planner/search/program_parts.h"
#include "planner/search/search.h"
#include "tests/planner/small_models.h"

using namespace imhotep;
using namespace imhotep::planner;

namespace {

std::vector<std::uint32_t> choices_of(const Space& space, const Candidate& candidate) {
  std::vector<std::uint32_t> choices;
  std::uint64_t rest = candidate.combination;
  for (const auto& list : space.frames()[candidate.frame].choices) {
    choices.push_back(static_cast<std::uint32_t>(rest % list.size()));
    rest /= list.size();
  }
  return choices;
}

// Visits about `count` candidates of the space, chosen by `seed`, with an evaluator in their frame.
template <class Visit>
void sample(const Space& space, Evaluator& evaluator, int count, unsigned seed, Visit visit) {
  std::mt19937 random(seed);
  const double share = count / std::stod(count_text(space.size()));
  int frame = -1;
  space.for_each([&](const Candidate& candidate) {
    if (std::uniform_real_distribution<double>(0, 1)(random) > share) return;
    if (candidate.frame != frame) evaluator.enter(candidate.frame);
    frame = candidate.frame;
    visit(candidate, choices_of(space, candidate));
  });
}

struct Case {
  const char* experts;
  int world;
  WorkloadKind kind;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {
      {"4", 1, WorkloadKind::Training},         {"2x2,4x1", 4, WorkloadKind::Training},
      {"4x2,8x1", 16, WorkloadKind::Training},  {"2x1,4x1,8x1", 8, WorkloadKind::Training},
      {"0", 8, WorkloadKind::Training},         {"4", 1, WorkloadKind::Generation},
      {"4x2,8x1", 16, WorkloadKind::Generation}};
  return kCases;
}

Request tight_request(std::int64_t memory_bytes) {
  Request request = small_request("4x2,8x1", 8, WorkloadKind::Training);
  request.cluster.device.memory_bytes = memory_bytes;
  return request;
}

double time_of(const RankedPlan& ranked) { return ranked.plan.predicted.time_us.value; }

}  // namespace

TEST_CASE("sums of memoised blocks are what the simulator says when nothing overlaps") {
  for (const Case& c : cases()) {
    const unsigned seed = 7 + static_cast<unsigned>(c.world);
    CAPTURE(seed);
    CAPTURE(c.experts);
    const Space space(small_request(c.experts, c.world, c.kind));
    const simulator::Simulator simulator(space.request().cluster);
    Evaluator evaluator(space, simulator);
    int seen = 0;
    sample(space, evaluator, 60, seed, [&](const Candidate& candidate, const auto& choices) {
      const Times times = evaluator.times(candidate.variant, choices);
      const Prediction predicted = simulator.predict(space.plan(candidate));
      CHECK(times.step_us == doctest::Approx(predicted.time_us.value).epsilon(1e-9));
      CHECK(times.prompt_us == doctest::Approx(predicted.prompt_us.value).epsilon(1e-9));
      ++seen;
    });
    CHECK(seen > 0);
  }
}

TEST_CASE("later micro-steps are the first one with gradients added to") {
  const auto described = [](const program::Program& program) {
    std::vector<std::string> lines;
    for (const program::Operation& operation : program.operations) {
      if (std::string_view(operation.name) == "zero_gradients") continue;
      const profiles::Description one = profiles::describe(operation.shape);
      std::string line = operation.name;
      line += ' ' + std::to_string(one.family) + ' ' + std::to_string(one.variant);
      for (int k = 0; k < one.keys; ++k) line += ' ' + std::to_string(one.key[k]);
      lines.push_back(line);
    }
    return lines;
  };
  int differ = 0;
  for (const Dtype dtype : {Dtype::F32, Dtype::Bf16}) {
    Request request = small_request("4,8,8", 8, WorkloadKind::Training);
    request.dtype = dtype;
    const Space space(request);
    space.for_each([&](const Candidate& candidate) {
      if (candidate.combination % 13 != 0) return;
      const Plan plan = space.plan(candidate);
      const program::Program later = program::build_train_step(plan, Rank(0), {.first = false});
      program::Program made = program::build_train_step(plan, Rank(0), {.first = true});
      const bool same = described(made) == described(later);
      add_to_gradients(made);
      CHECK(described(made) == described(later));
      differ += same ? 0 : 1;
    });
  }
  CHECK(differ > 0);  // or nothing would have been tried
}

TEST_CASE("measured routing prices every layer by its own histogram") {
  Request request = small_request("4x2,8x1", 4, WorkloadKind::Training);
  request.workload.routing = {.kind = RoutingKind::Measured,
                              .histograms = {{0.7, 0.1, 0.1, 0.1},
                                             {0.25, 0.25, 0.25, 0.25},
                                             {0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1}}};
  const Space space(request);
  const simulator::Simulator simulator(request.cluster);
  Evaluator evaluator(space, simulator);
  sample(space, evaluator, 40, 3, [&](const Candidate& candidate, const auto& choices) {
    CHECK(evaluator.times(candidate.variant, choices).step_us ==
          doctest::Approx(simulator.predict(space.plan(candidate)).time_us.value).epsilon(1e-9));
  });
}

TEST_CASE("where communication overlaps computation the sums stay within two per cent") {
  for (const Case& c : cases()) {
    CAPTURE(c.experts);
    const Space space(small_request(c.experts, c.world, c.kind, true));
    const simulator::Simulator simulator(space.request().cluster);
    Evaluator evaluator(space, simulator);
    sample(space, evaluator, 40, 5, [&](const Candidate& candidate, const auto& choices) {
      CHECK(evaluator.times(candidate.variant, choices).step_us ==
            doctest::Approx(simulator.predict(space.plan(candidate)).time_us.value).epsilon(0.02));
    });
  }
}

TEST_CASE("least memory is a lower bound, near the program's buffers, exact in the state") {
  using program::BufferKind;
  for (const Case& c : cases()) {
    CAPTURE(c.experts);
    const Space space(small_request(c.experts, c.world, c.kind));
    const simulator::Simulator simulator(space.request().cluster);
    Evaluator evaluator(space, simulator);
    sample(space, evaluator, 60, 11, [&](const Candidate& candidate, const auto& choices) {
      const MemoryBound bound = evaluator.memory(candidate.variant, choices);
      const auto use = program::plan_memory(space.plan(candidate), Rank(0)).by_kind;
      const auto of = [&](BufferKind kind) { return use[static_cast<int>(kind)]; };
      CHECK(bound.weights == of(BufferKind::Weight));
      CHECK(bound.state == of(BufferKind::Gradient) + of(BufferKind::Optimizer));
      const std::int64_t rest =
          of(BufferKind::Activation) + of(BufferKind::Input) + of(BufferKind::Kv);
      CHECK(bound.rest <= rest);
      CHECK(static_cast<double>(bound.rest) >= 0.7 * static_cast<double>(rest));
    });
  }
}

TEST_CASE("no rank needs more memory than the one that is named the fullest") {
  const Space space(small_request("4x2,8x1", 8, WorkloadKind::Training));
  std::mt19937 random(1);
  space.for_each([&](const Candidate& candidate) {
    if (random() % 400 != 0) return;
    const RankedPlan fullest = measure_memory(space.plan(candidate), 1, {});
    CHECK(program::plan_memory(fullest.plan, fullest.fullest).total() == fullest.memory.total());
    for (int rank = 0; rank < fullest.plan.world; ++rank) {
      CHECK(program::plan_memory(fullest.plan, Rank(rank)).total() <= fullest.memory.total());
    }
  });
}

TEST_CASE("the search finds what trying every plan in the simulator finds") {
  for (const Objective objective :
       {Objective::Latency, Objective::Throughput, Objective::Cost, Objective::Gpus}) {
    Request request = small_request("2x2,4x1", 4, WorkloadKind::Training);
    request.worlds = {1, 2, 4};
    request.fixed = parse_fixed_degrees("recompute=none", request.model);
    const Space space(request);
    const simulator::Simulator simulator(request.cluster);
    const SearchResult result = search(space, simulator, {.objective = objective, .top = 3});
    REQUIRE(result.plans.size() == 3);
    std::vector<Score> all;
    space.for_each([&](const Candidate& candidate) {
      const Plan plan = space.plan(candidate);
      all.push_back(score(objective, request.workload, plan.world,
                          {.step_us = simulator.predict(plan).time_us.value}));
    });
    std::sort(all.begin(), all.end());
    for (std::size_t i = 0; i < 3; ++i) {
      const Score found = score(objective, request.workload, result.plans[i].plan.world,
                                {.step_us = time_of(result.plans[i])});
      CHECK(found.first == doctest::Approx(all[i].first).epsilon(1e-9));
      CHECK(found.second == doctest::Approx(all[i].second).epsilon(1e-9));
    }
    CHECK(count_text(result.evaluated) == std::to_string(all.size()));
    CHECK(result.pruned == 0);
  }
}

TEST_CASE("two searches give the same plans in the same order") {
  const Space space(small_request("4x2,8x1", 16, WorkloadKind::Training, true));
  const simulator::Simulator first(space.request().cluster), second(space.request().cluster);
  const SearchResult a = search(space, first, {.top = 8}), b = search(space, second, {.top = 8});
  REQUIRE(a.plans.size() == 8);
  REQUIRE(b.plans.size() == 8);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(plan_text(a.plans[i].plan) == plan_text(b.plans[i].plan));
  }
}

TEST_CASE("a search with a small memory prunes what is bounded away and loses nothing") {
  for (const auto kind : {WorkloadKind::Training, WorkloadKind::Generation}) {
    const Space space(small_request("2x1,4x1,8x1", 8, kind));
    const simulator::Simulator simulator(space.request().cluster);
    const SearchResult all = search(space, simulator, {.top = 4});
    const SearchResult few = search(space, simulator, {.top = 4, .kept = 16});
    CHECK(few.pruned > 0);
    CHECK(few.evaluated + few.pruned == few.enumerated);
    REQUIRE(few.plans.size() == all.plans.size());
    for (std::size_t i = 0; i < all.plans.size(); ++i) {
      CHECK(time_of(few.plans[i]) == doctest::Approx(time_of(all.plans[i])).epsilon(1e-12));
    }
  }
}

TEST_CASE("plans that do not fit are kept with rank, bytes and kind of buffer") {
  const Space space(tight_request(10'000));
  const simulator::Simulator simulator(space.request().cluster);
  const SearchResult result = search(space, simulator, {.top = 2});
  CHECK(result.plans.empty());
  CHECK(result.rejections.total() == result.evaluated);
  REQUIRE(result.smallest.has_value());
  REQUIRE(result.rejected.size() == 2);
  const std::string reason = result.rejected.front().verdict.reasons.at(0);
  CHECK(reason.find(" of 8 needs") != std::string::npos);
  CHECK(reason.find("bytes") != std::string::npos);
  CHECK(reason.find("most of it ") != std::string::npos);
}

TEST_CASE("every feasible plan returned fits, and the best rejected one is faster or absent") {
  const Space roomy(tight_request(1'000'000'000));
  const simulator::Simulator simulator(roomy.request().cluster);
  const SearchResult free = search(roomy, simulator, {.top = 1});
  REQUIRE(free.plans.size() == 1);
  const std::int64_t limit = free.plans.front().memory.total() - 1;
  const Space tight(tight_request(limit));
  const SearchResult result = search(tight, simulator, {.top = 50});
  REQUIRE(!result.plans.empty());
  for (const RankedPlan& ranked : result.plans) {
    CHECK(ranked.memory.total() <= limit);
    CHECK(ranked.verdict.feasible);
  }
  REQUIRE(!result.rejected.empty());
  CHECK(!result.rejected.front().verdict.feasible);
  CHECK(time_of(result.rejected.front()) <= time_of(result.plans.front()));
}

TEST_CASE("a search that is stopped returns the best so far") {
  const Space space(small_request("4x2,8x1", 8, WorkloadKind::Training));
  const simulator::Simulator simulator(space.request().cluster);
  int calls = 0;
  const SearchResult result =
      search(space, simulator, {.top = 3, .progress = [&](double done, double total) {
                                  CHECK(done <= total);
                                  return ++calls < 3;
                                }});
  CHECK(result.interrupted);
  CHECK(result.evaluated < result.enumerated);
  CHECK(!result.plans.empty());
}

TEST_CASE("the pool gives back the best first, and among equals the first to come") {
  Pool pool(2);
  const double firsts[] = {5, 3, 4, 3, 1, 9, 2};
  for (int i = 0; i < 7; ++i) {
    Scored scored{.score = {firsts[i], 0}};
    scored.candidate.frame = i;
    pool.add(scored);
  }
  CHECK(pool.is_bounded());
  CHECK(pool.take_best()->candidate.frame == 4);
  CHECK(pool.take_best()->candidate.frame == 6);
  Pool equal(4);
  for (int i = 0; i < 3; ++i) {
    Scored scored{.score = {1, 0}};
    scored.candidate.frame = i;
    equal.add(scored);
  }
  for (int i = 0; i < 3; ++i) CHECK(equal.take_best()->candidate.frame == i);
  CHECK(!equal.take_best().has_value());
}
