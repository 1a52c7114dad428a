#include "executor/generate/generator.h"

#include <algorithm>
#include <chrono>

#include "core/base/fail.h"
#include "core/layout/groups.h"
#include "core/program/build.h"
#include "executor/train/trainer.h"

namespace imhotep::executor {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

constexpr int kPrefill = 0, kDecode = 1;  // programs of the runner

}  // namespace

Generator::Generator(const Plan& plan, Rank rank, CommunicatorPool& pool, int ranks_on_node)
    : plan_(plan), data_rank_(rank_place(plan, rank).data) {
  const program::GenerateShape prompt = program::prefill_shape(plan);
  const program::GenerateShape step = program::decode_shape(plan);
  chunk_ = prompt.rows;
  sequences_ = step.sequences;
  max_context_ = step.max_context;
  std::vector<program::Program> programs;
  programs.push_back(program::build_generate(plan, rank, prompt));
  programs.push_back(program::build_generate(plan, rank, step));
  check_runnable(plan);
  check_memory(plan, programs, rank, ranks_on_node);
  const std::int64_t table = sequences_ * ((max_context_ + plan.page_size - 1) / plan.page_size);
  runner_.emplace(plan, rank, std::move(programs), pool);
  auto* pages = runner_->input<std::int32_t>("block_table");
  pages_.emplace(std::span(pages, static_cast<std::size_t>(table)), sequences_, plan.page_size);
  slots_.resize(sequences_);
}

void Generator::clear_rows(std::int64_t rows) {
  for (const char* name : {"tokens", "positions"}) {
    std::fill_n(runner_->input<std::int32_t>(name), rows, -1);
  }
  for (const char* name : {"used", "sequences"}) {
    std::fill_n(runner_->input<std::int32_t>(name), rows, 0);
  }
}

void Generator::set_row(std::int64_t row, std::int32_t token, std::int64_t position,
                        std::int64_t sequence) {
  runner_->input<std::int32_t>("tokens")[row] = token;
  runner_->input<std::int32_t>("positions")[row] = static_cast<std::int32_t>(position);
  runner_->input<std::int32_t>("sequences")[row] = static_cast<std::int32_t>(sequence);
  runner_->input<std::int32_t>("used")[row] = 1;
}

void Generator::take(const GenerationRequest& request, Slot& slot, std::int32_t token,
                     double logprob) {
  GenerationResult& result = results_[slot.request];
  if (token == request.stop_token) {
    result.stopped = true;
    slot.active = false;
    return;
  }
  result.tokens.push_back(token);
  result.logprobs.push_back(logprob);
  slot.last = token;
  if (on_token_) on_token_(slot.request, token);
  slot.active = static_cast<std::int64_t>(result.tokens.size()) < request.max_tokens;
}

// Runs the program and takes the sampled token of each listed slot, whose last row is given.
void Generator::sample(int program, std::span<const GenerationRequest> requests,
                       const std::vector<std::int64_t>& slots,
                       const std::vector<std::int32_t>& rows) {
  const std::int64_t samples = program == kPrefill ? 1 : sequences_;
  StepContext context;
  context.sampling.resize(samples);
  std::vector<std::size_t> sampled;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const Slot& slot = slots_[slots[i]];
    const GenerationRequest& request = requests[slot.request];
    context.sampling[i] = {.temperature = request.temperature,
                           .top_p = request.top_p,
                           .top_k = request.top_k,
                           .seed = request.seed,
                           .counter = static_cast<std::uint64_t>(slot.length)};
    sampled.push_back(slot.request);
  }
  auto* index = runner_->input<std::int32_t>("sample_rows");
  std::copy(rows.begin(), rows.end(), index);
  auto* range = runner_->input<std::int32_t>("sample_range");
  range[0] = 0;
  range[1] = static_cast<std::int32_t>(rows.size());
  runner_->run(program, context);
  if (on_step) on_step(program, sampled);
  const auto* tokens = runner_->input<std::int32_t>("next_token");
  const auto* logprobs = runner_->input<std::byte>("next_logprob");
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const double logprob = plan_.dtype == Dtype::F64
                               ? reinterpret_cast<const double*>(logprobs)[i]
                               : static_cast<double>(reinterpret_cast<const float*>(logprobs)[i]);
    take(requests[sampled[i]], slots_[slots[i]], tokens[i], logprob);
  }
}

