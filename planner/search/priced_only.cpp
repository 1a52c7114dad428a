#include "planner/search/priced_only.h"

#include <algorithm>

#include "core/base/error.h"
#include "planner/search/evaluator.h"

namespace imhotep::planner {
namespace {

constexpr std::size_t kFastest = 6;  // choices of a kind that a pipeline tries, and the lightest

class PipelinePricer {
 public:
  PipelinePricer(const Case& one, int stages)
      : case_(sub_case(one, stages)),
        stages_(stages),
        space_(case_.request),
        simulator_(case_.request.cluster, case_.profile),
        evaluator_(space_, simulator_) {}

  std::optional<PipelinePlan> run() {
    for (std::size_t f = 0; f < space_.frames().size(); ++f) {
      evaluator_.enter(f);
      for (const Variant& variant : space_.variants()) {
        candidate_ = {.frame = static_cast<std::int32_t>(f), .variant = variant};
        choices_.assign(space_.kinds().size(), 0);
        descend(0);
      }
    }
    return std::move(best_);
  }

 private:
  static Case sub_case(Case one, int stages) {
    one.request.worlds = {one.request.worlds.front() / stages};
    return one;
  }

  void descend(std::size_t kind) {
    if (kind == space_.kinds().size()) {
      look_at();
      return;
    }
    const std::vector<std::uint32_t>& order = evaluator_.by_time(kind);
    std::vector<std::uint32_t> tried(
        order.begin(),
        order.begin() + static_cast<std::ptrdiff_t>(std::min(kFastest, order.size())));
    tried.push_back(evaluator_.lightest(kind));
    for (const std::uint32_t choice : tried) {
      choices_[kind] = choice;
      descend(kind + 1);
    }
  }

  void look_at() {
    const Frame& frame = space_.frames()[candidate_.frame];
    const FramePrice& price = evaluator_.price();
    const int layers = case_.request.model.layers, length = layers / stages_;
    const int again = candidate_.variant.recompute == Recompute::Full ? 1 : 0;
    double slowest_us = 0;
    std::int64_t kept = 0;
    for (int stage = 0; stage < stages_; ++stage) {
      double stage_us = stage == stages_ - 1 ? price.base_us : 0;  // embedding, head and loss
      for (int layer = stage * length; layer < (stage + 1) * length; ++layer) {
        const int kind = space_.kind_of(layer);
        const BlockPrice& block = kind < 0 ? price.dense : price.kinds[kind][choices_[kind]];
        const double alike = kind < 0 ? layers - case_.request.model.moe_layers()
                                      : static_cast<double>(space_.kinds()[kind].layers.size());
        stage_us += (block.step_us + (again == 1 ? block.recompute_us : 0)) / alike;
        if (stage == 0) kept += block.kept[again];
      }
      slowest_us = std::max(slowest_us, stage_us);
    }
    const auto steps = static_cast<double>(frame.accumulation);
    const Times whole = evaluator_.times(candidate_.variant, choices_);
    const Times least = evaluator_.least_times(candidate_.variant, choices_, 0);
    const double update_us = (whole.step_us - least.step_us) / stages_;
    PipelinePlan priced{.stages = stages_};
    priced.transfer_us = (steps + stages_ - 1) * transfer_us(frame);
    priced.bubble_us = (stages_ - 1) * slowest_us;
    priced.step_us = steps * slowest_us + priced.bubble_us + priced.transfer_us + update_us +
                     evaluator_.overheads().step_us;
    const MemoryBound bytes = evaluator_.memory(candidate_.variant, choices_);
    const auto flying = std::min<std::int64_t>(stages_, frame.accumulation);
    priced.memory_bytes = (bytes.weights + bytes.state) / stages_ + price.fixed_bytes +
                          price.base_bytes + flying * kept;
    if (priced.memory_bytes > memory_limit_bytes(case_.request, case_.limits, frame.world)) return;
    if (best_ && best_->step_us <= priced.step_us) return;
    Candidate candidate = candidate_;
    for (std::size_t k = choices_.size(); k-- > 0;) {
      candidate.combination = candidate.combination * frame.choices[k].size() + choices_[k];
    }
    priced.plan = space_.plan(candidate);
    priced.plan.executable = false;
    best_ = std::move(priced);
  }

