// Saving in three steps, after each of which all ranks agree: one rank makes the folder and its
// files, all ranks write their pieces, one rank renames the folder.

#include <fcntl.h>
#include <unistd.h>

#include "core/base/content_hash.h"
#include "executor/checkpoint/checkpoint.h"
#include "executor/checkpoint/files.h"
#include "executor/checkpoint/safetensors.h"
#include "executor/checkpoint/tensor_table.h"

namespace imhotep::executor {
namespace {

// A rank's side of one file: writes pieces and sums them up.
class PieceWriter {
 public:
  explicit PieceWriter(SafetensorsWriter& file) : file_(file) {}

  // `memory` holds the region from element `origin` on, in elements of `bytes`.
  void write(const TensorPiece& piece, const char* suffix, const void* memory, std::int64_t origin,
             std::int64_t bytes) {
    if (piece.count == 0) return;
    const std::string name = piece.name + suffix;
    const auto* from = static_cast<const char*>(memory) + (piece.region_first - origin) * bytes;
    file_.write(name, {.first = piece.file_first, .count = piece.count}, from);
    sum_ += checksum(fnv1a(name), piece.file_first, from, piece.count, bytes);
  }
  [[nodiscard]] std::uint64_t sum() const { return sum_; }

 private:
  SafetensorsWriter& file_;
  std::uint64_t sum_ = 0;
};

class Saver {
 public:
  Saver(const SaveRequest& request, Cooperation& ranks)
      : request_(request),
        ranks_(ranks),
        place_{.run_folder = request.run_folder, .step = request.state.step},
        with_moments_(!request.regions.empty() && request.regions[0].first_moment != nullptr),
        model_(file_in(place_.temporary(), "model.safetensors"),
               model_tensors(request.plan.model, request.plan.dtype),
               {{"format", "imhotep"}, {"model", request.plan.model.name}}),
        optimizer_(file_in(place_.temporary(), "optimizer.safetensors"),
                   optimizer_tensors(request.plan.model, request.plan.dtype),
                   {{"format", "imhotep"}}) {}

  std::string save() {
    agree([&] { prepare(); });
    PieceWriter weights(model_), moments(optimizer_), masters(optimizer_);
    agree([&] { write_pieces(weights, moments, masters); });
    TrainingState state = request_.state;
    state.model_checksum = fmt::format("{:016x}", ranks_.sum(weights.sum()));
    const std::uint64_t moment_sum = ranks_.sum(moments.sum());
    state.optimizer_checksum = with_moments_ ? fmt::format("{:016x}", moment_sum) : "";
    const std::uint64_t master_sum = ranks_.sum(masters.sum());
    state.master_checksum = master_sum != 0 ? fmt::format("{:016x}", master_sum) : "";
    agree([&] { finish(state); });
    return place_.folder();
  }

 private:
  template <class Work>
  void agree(Work&& work) {
    const std::string error = first_error_of(ranks_, work);
    if (error.empty()) return;
    if (ranks_.rank() == 0) discard_checkpoint(place_);
    fail("cannot save the checkpoint of step {}: {} (earlier checkpoints are untouched)",
         place_.step, error);
  }

  void prepare() {
    check_request();
    if (ranks_.rank() != 0) return;
    begin_checkpoint(place_);
    model_.create();
    if (with_moments_) optimizer_.create();
    write_model(request_.plan.model, file_in(place_.temporary(), kModelConfig));
    write_plan(request_.plan, file_in(place_.temporary(), kPlanFile));
    if (request_.tokenizer_file.empty()) return;
    std::error_code error;
    std::filesystem::copy_file(request_.tokenizer_file, file_in(place_.temporary(), kTokenizerFile),
                               error);
    if (error) fail("{}: cannot copy: {}", request_.tokenizer_file, error.message());
  }

  void check_request() const {
    if (request_.regions.size() != request_.layout.regions.size()) {
      fail("expected memory of {} regions, got {}", request_.layout.regions.size(),
           request_.regions.size());
    }
    if (ranks_.world() != request_.plan.world) {
      fail("expected the {} ranks of the plan, got {}", request_.plan.world, ranks_.world());
    }
  }

  void write_pieces(PieceWriter& weights, PieceWriter& moments, PieceWriter& masters) {
    model_.open();
    if (with_moments_) optimizer_.open();
    const Plan& plan = request_.plan;
    const Rank rank(ranks_.rank());
    for (std::size_t r = 0; r < request_.regions.size(); ++r) {
      const Region& region = request_.layout.regions[r];
      const auto& memory = request_.regions[r];
      const bool first = region.own_index == 0;
      const bool writes_moments = with_moments_ && (first || is_divided(memory, region));
      for_each_piece(region, [&](const TensorPiece& piece) {
        if (!is_responsible(request_.plan, rank, piece.tensor)) return;
        if (first) weights.write(piece, "", memory.weights, 0, bytes_of(region.dtype));
        if (!writes_moments) return;
        const TensorPiece own = intersect(piece, memory.shard_begin, memory.shard_end);
        const std::int64_t origin = memory.shard_begin, wide = bytes_of(moment_dtype(plan));
        moments.write(own, kFirstMoment, memory.first_moment, origin, wide);
        moments.write(own, kSecondMoment, memory.second_moment, origin, wide);
        if (memory.master != nullptr) masters.write(own, kMaster, memory.master, origin, wide);
      });
    }
    model_.close();
    optimizer_.close();
  }

  void finish(const TrainingState& state) {
    if (ranks_.rank() != 0) return;
    write_state(state, file_in(place_.temporary(), kStateFile));
    publish_checkpoint(place_);
    prune_checkpoints(place_, request_.keep);
  }

  const SaveRequest& request_;
  Cooperation& ranks_;
  CheckpointPlace place_;
  bool with_moments_;
  SafetensorsWriter model_, optimizer_;
};

}  // namespace

Dtype moment_dtype(const Plan& plan) { return plan.dtype == Dtype::F64 ? Dtype::F64 : Dtype::F32; }

std::string save_checkpoint(const SaveRequest& request, Cooperation& ranks) {
  return Saver(request, ranks).save();
}

}  // namespace imhotep::executor
