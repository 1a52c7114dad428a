#include "simulator/step.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "core/base/fail.h"
#include "core/base/random.h"
#include "simulator/engine/program_graph.h"
#include "simulator/program_totals.h"
#include "simulator/step_programs.h"
#include "simulator/styles/restyle.h"
#include "simulator/styles/styled_price.h"

namespace imhotep::simulator {
namespace {

// Host work of a step where no profile says: launch, input tables, logging.
constexpr double kUsualStepUs = 50;

constexpr std::size_t kMostRemembered = 200'000;  // some 50 MB

// All that a price depends on.
bool same_device(const DeviceSpec& a, const DeviceSpec& b) {
  const auto all = [](const DeviceSpec& d) {
    return std::tie(d.name, d.kind, d.memory_bytes, d.memory_bytes_per_us, d.fp32_flops_per_us,
                    d.bf16_flops_per_us, d.launch_us, d.watts);
  };
  return all(a) == all(b);
}

bool same_links(const ClusterSpec& a, const ClusterSpec& b) {
  const auto all = [](const ClusterSpec& c) {
    return std::tie(c.name, c.devices_per_node, c.nodes, c.intra.latency_us, c.intra.bytes_per_us,
                    c.inter.latency_us, c.inter.bytes_per_us);
  };
  return all(a) == all(b) && same_device(a.device, b.device);
}

// A step, all ranks.
double tokens_of(const Plan& plan, const std::string& phase) {
  const Workload& w = plan.workload;
  const std::int64_t training = plan.data * plan.micro_batch * w.sequence;
  if (phase == "training") return static_cast<double>(training * plan.accumulation);
  if (phase == "evaluation") return static_cast<double>(training);
  return static_cast<double>(phase == "prefill" ? w.prompt * plan.data : w.global_batch);
}

}  // namespace

std::size_t Simulator::QuestionHash::operator()(const Question& q) const {
  const auto bits = [](double value) {
    std::uint64_t word = 0;
    static_assert(sizeof word == sizeof value);
    std::memcpy(&word, &value, sizeof word);
    return word;
  };
  std::uint64_t hash = q.operation.family | q.operation.variant << 8 |
                       static_cast<std::uint64_t>(q.dtype) << 16 |
                       static_cast<std::uint64_t>(q.busy) << 24;
  hash ^= static_cast<std::uint64_t>(q.layout.size) << 32 |
          static_cast<std::uint64_t>(q.layout.nodes) << 48;
  for (int i = 0; i < q.operation.keys; ++i) hash = mix64(hash ^ bits(q.operation.key[i]));
  return hash;
}

Simulator::Simulator(ClusterSpec cluster, std::optional<profiles::Profile> profile,
                     StyleConstants styles)
    : cluster_(std::move(cluster)),
      profile_name_(profile ? profile->name : ""),
      profile_hash_(profile ? profile->hash : ""),
      overheads_(profile ? profile->overheads : profiles::Overheads{.step_us = kUsualStepUs}),
      styles_(styles),
      kernels_(std::make_shared<const KernelPrices>(cluster_.device, profile)),
      collectives_(cluster_, profile) {}

Simulator Simulator::on(ClusterSpec cluster) const {
  if (!same_device(cluster.device, cluster_.device)) {
    fail("prices of {} are asked for {}", cluster_.device.name, cluster.device.name);
  }
  Simulator other(*this);
  if (!same_links(cluster, cluster_)) {
    std::erase_if(other.answers_,
                  [](const auto& found) { return found.first.operation.communication; });
  }
  other.collectives_ = collectives_.on(cluster);
  other.cluster_ = std::move(cluster);
  return other;
}

void Simulator::learn(const Simulator& other) {
  if (kernels_ != other.kernels_) fail("prices of other tables are no use");
  if (known_ && known_->answers.size() >= kMostRemembered) return;
  const std::shared_ptr<Known> all =
      known_ ? std::make_shared<Known>(*known_) : std::make_shared<Known>();
  for (const auto& [question, cost] : other.answers_) {
    if (!question.operation.communication) all->answers.emplace(question, cost);
  }
  all->loads.insert(other.loads_.found.begin(), other.loads_.found.end());
  known_ = all;
  loads_.known = &known_->loads;
}

Cost Simulator::answer(const Question& question) const {
  const profiles::Description& operation = question.operation;
  if (known_ && !operation.communication) {
    const auto known = known_->answers.find(question);
    if (known != known_->answers.end()) return known->second;
  }
  const auto found = answers_.find(question);
  if (found != answers_.end()) return found->second;
  const Cost cost =
      operation.communication
          ? collectives_.price(collective_kind(operation),
                               collective_bytes(operation, question.dtype, question.layout.size),
                               question.layout)
          : kernels_->price(operation, question.dtype, question.busy);
  answers_.emplace(question, cost);
  return cost;
}

Cost Simulator::price(const program::Shape& shape, Dtype dtype, const GroupLayout& layout,
                      int busy) const {
  return answer(
      {.operation = profiles::describe(shape), .layout = layout, .busy = busy, .dtype = dtype});
}

std::vector<Cost> Simulator::costs(const program::Program& program, const Plan& plan) const {
  const int busy = busy_ranks(plan);
  std::vector<Cost> costs;
  costs.reserve(program.operations.size());
  for (const LoadedOperation& one : loaded_operations(program, plan, &loads_)) {
    costs.push_back(price(one.shape, one.dtype, one.layout, busy));
  }
  return costs;
}

Timeline Simulator::timeline(const program::Program& program,
                             const std::vector<Cost>& costs) const {
  TaskGraph graph = task_graph(program, costs, cluster_.overlap);
  graph.gap_us = overheads_.operation_us;
  return schedule(graph);
}

Timeline Simulator::timeline(const program::Program& program, const Plan& plan) const {
  if (StyledPrice(program, plan, styles_).foreign()) return price(program, plan).timeline;
  return timeline(program, costs(program, plan));
}

ProgramPrice Simulator::price(const program::Program& program, const Plan& plan) const {
  StyledPrice styled(program, plan, styles_);
  ProgramPrice price;
  if (styled.foreign()) {
    const int busy = busy_ranks(plan);
    std::size_t index = 0;
    for (const LoadedOperation& one : loaded_operations(program, plan, &loads_)) {
      const auto priced = [&](const program::Shape& shape) {
        return this->price(shape, one.dtype, one.layout, busy);
      };
      price.costs.push_back(
          styled.price(program.operations[index++], one.shape, one.layout, priced));
    }
    return styled.finish(std::move(price), cluster_);
  }
  price.costs = costs(program, plan);
  price.timeline = timeline(program, price.costs);
  price.exposed_us = exposed_communication_us(program, price.timeline);
  for (const int task : price.timeline.critical_path) {
    price.errors.add(static_cast<int>(program.operations[task].shape.index()), price.costs[task]);
  }
  return price;
}

void Simulator::finish(StepPrice& step, const ErrorBudget& errors, const Plan& plan) const {
  step.overhead_us += overheads_.step_us;
  step.time_us = errors.around(step.time_us.value + overheads_.step_us);
  step.memory = program::plan_memory(plan, Rank(0), cluster_.device.libraries);
  step.memory.by_kind[static_cast<int>(program::BufferKind::Activation)] += style_bytes(plan);
  step.tokens_per_s = step.tokens / step.time_us.value * 1e6;
  const double per_hour = cluster_.price_per_device_hour * plan.world;
  step.cost_per_mtoken = per_hour / 3600 / step.tokens_per_s * 1e6;
}

StepPrice Simulator::step(const Plan& plan, const std::string& phase) const {
  ProgramTotals totals(overheads_.operation_us);
  double walks = 0;
  for (const StepProgram& one : step_programs(plan, phase)) {
    totals.add(one.program, price(one.program, plan), one.times);
    walks += one.times;
  }
  StepPrice step = totals.step();
  // Every chunk of a prompt is a step for the host.
  const double more = phase == "prefill" ? walks - 1 : 0;
  step.overhead_us += overheads_.step_us * more;
  step.time_us.value += overheads_.step_us * more;
  step.tokens = tokens_of(plan, phase);
  finish(step, totals.errors(), plan);
  return step;
}

StepPrice Simulator::training_step(const Plan& plan) const { return step(plan, "training"); }
StepPrice Simulator::decode_step(const Plan& plan) const { return step(plan, "decode"); }
StepPrice Simulator::prefill(const Plan& plan) const { return step(plan, "prefill"); }

Prediction Simulator::predict(const Plan& plan) const {
  const bool trains = plan.workload.kind == WorkloadKind::Training;
  const StepPrice step = trains ? training_step(plan) : decode_step(plan);
  return {.time_us = step.time_us,
          .prompt_us = trains ? Estimate{} : prefill(plan).time_us,
          .tokens_per_s = step.tokens_per_s,
          .memory_bytes = step.memory.total(),
          .cost_per_mtoken = step.cost_per_mtoken,
          .profile = profile_name_,
          .profile_hash = profile_hash_};
}

}  // namespace imhotep::simulator
