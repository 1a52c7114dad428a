#include "executor/train/saved_state.h"

#include <string>

namespace imhotep::executor {
namespace {

using program::BufferKind;

// What this rank's moments hold of a region.
std::pair<std::int64_t, std::int64_t> shard_of(const Plan& plan, const Region& region) {
  if (plan.zero == 0) return {0, region.elements};
  const std::int64_t shard = region.shard_elements();
  return {shard * region.own_index, shard * (region.own_index + 1)};
}

template <class Pointer>
std::vector<RegionMemory<Pointer>> regions_of(Trainer& trainer) {
  std::vector<RegionMemory<Pointer>> regions;
  const Memory& memory = trainer.runner().memory();
  int index = 0;
  for (const Region& region : trainer.weights().regions) {
    const auto [begin, end] = shard_of(trainer.plan(), region);
    regions.push_back({.weights = memory.find(BufferKind::Weight, "weights", index),
                       .first_moment = memory.find(BufferKind::Optimizer, "m", index),
                       .second_moment = memory.find(BufferKind::Optimizer, "v", index),
                       .shard_begin = begin,
                       .shard_end = end});
    ++index;
  }
  return regions;
}

}  // namespace

std::string RankCooperation::first_error(const std::string& own) {
  std::string first;
  for (const std::string& text : bootstrap_.gather(own)) {
    if (first.empty()) first = text;
  }
  bootstrap_.broadcast(first);
  return first;
}

std::uint64_t RankCooperation::sum(std::uint64_t own) {
  std::uint64_t total = 0;
  for (const std::string& text : bootstrap_.gather(std::to_string(own))) {
    total += std::stoull(text);
  }
  bootstrap_.broadcast(&total, sizeof total);
  return total;
}

std::string save_training_state(const SavePoint& point, const std::string& run_folder,
                                const Tokenizer& tokenizer, const Bootstrap& bootstrap,
                                Trainer& trainer) {
  const Workload& workload = trainer.plan().workload;
  const std::int64_t sequences = point.step * workload.global_batch;
  RankCooperation ranks(bootstrap);
  return save_checkpoint({.run_folder = run_folder,
                          .plan = trainer.plan(),
                          .layout = trainer.weights(),
                          .regions = regions_of<const void*>(trainer),
                          .state = {.step = point.step,
                                    .seed = point.seed,
                                    .tokens_seen = sequences * workload.sequence,
                                    .next_sequence = sequences,
                                    .planned_steps = point.planned_steps,
                                    .learning_rate = point.learning_rate,
                                    .loss = point.loss,
                                    .tokenizer_hash = tokenizer.hash_text(),
                                    .program_version = "0.1.0"},
                          .tokenizer_file = run_folder + "/tokenizer.model",
                          .keep = point.keep},
                         ranks);
}

TrainingState load_training_state(const std::string& path, const Tokenizer& tokenizer,
                                  const Bootstrap& bootstrap, Trainer& trainer) {
  RankCooperation ranks(bootstrap);
  const LoadedCheckpoint loaded = load_checkpoint({.path = path,
                                                   .plan = trainer.plan(),
                                                   .layout = trainer.weights(),
                                                   .regions = regions_of<void*>(trainer)},
                                                  ranks);
  expect_tokenizer(loaded, tokenizer, path);
  return loaded.state;
}

LoadedCheckpoint load_weights(const std::string& path, const Plan& plan, const Bootstrap& bootstrap,
                              Runner& runner) {
  const WeightLayout& layout = runner.program(0).weights;
  std::vector<RegionMemory<void*>> regions;
  for (std::size_t r = 0; r < layout.regions.size(); ++r) {
    regions.push_back({.weights = runner.region(BufferKind::Weight, static_cast<int>(r))});
  }
  RankCooperation ranks(bootstrap);
  return load_checkpoint({.path = path,
                          .plan = plan,
                          .layout = layout,
                          .regions = std::move(regions),
                          .optimizer = OptimizerUse::Ignored},
                         ranks);
}

}  // namespace imhotep::executor
