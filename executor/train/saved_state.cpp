#include "executor/train/saved_state.h"

#include <optional>
#include <string>

#include "kernels/cuda_api.h"

namespace imhotep::executor {
namespace {

using program::BufferKind;

// What this rank's moments hold of a region.
std::pair<std::int64_t, std::int64_t> shard_of(const Plan& plan, const Region& region) {
  if (plan.zero == 0) return {0, region.elements};
  const std::int64_t shard = region.shard_elements();
  return {shard * region.own_index, shard * (region.own_index + 1)};
}

bool on_gpu(const Runner& runner) {
  return runner.queue(Dtype::F32).device == kernels::Device::Cuda;
}

// A region as the host reads it: where it is, or a copy of what lies on a GPU.
class HostCopies {
 public:
  explicit HostCopies(const Runner& runner) : runner_(runner) {}

  const void* at(const std::byte* device, std::int64_t bytes) {
    if (!on_gpu(runner_)) return device;
    copies_.emplace_back(bytes);
    kernels::cuda_api().copy_out(copies_.back().data(), device, bytes,
                                 runner_.queue(Dtype::F32).stream);
    runner_.wait();
    return copies_.back().data();
  }

 private:
  const Runner& runner_;
  std::vector<Mapping> copies_;
};

// Where regions are written: on a GPU through page-locked buffers.
class DeviceLanding : public Landing {
 public:
  explicit DeviceLanding(const Runner& runner) : queue_(runner.queue(Dtype::F32)) {}

  std::byte* buffers(std::int64_t bytes) override {
    block_ = CudaBlock(CudaBlock::Place::Host, bytes);
    return block_.data();
  }
  void deliver(void* target, const std::byte* from, std::int64_t bytes) override {
    kernels::cuda_api().copy_in(target, from, bytes, queue_.stream);
  }
  void settle() override { kernels::cuda_api().wait(queue_.stream); }

 private:
  kernels::Queue queue_;
  CudaBlock block_;
};

// Loads, to wherever the runner keeps its regions.
LoadedCheckpoint load(LoadRequest request, const Bootstrap& bootstrap, const Runner& runner,
                      const LoadProgress& progress) {
  std::optional<DeviceLanding> landing;
  if (on_gpu(runner)) landing.emplace(runner);
  const int per_node = (bootstrap.world() + bootstrap.nodes() - 1) / bootstrap.nodes();
  request.reading = {.readers = usual_readers(per_node),
                     .landing = landing ? &*landing : nullptr,
                     .progress = progress};
  RankCooperation ranks(bootstrap);
  return load_checkpoint(request, ranks);
}

// Regions of a trainer; `at(address, bytes)` says where they are written or read.
template <class Pointer, class At>
std::vector<RegionMemory<Pointer>> regions_of(Trainer& trainer, At at) {
  std::vector<RegionMemory<Pointer>> regions;
  const Memory& memory = trainer.runner().memory();
  const std::int64_t wide = bytes_of(moment_dtype(trainer.plan()));
  int index = 0;
  for (const Region& region : trainer.weights().regions) {
    const auto [begin, end] = shard_of(trainer.plan(), region);
    const std::int64_t bytes = (end - begin) * wide;
    const auto held = [&](const char* name) {
      return at(memory.find(BufferKind::Optimizer, name, index), bytes);
    };
    regions.push_back({.weights = at(memory.find(BufferKind::Weight, "weights", index),
                                     region.elements * bytes_of(region.dtype)),
                       .first_moment = held("m"),
                       .second_moment = held("v"),
                       .master = region.dtype == Dtype::Bf16 ? held("master") : nullptr,
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
  HostCopies host(trainer.runner());
  return save_checkpoint({.run_folder = run_folder,
                          .plan = trainer.plan(),
                          .layout = trainer.weights(),
                          .regions = regions_of<const void*>(
                              trainer, [&](const std::byte* address,
                                           std::int64_t bytes) { return host.at(address, bytes); }),
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

std::string save_weights(const std::string& run_folder, const Plan& plan,
                         const Bootstrap& bootstrap, const Runner& runner) {
  const WeightLayout& layout = runner.program(0).weights;
  HostCopies host(runner);
  std::vector<RegionMemory<const void*>> regions;
  for (std::size_t r = 0; r < layout.regions.size(); ++r) {
    const Region& region = layout.regions[r];
    regions.push_back({.weights = host.at(runner.region(BufferKind::Weight, static_cast<int>(r)),
                                          region.elements * bytes_of(region.dtype))});
  }
  RankCooperation ranks(bootstrap);
  return save_checkpoint({.run_folder = run_folder,
                          .plan = plan,
                          .layout = layout,
                          .regions = std::move(regions),
                          .state = {.program_version = "0.1.0"},
                          .tokenizer_file = {}},
                         ranks);
}

TrainingState load_training_state(const std::string& path, const Tokenizer& tokenizer,
                                  const Bootstrap& bootstrap, Trainer& trainer,
                                  const LoadProgress& progress) {
  const auto in_place = [](std::byte* address, std::int64_t) -> void* { return address; };
  const LoadedCheckpoint loaded = load({.path = path,
                                        .plan = trainer.plan(),
                                        .layout = trainer.weights(),
                                        .regions = regions_of<void*>(trainer, in_place)},
                                       bootstrap, trainer.runner(), progress);
  expect_tokenizer(loaded, tokenizer, path);
  return loaded.state;
}

LoadedCheckpoint load_weights(const std::string& path, const Plan& plan, const Bootstrap& bootstrap,
                              Runner& runner, const LoadProgress& progress) {
  const WeightLayout& layout = runner.program(0).weights;
  std::vector<RegionMemory<void*>> regions;
  for (std::size_t r = 0; r < layout.regions.size(); ++r) {
    regions.push_back({.weights = runner.region(BufferKind::Weight, static_cast<int>(r))});
  }
  return load({.path = path,
               .plan = plan,
               .layout = layout,
               .regions = std::move(regions),
               .optimizer = OptimizerUse::Ignored},
              bootstrap, runner, progress);
}

}  // namespace imhotep::executor
