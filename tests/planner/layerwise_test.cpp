#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "planner/search/layer_problem.h"
#include "planner/search/layerwise.h"
#include "tests/planner/small_models.h"

using namespace imhotep;
using namespace imhotep::planner;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A problem with random numbers whose shared costs are concave, as those of updates are.
LayerProblem random_problem(std::mt19937& random) {
  const auto number = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  const auto whole = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  LayerProblem problem;
  const int kinds = whole(1, 2);
  problem.regions = whole(1, 3);
  std::vector<double> fixed, slope;
  for (int r = 0; r < problem.regions; ++r) {
    fixed.push_back(number(0, 3));
    slope.push_back(number(0, 2));
  }
  problem.shared_us = [fixed, slope](int region, const std::vector<int>& counts) {
    double layers = 0;
    for (std::size_t k = 0; k < counts.size(); ++k) layers += counts[k] * (1.0 + double(k));
    return layers == 0 ? 0 : fixed[region] + slope[region] * std::pow(layers, 0.9);
  };
  double bytes = 0;
  for (int k = 0; k < kinds; ++k) {
    problem.layers.push_back(whole(1, 3));
    const int items = whole(1, 5);
    for (int i = 0; i < items; ++i) {
      LayerItem item{.kind = k,
                     .region = whole(-1, problem.regions - 1),
                     .bytes = whole(1, 100),
                     .step_us = number(1, 10),
                     .prompt_us = number(1, 10)};
      bytes += double(item.bytes) * problem.layers[k] / items;
      problem.items.push_back(item);
    }
  }
  problem.step_us = number(0, 5);
  problem.prompt_weight = whole(0, 1);
  problem.bytes_limit = static_cast<std::int64_t>(bytes * number(0.5, 1.6));
  if (whole(0, 1) == 1) problem.limits.push_back({1, 0, number(5, 40)});
  if (whole(0, 1) == 1) problem.limits.push_back({2, 1, number(10, 90)});
  return problem;
}

// The cheapest of all assignments, one by one.
double cheapest(const LayerProblem& problem) {
  std::vector<int> kind_of;
  for (std::size_t k = 0; k < problem.layers.size(); ++k) {
    kind_of.insert(kind_of.end(), problem.layers[k], static_cast<int>(k));
  }
  double best = kInfinity;
  std::vector<int> chosen(kind_of.size());
  const auto visit = [&](const auto& self, std::size_t layer) -> void {
    if (layer < kind_of.size()) {
      for (std::size_t i = 0; i < problem.items.size(); ++i) {
        if (problem.items[i].kind != kind_of[layer]) continue;
        chosen[layer] = static_cast<int>(i);
        self(self, layer + 1);
      }
      return;
    }
    double step_us = problem.step_us, prompt_us = problem.prompt_us;
    std::int64_t bytes = 0;
    std::vector<std::vector<int>> counts(problem.regions,
                                         std::vector<int>(problem.layers.size(), 0));
    for (std::size_t l = 0; l < chosen.size(); ++l) {
      const LayerItem& item = problem.items[chosen[l]];
      step_us += item.step_us;
      prompt_us += item.prompt_us;
      bytes += item.bytes;
      if (item.region >= 0) ++counts[item.region][item.kind];
    }
    for (int r = 0; r < problem.regions; ++r) step_us += problem.shared_us(r, counts[r]);
    if (bytes > problem.bytes_limit) return;
    for (const TimeLimit& limit : problem.limits) {
      if (limit.step_weight * step_us + limit.prompt_weight * prompt_us > limit.limit_us) return;
    }
    best = std::min(best, problem.step_weight * step_us + problem.prompt_weight * prompt_us);
  };
  visit(visit, 0);
  return best;
}

Request random_request(std::mt19937& random) {
  const auto pick = [&](auto... values) {
    const std::common_type_t<decltype(values)...> all[] = {values...};
    return all[random() % sizeof...(values)];
  };
  const auto kind = random() % 3 == 0 ? WorkloadKind::Generation : WorkloadKind::Training;
  Request request = small_request(pick("2x2", "4x2", "2x1,4x1"), pick(1, 2, 4), kind);
  request.model.layers = 4;
  request.model.residual = random() % 2 == 0;
  request.cluster.devices_per_node = pick(1, 2, 4);
  request.cluster.inter.bytes_per_us = pick(1e2, 1e3, 1e4);
  request.workload.global_batch = 4;
  request.fixed.micro_batch.reset();
  if (kind == WorkloadKind::Training) request.fixed.accumulation = 1;
  return request;
}

