#include "executor/serve/stepper.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/base/fail.h"
#include "core/base/random.h"
#include "core/base/units.h"
#include "core/layout/groups.h"
#include "executor/train/trainer.h"
#include "kernels/cuda_api.h"
#include "kernels/route.h"

namespace imhotep::executor {
namespace {

double number_at(const void* data, Dtype dtype, std::int64_t i) {
  if (dtype == Dtype::F64) return static_cast<const double*>(data)[i];
  if (dtype == Dtype::F32) return static_cast<double>(static_cast<const float*>(data)[i]);
  const auto high = static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(data)[i]);
  return static_cast<double>(std::bit_cast<float>(high << 16));
}

bool is_exchange(const program::Operation& operation) {
  return std::holds_alternative<ExchangeRows>(operation.shape) ||
         std::holds_alternative<ExchangeCounts>(operation.shape);
}

}  // namespace

ServeShape serve_shape(const Plan& plan, const ServeWishes& wishes) {
  if (plan.workload.kind != WorkloadKind::Generation) {
    fail_input("the plan is for training; make one with: imhotep plan {} --generation",
               plan.model.name);
  }
  ServeShape shape{.sequences = wishes.sequences > 0 ? wishes.sequences : plan.sequences_per_rank(),
                   .chunk = wishes.chunk > 0 ? wishes.chunk : plan.prefill_chunk};
  const auto pages_of = [&](std::int64_t tokens) {
    return (tokens + plan.page_size - 1) / plan.page_size;
  };
  const std::int64_t longest = wishes.max_context > 0
                                   ? std::min<std::int64_t>(wishes.max_context, plan.model.context)
                                   : plan.model.context;
  std::int64_t planned = plan.workload.prompt + plan.workload.output;
  if (wishes.max_context > 0) planned = std::min(planned, longest);
  shape.pages = wishes.kv_tokens > 0 ? pages_of(wishes.kv_tokens)
                : plan.kv_tokens > 0 ? plan.kv_pages()
                                     : shape.sequences * pages_of(planned);
  shape.max_context = std::min(longest, shape.pages * plan.page_size);
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

ServeShape fit_pages(const Plan& plan, ServeShape shape, std::int64_t free_bytes) {
  const auto needed = [&](std::int64_t pages) {
    ServeShape with = shape;
    with.pages = pages;
    return program::serving_memory(plan, Rank(0), with).total();
  };
  const std::int64_t least = needed(1), page_bytes = needed(2) - least;
  if (least > free_bytes) {
    fail("{} needs {} without its KV cache, {} are free", plan.model.name,
         format_bytes(static_cast<double>(least)), format_bytes(static_cast<double>(free_bytes)));
  }
  shape.pages = std::min(shape.pages, 1 + (free_bytes - least) / page_bytes);
  shape.max_context = std::min(shape.max_context, shape.pages * plan.page_size);
  return shape;
}

Stepper::Stepper(const Plan& plan, Rank rank, CommunicatorPool& pool, const ServeShape& shape,
                 int ranks_on_node)
    : plan_(program::ready_for_all(plan)),
      data_rank_(rank_place(plan, rank).data),
      answers_(rank_place(plan, rank).tensor == 0),
      shape_(shape),
      pages_a_sequence_((shape.max_context + plan.page_size - 1) / plan.page_size),
      buckets_(schedule::usual_buckets(shape.sequences, shape.chunk)) {
  std::vector<program::Program> programs;
  for (const schedule::Bucket& bucket : buckets_) {
    programs.push_back(
        program::build_generate(plan_, rank, program::serving_program(shape, bucket)));
  }
  check_runnable(plan);
  check_memory(plan_, programs, rank, ranks_on_node);
  runner_.emplace(plan_, rank, std::move(programs), pool);
  std::int64_t experts = 0;
  for (int layer = 0; layer < plan.model.layers; ++layer) experts += plan.model.experts_at(layer);
  load_.assign(static_cast<std::size_t>(experts), 0);
  bucket_loads_.resize(buckets_.size());
  const auto input = [this](const char* name) { return runner_->input<std::int32_t>(name); };
  inputs_ = {.tokens = input("tokens"),
             .positions = input("positions"),
             .sequences = input("sequences"),
             .used = input("used"),
             .block_table = input("block_table"),
             .sample_rows = input("sample_rows"),
             .sample_range = input("sample_range")};
  std::fill_n(inputs_.block_table, shape.sequences * pages_a_sequence_, -1);
  if (plan.device == DeviceKind::Cpu && plan.world > 1) {
    runner_->observe([this](const program::Operation& operation, double time_us) {
      if (is_exchange(operation)) exchange_us_ += time_us;
    });
  }
}

void Stepper::measure() {
  measured_.emplace();
  runner_->observe([this](const program::Operation& operation, double time_us) {
    if (is_exchange(operation) && plan_.device == DeviceKind::Cpu) exchange_us_ += time_us;
    measured_->add(operation, time_us);
  });
}

// The rows of a bucket are divided over all sequences. These share page 0, which nobody reads
// before it is written again.
void Stepper::warm_up() {
  constexpr int kRuns = 3;  // chooses algorithms, captures a graph, replays it
  std::fill_n(inputs_.block_table, shape_.sequences * pages_a_sequence_, 0);
  for (std::size_t index = 0; index < buckets_.size(); ++index) {
    const schedule::Bucket& bucket = buckets_[index];
    const std::int64_t run = (bucket.rows + shape_.sequences - 1) / shape_.sequences;
    for (std::int64_t row = 0; row < bucket.rows; ++row) {
      const std::uint64_t word = hash(7, static_cast<std::uint64_t>(row));
      set_row(row, static_cast<std::int32_t>(word % static_cast<std::uint64_t>(plan_.model.vocab)),
              row % run % shape_.max_context, static_cast<std::int32_t>(row / run));
    }
    std::iota(inputs_.sample_rows, inputs_.sample_rows + bucket.samples, 0);
    inputs_.sample_range[0] = 0;
    inputs_.sample_range[1] = static_cast<std::int32_t>(bucket.samples);
    StepContext context;
    context.sampling.resize(bucket.samples);
    for (int i = 0; i < kRuns; ++i) runner_->run(static_cast<int>(index), context);
  }
  std::fill_n(inputs_.block_table, shape_.sequences * pages_a_sequence_, -1);
  exchange_us_ = 0;
}

void Stepper::set_row(std::int64_t row, std::int32_t token, std::int64_t position,
                      std::int32_t sequence) {
  inputs_.tokens[row] = token;
  inputs_.positions[row] = static_cast<std::int32_t>(position);
  inputs_.sequences[row] = sequence;
  inputs_.used[row] = 1;
}

void Stepper::clear_rows(std::int64_t rows) {
  std::fill_n(inputs_.tokens, rows, -1);
  std::fill_n(inputs_.positions, rows, -1);
  std::fill_n(inputs_.used, rows, 0);
  std::fill_n(inputs_.sequences, rows, 0);
}

void Stepper::fill(const BatchOrder& batch, const schedule::Bucket& bucket, StepContext& context) {
  for (const schedule::PageChange& change : batch.pages) {
    inputs_.block_table[change.slot * pages_a_sequence_ + change.index] = change.page;
  }
  clear_rows(bucket.rows);
  std::int32_t row = 0, samples = 0;
  for (const SequenceOrder& sequence : batch.sequences) {
    for (std::int64_t i = 0; i < sequence.piece.count; ++i, ++row) {
      set_row(row, sequence.tokens[i], sequence.piece.first + i, sequence.piece.slot);
    }
    if (!sequence.piece.samples) continue;
    context.sampling[samples] = sequence.sampling;
    inputs_.sample_rows[samples++] = row - 1;
  }
  inputs_.sample_range[0] = 0;
  inputs_.sample_range[1] = samples;
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
  if (measured_) {
    std::int64_t rows = 0;
    double contexts = 0;
    for (const SequenceOrder& sequence : batch.sequences) {
      rows += sequence.piece.count;
      contexts +=
          static_cast<double>(sequence.piece.first + 1) * static_cast<double>(sequence.piece.count);
    }
    measured_->end_step(bucket, time.count(), rows, contexts);
  }
  StepOutcome outcome = read(batch, order.bucket);
  if (!load_.empty()) {
    std::int64_t rows = 0;
    for (const SequenceOrder& sequence : batch.sequences) rows += sequence.piece.count;
    note_load(order.bucket, rows);
  }
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

// On a GPU: a copy, which is there when this returns.
const std::byte* Stepper::on_host(const std::byte* values, std::int64_t bytes,
                                  std::vector<std::byte>& copy) const {
  const kernels::Queue queue = runner_->queue(plan_.dtype);
  if (queue.device == kernels::Device::Cpu) return values;
  copy.resize(static_cast<std::size_t>(bytes));
  kernels::cuda_api().copy_out(copy.data(), values, bytes, queue.stream);
  runner_->wait();
  return copy.data();
}

// Read from the logits, which no operation writes after the sample.
std::vector<Alternative> Stepper::alternatives(int bucket, std::int64_t row,
                                               std::int64_t count) const {
  const std::int64_t parts = plan_.tensor, cols = plan_.model.padded_vocab() / parts;
  const std::int64_t samples = buckets_[bucket].samples;
  const std::byte* logits = runner_->buffer(bucket, parts > 1 ? "logits_all" : "logits");
  const std::int64_t row_bytes = cols * bytes_of(plan_.dtype);
  std::vector<Alternative> all;
  std::vector<std::byte> copy;
  double high = -INFINITY;
  for (std::int64_t part = 0; part < parts; ++part) {
    const std::byte* values = on_host(logits + (part * samples + row) * row_bytes, row_bytes, copy);
    const std::int64_t words = std::clamp<std::int64_t>(plan_.model.vocab - part * cols, 0, cols);
    for (std::int64_t i = 0; i < words; ++i) {
      const double logit = number_at(values, plan_.dtype, i);
      all.push_back({.token = static_cast<std::int32_t>(part * cols + i), .logprob = logit});
      high = std::max(high, logit);
    }
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

void Stepper::note_load(int bucket, std::int64_t rows) {
  BucketLoad& all = bucket_loads_.at(bucket);
  all.steps += 1;
  all.rows += static_cast<double>(rows);
  const auto* stats = runner_->input<std::byte>("balance_stats");
  const Dtype wide = kernels::wide_dtype(plan_.dtype);
  std::size_t at = 0;
  std::int64_t offset = 0;
  for (int layer = 0; layer < plan_.model.layers; ++layer) {
    const int experts = plan_.model.experts_at(layer);
    for (int expert = 0; expert < experts; ++expert) {
      const double tokens = number_at(stats, wide, offset + expert);
      if (tokens > 0) all.active_experts += 1;
      load_[at++] += tokens;
    }
    offset += 2 * experts;
  }
}

}  // namespace imhotep::executor
