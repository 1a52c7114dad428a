#pragma once
// Times the very kernels that the executor runs, where they run: whole programs of small probe
// models are walked, and every operation is recorded under the name and numbers by which the
// simulator asks (profiles::describe). So a time holds the caches as a real step leaves them.
// Collectives are timed alone, by kind, group and size.

#include <functional>
#include <string>
#include <vector>

#include "executor/comm/communicator_pool.h"
#include "profiles/profile.h"

namespace imhotep::executor {

struct CalibrationOptions {
  // Plans of one rank whose programs are walked, the most valuable first: training steps, or
  // prompts and decode steps.
  std::vector<Plan> probes;
  std::int64_t repeats = 4;        // walks that count; one more comes before
  bool collectives = true;         // needs several ranks
  bool gpu = false;                // ... and is between their GPUs
  double budget_s = 0;             // no probe begins that would end later; 0: no limit
  std::vector<std::string> known;  // probes of an earlier run, by probe_name: not walked again
  std::function<void(std::int64_t done, std::int64_t total)> progress;
  // At rank 0 after every probe: all that is known so far, for a file that an interruption leaves.
  std::function<void(const profiles::Profile&)> keep;
};

// "train 1024 wide, 32 experts, 8 x 1024, bf16 on cuda"
[[nodiscard]] std::string probe_name(const Plan& plan);

// What every machine should know: widths, rows, expert counts and contexts over a useful range.
// `fast`: about a third of it.
[[nodiscard]] std::vector<Plan> default_probes(bool fast);
// The same for a GPU in bf16: the widths and token counts at which it is busy, in rounds that each
// cover training, prompts and decoding, so that stopping anywhere leaves a usable profile.
[[nodiscard]] std::vector<Plan> device_probes(bool fast);
// Shapes of one model, as one rank sees them: micro-batches up to `most_sequences`, and decoding.
[[nodiscard]] std::vector<Plan> model_probes(const ModelSpec& model, std::int64_t sequence,
                                             std::int64_t most_sequences);

// Collective: all ranks work at the same time, so that tables hold what busy neighbours cost.
// The result is complete at rank 0: tables (with Table::ranks = world), collectives, overheads,
// probes, and notes: readings refused because they spread too far, probes that failed, and probes
// during which the device ran slower than at its best (they are walked once more first).
[[nodiscard]] profiles::Profile calibrate(const Bootstrap& bootstrap, CommunicatorPool& pool,
                                          const CalibrationOptions& options);

}  // namespace imhotep::executor