  // Activations to the next stage and gradients back, for one micro-batch.
  [[nodiscard]] double transfer_us(const Frame& frame) const {
    const Request& request = case_.request;
    const double bytes = static_cast<double>(frame.micro_batch * request.workload.sequence *
                                             request.model.hidden * bytes_of(request.dtype));
    const bool near = frame.world < request.cluster.devices_per_node;
    const LinkSpec& link = near ? request.cluster.intra : request.cluster.inter;
    return 2 * (link.latency_us + bytes / link.bytes_per_us);
  }

  Case case_;
  int stages_;
  Space space_;
  simulator::Simulator simulator_;
  Evaluator evaluator_;
  Candidate candidate_;
  std::vector<std::uint32_t> choices_;
  std::optional<PipelinePlan> best_;
};

}  // namespace

std::vector<PipelinePlan> price_pipelines(const Case& one) {
  const ModelSpec& model = one.request.model;
  const int world = one.request.worlds.front();
  std::vector<PipelinePlan> all;
  for (int stages = 2; stages <= world && stages <= model.layers; ++stages) {
    if (world % stages != 0 || model.layers % stages != 0) continue;
    try {
      if (auto best = PipelinePricer(one, stages).run()) all.push_back(std::move(*best));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::Input) throw;  // no plan of so few devices is legal
    }
  }
  return all;
}

std::vector<PoolsPlan> price_pools(const Case& one) {
  const Workload& work = one.request.workload;
  const int world = one.request.worlds.front();
  const auto best = [&](int devices, Objective objective) {
    Case part = one;
    part.request.worlds = {devices};
    part.objective = objective;
    return best_of(part);
  };
  const auto prompts_per_us = [](const Plan& plan) {
    return plan.data / plan.predicted.prompt_us.value;
  };
  const auto answers_per_us = [&](const Plan& plan) {
    return static_cast<double>(work.global_batch) /
           (static_cast<double>(work.output) * plan.predicted.time_us.value);
  };
  std::vector<PoolsPlan> all;
  const std::optional<RankedPlan> together = best(world, Objective::Latency);
  if (!together) return all;
  const double both = 1 / (1 / prompts_per_us(together->plan) + 1 / answers_per_us(together->plan));
  const double cache_bytes = 2.0 * one.request.model.layers * one.request.model.hidden *
                             static_cast<double>(work.prompt * bytes_of(one.request.dtype));
  for (int prefill = 1; prefill < world; prefill *= 2) {
    std::optional<RankedPlan> first = best(prefill, Objective::FirstToken);
    std::optional<RankedPlan> second = best(world - prefill, Objective::Token);
    if (!first || !second) continue;
    const bool near = world <= one.request.cluster.devices_per_node;
    const LinkSpec& link = near ? one.request.cluster.intra : one.request.cluster.inter;
    PoolsPlan pools{.prefill = std::move(*first), .decode = std::move(*second)};
    const double move_us =
        link.latency_us + cache_bytes / pools.prefill.plan.tensor / link.bytes_per_us;
    pools.first_token_us = pools.prefill.plan.predicted.prompt_us.value + move_us;
    pools.requests_per_s =
        1e6 * std::min(prompts_per_us(pools.prefill.plan), answers_per_us(pools.decode.plan));
    pools.together_per_s = 1e6 * both;
    for (Plan* plan : {&pools.prefill.plan, &pools.decode.plan}) plan->executable = false;
    all.push_back(std::move(pools));
  }
  return all;
}

}  // namespace imhotep::planner