// The best of all plans in which every layer chooses by itself, memory measured on each that
// would be better: nothing is bounded.
double best_by_brute_force(const Space& space, Evaluator& evaluator, Objective objective) {
  double best = kInfinity;
  const Request& request = space.request();
  const int layers = request.model.layers;
  std::vector<bool> ways[2];
  for (std::size_t f = 0; f < space.frames().size(); ++f) {
    const Frame& frame = space.frames()[f];
    evaluator.enter(f);
    const std::int64_t limit = rank_memory_bytes(request.cluster, frame.world);
    for (const Variant& variant : space.variants()) {
      if (variant.recompute == Recompute::Full) continue;  // chosen by layer
      LayerChoices own{.choice = std::vector<std::uint32_t>(layers, 0),
                       .recompute = std::vector<bool>(layers, false)};
      const auto visit = [&](const auto& self, int layer) -> void {
        if (layer < layers) {
          const int kind = space.kind_of(layer);
          const std::size_t choices = kind < 0 ? 1 : frame.choices[kind].size();
          const bool trains = request.workload.kind == WorkloadKind::Training;
          for (std::size_t c = 0; c < choices; ++c) {
            for (int r = 0; r < (trains ? 2 : 1); ++r) {
              own.choice[layer] = static_cast<std::uint32_t>(c);
              own.recompute[layer] = r == 1;
              self(self, layer + 1);
            }
          }
          return;
        }
        const Times times = evaluator.times(variant.zero, own);
        const double cost = score(objective, request.workload, frame.world, times).first;
        if (cost >= best * (1 - 1e-9)) return;
        const Plan plan = space.plan(static_cast<std::int32_t>(f), variant.zero, own);
        if (!measure_memory(plan, limit, {}).verdict.feasible) return;
        best = cost;
      };
      visit(visit, 0);
    }
  }
  return best;
}

}  // namespace

TEST_CASE("mixtures of layers are solved as by trying them all") {
  std::mt19937 random(20);
  int solved = 0;
  for (int i = 0; i < 400; ++i) {
    CAPTURE(i);
    LayerProblem problem = random_problem(random);
    const double expected = cheapest(problem);
    const LayerAnswers found = solve(problem);
    CHECK(found.complete);
    if (std::isinf(expected)) {
      CHECK(found.answers.empty());
      continue;
    }
    ++solved;
    REQUIRE(!found.answers.empty());
    CHECK(found.answers.front().cost == doctest::Approx(expected).epsilon(1e-12));
    CHECK(found.answers.front().bytes <= problem.bytes_limit);
    CHECK(found.bound <= expected * (1 + 1e-12));
    // What is known beforehand is not found again, and anything dearer is.
    problem.cutoff = expected * (1 - 1e-9);
    CHECK(solve(problem).answers.empty());
    CHECK(solve(problem).bound >= problem.cutoff);
    problem.cutoff = expected * (1 + 1e-9);
    CHECK(!solve(problem).answers.empty());
  }
  CHECK(solved > 200);
}

TEST_CASE("the best of all mixtures is the best of brute force, whatever fits") {
  std::mt19937 random(6);
  int better = 0, proved = 0, feasible = 0;
  for (int i = 0; i < 40; ++i) {
    CAPTURE(i);
    Request request = random_request(random);
    const Objective objective =
        random() % 2 == 0 ? default_objective(request.workload.kind) : Objective::Token;
    {  // a memory that some plans have and others have not
      const Space space(request);
      const simulator::Simulator simulator(request.cluster);
      const std::int64_t free =
          search(space, simulator, {.objective = objective, .top = 1}).plans[0].memory.total();
      Request none = request;
      none.cluster.device.memory_bytes = 1;
      const Space tight(none);
      const std::int64_t least =
          search(tight, simulator, {.objective = objective, .top = 1}).smallest->memory.total();
      const double share = std::uniform_real_distribution<double>(-0.1, 1.05)(random);
      request.cluster.device.memory_bytes =
          least + static_cast<std::int64_t>(share * static_cast<double>(free - least));
    }
    const Space space(request);
    const simulator::Simulator simulator(request.cluster);
    Evaluator evaluator(space, simulator);
    const SearchResult found =
        search(space, simulator, {.objective = objective, .top = 1, .layerwise = true});
    REQUIRE(found.layers.has_value());
    const LayerwiseResult& layers = *found.layers;
    BigCount sum = layers.evaluated;
    for (const BigCount* part : {&layers.over_memory, &layers.too_slow, &layers.dominated}) {
      sum += *part;
    }
    CHECK(sum == layers.enumerated);
    const double expected = best_by_brute_force(space, evaluator, objective);
    const double best = layers.better    ? layers.sum.first
                        : found.best_sum ? found.best_sum->first
                                         : kInfinity;
    if (std::isinf(expected)) {
      CHECK(std::isinf(best));
      continue;
    }
    ++feasible;
    better += layers.better ? 1 : 0;
    CHECK(best >= expected * (1 - 1e-9));
    if (layers.proved) {
      ++proved;
      CHECK(best == doctest::Approx(expected).epsilon(1e-9));
    } else {
      CHECK(best <= expected * (1 + layers.gap) * (1 + 1e-9));
    }
    if (layers.better) CHECK(layers.better->memory.total() <= request.cluster.device.memory_bytes);
  }
  MESSAGE(feasible, " of 40 requests have a plan, ", proved, " answers are proved, ", better,
          " mix like layers");
  CHECK(feasible > 20);
  CHECK(proved * 2 > feasible);
  CHECK(better > 3);
}
