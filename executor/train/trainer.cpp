#include "executor/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "core/base/fail.h"
#include "core/base/units.h"
#include "core/layout/groups.h"
#include "core/program/build.h"
#include "executor/train/fitting_plan.h"
#include "executor/train/not_finite.h"
#include "executor/train/schedule.h"
#include "kernels/route.h"

namespace imhotep::executor {
namespace {

double wide_value(const void* data, Dtype wide, std::int64_t i) {
  return wide == Dtype::F64 ? static_cast<const double*>(data)[i]
                            : static_cast<double>(static_cast<const float*>(data)[i]);
}

struct Room {
  std::int64_t needed = 0, free = 0;  // bytes of a rank
  std::string where;                  // "device memory, 80 GB are free"
};

[[noreturn]] void refuse(const Plan& plan, Rank rank, const Room& room) {
  fail("rank {} needs {} ({} bytes) of {}: {} bytes too few; {}", rank.value,
       format_bytes(static_cast<double>(room.needed)), room.needed, room.where,
       room.needed - room.free, advise_plan(plan, rank, room.free));
}

}  // namespace

void check_memory(const Plan& plan, const std::vector<program::Program>& programs, Rank rank,
                  int ranks_on_node) {
  Room room{.needed = bytes_of(programs)};
  if (device_of(plan) == kernels::Device::Cuda) {
    room.free = free_device_memory_bytes();
    room.where =
        fmt::format("device memory, {} are free", format_bytes(static_cast<double>(room.free)));
  } else {
    const std::int64_t all = available_memory_bytes();
    room.free = all / ranks_on_node;
    if (room.free <= 0) return;  // unknown
    room.where = fmt::format("memory, {} of {} free are its part of this machine",
                             format_bytes(static_cast<double>(room.free)),
                             format_bytes(static_cast<double>(all)));
  }
  if (room.needed > room.free) refuse(plan, rank, room);
}

Trainer::Trainer(const Plan& plan, Rank rank, CommunicatorPool& pool, const TrainerOptions& options)
    : plan_(plan), rank_(rank), options_(options) {
  std::vector<program::Program> programs;
  const auto add = [&](program::Program program) {
    programs.push_back(std::move(program));
    return static_cast<int>(programs.size()) - 1;
  };
  Cut whole{.sequences = plan.micro_batch, .parts = plan.accumulation};
  whole.first = add(program::build_train_step(plan, rank, {.first = true}));
  if (plan.accumulation > 1) {
    whole.next = add(program::build_train_step(plan, rank, {.first = false}));
  }
  steps_.push_back(whole);
  update_ = add(program::build_update(plan, rank));
  if (options.evaluate_sequences > 0) {
    Cut cut{.sequences = options.evaluate_sequences};
    cut.first = cut.next = add(program::build_evaluate(plan, rank, cut.sequences));
    evaluations_.push_back(cut);
  }
  check_runnable(plan);
  check_memory(plan, programs, rank, options.ranks_on_node);
  runner_.emplace(plan, rank, std::move(programs), pool);
  if (plan.world > 1) world_ = &pool.get(world_group(plan));
  bounded_ = std::any_of(plan.moe_layers.begin(), plan.moe_layers.end(),
                         [](const MoeLayerPlan& moe) { return moe.receive_rows > 0; });
  for (int layer = 0; layer < plan.model.layers; ++layer) {
    if (const int experts = plan.model.experts_at(layer); experts > 0) {
      load_.emplace_back(experts, 0.0);
    }
  }
}

void Trainer::initialize() {
  initialize_weights(plan_, *runner_, options_.initialize);
  const WeightLayout& layout = weights();
  for (std::size_t r = 0; r < layout.regions.size(); ++r) {
    const Region& region = layout.regions[r];
    if (region.dtype != Dtype::Bf16) continue;
    const std::int64_t shard = region.shard_elements();
    const std::int64_t begin = plan_.zero == 1 ? shard * region.own_index : 0;
    initialize_region(plan_, region,
                      {.out = runner_->memory().find(program::BufferKind::Optimizer, "master",
                                                     static_cast<int>(r)),
                       .begin = begin,
                       .end = plan_.zero == 1 ? begin + shard : region.elements},
                      runner_->queue(Dtype::F32), options_.initialize);
  }
  runner_->wait();
}

void Trainer::fill_inputs(std::int64_t first, std::int64_t sequences, const BatchSource& batch) {
  const std::int64_t sequence = plan_.workload.sequence;
  const auto count = static_cast<std::size_t>(sequences * sequence);
  batch(first, {runner_->input<std::int32_t>("tokens"), count},
        {runner_->input<std::int32_t>("targets"), count});
  auto* positions = runner_->input<std::int32_t>("positions");
  for (std::size_t i = 0; i < count; ++i) {
    positions[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) % sequence);
  }
}

// Adds the micro-batch's routes to the load and returns its balance loss, summed over layers.
double Trainer::note_balance() {
  const Dtype wide = kernels::wide_dtype(plan_.dtype);
  const auto* stats = runner_->input<std::byte>("balance_stats");
  const bool global = plan_.model.router.aux == AuxScope::Global;
  const double tokens =
      static_cast<double>(cut_.sequences * plan_.workload.sequence) * (global ? plan_.data : 1);
  double loss = 0;
  for (auto& load : load_) {
    const auto experts = static_cast<std::int64_t>(load.size());
    loss += kernels::balance_loss(wide, stats, experts, plan_.model.top_k, tokens);
    for (std::int64_t e = 0; e < experts; ++e) load[e] += wide_value(stats, wide, e);
    stats += 2 * experts * bytes_of(wide);
  }
  return loss;
}

