#pragma once
// One rank's training: its programs, its weights, and the step that walks them.

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "executor/runtime/runner.h"
#include "executor/train/initialize.h"

namespace imhotep::executor {

// Fills sequences [first, first + n): inputs and targets are [n, sequence]; the numbering runs
// through all steps and ranks, so that no degree changes what is read.
using BatchSource = std::function<void(std::int64_t first, std::span<std::int32_t> inputs,
                                       std::span<std::int32_t> targets)>;

struct TrainerOptions {
  InitializeOptions initialize;
  std::int64_t run_steps = 1;           // for the learning-rate schedule
  std::int64_t evaluate_sequences = 0;  // sequences a rank evaluates at once; 0: no evaluation
  int ranks_on_node = 1;                // that share this machine's memory
};

// Steps, or chunks of an evaluation, that were gone through again in smaller micro-batches because
// an exchange would have brought more rows than the plan's receive_rows.
struct Replays {
  std::int64_t count = 0;  // of the same step: how often its micro-batch was divided
  Overflow worst;          // the most rows; 0: none
};

struct StepResult {
  double loss = 0;      // mean over the tokens of the global batch, balance loss not included
  double aux_loss = 0;  // sum over layers, before its coefficient, mean over micro-batches; of this
                        // rank's tokens where the model's statistics are local
  double gradient_norm = 0;
  double learning_rate = 0;
  double time_us = 0;
  Replays replays;  // their time is part of time_us
};

class Trainer {
 public:
  // Throws: Failed, naming rank and bytes, when this machine's memory cannot hold the programs.
  Trainer(const Plan& plan, Rank rank, CommunicatorPool& pool, const TrainerOptions& options);

  void initialize();
  // A loss or a gradient norm that is not finite leaves the weights as they were.
  // Where rows exceed a bound of the plan, at whichever rank, the step is replayed from its
  // beginning in smaller micro-batches (docs/decisions/0170). Throws: Failed, at every rank alike
  // and with the weights as they were, when rows exceed it with one sequence at a time.
  StepResult step(std::int64_t step, const BatchSource& batch);

  // Walks the micro-batches of a step again and looks at everything they write, which is slow.
  // Collective. Returns where this rank first finds a number that is not finite.
  struct NotFinite {
    std::int64_t micro_batch = 0;
    std::int64_t place = 0;  // in the program
    std::string text;        // describe_not_finite
  };
  std::optional<NotFinite> find_not_finite(std::int64_t step, const BatchSource& batch);

  // Sum of log-probabilities of this rank's sequences [first, first + n) and the tokens counted;
  // log-probabilities of each token stay in `logprob` (targets < 0 are not counted).
  struct Evaluation {
    double negative_log_likelihood = 0;
    std::int64_t tokens = 0;
    Replays replays;
  };
  // Collective where the plan has bounds; replays and throws as step() does.
  Evaluation evaluate(std::int64_t first, const BatchSource& batch, std::span<double> logprob = {});

  // Share of routes per MoE layer and expert since the last call.
  [[nodiscard]] std::vector<std::vector<double>> take_expert_load();

  [[nodiscard]] Runner& runner() { return *runner_; }
  [[nodiscard]] const Runner& runner() const { return *runner_; }
  [[nodiscard]] const Plan& plan() const { return plan_; }
  [[nodiscard]] const WeightLayout& weights() const { return runner_->program(0).weights; }
  [[nodiscard]] int update_program() const { return update_; }

 private:
  // The programs of a micro-batch. The plan's own comes first, each of the others is a part of the
  // one before and is made when it is needed first.
  struct Cut {
    std::int64_t sequences = 0, parts = 1;  // of a micro-batch; micro-batches a step
    int first = 0, next = 0;                // programs
  };

  [[nodiscard]] StepContext context_of(std::int64_t step) const;
  // Fills the inputs of a micro-batch.
  void begin_micro_batch(std::int64_t step, std::int64_t micro, const BatchSource& batch,
                         StepContext& context);
  [[nodiscard]] int micro_program(std::int64_t micro) const {
    return micro == 0 ? cut_.first : cut_.next;
  }
  void fill_inputs(std::int64_t first, std::int64_t sequences, const BatchSource& batch);
  double note_balance();
  // The step once, in micro-batches of cut_. An overflow of this rank is noted.
  StepResult walk_step(std::int64_t step, const BatchSource& batch);
  Evaluation walk_evaluation(std::int64_t first, const BatchSource& batch,
                             std::span<double> logprob);

  void note_overflow(const std::optional<Overflow>& found);
  // Makes the gradient norm of all ranks infinite.
  void spoil_gradients();
  // Collective. Of all ranks, what says most; notes nothing more.
  std::optional<Overflow> agree_on_overflow();
  // Goes on with smaller micro-batches. Throws: Failed when there are none.
  void divide(std::vector<Cut>& cuts, const Overflow& overflow, Replays& replays);
  [[nodiscard]] Cut make_part(const Cut& whole);
  [[nodiscard]] int add_like(program::Program program, int larger);

  Plan plan_;
  Rank rank_;
  TrainerOptions options_;
  int update_ = 0;                // program
  std::vector<Cut> steps_;        // of training
  std::vector<Cut> evaluations_;  // parts: of what a rank evaluates at once
  Cut cut_;                       // in use
  std::optional<Runner> runner_;
  std::vector<std::vector<double>> load_, load_before_;  // before_: this step
  bool bounded_ = false;                                 // some exchange may overflow
  Communicator* world_ = nullptr;                        // null: one rank
  std::optional<Overflow> overflow_;                     // of this rank, not yet agreed on
};

// Throws: Failed with rank and bytes unless `ranks_on_node` such ranks fit in free memory.
void check_memory(const Plan& plan, const std::vector<program::Program>& programs, Rank rank,
                  int ranks_on_node);

}  // namespace imhotep::executor
