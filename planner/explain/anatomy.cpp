#include "planner/explain/anatomy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string_view>

#include "core/base/fail.h"
#include "profiles/description.h"

namespace imhotep::planner {
namespace {

using program::Operation;
using program::Pass;

struct ClassOf {
  const Operation& operation;

  template <class T>
  OperationClass operator()(const T&) const {
    using C = OperationClass;
    constexpr auto one_of = []<class... Ts>() { return (std::is_same_v<T, Ts> || ...); };
    if constexpr (one_of.template operator()<ExchangeRows, ExchangeCounts>()) {
      return C::Exchange;
    } else if constexpr (one_of.template
                         operator()<AllReduce, AllGather, ReduceScatter, AllGatherRows>()) {
      if (operation.pass == Pass::Update) return C::GradientCollective;
      return std::string_view(operation.name) == "balance_sum" ? C::Routing : C::TensorCollective;
    } else if constexpr (one_of.template operator()<GroupedGemm, GroupedColumnSum, FewExpertsUp,
                                                    FewExpertsDown>()) {
      return C::Experts;
    } else if constexpr (one_of.template operator()<Route, RouteGrad, PackOrder, ReceiveOrder,
                                                    Combine, CombineGrad, ScatterSum>()) {
      return C::Routing;
    } else if constexpr (one_of.template operator()<Attention, AttentionGrad, AttentionCached>()) {
      return C::Attention;
    } else if constexpr (one_of.template operator()<Embedding, EmbeddingGrad, SoftmaxStats,
                                                    CrossEntropy, Distill, Sample>()) {
      return C::Head;
    } else if constexpr (one_of.template operator()<AdamW, SumSquares, ClipScale>()) {
      return C::Update;
    } else if constexpr (std::is_same_v<T, Fill>) {
      return operation.layer < 0 ? C::Update : C::Elementwise;
    } else if constexpr (std::is_same_v<T, GatherRows>) {
      return operation.layer < 0 ? C::Head : C::Routing;
    } else if constexpr (std::is_same_v<T, NormGate>) {
      return C::Routing;
    } else if constexpr (one_of.template operator()<Gemm, NormGemm, ColumnSum>()) {
      return by_name();
    } else {
      return C::Elementwise;
    }
  }

  [[nodiscard]] OperationClass by_name() const {
    const std::string_view name = operation.name;
    if (operation.layer < 0) return OperationClass::Head;
    if (name.starts_with("mlp")) return OperationClass::DenseMlp;
    if (name.starts_with("experts")) return OperationClass::Experts;
    if (name.starts_with("gate")) return OperationClass::Routing;
    if (name.starts_with("coefficient")) return OperationClass::Elementwise;
    return OperationClass::Attention;
  }
};

// What takes most of the time of an operation: the nearest of its limits, or none of them.
Bound bound_of(const Operation& operation, const profiles::Work& work, const DeviceSpec& device,
               Dtype dtype, double time_us) {
  constexpr double kFarFromAnyLimit = 0.25;
  if (operation.group.valid()) return Bound::Network;
  const double peak = dtype == Dtype::Bf16 ? device.bf16_flops_per_us : device.fp32_flops_per_us;
  const double compute_us = work.flops / peak, memory_us = work.bytes / device.memory_bytes_per_us;
  if (std::max(compute_us, memory_us) < kFarFromAnyLimit * time_us) return Bound::Launch;
  return compute_us > memory_us ? Bound::Compute : Bound::Memory;
}

class Collector {
 public:
  Collector(const Plan& plan, const simulator::Simulator& simulator)
      : plan_(plan), simulator_(simulator) {
    for (int c = 0; c < kOperationClasses; ++c) shares_[c].kind = static_cast<OperationClass>(c);
  }

  void add(const program::Program& program, double times) {
    const simulator::ProgramPrice priced = simulator_.price(program, plan_);
    double communication_us = 0;
    for (std::size_t i = 0; i < program.operations.size(); ++i) {
      const Operation& operation = program.operations[i];
      const double time_us = priced.costs[i].time_us;
      const profiles::Work work =
          profiles::work_of(profiles::describe(operation.shape), program.dtype);
      const Bound bound =
          bound_of(operation, work, simulator_.cluster().device, program.dtype, time_us);
      ClassShare& share = shares_[static_cast<int>(class_of(operation))];
      share.time_us += times * time_us;
      share.flops += times * work.flops;
      share.bytes += times * work.bytes;
      share.bound_us[static_cast<int>(bound)] += times * time_us;
      if (operation.group.valid()) communication_us += time_us;
    }
    hidden_us_ += times * (communication_us - priced.exposed_us);
  }

