#pragma once
// A trainer's weights and optimizer to a checkpoint and back, over the ranks of a run.

#include <functional>
#include <string>

#include "executor/checkpoint/checkpoint.h"
#include "executor/comm/bootstrap.h"
#include "executor/train/trainer.h"

namespace imhotep::executor {

// Lets the ranks of a bootstrap agree on errors and checksums.
class RankCooperation : public Cooperation {
 public:
  explicit RankCooperation(const Bootstrap& bootstrap) : bootstrap_(bootstrap) {}
  [[nodiscard]] int rank() const override { return bootstrap_.rank(); }
  [[nodiscard]] int world() const override { return bootstrap_.world(); }
  [[nodiscard]] std::string first_error(const std::string& own) override;
  [[nodiscard]] std::uint64_t sum(std::uint64_t own) override;

 private:
  const Bootstrap& bootstrap_;
};

struct SavePoint {
  std::int64_t step = 0;
  std::uint64_t seed = 0;
  std::int64_t planned_steps = 0;
  double learning_rate = 0, loss = 0;
  int keep = 2;
};

// Bytes of this rank that are in place, of all.
using LoadProgress = std::function<void(std::int64_t done, std::int64_t all)>;

// Collective. Returns the checkpoint's folder.
std::string save_training_state(const SavePoint& point, const std::string& run_folder,
                                const Tokenizer& tokenizer, const Bootstrap& bootstrap,
                                Trainer& trainer);
// Collective. The weights alone, as the checkpoint of step 0. Returns its folder.
std::string save_weights(const std::string& run_folder, const Plan& plan,
                         const Bootstrap& bootstrap, const Runner& runner);
// Collective. Weights, moments and state of the newest checkpoint of a run, or of a checkpoint.
TrainingState load_training_state(const std::string& path, const Tokenizer& tokenizer,
                                  const Bootstrap& bootstrap, Trainer& trainer,
                                  const LoadProgress& progress = {});
// Collective. Weights alone, into any runner whose first program holds them.
LoadedCheckpoint load_weights(const std::string& path, const Plan& plan, const Bootstrap& bootstrap,
                              Runner& runner, const LoadProgress& progress = {});

}  // namespace imhotep::executor
