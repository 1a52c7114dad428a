// Loading: every rank checks the whole table of tensors, so that all see the same fault, then
// lists its own pieces and reads them (piece_stream.h). The ranks that would write a piece also sum
// it up, which compares the files with what was saved at no extra reading.

#include <algorithm>
#include <thread>

#include "executor/checkpoint/checkpoint.h"
#include "executor/checkpoint/files.h"
#include "executor/checkpoint/model_config.h"
#include "executor/checkpoint/tensor_table.h"
#include "executor/checkpoint/weight_files.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

void compare_models(const ModelSpec& found, const ModelSpec& wanted, const std::string& file) {
  const auto compare = [&](const char* field, const auto& ours, const auto& theirs) {
    if (ours == theirs) return;
    fail_input("{}: wrong model: {} is {} in the checkpoint, {} in the plan", file, field, theirs,
               ours);
  };
  compare("layers", wanted.layers, found.layers);
  compare("hidden", wanted.hidden, found.hidden);
  compare("heads", wanted.heads, found.heads);
  compare("vocab", wanted.vocab, found.vocab);
  compare("context", wanted.context, found.context);
  compare("residual", wanted.residual, found.residual);
  compare("top_k", wanted.top_k, found.top_k);
  for (int layer = 0; layer < wanted.layers; ++layer) {
    compare(fmt::format("the number of experts of block {}", layer).c_str(),
            wanted.experts_at(layer), found.experts_at(layer));
  }
}

void expect_sum(std::uint64_t sum, const std::string& saved, const std::string& file) {
  const std::string text = fmt::format("{:016x}", sum);
  if (saved.empty() || saved == text) return;
  fail_input("{}: damaged: its elements have checksum {}, state.json expects {}", file, text,
             saved);
}

// A rank's side of one set of files.
class PieceReader {
 public:
  PieceReader(const std::string& folder, const char* files) : files_(folder, files) {}

  void expect(const std::vector<TensorEntry>& tensors, Dtype dtype) const {
    files_.expect(tensors, dtype);
  }
  [[nodiscard]] bool holds(const std::string& tensor) const {
    return files_.find(tensor).tensor != nullptr;
  }

  // Memory that holds a region from element `origin` on, in `dtype`.
  struct Target {
    void* memory = nullptr;
    std::int64_t origin = 0;
    Dtype dtype = Dtype::F32;
  };
  void list(const TensorPiece& piece, const char* suffix, const Target& target, bool summed,
            std::vector<ReadJob>& jobs) {
    if (piece.count == 0) return;
    const WeightFiles::Place place = files_.find(piece.name + suffix);
    auto* to = static_cast<std::byte*>(target.memory) +
               (piece.region_first - target.origin) * bytes_of(target.dtype);
    jobs.push_back({.file = place.file,
                    .tensor = place.tensor,
                    .range = {.first = piece.file_first, .count = piece.count},
                    .target = to,
                    .dtype = target.dtype,
                    .sum = summed ? &sum_ : nullptr});
  }
  // Of what was listed to be summed and has been read.
  [[nodiscard]] std::uint64_t sum() const { return sum_; }

 private:
  WeightFiles files_;
  std::uint64_t sum_ = 0;
};

class Loader {
 public:
  Loader(const LoadRequest& request, Cooperation& ranks) : request_(request), ranks_(ranks) {}

  LoadedCheckpoint load() {
    agree([&] { open(); });
    agree([&] { read_pieces(list_pieces(), request_.reading); });
    const std::uint64_t weights = ranks_.sum(model_->sum());
    const std::uint64_t moments = ranks_.sum(optimizer_ ? optimizer_->sum() : 0);
    const std::uint64_t masters = ranks_.sum(masters_ ? masters_->sum() : 0);
    agree([&] {
      expect_sum(weights, loaded_.state.model_checksum, path(kModelFiles) + ".safetensors");
      if (!loaded_.optimizer_loaded) return;
      const std::string file = path(kOptimizerFiles) + ".safetensors";
      expect_sum(moments, loaded_.state.optimizer_checksum, file);
      if (masters != 0) expect_sum(masters, loaded_.state.master_checksum, file);
    });
    return loaded_;
  }

 private:
  template <class Work>
  void agree(Work&& work) {
    const std::string error = ranks_.first_error(first_own_error(work));
    if (!error.empty()) fail_input("{}", error);
  }
  // Faults of the files are the same on every rank: the text needs no rank.
  template <class Work>
  static std::string first_own_error(Work&& work) {
    try {
      work();
    } catch (const std::exception& exception) {
      return exception.what();
    }
    return {};
  }

  [[nodiscard]] std::string path(const char* name) const { return file_in(loaded_.folder, name); }

