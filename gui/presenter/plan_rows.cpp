// Between rows and whole plans.

#include <algorithm>

#include "core/base/fail.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/kind_names.h"
#include "gui/presenter/planning.h"

namespace imhotep::gui {

using planner::Candidate;

std::vector<QString> kind_names(const planner::Space& space) {
  std::vector<QString> names;
  for (const planner::LayerKind& kind : space.kinds()) {
    if (space.kinds().size() == 1) return {""};
    QString name = QString("_%1").arg(kind.experts);
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      name += QString("_layer%1").arg(kind.layers.front());
    }
    names.push_back(name);
  }
  return names;
}

Plan bare_plan_of(const PlanSet& plans, std::int64_t row) {
  if (row < 0 || row >= plans.size()) fail("plan {} of {}: no such row", row, plans.size());
  if (plans.priced_only(row)) fail("{}; it has no plan file", plans.title(row).toStdString());
  planner::Request request = request_of(plans.question);
  const auto whole = [&](const char* name) { return static_cast<int>(plans.value(name, row)); };
  request.worlds = {whole("gpus")};
  planner::FixedDegrees& fixed = request.fixed;
  fixed.tensor = whole("tensor");
  fixed.data = whole("data");
  if (plans.find("order") != nullptr) {
    fixed.rank_order = static_cast<RankOrder>(whole("order"));
  }
  if (plans.find("zero") != nullptr) {
    fixed.zero = whole("zero");
    fixed.micro_batch = whole("micro_batch");
    fixed.accumulation = whole("accumulation");
    fixed.recompute = whole("recompute") == 1 ? Recompute::Full : Recompute::None;
  }
  const planner::Space space(request);
  const std::vector<QString> names = kind_names(space);
  std::optional<Plan> found;
  space.for_each([&](const Candidate& candidate) {
    if (found) return;
    for (std::size_t k = 0; k < names.size(); ++k) {
      const planner::LayerChoice& choice = space.choice(candidate, k);
      const auto is = [&](const char* name, int value) {
        return plans.value(name + names[k], row) == value;
      };
      if (!is("expert", choice.expert) || !is("slicing", choice.slicing) ||
          !is("replica", choice.replica) || !is("exchange", static_cast<int>(choice.exchange))) {
        return;
      }
    }
    found = space.plan(candidate);
  });
  if (!found) fail("plan {}: its degrees are no plan of this question", row);
  return *found;
}

Plan plan_of(const PlanSet& plans, std::int64_t row, const Prices& prices) {
  const Plan plan = bare_plan_of(plans, row);
  const std::int64_t limit = planner::rank_memory_bytes(plans.question.cluster, plan.world);
  planner::RankedPlan ranked =
      planner::measure_memory(plan, limit, plans.question.cluster.device.libraries);
  ranked.plan.predicted = simulator::Simulator(*prices.simulator).predict(ranked.plan);
  ranked.plan.predicted.memory_bytes = ranked.memory.total();
  return ranked.plan;
}

std::int64_t row_of(const PlanSet& plans, const Plan& plan) {
  if (!plan.recompute_layers.empty()) return -1;
  const planner::Space space(request_of(plans.question));
  const std::vector<QString> names = kind_names(space);
  std::vector<std::pair<const double*, double>> wanted;
  const auto want = [&](const QString& name, double value) {
    if (const Column* column = plans.find(name)) wanted.emplace_back(column->values.data(), value);
  };
  want("gpus", plan.world);
  want("tensor", plan.tensor);
  want("order", static_cast<int>(plan.rank_order));
  want("zero", plan.zero);
  want("micro_batch", static_cast<double>(plan.micro_batch));
  want("recompute", plan.recompute == Recompute::Full ? 1 : 0);
  for (std::size_t k = 0; k < names.size(); ++k) {
    const MoeLayerPlan* first = nullptr;
    for (const int layer : space.kinds()[k].layers) {
      const MoeLayerPlan* moe = plan.moe(layer);
      if (first == nullptr) first = moe;
      const bool alike = moe != nullptr && moe->expert == first->expert &&
                         moe->slicing == first->slicing && moe->exchange == first->exchange;
      if (!alike) return -1;
    }
    want("expert" + names[k], first->expert);
    want("slicing" + names[k], first->slicing);
    want("replica" + names[k], first->replica);
    want("exchange" + names[k], static_cast<int>(first->exchange));
  }
  for (std::int64_t row = 0; row < plans.size(); ++row) {
    const auto is = [row](const auto& pair) { return pair.first[row] == pair.second; };
    if (std::all_of(wanted.begin(), wanted.end(), is)) return row;
  }
  return -1;
}

}  // namespace imhotep::gui