void Generator::prefill(std::span<const GenerationRequest> requests, std::size_t wave) {
  const auto data = static_cast<std::size_t>(plan_.data);
  for (std::int64_t s = 0; s < sequences_; ++s) {
    // Every data rank prefills its slot s together with the others: as many chunks as the longest.
    std::int64_t chunks = 0;
    for (std::size_t d = 0; d < data; ++d) {
      const std::size_t r = wave + static_cast<std::size_t>(s) * data + d;
      if (r >= requests.size()) continue;
      const auto length = static_cast<std::int64_t>(requests[r].prompt.size());
      chunks = std::max(chunks, (length + chunk_ - 1) / chunk_);
    }
    const std::size_t own = wave + static_cast<std::size_t>(s) * data + data_rank_;
    const GenerationRequest* request = own < requests.size() ? &requests[own] : nullptr;
    slots_[s] = {.request = own};
    for (std::int64_t c = 0; c < chunks; ++c) {
      clear_rows(chunk_);
      std::vector<std::int64_t> finished;
      std::vector<std::int32_t> last;
      const auto length = request ? static_cast<std::int64_t>(request->prompt.size()) : 0;
      const std::int64_t end = std::min(length, (c + 1) * chunk_);
      if (c * chunk_ < end) pages_->grow(s, end);
      for (std::int64_t i = c * chunk_; i < end; ++i) {
        set_row(i - c * chunk_, request->prompt[i], i, s);
      }
      slots_[s].length = std::max(slots_[s].length, end);
      if (length > c * chunk_ && length <= (c + 1) * chunk_) {
        finished = {s};
        last = {static_cast<std::int32_t>(end - 1 - c * chunk_)};
      }
      sample(kPrefill, requests, finished, last);
      ++times_.prefill_steps;
    }
  }
}

// One token for every active sequence. Whether any is left at this rank.
bool Generator::decode(std::span<const GenerationRequest> requests) {
  clear_rows(sequences_);
  std::vector<std::int64_t> slots;
  std::vector<std::int32_t> rows;
  for (std::int64_t s = 0; s < sequences_; ++s) {
    Slot& slot = slots_[s];
    if (!slot.active) continue;
    pages_->grow(s, slot.length + 1);
    set_row(s, slot.last, slot.length, s);
    ++slot.length;
    slots.push_back(s);
    rows.push_back(static_cast<std::int32_t>(s));
  }
  sample(kDecode, requests, slots, rows);
  return std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.active; });
}

void Generator::check(const GenerationRequest& request) const {
  if (request.prompt.empty()) fail_input("a prompt needs at least one token");
  for (const std::int32_t token : request.prompt) {
    if (token < 0 || token >= plan_.model.vocab) {
      fail_input("prompt: expected tokens from 0 to {}, got {}", plan_.model.vocab - 1, token);
    }
  }
  if (request.max_tokens < 1) {
    fail_input("expected at least one new token, got {}", request.max_tokens);
  }
  if (!(request.temperature >= 0)) {
    fail_input("temperature: expected a number of at least 0, got {}", request.temperature);
  }
  const std::int64_t context = std::min<std::int64_t>(max_context_, plan_.model.context);
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  // The last token is not read again. No sum: both may be as large as a caller likes.
  if (prompt > context || request.max_tokens > context + 1 - prompt) {
    fail_input("prompt of {} tokens and {} new ones exceed the context of {}", prompt,
               request.max_tokens, context);
  }
}

std::vector<GenerationResult> Generator::generate(std::span<const GenerationRequest> requests,
                                                  const Agreement& all, const OnToken& on_token) {
  for (const GenerationRequest& request : requests) check(request);
  on_token_ = on_token;
  times_ = {};
  results_.assign(requests.size(), {});
  const std::size_t per_wave = static_cast<std::size_t>(sequences_) * plan_.data;
  for (std::size_t wave = 0; wave < requests.size(); wave += per_wave) {
    auto start = Clock::now();
    prefill(requests, wave);
    times_.prefill_us += microseconds_since(start);
    const auto active = [](const Slot& slot) { return slot.active; };
    bool busy = std::any_of(slots_.begin(), slots_.end(), active);
    while (!all(!busy)) {
      start = Clock::now();
      busy = decode(requests);
      times_.decode_step_us.push_back(microseconds_since(start));
      times_.decode_us += times_.decode_step_us.back();
      ++times_.decode_steps;
    }
    for (std::int64_t s = 0; s < sequences_; ++s) pages_->release(s);
  }
  return std::move(results_);
}

}  // namespace imhotep::executor
