// What can be priced but not run, as rows below the plans: training in pipeline stages, generation
// with devices of its own for prompts (planner/search/priced_only.h).

#include <limits>

#include "gui/presenter/basics.h"
#include "gui/presenter/kind_names.h"
#include "gui/presenter/planning.h"
#include "planner/search/priced_only.h"

namespace imhotep::gui {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

class PricedRows {
 public:
  PricedRows(PlanSet& plans, const planner::Case& one)
      : plans_(plans), case_(one), world_(one.request.worlds.front()) {}

  void add_pipelines() {
    add_column("stages", "pipeline stages", 1);
    const planner::Space space(case_.request);
    const std::vector<QString> kinds = kind_names(space);
    for (const planner::PipelinePlan& one : planner::price_pipelines(case_)) {
      begin(one.step_us, 0, static_cast<double>(one.memory_bytes));
      set("stages", one.stages);
      set("tensor", one.plan.tensor);
      set("data", one.plan.data);
      set("order", static_cast<int>(one.plan.rank_order));
      set("zero", one.plan.zero);
      set("micro_batch", static_cast<double>(one.plan.micro_batch));
      set("accumulation", static_cast<double>(one.plan.accumulation));
      set("recompute", one.plan.recompute == Recompute::Full ? 1 : 0);
      for (std::size_t k = 0; k < kinds.size(); ++k) {
        const MoeLayerPlan* moe = one.plan.moe(space.kinds()[k].layers.front());
        if (moe == nullptr) continue;
        set("expert" + kinds[k], moe->expert);
        set("slicing" + kinds[k], moe->slicing);
        set("replica" + kinds[k], moe->replica);
        set("exchange" + kinds[k], static_cast<int>(moe->exchange));
      }
    }
  }

  void add_pools() {
    add_column("prompt_gpus", "devices that only read prompts", 0);
    for (const planner::PoolsPlan& one : planner::price_pools(case_)) {
      const auto memory = std::max(one.prefill.memory.total(), one.decode.memory.total());
      begin(one.decode.plan.predicted.time_us.value, one.first_token_us,
            static_cast<double>(memory));
      set("prompt_gpus", one.prefill.plan.world);
    }
  }

 private:
  void add_column(const char* name, const char* title, double of_plans) {
    Column column{.name = name, .title = title, .kind = Column::Kind::Count};
    column.values.assign(static_cast<std::size_t>(plans_.size()), of_plans);
    plans_.columns.push_back(std::move(column));
  }

  void set(const QString& name, double value) {
    const int index = plans_.index_of(name);
    if (index >= 0) plans_.columns[index].values.back() = value;
  }

  // A row of which only the measures are known.
  void begin(double time_us, double prompt_us, double memory_bytes) {
    for (Column& column : plans_.columns) column.values.push_back(kUnknown);
    const Workload& work = case_.request.workload;
    const bool trains = work.kind == WorkloadKind::Training;
    const auto tokens = static_cast<double>(work.global_batch * (trains ? work.sequence : 1));
    const double tokens_per_s = tokens / time_us * 1e6;
    set("time", time_us);
    set("prompt", prompt_us);
    set("memory", memory_bytes);
    set("tokens", tokens_per_s);
    set("tokens_per_gpu", tokens_per_s / world_);
    set("cost", case_.request.cluster.price_per_device_hour * world_ / 3600 / tokens_per_s * 1e6);
    set("gpus", world_);
    set("fits", kPricedOnly);
  }

  PlanSet& plans_;
  planner::Case case_;
  int world_;
};

}  // namespace

void add_priced_rows(PlanSet& plans) {
  if (plans.size() == 0) return;
  planner::Case one{.request = request_of(plans.question),
                    .profile = profile_of(plans.question),
                    .objective = plans.question.goal.objective,
                    .limits = {}};
  const double best = plans.value("gpus", plans.best);
  one.request.worlds = {plans.best < 0 ? one.request.worlds.back() : static_cast<int>(best)};
  if (one.request.worlds.front() < 2) return;
  PricedRows rows(plans, one);
  if (one.request.workload.kind == WorkloadKind::Training) {
    rows.add_pipelines();
  } else {
    rows.add_pools();
  }
}

}  // namespace imhotep::gui
