#pragma once
// Which slice of which tensor a rank holds, and where it lies in the rank's memory.
//
// Weights live in flat regions: one dense region, and one for each set of expert degrees, because
// a region's gradients are summed over one process group (data; replica of the experts). In bf16
// plans the router's tensors (gate, residual coefficients) are an fp32 region of their own. Inside
// a region tensors that take weight decay come first, and sharded before replicated ones, so that
// update and gradient norm work on ranges. Gradients and optimizer state repeat the layout.
// The experts of a layer are stacked: one LocalTensor [experts held, ...], one file tensor each.

#include <cstdint>
#include <string>
#include <vector>

#include "core/layout/members.h"
#include "core/spec/plan.h"

namespace imhotep {

enum class TensorRole : std::uint8_t {
  TokenEmbedding,
  PositionEmbedding,
  Ln1Gain,
  Ln1Bias,
  QkvWeight,
  QkvBias,
  ProjectionWeight,
  ProjectionBias,
  Ln2Gain,
  Ln2Bias,
  UpWeight,
  UpBias,
  DownWeight,
  DownBias,  // dense or residual MLP
  GateWeight,
  CoefficientWeight,
  CoefficientBias,
  ExpertUpWeight,
  ExpertUpBias,
  ExpertDownWeight,
  ExpertDownBias,
  FinalGain,
  FinalBias,
};

struct LocalTensor {
  TensorRole role{};
  int layer = -1;                          // block, -1 for embeddings and the final norm
  std::vector<std::int64_t> shape;         // global shape of one tensor (of one expert)
  int shard_dim = -1;                      // dimension cut by tensor or slicing degree; -1: whole
  std::int64_t begin = 0, end = 0;         // held part of shard_dim
  int expert_begin = 0, expert_count = 0;  // experts held; 0: not an expert tensor
  int region = 0;
  std::int64_t offset = 0;    // elements, in the region
  std::int64_t elements = 0;  // held here, all experts of the stack

  [[nodiscard]] std::int64_t elements_per_tensor() const {
    return expert_count > 0 ? elements / expert_count : elements;
  }
};

// "blocks.3.experts.12.up.weight"; `expert` is a global index, ignored for dense tensors.
[[nodiscard]] std::string tensor_name(TensorRole role, int layer, int expert = -1);

// A contiguous piece of one file tensor held by a rank.
struct TensorRun {
  std::int64_t global_offset = 0;  // elements from the start of the file tensor
  std::int64_t local_offset = 0;   // elements from the start of this expert's (or the) tensor
  std::int64_t count = 0;
};
[[nodiscard]] std::vector<TensorRun> tensor_runs(const LocalTensor& tensor);

struct NormRange {  // part of the gradient norm: total += scale * sum of squares
  std::int64_t begin = 0, end = 0;
  double scale = 1;  // 1 / number of ranks that hold the same values
};

struct Region {
  std::string name;          // "dense", "router", "experts 4x1x2"
  Dtype dtype = Dtype::F32;  // of weights and gradients
  std::vector<LocalTensor> tensors;
  std::int64_t elements = 0;  // padded so that every rank of `group` gets an equal ZeRO shard
  std::int64_t used = 0;
  std::int64_t decayed = 0;  // the first so many take weight decay
  std::vector<NormRange> norm_ranges;
  Members group;      // ranks that hold the same elements
  int own_index = 0;  // of this rank in `group`

  [[nodiscard]] std::int64_t shard_elements() const {
    return elements / static_cast<std::int64_t>(group.size());
  }
  [[nodiscard]] bool holds_experts() const {
    return !tensors.empty() && tensors.front().expert_count > 0;
  }
};

struct WeightLayout {
  std::vector<Region> regions;
  // nullptr if the layer has no such tensor.
  [[nodiscard]] const LocalTensor* find(TensorRole role, int layer = -1) const;
  [[nodiscard]] std::int64_t elements() const;
};

[[nodiscard]] WeightLayout weight_layout(const Plan& plan, Rank rank);

}  // namespace imhotep
