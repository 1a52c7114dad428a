#pragma once
// One rank of a server: its programs, one a batch bucket, over one KV cache; fills the inputs of
// a step, runs it and reads what was sampled. Every rank of a plan takes every step.

#include <optional>

#include "core/schedule/scheduler.h"
#include "executor/runtime/runner.h"
#include "executor/serve/step_order.h"

namespace imhotep::executor {

struct ServeShape {
  std::int64_t sequences = 1;    // at once, a data rank
  std::int64_t chunk = 128;      // rows of the largest step
  std::int64_t pages = 1;        // of the KV cache, a data rank
  std::int64_t max_context = 1;  // tokens of one sequence in the cache
};

// The plan's own: its sequences, its prefill chunk, pages for prompt and output of its workload,
// and as long a context as these pages and the model allow. `sequences`, `chunk` and `kv_tokens`
// replace them where they are not 0.  Throws: Error(Input) unless the plan is for generation.
[[nodiscard]] ServeShape serve_shape(const Plan& plan, std::int64_t sequences = 0,
                                     std::int64_t chunk = 0, std::int64_t kv_tokens = 0);
[[nodiscard]] schedule::Limits serve_limits(const Plan& plan, const ServeShape& shape);

class Stepper {
 public:
  // Collective. Throws: Failed when memory does not suffice.
  Stepper(const Plan& plan, Rank rank, CommunicatorPool& pool, const ServeShape& shape,
          int ranks_on_node);

  // Runs the step; the answer is that of this rank's data rank, the same at all its tensor ranks.
  // Requires: order.kind is Run.
  StepOutcome run(const StepOrder& order);

  [[nodiscard]] Runner& runner() { return *runner_; }
  [[nodiscard]] int data_rank() const { return data_rank_; }
  // Whether this rank speaks for its data rank.
  [[nodiscard]] bool answers() const { return answers_; }
  // Exchanges of this rank since the start: on processors, where ranks run one operation at a time.
  [[nodiscard]] double exchange_us() const { return exchange_us_; }
  // Inside programs, since the start; the rest of a step is the host's.
  [[nodiscard]] double program_us() const { return program_us_; }

 private:
  void clear_rows(std::int64_t rows);
  void fill(const BatchOrder& batch, const schedule::Bucket& bucket, StepContext& context);
  [[nodiscard]] StepOutcome read(const BatchOrder& batch, int bucket) const;
  [[nodiscard]] std::vector<Alternative> alternatives(int bucket, std::int64_t row,
                                                      std::int64_t count) const;
  void note_load();

  Plan plan_;
  int data_rank_;
  bool answers_;
  std::int64_t pages_a_sequence_;
  std::vector<schedule::Bucket> buckets_;
  std::optional<Runner> runner_;
  std::vector<double> load_;
  double exchange_us_ = 0, program_us_ = 0;
};

}  // namespace imhotep::executor
