#include <doctest/doctest.h>

#include <random>
#include <set>

#include "core/base/error.h"
#include "core/program/serving.h"
#include "planner/search/search_open.h"
#include "tests/planner/small_models.h"

using namespace imhotep;
using namespace imhotep::planner;

namespace {

struct Question {
  Request request;
  OpenChoices open;
  Objective objective{};
};

Question random_question(std::mt19937& random) {
  const auto pick = [&](auto... values) {
    const std::common_type_t<decltype(values)...> all[] = {values...};
    return all[random() % sizeof...(values)];
  };
  const bool trains = random() % 2 == 0;
  const auto kind = trains ? WorkloadKind::Training : WorkloadKind::Generation;
  Question one{.request = small_request(pick("2x2", "4x2", "2x1,4x1"), pick(1, 2, 4), kind)};
  one.request.model.layers = 4;
  one.request.cluster.devices_per_node = pick(1, 2, 4);
  one.request.cluster.inter.bytes_per_us = pick(1e2, 1e3, 1e4);
  one.open.dtypes =
      random() % 3 == 0 ? std::vector<Dtype>{} : std::vector<Dtype>{Dtype::F32, Dtype::Bf16};
  if (trains) {
    one.request.workload.global_batch = 8;
    one.open.capacities = {std::nullopt, 1.0, 2.0};
    one.objective = pick(Objective::Throughput, Objective::Cost);
    return one;
  }
  one.open.batches = {1, 3, 8, 32};
  if (random() % 2 == 0) one.request.kv.tokens = {128, 512};
  one.objective = pick(Objective::Throughput, Objective::Latency, Objective::Cost, Objective::Gpus);
  return one;
}

struct Tried {
  Score score;
  std::int64_t bytes = 0;
  double step_us = 0;
};

// All plans of every alternative, laid out and simulated whole.
std::vector<Tried> try_all(const Question& question, const simulator::Simulator& simulator) {
  std::vector<Tried> tried;
  for (const Alternative& one : alternatives_of(question.request, question.open)) {
    std::optional<Space> space;
    try {
      space.emplace(one.request);
    } catch (const Error&) {
      continue;  // no legal plan
    }
    space->for_each([&](const Candidate& candidate) {
      const Plan plan = space->plan(candidate);
      const Prediction predicted = simulator.predict(plan);
      const Times times{.step_us = predicted.time_us.value, .prompt_us = predicted.prompt_us.value};
      tried.push_back({.score = score(question.objective, plan.workload, plan.world, times),
                       .bytes = measure_memory(plan, 1, {}).memory.total(),
                       .step_us = times.step_us});
    });
  }
  return tried;
}

Score score_of(const RankedPlan& ranked, Objective objective) {
  const Prediction& predicted = ranked.plan.predicted;
  return score(objective, ranked.plan.workload, ranked.plan.world,
               {.step_us = predicted.time_us.value, .prompt_us = predicted.prompt_us.value});
}

bool refused(const std::function<void()>& parse) {
  try {
    parse();
  } catch (const Error& error) {
    return error.kind() == ErrorKind::Input;
  }
  return false;
}

#ifdef IMHOTEP_SANITIZED
constexpr int kQuestions = 4;  // three minutes less on two cores
#else
constexpr int kQuestions = 24;
#endif

}  // namespace

TEST_CASE("what is open is chosen as by trying every plan of every combination") {
  std::mt19937 random(31);
  int feasible = 0, pruned = 0;
  for (int i = 0; i < kQuestions; ++i) {
    CAPTURE(i);
    const Question question = random_question(random);
    const simulator::Simulator simulator(question.request.cluster);
    const std::vector<Tried> tried = try_all(question, simulator);
    if (tried.empty()) continue;
    Limits limits;  // sometimes a memory or a time that some plan just keeps
    if (random() % 2 == 0) limits.memory_bytes = tried[random() % tried.size()].bytes;
    if (random() % 3 == 0) limits.step_us = tried[random() % tried.size()].step_us * (1 + 1e-9);
    std::vector<Score> expected;
    for (const Tried& one : tried) {
      if (one.bytes > limits.memory_bytes.value_or(one.bytes)) continue;
      if (one.step_us <= limits.step_us.value_or(one.step_us)) expected.push_back(one.score);
    }
    std::sort(expected.begin(), expected.end());
    const OpenResult found =
        search_open(alternatives_of(question.request, question.open), simulator,
                    {.objective = question.objective, .top = 3, .limits = limits});
    REQUIRE(found.found.plans.size() == std::min<std::size_t>(3, expected.size()));
    for (std::size_t p = 0; p < found.found.plans.size(); ++p) {
      CAPTURE(p);
      const Score own = score_of(found.found.plans[p], question.objective);
      CHECK(own.first == doctest::Approx(expected[p].first).epsilon(1e-9));
      if (question.objective == Objective::Gpus) {
        CHECK(own.second == doctest::Approx(expected[p].second).epsilon(1e-9));
      }
    }
    CHECK(found.found.evaluated + found.found.pruned == found.found.enumerated);
    CHECK(found.alternatives.size() == question.open.combinations());
    feasible += expected.empty() ? 0 : 1;
    pruned += found.found.pruned > 0 ? 1 : 0;
  }
  MESSAGE(feasible, " of the questions have a plan, in ", pruned, " something was bounded away");
  CHECK(feasible > kQuestions / 2);
  CHECK(pruned > kQuestions / 3);
}