StepContext Trainer::context_of(std::int64_t step) const {
  const OptimizerSpec& optimizer = plan_.workload.optimizer;
  StepContext context{.seed = options_.initialize.seed, .step = step};
  context.hyper = {.lr = learning_rate(optimizer, step, options_.run_steps),
                   .beta1 = optimizer.beta1,
                   .beta2 = optimizer.beta2,
                   .eps = optimizer.epsilon,
                   .weight_decay = optimizer.weight_decay,
                   .step = step + 1};
  return context;
}

void Trainer::begin_micro_batch(std::int64_t step, std::int64_t micro, const BatchSource& batch,
                                StepContext& context) {
  const Workload& w = plan_.workload;
  const std::int64_t first = step * w.global_batch + micro * cut_.sequences * plan_.data +
                             rank_place(plan_, rank_).data * cut_.sequences;
  fill_inputs(first, cut_.sequences, batch);
  context.token_base = first * w.sequence;
}

StepResult Trainer::walk_step(std::int64_t step, const BatchSource& batch) {
  const Workload& w = plan_.workload;
  StepContext context = context_of(step);
  StepResult result{.learning_rate = context.hyper.lr};
  auto* loss = runner_->input<double>("loss");
  *loss = 0;
  for (std::int64_t micro = 0; micro < cut_.parts; ++micro) {
    begin_micro_batch(step, micro, batch, context);
    note_overflow(runner_->try_run(micro_program(micro), context));
    result.aux_loss += note_balance() / static_cast<double>(cut_.parts);
  }
  if (overflow_) spoil_gradients();
  runner_->run(update_, context);
  result.loss = *loss / static_cast<double>(w.global_batch * w.sequence);
  result.gradient_norm = *runner_->input<double>("gradient_norm");
  return result;
}

StepResult Trainer::step(std::int64_t step, const BatchSource& batch) {
  const auto start = std::chrono::steady_clock::now();
  cut_ = steps_.front();
  if (bounded_) load_before_ = load_;
  Replays replays;
  StepResult result = walk_step(step, batch);
  while (bounded_ && !std::isfinite(result.gradient_norm)) {
    const auto overflow = agree_on_overflow();
    if (!overflow) break;
    divide(steps_, *overflow, replays);
    load_ = load_before_;
    result = walk_step(step, batch);
  }
  result.replays = replays;
  result.time_us =
      std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  return result;
}

std::optional<Trainer::NotFinite> Trainer::find_not_finite(std::int64_t step,
                                                           const BatchSource& batch) {
  std::optional<NotFinite> found;
  StepContext context = context_of(step);
  for (std::int64_t micro = 0; micro < cut_.parts; ++micro) {
    begin_micro_batch(step, micro, batch, context);
    const int program = micro_program(micro);
    std::int64_t place = 0;
    runner_->run_watched(program, context, [&](const program::Operation& operation) {
      if (!found && !wrote_finite(*runner_, program, operation)) {
        found = {.micro_batch = micro, .place = place, .text = describe_not_finite(operation)};
      }
      ++place;
    });
  }
  return found;
}

Trainer::Evaluation Trainer::walk_evaluation(std::int64_t first, const BatchSource& batch,
                                             std::span<double> logprob) {
  auto* loss = runner_->input<double>("loss");
  *loss = 0;
  Evaluation result;
  const std::int64_t count = cut_.sequences * plan_.workload.sequence;
  for (std::int64_t part = 0; part < cut_.parts; ++part) {
    fill_inputs(first + part * cut_.sequences, cut_.sequences, batch);
    note_overflow(runner_->try_run(cut_.first, {}));
    const auto* targets = runner_->input<std::int32_t>("targets");
    const auto* values = runner_->input<std::byte>("logprob");
    for (std::int64_t i = 0; i < count; ++i) {
      result.tokens += targets[i] >= 0 ? 1 : 0;
      if (logprob.empty()) continue;
      logprob[part * count + i] = wide_value(values, kernels::wide_dtype(plan_.dtype), i);
    }
  }
  result.negative_log_likelihood = *loss;
  return result;
}

Trainer::Evaluation Trainer::evaluate(std::int64_t first, const BatchSource& batch,
                                      std::span<double> logprob) {
  if (evaluations_.empty()) fail("this trainer was made without an evaluation program");
  cut_ = evaluations_.front();
  Replays replays;
  Evaluation result = walk_evaluation(first, batch, logprob);
  while (bounded_) {
    const auto overflow = agree_on_overflow();
    if (!overflow) break;
    divide(evaluations_, *overflow, replays);
    result = walk_evaluation(first, batch, logprob);
  }
  result.replays = replays;
  return result;
}

std::vector<std::vector<double>> Trainer::take_expert_load() {
  std::vector<std::vector<double>> shares = load_;
  for (std::size_t i = 0; i < load_.size(); ++i) {
    const double total = std::accumulate(load_[i].begin(), load_[i].end(), 0.0);
    for (double& share : shares[i]) share = total > 0 ? share / total : 0;
    std::fill(load_[i].begin(), load_[i].end(), 0.0);
  }
  return shares;
}

}  // namespace imhotep::executor
