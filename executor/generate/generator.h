#pragma once
// Generation on the ranks of a plan: prompts in chunks, then one token a step for all sequences,
// with a paged KV cache. Routing is dropless.
//
// Request i belongs to data rank i % data. All ranks take every step together, because expert
// groups exchange tokens in each; a rank without a sequence takes part with unused rows.

#include <functional>
#include <optional>
#include <span>

#include "executor/generate/page_table.h"
#include "executor/runtime/runner.h"

namespace imhotep::executor {

struct GenerationRequest {
  std::vector<std::int32_t> prompt;  // at least one token
  std::int64_t max_tokens = 1;
  double temperature = 0;  // 0: greedy
  std::int64_t top_k = 0;  // 0: all
  double top_p = 1;
  std::uint64_t seed = 1;
  std::int32_t stop_token = -1;
};

struct GenerationResult {
  std::vector<std::int32_t> tokens;
  std::vector<double> logprobs;
  bool stopped = false;  // met its stop token
};

struct GenerationTimes {
  double prefill_us = 0, decode_us = 0;
  std::int64_t prefill_steps = 0, decode_steps = 0;
  std::vector<double> decode_step_us;
};

class Generator {
 public:
  // Whether a value holds at all ranks: collective.
  using Agreement = std::function<bool(bool)>;
  // A token of a request, at the ranks that own it, as soon as it is known.
  using OnToken = std::function<void(std::size_t request, std::int32_t token)>;

  // Throws: Failed when memory does not suffice.
  Generator(const Plan& plan, Rank rank, CommunicatorPool& pool, int ranks_on_node);

  // Collective: all ranks pass the same requests. Results of requests that belong to other data
  // ranks stay empty. Throws: Error(Input) when a request makes no sense or is longer than the
  // plan's context.
  std::vector<GenerationResult> generate(std::span<const GenerationRequest> requests,
                                         const Agreement& all, const OnToken& on_token = {});

  [[nodiscard]] Runner& runner() { return *runner_; }
  [[nodiscard]] const GenerationTimes& times() const { return times_; }
  [[nodiscard]] int decode_program() const { return 1; }
  [[nodiscard]] int data_rank() const { return data_rank_; }
  // Called with the rows just sampled (requests), before their tokens are taken: for tests.
  std::function<void(int program, std::span<const std::size_t> requests)> on_step;

 private:
  struct Slot {
    std::size_t request = 0;
    std::int64_t length = 0;  // tokens in the cache
    std::int32_t last = -1;
    bool active = false;
  };

  void check(const GenerationRequest& request) const;
  void prefill(std::span<const GenerationRequest> requests, std::size_t wave);
  bool decode(std::span<const GenerationRequest> requests);
  void clear_rows(std::int64_t rows);
  void set_row(std::int64_t row, std::int32_t token, std::int64_t position, std::int64_t sequence);
  void sample(int program, std::span<const GenerationRequest> requests,
              const std::vector<std::int64_t>& slots, const std::vector<std::int32_t>& rows);
  void take(const GenerationRequest& request, Slot& slot, std::int32_t token, double logprob);

  Plan plan_;
  int data_rank_;
  std::int64_t chunk_, sequences_, max_context_;
  std::optional<Runner> runner_;
  std::optional<PageTable> pages_;
  std::vector<Slot> slots_;
  std::vector<GenerationResult> results_;
  OnToken on_token_;
  GenerationTimes times_;
};

}  // namespace imhotep::executor
