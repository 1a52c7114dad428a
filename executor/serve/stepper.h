#pragma once
// One rank of a server: its programs, one a batch bucket, over one KV cache; fills the inputs of
// a step, runs it and reads what was sampled. Every rank of a plan takes every step.

#include <optional>

#include "core/program/serving.h"
#include "core/schedule/scheduler.h"
#include "executor/runtime/runner.h"
#include "executor/serve/metrics.h"
#include "executor/serve/served_steps.h"
#include "executor/serve/step_order.h"

namespace imhotep::executor {

using ServeShape = program::ServingShape;

// What a user may ask for; 0: the plan's own.
struct ServeWishes {
  std::int64_t sequences = 0, chunk = 0, kv_tokens = 0, max_context = 0;
};

// The plan's own: its sequences, its prefill chunk, the KV cache it names or else pages for prompt
// and output of its workload,
// and as long a context as these pages and the model allow; `wishes` replace them.
// Throws: Error(Input) unless the plan is for generation.
[[nodiscard]] ServeShape serve_shape(const Plan& plan, const ServeWishes& wishes = {});
[[nodiscard]] schedule::Limits serve_limits(const Plan& plan, const ServeShape& shape);
// The same with as many pages as a memory of `free_bytes` has beside the programs, at most those of
// `shape`, and with no longer contexts than these pages hold. For plans of one rank.
// Throws: Failed when not even one sequence of a page fits.
[[nodiscard]] ServeShape fit_pages(const Plan& plan, ServeShape shape, std::int64_t free_bytes);

class Stepper {
 public:
  // Collective. Throws: Failed when memory does not suffice.
  Stepper(const Plan& plan, Rank rank, CommunicatorPool& pool, const ServeShape& shape,
          int ranks_on_node);

  // Runs every program a few times on made-up tokens, so that no request waits for the choice of
  // algorithms or the capture of graphs. The KV cache and all counts are as before. Collective.
  void warm_up();

  // From now on times every operation, for report(). Throws: as ServedSteps::report.
  void measure();
  [[nodiscard]] RunReport report() const { return measured_->report(plan_); }

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
  [[nodiscard]] const std::vector<BucketLoad>& bucket_loads() const { return bucket_loads_; }

 private:
  void clear_rows(std::int64_t rows);
  void set_row(std::int64_t row, std::int32_t token, std::int64_t position, std::int32_t sequence);
  void fill(const BatchOrder& batch, const schedule::Bucket& bucket, StepContext& context);
  [[nodiscard]] StepOutcome read(const BatchOrder& batch, int bucket) const;
  [[nodiscard]] std::vector<Alternative> alternatives(int bucket, std::int64_t row,
                                                      std::int64_t count) const;
  [[nodiscard]] const std::byte* on_host(const std::byte* values, std::int64_t bytes,
                                         std::vector<std::byte>& copy) const;
  void note_load(int bucket, std::int64_t rows);

  // Inputs of every step, where the runner keeps them.
  struct Inputs {
    std::int32_t *tokens, *positions, *sequences, *used;
    std::int32_t *block_table, *sample_rows, *sample_range;
  };

  Plan plan_;
  int data_rank_;
  bool answers_;
  ServeShape shape_;
  std::int64_t pages_a_sequence_;
  std::vector<schedule::Bucket> buckets_;
  std::optional<Runner> runner_;
  Inputs inputs_{};
  std::vector<double> load_;
  std::optional<ServedSteps> measured_;
  double exchange_us_ = 0, program_us_ = 0;
  std::vector<BucketLoad> bucket_loads_;
};

}  // namespace imhotep::executor
