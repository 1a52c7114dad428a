#include "simulator/step.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "core/base/random.h"
#include "simulator/engine/program_graph.h"
#include "simulator/program_totals.h"

namespace imhotep::simulator {
namespace {

// Host work of a step where no profile says: launch, input tables, logging.
constexpr double kUsualStepUs = 50;

bool communicates(const program::Operation& operation) { return operation.group.valid(); }

// Communication moves a buffer that may be wider than the program's type.
Dtype dtype_of(const program::Program& program, const program::Operation& operation) {
  if (!communicates(operation) || operation.inputs.size() == 0) return program.dtype;
  const program::Operand& moved = operation.inputs[0];
  return moved.valid() ? program[moved.buffer].dtype : program.dtype;
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

Simulator::Simulator(ClusterSpec cluster, std::optional<profiles::Profile> profile)
    : cluster_(std::move(cluster)),
      profile_name_(profile ? profile->name : ""),
      profile_hash_(profile ? profile->hash : ""),
      overheads_(profile ? profile->overheads : profiles::Overheads{.step_us = kUsualStepUs}),
      kernels_(cluster_.device, profile),
      collectives_(cluster_, profile) {}

Cost Simulator::answer(const Question& question) const {
  const auto known = answers_.find(question);
  if (known != answers_.end()) return known->second;
  const profiles::Description& operation = question.operation;
  const Cost cost =
      operation.communication
          ? collectives_.price(collective_kind(operation),
                               collective_bytes(operation, question.dtype, question.layout.size),
                               question.layout)
          : kernels_.price(operation, question.dtype, question.busy);
  answers_.emplace(question, cost);
  return cost;
}

Cost Simulator::price(const program::Shape& shape, Dtype dtype, const GroupLayout& layout,
                      int busy) const {
  return answer(
      {.operation = profiles::describe(shape), .layout = layout, .busy = busy, .dtype = dtype});
}

RoutedLoad Simulator::load_of(const Plan& plan, int layer, double mean_rows) const {
  int moe_index = 0;
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    if (moe.layer == layer) {
      const auto shares = expert_shares(plan.workload.routing, moe.experts, moe_index);
      return routed_load(shares, moe.expert, mean_rows);
    }
    ++moe_index;
  }
  return {};
}

ProgramPrice Simulator::price(const program::Program& program, const Plan& plan) const {
  std::vector<GroupLayout> layouts;
  for (const program::Group& group : program.groups) {
    layouts.push_back(group_layout(group.members, plan.ranks_per_node));
  }
  const int busy = std::min(plan.world, plan.ranks_per_node);
  std::map<int, RoutedLoad> loads;
  ProgramPrice price;
  price.costs.reserve(program.operations.size());
  for (const program::Operation& operation : program.operations) {
    const GroupLayout layout =
        communicates(operation) ? layouts[operation.group.value] : GroupLayout{};
    const Dtype dtype = dtype_of(program, operation);
    const double rows = operation.layer < 0 ? 0 : routed_rows(operation.shape);
    if (rows <= 0) {
      price.costs.push_back(this->price(operation.shape, dtype, layout, busy));
      continue;
    }
    // Every routed operation of a layer meets the load that its first one expects.
    auto load = loads.find(operation.layer);
    if (load == loads.end()) {
      load = loads.emplace(operation.layer, load_of(plan, operation.layer, rows)).first;
    }
    price.costs.push_back(
        this->price(under_load(operation.shape, load->second), dtype, layout, busy));
  }
  TaskGraph graph = task_graph(program, price.costs, cluster_.overlap);
  graph.gap_us = overheads_.operation_us;
  price.timeline = schedule(graph);
  price.exposed_us = exposed_communication_us(program, price.timeline);
  for (const int task : price.timeline.critical_path) {
    price.errors.add(static_cast<int>(program.operations[task].shape.index()), price.costs[task]);
  }
  return price;
}

void Simulator::finish(StepPrice& step, const ErrorBudget& errors, const Plan& plan) const {
  step.overhead_us += overheads_.step_us;
  step.time_us = errors.around(step.time_us.value + overheads_.step_us);
  step.memory = program::plan_memory(plan, Rank(0));
  step.tokens_per_s = step.tokens / step.time_us.value * 1e6;
  const double per_hour = cluster_.price_per_device_hour * plan.world;
  step.cost_per_mtoken = per_hour / 3600 / step.tokens_per_s * 1e6;
}

StepPrice Simulator::training_step(const Plan& plan) const {
  ProgramTotals totals(overheads_.operation_us);
  const auto add = [&](const program::Program& program, double times) {
    totals.add(program, price(program, plan), times);
  };
  add(program::build_train_step(plan, Rank(0), {.first = true}), 1);
  if (plan.accumulation > 1) {
    add(program::build_train_step(plan, Rank(0), {.first = false}),
        static_cast<double>(plan.accumulation - 1));
  }
  add(program::build_update(plan, Rank(0)), 1);
  StepPrice step = totals.step();
  step.tokens = static_cast<double>(plan.data * plan.micro_batch * plan.accumulation *
                                    plan.workload.sequence);
  finish(step, totals.errors(), plan);
  return step;
}

StepPrice Simulator::decode_step(const Plan& plan) const {
  ProgramTotals totals(overheads_.operation_us);
  const auto program = program::build_generate(plan, Rank(0), program::decode_shape(plan));
  totals.add(program, price(program, plan), 1);
  StepPrice step = totals.step();
  step.tokens = static_cast<double>(plan.workload.global_batch);
  finish(step, totals.errors(), plan);
  return step;
}

StepPrice Simulator::prefill(const Plan& plan) const {
  ProgramTotals totals(overheads_.operation_us);
  program::GenerateShape shape = program::prefill_shape(plan);
  const std::int64_t prompt = plan.workload.prompt;
  const std::int64_t chunks = (prompt + shape.rows - 1) / shape.rows;
  // Attention is linear in the keys it meets, so the chunks cost what the middle one does.
  shape.context = (static_cast<double>(prompt) + 1) / 2;
  const auto program = program::build_generate(plan, Rank(0), shape);
  totals.add(program, price(program, plan), static_cast<double>(chunks));
  StepPrice step = totals.step();
  step.overhead_us += overheads_.step_us * static_cast<double>(chunks - 1);
  step.time_us.value += overheads_.step_us * static_cast<double>(chunks - 1);
  step.tokens = static_cast<double>(prompt * plan.data);
  finish(step, totals.errors(), plan);
  return step;
}

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