TEST_CASE("layers that choose alone are best over all combinations, too") {
  for (const auto kind : {WorkloadKind::Training, WorkloadKind::Generation}) {
    Request request = small_request("4x2,8x1", 8, kind);
    OpenChoices open{.dtypes = {Dtype::F32, Dtype::Bf16}};
    if (kind == WorkloadKind::Training) open.capacities = {std::nullopt, 1.25};
    if (kind == WorkloadKind::Generation) open.batches = {4, 8, 16};
    const simulator::Simulator simulator(request.cluster);
    const SearchOptions options{.objective = Objective::Throughput, .top = 1, .layerwise = true};
    // The fastest plan of the first combination does not fit any more.
    request.cluster.device.memory_bytes =
        search(Space(request), simulator, options).plans.at(0).memory.total() - 1;
    const auto alternatives = alternatives_of(request, open);
    const OpenResult found = search_open(alternatives, simulator, options);
    REQUIRE(found.found.plans.size() == 1);
    std::optional<Score> best;
    BigCount enumerated;
    for (const Alternative& one : alternatives) {
      const SearchResult alone = search(Space(one.request), simulator, options);
      enumerated += enumerated_plans(alone);
      if (alone.plans.empty()) continue;
      const Score score = score_of(alone.plans.front(), options.objective);
      if (!best || score < *best) best = score;
    }
    REQUIRE(best.has_value());
    CHECK(score_of(found.found.plans.front(), options.objective).first ==
          doctest::Approx(best->first).epsilon(1e-9));
    CHECK(enumerated_plans(found.found) == enumerated);
    BigCount parts;
    for (const SearchedAlternative& one : found.alternatives) parts += one.enumerated;
    CHECK(parts == enumerated);
  }
}

TEST_CASE("the plan carries what was chosen, and its hash tells it apart") {
  Request request = small_request("4x3", 4, WorkloadKind::Generation);
  const OpenChoices open{.dtypes = {Dtype::F32, Dtype::Bf16}, .batches = {4, 16}};
  const simulator::Simulator simulator(request.cluster);
  const OpenResult found = search_open(alternatives_of(request, open), simulator,
                                       {.objective = Objective::Throughput, .top = 1000});
  std::set<std::pair<Dtype, std::int64_t>> chosen;
  std::set<std::string> hashes;
  for (const RankedPlan& ranked : found.found.plans) {
    chosen.insert({ranked.plan.dtype, ranked.plan.workload.global_batch});
    hashes.insert(plan_hash(ranked.plan));
  }
  CHECK(chosen.size() == 4);
  CHECK(hashes.size() == found.found.plans.size());
}

TEST_CASE("a KV cache takes what memory leaves beside the programs of a server") {
  Request request = small_request("4x3", 4, WorkloadKind::Generation);
  request.kv.fill = true;
  const simulator::Simulator simulator(request.cluster);
  const auto best = [&] {
    return search(Space(request), simulator, {.objective = Objective::Throughput, .top = 1})
        .plans.at(0);
  };
  const Plan ample = best().plan;  // a thousand times what it needs
  CHECK(ample.kv_tokens ==
        ample.sequences_per_rank() * ample.pages_for(ample.model.context) * ample.page_size);
  const auto served = [](const Plan& plan, std::int64_t pages) {
    const program::ServingShape shape{.sequences = plan.sequences_per_rank(),
                                      .chunk = plan.prefill_chunk,
                                      .pages = pages,
                                      .max_context = plan.model.context};
    return std::max(program::serving_memory(plan, Rank(0), shape).total(),
                    program::serving_memory(plan, Rank(plan.world > 1 ? 1 : 0), shape).total());
  };
  const std::int64_t pages = ample.needed_pages() + 3;
  REQUIRE(pages < ample.kv_pages());
  request.cluster.device.memory_bytes =
      static_cast<std::int64_t>(static_cast<double>(served(ample, pages)) / 0.95) + 1;
  request.fixed = parse_fixed_degrees("tensor=" + std::to_string(ample.tensor), request.model);
  const RankedPlan tight = best();
  CHECK(tight.plan.kv_tokens % tight.plan.page_size == 0);
  CHECK(tight.plan.kv_pages() >= tight.plan.needed_pages());
  const double room = 0.95 * static_cast<double>(request.cluster.device.memory_bytes);
  CHECK(static_cast<double>(served(tight.plan, tight.plan.kv_pages())) <= room);
  CHECK(static_cast<double>(served(tight.plan, tight.plan.kv_pages() + 1)) > room);
  CHECK(tight.memory.total() <= request.cluster.device.memory_bytes);
  CHECK(tight.plan.predicted.memory_bytes == tight.memory.total());
}

