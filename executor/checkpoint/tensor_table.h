#pragma once
// The tensors of a model's files, free of any degree, and the pieces of them that a rank holds.

#include <functional>
#include <string>
#include <vector>

#include "core/layout/weights.h"
#include "core/spec/plan.h"
#include "executor/checkpoint/safetensors.h"

namespace imhotep::executor {

inline constexpr const char* kFirstMoment = ".m";  // suffixes in the optimizer's file
inline constexpr const char* kSecondMoment = ".v";
inline constexpr const char* kMaster = ".master";  // fp32 copies of bf16 weights

// Embeddings, blocks from first to last, final norm; one tensor per expert. Offsets are not set.
[[nodiscard]] std::vector<TensorEntry> model_tensors(const ModelSpec& model, Dtype dtype);
// Both moments of every tensor, and the fp32 copies of bf16 ones.
[[nodiscard]] std::vector<TensorEntry> optimizer_tensors(const ModelSpec& model, Dtype dtype);

// Contiguous both in the file's tensor and in the rank's region.
struct TensorPiece {
  const LocalTensor& tensor;
  const std::string& name;
  std::int64_t file_first = 0;    // elements, in the file's tensor
  std::int64_t region_first = 0;  // elements, in the region
  std::int64_t count = 0;
};
void for_each_piece(const Region& region, const std::function<void(const TensorPiece&)>& visit);

// Part of `piece` inside elements [begin, end) of the region; its count is 0 when there is none.
[[nodiscard]] TensorPiece intersect(const TensorPiece& piece, std::int64_t begin, std::int64_t end);

// Of the ranks outside the region's group that hold the same tensor whole, one is responsible for
// it: tensor index 0, or slice 0 of the experts. True for every rank where the tensor is cut.
[[nodiscard]] bool is_responsible(const Plan& plan, Rank rank, const LocalTensor& tensor);

}  // namespace imhotep::executor