  void open() {
    if (request_.regions.size() != request_.layout.regions.size()) {
      fail("expected memory of {} regions, got {}", request_.layout.regions.size(),
           request_.regions.size());
    }
    loaded_.folder = find_checkpoint(request_.path);
    if (fs::exists(path(kModelConfig))) {
      compare_models(read_model_config(path(kModelConfig)), request_.plan.model,
                     path(kModelConfig));
    }
    loaded_.has_state = fs::exists(path(kStateFile));
    if (loaded_.has_state) loaded_.state = read_state(path(kStateFile));
    const Plan& plan = request_.plan;
    model_ = std::make_unique<PieceReader>(loaded_.folder, kModelFiles);
    model_->expect(model_tensors(plan.model, plan.dtype), plan.dtype);
    if (!WeightFiles::exist(loaded_.folder, kOptimizerFiles)) {
      if (request_.optimizer != OptimizerUse::Required) return;
      fail_input("{}: optimizer.safetensors is missing: the checkpoint holds a model alone",
                 loaded_.folder);
    }
    if (request_.optimizer == OptimizerUse::Ignored) return;
    optimizer_ = std::make_unique<PieceReader>(loaded_.folder, kOptimizerFiles);
    if (request_.regions[0].first_moment == nullptr) fail("no memory for the optimizer's moments");
    optimizer_->expect(expected_optimizer(), moment_dtype(plan));
    masters_ = std::make_unique<PieceReader>(loaded_.folder, kOptimizerFiles);
    loaded_.optimizer_loaded = true;
  }

  // Moments of every tensor, and the fp32 copies that the file happens to hold.
  std::vector<TensorEntry> expected_optimizer() const {
    std::vector<TensorEntry> tensors = optimizer_tensors(request_.plan.model, Dtype::Bf16);
    std::erase_if(tensors, [&](const TensorEntry& tensor) {
      return tensor.name.ends_with(kMaster) && !optimizer_->holds(tensor.name);
    });
    return tensors;
  }

  // Copies that the file does not hold start from the weights.
  void list_master(const TensorPiece& piece, const RegionMemory<void*>& memory, bool summed) {
    const PieceReader::Target target{.memory = memory.master, .origin = memory.shard_begin};
    if (masters_->holds(piece.name + kMaster)) {
      masters_->list(piece, kMaster, target, summed, jobs_);
    } else {
      model_->list(piece, "", target, false, jobs_);
    }
  }

  const std::vector<ReadJob>& list_pieces() {
    const Rank rank(ranks_.rank());
    for (std::size_t r = 0; r < request_.regions.size(); ++r) {
      const Region& region = request_.layout.regions[r];
      const auto& memory = request_.regions[r];
      const bool first = region.own_index == 0;
      const bool sums_moments = first || is_divided(memory, region);
      for_each_piece(region, [&](const TensorPiece& piece) {
        const bool responsible = is_responsible(request_.plan, rank, piece.tensor);
        model_->list(piece, "", {.memory = memory.weights, .dtype = region.dtype},
                     responsible && first, jobs_);
        if (optimizer_ == nullptr) return;
        const TensorPiece own = intersect(piece, memory.shard_begin, memory.shard_end);
        const bool summed = responsible && sums_moments;
        const Dtype wide = moment_dtype(request_.plan);
        const std::int64_t origin = memory.shard_begin;
        optimizer_->list(own, kFirstMoment, {memory.first_moment, origin, wide}, summed, jobs_);
        optimizer_->list(own, kSecondMoment, {memory.second_moment, origin, wide}, summed, jobs_);
        if (memory.master != nullptr) list_master(own, memory, summed);
      });
    }
    return jobs_;
  }

  const LoadRequest& request_;
  Cooperation& ranks_;
  LoadedCheckpoint loaded_;
  std::unique_ptr<PieceReader> model_, optimizer_, masters_;
  std::vector<ReadJob> jobs_;
};

}  // namespace

LoadedCheckpoint load_checkpoint(const LoadRequest& request, Cooperation& ranks) {
  return Loader(request, ranks).load();
}

int usual_readers(int ranks_on_node) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores / std::max(ranks_on_node, 1), 2, 8);
}

ModelSpec checkpoint_model(const std::string& path) {
  return read_model_config(file_in(find_checkpoint(path), kModelConfig));
}

void expect_model(const std::string& path, const ModelSpec& wanted) {
  const std::string file = file_in(find_checkpoint(path), kModelConfig);
  compare_models(read_model_config(file), wanted, file);
}

Plan checkpoint_plan(const std::string& path) {
  return read_plan(file_in(find_checkpoint(path), kPlanFile));
}

Tokenizer checkpoint_tokenizer(const std::string& path) {
  const std::string folder = find_checkpoint(path), file = file_in(folder, kTokenizerFile);
  Tokenizer tokenizer = Tokenizer::load(file);
  LoadedCheckpoint checkpoint{.folder = folder, .state = {}};
  if (fs::exists(file_in(folder, kStateFile))) {
    checkpoint.state = read_state(file_in(folder, kStateFile));
  }
  expect_tokenizer(checkpoint, tokenizer, file);
  return tokenizer;
}

void expect_tokenizer(const LoadedCheckpoint& checkpoint, const Tokenizer& tokenizer,
                      const std::string& file) {
  const std::string& wanted = checkpoint.state.tokenizer_hash;
  if (wanted.empty() || wanted == tokenizer.hash_text()) return;
  fail_input("{}: wrong tokenizer: the checkpoint {} was trained with tokenizer {}, got {}", file,
             checkpoint.folder, wanted, tokenizer.hash_text());
}

}  // namespace imhotep::executor
