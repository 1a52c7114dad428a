#pragma once
// A training run from text to checkpoint, on all ranks of a plan: prepares tokens, trains, logs a
// JSON line a step, evaluates held-out text, saves, and stops cleanly when asked to.
//
// The run folder:
//   plan.json  log.jsonl  loss.svg  tokenizer.model  data/*.tokens  checkpoints/step_000100/ latest

#include <functional>
#include <string>

#include "core/spec/report.h"
#include "executor/comm/bootstrap.h"
#include "executor/train/initialize.h"

namespace imhotep::executor {

struct TrainingRunOptions {
  std::string data;  // folder of text
  std::string out;   // run folder
  std::int64_t steps = 100;
  InitializeOptions initialize;
  std::int64_t save_every = 0;        // 0: at the end only
  std::int64_t evaluate_every = 0;    // 0: at the end only
  std::int64_t evaluate_batches = 4;  // of the global batch, from held-out text
  int keep_checkpoints = 2;
  bool resume = false;     // from the newest checkpoint of the run folder
  bool overwrite = false;  // train anew in a folder that exists
};

struct TrainingProgress {
  std::int64_t step = 0, steps = 0;
  double loss = 0, tokens_per_s = 0, remaining_s = 0;
  std::int64_t replayed = 0;  // steps so far (docs/decisions/0170)
};

struct TrainingOutcome {
  RunReport report;  // without predictions
  double held_out_loss = 0;
  std::int64_t held_out_tokens = 0;
  int stop_signal = 0;  // SIGINT or SIGTERM when one ended the run early
  std::string checkpoint;
};

// Collective over the ranks of `bootstrap`. `notify` (progress) and `say` (one line of news) are
// called at rank 0 only.
// Throws: Input for bad text or folders, Failed for what goes wrong while running; every rank
// throws the same message.
TrainingOutcome run_training(const Plan& plan, const TrainingRunOptions& options,
                             const Bootstrap& bootstrap,
                             const std::function<void(const TrainingProgress&)>& notify,
                             const std::function<void(const std::string&)>& say);

// Runs `work` at rank 0 while the others wait; an Error there is thrown at every rank.
void at_first_rank(const Bootstrap& bootstrap, const std::function<void()>& work);

}  // namespace imhotep::executor