TEST_CASE(
    "of a list of KV caches the largest that fits is chosen, and too small ones are no plans") {
  Request request = small_request("4x3", 1, WorkloadKind::Generation);
  const simulator::Simulator simulator(request.cluster);
  const auto tokens = [&](std::vector<std::int64_t> list) {
    request.kv.tokens = std::move(list);
    return search(Space(request), simulator, {.top = 1}).plans.at(0).plan.kv_tokens;
  };
  CHECK(tokens({64, 512, 4096}) == 4096);  // 16 sequences of 32 tokens need 512
  Limits limits;
  request.kv.tokens = {512};
  limits.memory_bytes =
      search(Space(request), simulator, {.top = 1}).plans.at(0).memory.total() + 1000;
  request.kv.tokens = {64, 512, 4096};
  CHECK(
      search(Space(request), simulator, {.top = 1, .limits = limits}).plans.at(0).plan.kv_tokens ==
      512);
  request.kv.tokens = {64, 511 - 16};
  try {
    const Space none(request);
    FAIL("no plan is legal");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("need at least 512") != std::string::npos);
  }
}

TEST_CASE("lists and ranges of what is open are read, and what is wrong is named") {
  CHECK(parse_batches("64") == std::vector<std::int64_t>{64});
  CHECK(parse_batches("8,16,8") == std::vector<std::int64_t>{8, 16});
  CHECK(parse_batches("3:20") == std::vector<std::int64_t>{3, 4, 8, 16, 20});
  CHECK(parse_batches("1:8") == std::vector<std::int64_t>{1, 2, 4, 8});
  CHECK(parse_batches("5:5") == std::vector<std::int64_t>{5});
  CHECK(parse_dtypes("any", DeviceKind::Cuda) == std::vector<Dtype>{Dtype::Bf16, Dtype::F32});
  CHECK(parse_dtypes("any", DeviceKind::Cpu) == std::vector<Dtype>{Dtype::F32});
  CHECK(parse_dtypes("fp32,bf16", DeviceKind::Cpu) == std::vector<Dtype>{Dtype::F32, Dtype::Bf16});
  CHECK(parse_capacities("none,1.25") == std::vector<Capacity>{std::nullopt, 1.25});
  CHECK(parse_capacities("any").size() == 4);
  CHECK(parse_kv_budget("fill").fill);
  CHECK(parse_kv_budget("8Ki,512").tokens == std::vector<std::int64_t>{512, 8192});
  for (const char* wrong : {"", "0", "8:", ":8", "8:4", "1.5", "8,,9", "many", "-3", "1e30"}) {
    CAPTURE(wrong);
    CHECK(refused([&] { static_cast<void>(parse_batches(wrong)); }));
    CHECK(refused([&] { static_cast<void>(parse_kv_budget(wrong)); }));
  }
  for (const char* wrong : {"", "half", "fp32,", "int32", "bf16:fp32"}) {
    CAPTURE(wrong);
    CHECK(refused([&] { static_cast<void>(parse_dtypes(wrong, DeviceKind::Cuda)); }));
  }
  for (const char* wrong : {"", "0", "1,none,", "-1", "nan"}) {
    CAPTURE(wrong);
    CHECK(refused([&] { static_cast<void>(parse_capacities(wrong)); }));
  }
  const Request trains = small_request("4", 4, WorkloadKind::Training);
  const Request generates = small_request("4", 4, WorkloadKind::Generation);
  CHECK(refused([&] { static_cast<void>(alternatives_of(trains, {.batches = {1, 2}})); }));
  CHECK(refused([&] {
    static_cast<void>(alternatives_of(generates, {.capacities = {1.0, 2.0}}));
  }));
  Request kept = trains;
  kept.kv.fill = true;
  CHECK(refused([&] { const Space space(kept); }));
}
