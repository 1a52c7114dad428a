#pragma once
// Saves and loads a model and its optimizer at any degrees: files hold whole tensors, one per
// expert, and each rank writes or reads the pieces it holds. Format: docs/formats/checkpoint.md.
//
// Who writes: of the ranks that hold the same region the first one, of the ranks that hold the
// same tensor whole the one at tensor index or slice 0, and under ZeRO every rank its own range
// of the moments. So every element is written once.

#include <string>
#include <vector>

#include "core/layout/weights.h"
#include "core/spec/plan.h"
#include "executor/checkpoint/cooperation.h"
#include "executor/checkpoint/piece_stream.h"
#include "executor/checkpoint/run_folder.h"
#include "executor/checkpoint/state.h"
#include "executor/data/tokenizer.h"

namespace imhotep::executor {

// Memory of one region (core/layout/weights.h). `Pointer` is const void* to save, void* to load.
template <class Pointer>
struct RegionMemory {
  Pointer weights = nullptr;                                // [elements], of the region's dtype
  Pointer first_moment = nullptr, second_moment = nullptr;  // [shard_end - shard_begin]
  Pointer master = nullptr;                     // fp32, likewise; null: the region has none
  std::int64_t shard_begin = 0, shard_end = 0;  // what the moments hold of the region
};

// True where ZeRO divides the moments of a region over the ranks that hold it.
template <class Pointer>
[[nodiscard]] bool is_divided(const RegionMemory<Pointer>& memory, const Region& region) {
  return memory.shard_begin > 0 || memory.shard_end < region.used;
}

// Of the moments: fp64 in fp64 plans, else fp32.
[[nodiscard]] Dtype moment_dtype(const Plan& plan);

struct SaveRequest {
  std::string run_folder;
  const Plan& plan;
  const WeightLayout& layout;                      // of this rank
  std::vector<RegionMemory<const void*>> regions;  // as in the layout; no moments: model only
  TrainingState state;
  std::string tokenizer_file;  // copied; empty: none
  int keep = 2;                // newest checkpoints that stay
};

// Collective. Returns the checkpoint's folder.
// Throws, on every rank: Error(Failed) with the path and the first cause. The temporary folder is
// gone then, and earlier checkpoints are untouched.
std::string save_checkpoint(const SaveRequest& request, Cooperation& ranks);

enum class OptimizerUse : std::uint8_t {
  Required,   // absent moments are an error
  IfPresent,  // absent moments stay as they are
  Ignored,
};

struct LoadRequest {
  std::string path;  // a checkpoint or a run
  const Plan& plan;
  const WeightLayout& layout;
  std::vector<RegionMemory<void*>> regions;  // padding stays as it is
  OptimizerUse optimizer = OptimizerUse::Required;
  ReadOptions reading;  // with a landing, regions are its targets, not memory of the host
};

// Threads that read on a machine with so many ranks.
[[nodiscard]] int usual_readers(int ranks_on_node);

struct LoadedCheckpoint {
  std::string folder;
  TrainingState state;  // all zero where the folder holds a model alone
  bool has_state = false;
  bool optimizer_loaded = false;
};

// Collective. Weights convert from F32, F64, BF16 and F16.
// Throws, on every rank: Error(Input) naming file, tensor and what was expected, also for files
// whose elements changed since they were written.
LoadedCheckpoint load_checkpoint(const LoadRequest& request, Cooperation& ranks);

// The model of a checkpoint or run. Throws: Error(Input).
[[nodiscard]] ModelSpec checkpoint_model(const std::string& path);
// Throws: Error(Input) naming the first difference unless it is of the shape `wanted`.
void expect_model(const std::string& path, const ModelSpec& wanted);
// Its plan; what it was trained with, not what it must be loaded with.
[[nodiscard]] Plan checkpoint_plan(const std::string& path);
// Its tokenizer. Throws: Error(Input) when there is none or it is not the one the model was
// trained with.
[[nodiscard]] Tokenizer checkpoint_tokenizer(const std::string& path);
// Throws: Error(Input) unless `tokenizer`, read from `file`, is the one of the checkpoint.
void expect_tokenizer(const LoadedCheckpoint& checkpoint, const Tokenizer& tokenizer,
                      const std::string& file);

}  // namespace imhotep::executor