  void finish(Anatomy& anatomy) {
    for (const ClassShare& share : shares_) {
      if (share.time_us > 0) anatomy.classes.push_back(share);
    }
    std::stable_sort(anatomy.classes.begin(), anatomy.classes.end(),
                     [](const auto& a, const auto& b) { return a.time_us > b.time_us; });
    anatomy.hidden_us = std::max(0.0, hidden_us_);
  }

 private:
  const Plan& plan_;
  const simulator::Simulator& simulator_;
  std::array<ClassShare, kOperationClasses> shares_;
  double hidden_us_ = 0;
};

}  // namespace

const char* class_name(OperationClass kind) {
  constexpr const char* kNames[kOperationClasses] = {"attention",
                                                     "dense MLP",
                                                     "experts",
                                                     "routing",
                                                     "exchange",
                                                     "tensor collectives",
                                                     "gradient collectives",
                                                     "embedding and head",
                                                     "norms and mixing",
                                                     "update"};
  return kNames[static_cast<int>(kind)];
}

OperationClass class_of(const Operation& operation) {
  return std::visit(ClassOf{operation}, operation.shape);
}

const char* bound_name(Bound bound) {
  constexpr const char* kNames[] = {"compute", "memory", "network", "launch"};
  return kNames[static_cast<int>(bound)];
}

Bound ClassShare::bound() const {
  return static_cast<Bound>(std::max_element(bound_us, bound_us + 4) - bound_us);
}

Anatomy anatomy(const Plan& plan, const simulator::Simulator& simulator) {
  Anatomy result;
  Collector collector(plan, simulator);
  if (plan.workload.kind == WorkloadKind::Training) {
    result.step = simulator.training_step(plan);
    collector.add(program::build_train_step(plan, Rank(0), {.first = true}), 1);
    if (plan.accumulation > 1) {
      collector.add(program::build_train_step(plan, Rank(0), {.first = false}),
                    static_cast<double>(plan.accumulation - 1));
    }
    collector.add(program::build_update(plan, Rank(0)), 1);
  } else {
    result.step = simulator.decode_step(plan);
    collector.add(program::build_generate(plan, Rank(0), program::decode_shape(plan)), 1);
  }
  collector.finish(result);
  return result;
}

std::string what_binds(const Anatomy& anatomy) {
  double total = 0, by_bound[4] = {0, 0, 0, 0};
  for (const ClassShare& share : anatomy.classes) {
    total += share.time_us;
    for (int b = 0; b < 4; ++b) by_bound[b] += share.bound_us[b];
  }
  if (anatomy.classes.empty() || total <= 0) return "nothing takes time";
  const ClassShare& first = anatomy.classes.front();
  const auto most = std::max_element(by_bound, by_bound + 4) - by_bound;
  return fmt::format(
      "{:.0f} % of all operation time is {}, bound by {}; of the whole step {:.0f} % is bound by "
      "{}",
      100 * first.time_us / total, class_name(first.kind), bound_name(first.bound()),
      100 * by_bound[most] / total, bound_name(static_cast<Bound>(most)));
}

std::vector<Difference> differences(const simulator::StepPrice& first,
                                    const simulator::StepPrice& second) {
  std::vector<Difference> all;
  std::map<std::pair<std::string, std::string>, std::size_t> known;
  const auto entry = [&](const simulator::OperationTotal& total) -> Difference& {
    const std::string pass(program::pass_name(total.pass));
    const auto [found, added] = known.emplace(std::pair(total.name, pass), all.size());
    if (added) all.push_back({.operation = total.name, .pass = pass});
    return all[found->second];
  };
  for (const auto& total : first.operations) entry(total).first_us += total.time_us;
  for (const auto& total : second.operations) entry(total).second_us += total.time_us;
  std::stable_sort(all.begin(), all.end(), [](const Difference& a, const Difference& b) {
    return std::abs(a.first_us - a.second_us) > std::abs(b.first_us - b.second_us);
  });
  return all;
}

}  // namespace imhotep::planner
