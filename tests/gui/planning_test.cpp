#include <doctest/doctest.h>

#include <random>

#include "core/base/error.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"
#include "gui/presenter/compare.h"
#include "gui/presenter/placement.h"
#include "gui/presenter/what_if.h"
#include "profiles/catalogue.h"
#include "tests/gui/samples.h"

namespace imhotep::gui {
namespace {

Detail detail_of(const Plan& plan, const Prices& prices) {
  return examine(plan, prices, std::nullopt, Stop());
}

TEST_CASE("a change of plans is told by what differs") {
  CHECK(change_of_plan("16 GPUs: tensor 1 × data 16, experts (64) 4 × 4 × 1 flat, experts (128) 8 "
                       "× 1 × 2 flat",
                       "16 GPUs: tensor 2 × data 8, experts (64) 8 × 1 × 2 flat, experts (128) 8 × "
                       "1 × 2 flat") ==
        "tensor 1 × data 16 → tensor 2 × data 8; experts (64) 4 × 4 × 1 flat → 8 × 1 × 2 flat");
  CHECK(change_of_plan("8 GPUs: tensor 1 × data 8, experts 8 × 1 × 1 flat",
                       "8 GPUs: tensor 1 × data 8, experts 4 × 2 × 1 flat") ==
        "experts 8 × 1 × 1 flat → experts 4 × 2 × 1 flat");
  CHECK(change_of_plan("8 GPUs: tensor 1 × data 8", "none: no plan fits") ==
        "8 GPUs: tensor 1 × data 8 → none: no plan fits");
}

TEST_CASE("every legal plan is a row, and the best one is the planner's") {
  for (const Question& asked : {small_question(), small_generation()}) {
    const Prices prices = prices_of(asked);
    const PlanSet plans = explore(asked, prices, Stop());
    const planner::Space space(request_of(asked));
    CHECK(static_cast<planner::Count>(plans.size()) == space.size());
    const simulator::Simulator simulator(asked.cluster, profile_of(asked));
    const planner::SearchResult found =
        planner::search(space, simulator, {.objective = asked.goal.objective});
    REQUIRE(!found.plans.empty());
    const Plan best = plan_of(plans, plans.best, prices);
    CHECK(plan_hash(best) == plan_hash(found.plans.front().plan));
    CHECK(best.predicted.time_us.value ==
          doctest::Approx(found.plans.front().plan.predicted.time_us.value));
    CHECK(best.predicted.memory_bytes == found.plans.front().plan.predicted.memory_bytes);
  }
}

TEST_CASE("prices that were remembered are those of a simulator made anew") {
  Question asked = small_question();
  asked.cluster = profiles::find_cluster("azure-nd-a100-v4");
  asked.goal.profile.clear();
  asked.goal.gpus = 4;
  REQUIRE(profile_of(asked));
  KnobValues values = knobs_of(asked);
  const auto turn = [&](Knob knob, double value) {
    values[static_cast<std::size_t>(knob)] = value;
    const Question changed = with_knobs(asked, values);
    const Prices prices = prices_of(changed);
    const PlanSet plans = explore(changed, prices, Stop());
    const simulator::Simulator anew(changed.cluster, profile_of(changed));
    REQUIRE(plans.best >= 0);
    const Plan best = plan_of(plans, plans.best, prices);
    const Prediction predicted = anew.predict(best);
    CHECK(best.predicted.time_us.value == predicted.time_us.value);
    CHECK(best.predicted.time_us.high == predicted.time_us.high);
    CHECK(best.predicted.cost_per_mtoken == predicted.cost_per_mtoken);
    const planner::SearchResult found = planner::search(planner::Space(request_of(changed)), anew,
                                                        {.objective = changed.goal.objective});
    REQUIRE(!found.plans.empty());
    CHECK(plan_hash(best) == plan_hash(found.plans.front().plan));
    return best.predicted.time_us.value;
  };
  const double slow = turn(Knob::Links, 0.1);
  const double fast = turn(Knob::Links, 8);
  CHECK(slow != fast);
  turn(Knob::Skew, 0.8);
  turn(Knob::Price, 3);
  turn(Knob::Batch, 2 * values[static_cast<std::size_t>(Knob::Batch)]);
  values[static_cast<std::size_t>(Knob::Batch)] /= 2;
  turn(Knob::Price, 0);
  CHECK(turn(Knob::Skew, 0) == fast);
}

TEST_CASE("a row becomes a plan and the plan finds its row again") {
  const Plans plans = small_plans();
  const Prices prices = prices_of(plans->question);
  const unsigned seed = 20;
  INFO("seed ", seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 12; ++i) {
    const std::int64_t row =
        static_cast<std::int64_t>(random() % static_cast<unsigned>(plans->size()));
    const Plan plan = plan_of(*plans, row, prices);
    INFO(plans->title(row).toStdString());
    CHECK(check_degrees(plan).feasible);
    CHECK(row_of(*plans, plan) == row);
    CHECK(plan.tensor == plans->value("tensor", row));
    // Sums of parts are near the whole simulation where communication overlaps.
    CHECK(plans->value("time", row) == doctest::Approx(plan.predicted.time_us.value).epsilon(0.05));
    CHECK(plans->value("memory", row) <= static_cast<double>(plan.predicted.memory_bytes));
  }
}

TEST_CASE("nothing beats a plan on the front, and every other plan is beaten") {
  const Plans plans = small_plans();
  const int x = plans->index_of("time"), y = plans->index_of("memory");
  std::vector<std::int64_t> all;
  for (std::int64_t row = 0; row < plans->size(); ++row) all.push_back(row);
  const auto front = pareto_front(*plans, x, y, all);
  REQUIRE(!front.empty());
  const auto at = [&](std::int64_t row) {
    return std::pair(plans->columns[x].values[row], plans->columns[y].values[row]);
  };
  for (const std::int64_t row : all) {
    bool beaten = false;
    for (const std::int64_t f : front) {
      beaten = beaten || (at(f).first <= at(row).first && at(f).second <= at(row).second);
    }
    CHECK(beaten);
  }
  for (std::size_t i = 1; i < front.size(); ++i) {
    CHECK(at(front[i - 1]).first < at(front[i]).first);
    CHECK(at(front[i - 1]).second > at(front[i]).second);
  }
}

TEST_CASE("what cannot be run is a row that says so, is never the best and never on the front") {
  for (Question asked : {small_question(), small_generation()}) {
    asked.goal.gpus = 4;
    const Prices prices = prices_of(asked);
    const PlanSet plain = explore(asked, prices, Stop());
    const PlanSet plans = explore(asked, prices, Stop(), {.priced_only = true});
    REQUIRE(plans.size() > plain.size());
    CHECK(plans.best == plain.best);
    std::vector<std::int64_t> all;
    for (std::int64_t row = 0; row < plans.size(); ++row) {
      all.push_back(row);
      CHECK(plans.priced_only(row) == (row >= plain.size()));
      if (!plans.priced_only(row)) continue;
      CHECK(plans.value("time", row) > 0);
      CHECK(plans.find("fits")->text(plans.value("fits", row)) == "priced only");
      CHECK(plans.title(row).contains("cannot be run"));
      CHECK_THROWS_AS(static_cast<void>(bare_plan_of(plans, row)), Error);
    }
    for (const std::int64_t row : usable_rows(plans, all)) CHECK(row < plain.size());
  }
}

TEST_CASE("limits move the best plan and mark those beyond them") {
  Question asked = small_question();
  const Plans free = small_plans();
  const double memory = free->value("memory", free->best);
  asked.limits.memory_bytes = memory * 0.9;
  const PlanSet bound = explore(asked, prices_of(asked), Stop());
  REQUIRE(bound.best >= 0);
  CHECK(bound.value("memory", bound.best) <= memory * 0.9);
  CHECK(bound.value("time", bound.best) >= free->value("time", free->best));
  CHECK(!within_limits(bound, row_of(bound, plan_of(*free, free->best, prices_of(asked)))));
}

TEST_CASE("a stopped search ends at once and says so") {
  const Stop stop;
  stop.request();
  const PlanSet plans = explore(small_question(), prices_of(small_question()), stop);
  CHECK(plans.size() == 0);
  CHECK(plans.note.contains("stopped"));
}

TEST_CASE("a space larger than the table keeps the best plans and counts the others") {
  const Question asked = small_question();
  const PlanSet few = explore(asked, prices_of(asked), Stop(), {.most = 50});
  CHECK(few.size() == 50);
  CHECK(few.note.contains(QString::number(small_plans()->size())));
  CHECK(few.value("time", few.best) ==
        doctest::Approx(small_plans()->value("time", small_plans()->best)));
}

TEST_CASE("the parts of a breakdown add up, whichever way they are cut") {
  const Plans plans = small_plans();
  const Prices prices = prices_of(plans->question);
  const Detail detail = detail_of(plan_of(*plans, plans->best, prices), prices);
  double totals[3] = {0, 0, 0};
  for (const BreakdownBy by : {BreakdownBy::Class, BreakdownBy::Layer, BreakdownBy::Source}) {
    for (const Bar& bar : time_bars(detail, by)) totals[static_cast<int>(by)] += bar.total_us();
  }
  CHECK(totals[0] == doctest::Approx(totals[1]));
  CHECK(totals[0] == doctest::Approx(totals[2]));
  double operations = detail.anatomy.step.overhead_us;
  for (const auto& total : detail.anatomy.step.operations) operations += total.time_us;
  CHECK(totals[0] == doctest::Approx(operations));
  double memory = 0;
  for (const MemoryPart& part : memory_parts(detail)) memory += part.bytes;
  CHECK(memory == static_cast<double>(detail.memory.total()));
}

TEST_CASE("slices of a stream follow one another and end with the step") {
  const Plans plans = small_plans();
  const Prices prices = prices_of(plans->question);
  const Detail detail = detail_of(plan_of(*plans, plans->best, prices), prices);
  REQUIRE(!detail.timing.tracks.empty());
  double last = 0;
  for (const Track& track : detail.timing.tracks) {
    double end = 0;
    for (const Slice& slice : track.slices) {
      CHECK(slice.start_us >= end - 1e-6);
      end = slice.start_us + slice.duration_us;
    }
    last = std::max(last, end);
  }
  CHECK(last <= detail.timing.end_us + 1e-6);
  CHECK(detail.timing.end_us <= detail.anatomy.step.time_us.value + 1e-6);
}

TEST_CASE("a report adds measured streams and its errors") {
  const Plans plans = small_plans();
  const Prices prices = prices_of(plans->question);
  const Plan plan = plan_of(*plans, plans->best, prices);
  const Detail detail = examine(plan, prices, sample_report(plan, prices), Stop());
  CHECK(detail.timing.tracks.size() >= 2);
  CHECK(detail.timing.tracks.back().measured);
  const MeasuredComparison compared = compare_measured(detail);
  for (const MeasuredRow& row : compared.rows) {
    INFO(row.operation.toStdString());
    CHECK(row.error() == doctest::Approx(1 / 1.1 - 1).epsilon(1e-3));
  }
  CHECK(compared.rows.front().operation == "step");
}

TEST_CASE("two plans differ where their degrees differ, and by what their steps differ") {
  const Plans plans = small_plans();
  const Prices prices = prices_of(plans->question);
  const std::int64_t other = plans->best == 0 ? 1 : 0;
  const Detail a = detail_of(plan_of(*plans, plans->best, prices), prices);
  const Detail b = detail_of(plan_of(*plans, other, prices), prices);
  const Comparison compared = compare_plans(a, b);
  CHECK(!compared.rows.empty());
  double operations = 0;
  for (const Delta& delta : compared.operations) operations += delta.change_us();
  double expected = 0;
  for (const auto& total : b.anatomy.step.operations) expected += total.time_us;
  for (const auto& total : a.anatomy.step.operations) expected -= total.time_us;
  CHECK(operations == doctest::Approx(expected));
  CHECK(compare_plans(a, a).rows.empty());
  CHECK(compare_plans(a, a).verdict.contains("same plan"));
}

TEST_CASE("every expert sits where the layout says, and groups hold their rank") {
  const Plans plans = small_plans();
  const Prices prices = prices_of(plans->question);
  const unsigned seed = 7;
  INFO("seed ", seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 8; ++i) {
    const Plan plan = plan_of(
        *plans, static_cast<std::int64_t>(random() % static_cast<unsigned>(plans->size())), prices);
    for (int layer = 0; layer < count_of(plan.moe_layers); ++layer) {
      const MoeLayerPlan& moe = plan.moe_layers[static_cast<std::size_t>(layer)];
      const LayerPlacement placed = place_layer(plan, layer);
      std::vector<int> held(static_cast<std::size_t>(moe.experts), 0);
      for (const RankLoad& load : placed.ranks) {
        for (int e = 0; e < load.experts; ++e)
          ++held[static_cast<std::size_t>(load.first_expert + e)];
      }
      for (const int count : held) CHECK(count == moe.slicing * moe.replica);
      for (int kind = 0; kind < kGroupKinds; ++kind) {
        const auto members = group_of(plan, layer, static_cast<GroupKind>(kind), 3);
        CHECK(std::find(members.begin(), members.end(), 3) != members.end());
      }
    }
  }
}

}  // namespace
}  // namespace imhotep::gui
