#include "executor/train/saved_state.h"

#include <string>
#include <type_traits>

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

// A region on the host: where it is, or on a GPU a copy that is brought in before saving and
// taken back after loading.
class HostCopies {
 public:
  explicit HostCopies(Runner& runner) : runner_(runner) {}

  // `bytes` of memory at `device`, as the host sees them.
  void* at(std::byte* device, std::int64_t bytes, bool fetch) {
    if (runner_.queue(Dtype::F32).device == kernels::Device::Cpu) return device;
    copies_.push_back({.device = device, .host = Mapping(bytes)});
    const Mapping& host = copies_.back().host;
    if (fetch) {
      const kernels::Queue queue = runner_.queue(Dtype::F32);
      kernels::cuda_api().copy_out(host.data(), device, bytes, queue.stream);
      runner_.wait();
    }
    return host.data();
  }
  void give_back() {
    if (copies_.empty()) return;
    const kernels::Queue queue = runner_.queue(Dtype::F32);
    for (const Copy& copy : copies_) {
      kernels::cuda_api().copy_in(copy.device, copy.host.data(), copy.host.bytes(), queue.stream);
    }
    runner_.wait();
    copies_.clear();
  }

 private:
  struct Copy {
    std::byte* device = nullptr;
    Mapping host;
  };
  Runner& runner_;
  std::vector<Copy> copies_;
};

template <class Pointer>
std::vector<RegionMemory<Pointer>> regions_of(Trainer& trainer, HostCopies& host) {
  constexpr bool kFetch = std::is_const_v<std::remove_pointer_t<Pointer>>;
  std::vector<RegionMemory<Pointer>> regions;
  const Memory& memory = trainer.runner().memory();
  const std::int64_t wide = bytes_of(moment_dtype(trainer.plan()));
  int index = 0;
  for (const Region& region : trainer.weights().regions) {
    const auto [begin, end] = shard_of(trainer.plan(), region);
    const auto held = [&](const char* name) {
      return host.at(memory.find(BufferKind::Optimizer, name, index), (end - begin) * wide, kFetch);
    };
    regions.push_back({.weights = host.at(memory.find(BufferKind::Weight, "weights", index),
                                          region.elements * bytes_of(region.dtype), kFetch),
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
                          .regions = regions_of<const void*>(trainer, host),
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
  HostCopies host(trainer.runner());
  const LoadedCheckpoint loaded = load_checkpoint({.path = path,
                                                   .plan = trainer.plan(),
                                                   .layout = trainer.weights(),
                                                   .regions = regions_of<void*>(trainer, host)},
                                                  ranks);
  expect_tokenizer(loaded, tokenizer, path);
  host.give_back();
  return loaded.state;
}

LoadedCheckpoint load_weights(const std::string& path, const Plan& plan, const Bootstrap& bootstrap,
                              Runner& runner) {
  const WeightLayout& layout = runner.program(0).weights;
  std::vector<RegionMemory<void*>> regions;
  HostCopies host(runner);
  for (std::size_t r = 0; r < layout.regions.size(); ++r) {
    const Region& region = layout.regions[r];
    regions.push_back({.weights = host.at(runner.region(BufferKind::Weight, static_cast<int>(r)),
                                          region.elements * bytes_of(region.dtype), false)});
  }
  RankCooperation ranks(bootstrap);
  LoadedCheckpoint loaded = load_checkpoint({.path = path,
                                             .plan = plan,
                                             .layout = layout,
                                             .regions = std::move(regions),
                                             .optimizer = OptimizerUse::Ignored},
                                            ranks);
  host.give_back();
  return loaded;
}

}  // namespace imhotep::executor
