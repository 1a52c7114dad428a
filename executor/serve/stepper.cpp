#include "executor/serve/stepper.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/base/fail.h"
#include "core/layout/groups.h"
#include "core/program/build.h"
#include "executor/train/trainer.h"
#include "kernels/route.h"

namespace imhotep::executor {
namespace {

double number_at(const void* data, Dtype dtype, std::int64_t i) {
  return dtype == Dtype::F64 ? static_cast<const double*>(data)[i]
                             : static_cast<double>(static_cast<const float*>(data)[i]);
}

// A plan's bound on received rows is made for its own batch and even routing; a server takes what
// comes, and a step that exceeds the bound would end it.
Plan ready_for_all(Plan plan) {
  for (MoeLayerPlan& moe : plan.moe_layers) moe.receive_rows = 0;  // the worst case
  return plan;
}

bool is_exchange(const program::Operation& operation) {
  return std::holds_alternative<ExchangeRows>(operation.shape) ||
         std::holds_alternative<ExchangeCounts>(operation.shape);
}

}  // namespace

ServeShape serve_shape(const Plan& plan, std::int64_t sequences, std::int64_t chunk,
                       std::int64_t kv_tokens) {
  if (plan.workload.kind != WorkloadKind::Generation) {
    fail_input("the plan is for training; make one with: imhotep plan {} --generation",
               plan.model.name);
  }
  ServeShape shape{.sequences = sequences > 0 ? sequences : plan.sequences_per_rank(),
                   .chunk = chunk > 0 ? chunk : plan.prefill_chunk};
  const auto pages_of = [&](std::int64_t tokens) {
    return (tokens + plan.page_size - 1) / plan.page_size;
  };
  shape.pages = kv_tokens > 0
                    ? pages_of(kv_tokens)
                    : shape.sequences * pages_of(plan.workload.prompt + plan.workload.output);
  shape.max_context = std::min<std::int64_t>(plan.model.context, shape.pages * plan.page_size);
  return shape;
}

schedule::Limits serve_limits(const Plan& plan, const ServeShape& shape) {
  return {.data = plan.data,
          .sequences = shape.sequences,
          .pages = shape.pages,
          .page_size = plan.page_size,
          .max_context = shape.max_context,
          .buckets = schedule::usual_buckets(shape.sequences, shape.chunk)};
}

Stepper::Stepper(const Plan& plan, Rank rank, CommunicatorPool& pool, const ServeShape& shape,
                 int ranks_on_node)
    : plan_(ready_for_all(plan)),
      data_rank_(rank_place(plan, rank).data),
      answers_(rank_place(plan, rank).tensor == 0),
      pages_a_sequence_((shape.max_context + plan.page_size - 1) / plan.page_size),
      buckets_(schedule::usual_buckets(shape.sequences, shape.chunk)) {
  std::vector<program::Program> programs;
  for (const schedule::Bucket& bucket : buckets_) {
    programs.push_back(
        program::build_generate(plan_, rank,
                                {.rows = bucket.rows,
                                 .sequences = shape.sequences,
                                 .samples = bucket.samples,
                                 .max_context = shape.max_context,
                                 .context = static_cast<double>(shape.max_context) / 2,
                                 .pages = shape.pages}));
  }
  check_runnable(plan);
  check_memory(plan_, programs, rank, ranks_on_node);
  runner_.emplace(plan_, rank, std::move(programs), pool);
  std::int64_t experts = 0;
  for (int layer = 0; layer < plan.model.layers; ++layer) experts += plan.model.experts_at(layer);
  load_.assign(static_cast<std::size_t>(experts), 0);
  std::fill_n(runner_->input<std::int32_t>("block_table"), shape.sequences * pages_a_sequence_, -1);
  if (plan.device == DeviceKind::Cpu && plan.world > 1) {
    runner_->observe([this](const program::Operation& operation, double time_us) {
      if (is_exchange(operation)) exchange_us_ += time_us;
    });
  }
}

void Stepper::clear_rows(std::int64_t rows) {
  for (const char* name : {"tokens", "positions"}) {
    std::fill_n(runner_->input<std::int32_t>(name), rows, -1);
  }
  for (const char* name : {"used", "sequences"}) {
    std::fill_n(runner_->input<std::int32_t>(name), rows, 0);
  }
}

void Stepper::fill(const BatchOrder& batch, const schedule::Bucket& bucket, StepContext& context) {
  auto* table = runner_->input<std::int32_t>("block_table");
  for (const schedule::PageChange& change : batch.pages) {
    table[change.slot * pages_a_sequence_ + change.index] = change.page;
  }
  clear_rows(bucket.rows);
  auto* tokens = runner_->input<std::int32_t>("tokens");
  auto* positions = runner_->input<std::int32_t>("positions");
  auto* sequences = runner_->input<std::int32_t>("sequences");
  auto* used = runner_->input<std::int32_t>("used");
  auto* sample_rows = runner_->input<std::int32_t>("sample_rows");
  std::int32_t row = 0, samples = 0;
  for (const SequenceOrder& sequence : batch.sequences) {
    for (std::int64_t i = 0; i < sequence.piece.count; ++i, ++row) {
      tokens[row] = sequence.tokens[i];
      positions[row] = static_cast<std::int32_t>(sequence.piece.first + i);
      sequences[row] = sequence.piece.slot;
      used[row] = 1;
    }
    if (!sequence.piece.samples) continue;
    context.sampling[samples] = sequence.sampling;
    sample_rows[samples++] = row - 1;
  }
  auto* range = runner_->input<std::int32_t>("sample_range");
  range[0] = 0;
  range[1] = samples;
}

StepOutcome Stepper::run(const StepOrder& order) {
  const schedule::Bucket& bucket = buckets_.at(order.bucket);
  const BatchOrder& batch = order.ranks.at(data_rank_);
  StepContext context;
  context.sampling.resize(bucket.samples);
  fill(batch, bucket, context);
  const auto start = std::chrono::steady_clock::now();
  runner_->run(order.bucket, context);
  const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
  program_us_ += time.count();
  StepOutcome outcome = read(batch, order.bucket);
  if (!load_.empty()) note_load();
  if (order.report_load) {
    outcome.load = load_;
    std::fill(load_.begin(), load_.end(), 0);
  }
  return outcome;
}

StepOutcome Stepper::read(const BatchOrder& batch, int bucket) const {
  const auto* tokens = runner_->input<std::int32_t>("next_token");
  const auto* logprobs = runner_->input<std::byte>("next_logprob");
  const Dtype wide = kernels::wide_dtype(plan_.dtype);
  StepOutcome outcome;
  for (const SequenceOrder& sequence : batch.sequences) {
    if (!sequence.piece.samples) continue;
    const auto row = static_cast<std::int64_t>(outcome.sampled.size());
    Sampled sampled{.request = sequence.piece.request,
                    .token = tokens[row],
                    .logprob = number_at(logprobs, wide, row),
                    .alternatives = {}};
    if (sequence.alternatives > 0) {
      sampled.alternatives = alternatives(bucket, row, sequence.alternatives);
    }
    outcome.sampled.push_back(std::move(sampled));
  }
  return outcome;
}

// Read from the logits, which no operation writes after the sample; processors only.
std::vector<Alternative> Stepper::alternatives(int bucket, std::int64_t row,
                                               std::int64_t count) const {
  const std::int64_t parts = plan_.tensor, cols = plan_.model.padded_vocab() / parts;
  const std::int64_t samples = buckets_[bucket].samples;
  const std::byte* logits = runner_->buffer(bucket, parts > 1 ? "logits_all" : "logits");
  std::vector<Alternative> all;
  double high = -INFINITY;
  for (std::int64_t word = 0; word < plan_.model.vocab; ++word) {
    const std::int64_t part = word / cols;
    const double logit =
        number_at(logits, plan_.dtype, (part * samples + row) * cols + word - part * cols);
    all.push_back({.token = static_cast<std::int32_t>(word), .logprob = logit});
    high = std::max(high, logit);
  }
  double sum = 0;
  for (const Alternative& one : all) sum += std::exp(one.logprob - high);
  const double shift = high + std::log(sum);
  const auto kept = std::min<std::int64_t>(count, plan_.model.vocab);
  std::partial_sort(all.begin(), all.begin() + kept, all.end(), [](const auto& a, const auto& b) {
    return a.logprob > b.logprob || (a.logprob == b.logprob && a.token < b.token);
  });
  all.resize(static_cast<std::size_t>(kept));
  for (Alternative& one : all) one.logprob -= shift;
  return all;
}

void Stepper::note_load() {
  const auto* stats = runner_->input<std::byte>("balance_stats");
  const Dtype wide = kernels::wide_dtype(plan_.dtype);
  std::size_t at = 0;
  std::int64_t offset = 0;
  for (int layer = 0; layer < plan_.model.layers; ++layer) {
    const int experts = plan_.model.experts_at(layer);
    for (int expert = 0; expert < experts; ++expert) {
      load_[at++] += number_at(stats, wide, offset + expert);
    }
    offset += 2 * experts;
  }
}

}  // namespace imhotep::executor
