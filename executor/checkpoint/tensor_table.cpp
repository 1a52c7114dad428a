#include "executor/checkpoint/tensor_table.h"

#include <algorithm>
#include <climits>
#include <tuple>

#include "core/base/fail.h"
#include "core/layout/groups.h"

namespace imhotep::executor {
namespace {

// Place in the file: by block, then expert, then role.
std::tuple<int, int, int> place_of(const LocalTensor& tensor, int expert) {
  const bool final_norm =
      tensor.role == TensorRole::FinalGain || tensor.role == TensorRole::FinalBias;
  return {final_norm ? INT_MAX : tensor.layer, expert, static_cast<int>(tensor.role)};
}

}  // namespace

std::vector<TensorEntry> model_tensors(const ModelSpec& model, Dtype dtype) {
  std::vector<std::pair<std::tuple<int, int, int>, TensorEntry>> placed;
  Plan plan = single_rank_plan(model, {});
  plan.dtype = dtype;
  for (const Region& region : weight_layout(plan, Rank(0)).regions) {
    for (const LocalTensor& tensor : region.tensors) {
      const int first = tensor.expert_count > 0 ? 0 : -1;
      for (int expert = first; expert < std::max(tensor.expert_count, first + 1); ++expert) {
        placed.emplace_back(place_of(tensor, expert),
                            TensorEntry{.name = tensor_name(tensor.role, tensor.layer, expert),
                                        .type = element_type(region.dtype),
                                        .shape = tensor.shape});
      }
    }
  }
  std::sort(placed.begin(), placed.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<TensorEntry> tensors;
  tensors.reserve(placed.size());
  for (auto& [place, tensor] : placed) tensors.push_back(std::move(tensor));
  return tensors;
}

std::vector<TensorEntry> optimizer_tensors(const ModelSpec& model, Dtype dtype) {
  const ElementType wide = element_type(dtype == Dtype::F64 ? Dtype::F64 : Dtype::F32);
  std::vector<TensorEntry> tensors;
  for (const char* suffix : {kFirstMoment, kSecondMoment, kMaster}) {
    for (TensorEntry& tensor : model_tensors(model, dtype)) {
      if (suffix == kMaster && tensor.type != element_type(Dtype::Bf16)) continue;
      tensor.name += suffix;
      tensor.type = wide;
      tensors.push_back(std::move(tensor));
    }
  }
  return tensors;
}

void for_each_piece(const Region& region, const std::function<void(const TensorPiece&)>& visit) {
  for (const LocalTensor& tensor : region.tensors) {
    const std::vector<TensorRun> runs = tensor_runs(tensor);
    for (int stacked = 0; stacked < std::max(tensor.expert_count, 1); ++stacked) {
      const std::string name =
          tensor_name(tensor.role, tensor.layer, tensor.expert_begin + stacked);
      const std::int64_t begin = tensor.offset + stacked * tensor.elements_per_tensor();
      for (const TensorRun& run : runs) {
        visit({.tensor = tensor,
               .name = name,
               .file_first = run.global_offset,
               .region_first = begin + run.local_offset,
               .count = run.count});
      }
    }
  }
}

TensorPiece intersect(const TensorPiece& piece, std::int64_t begin, std::int64_t end) {
  const std::int64_t first = std::max(piece.region_first, begin);
  const std::int64_t last = std::min(piece.region_first + piece.count, end);
  return {.tensor = piece.tensor,
          .name = piece.name,
          .file_first = piece.file_first + first - piece.region_first,
          .region_first = first,
          .count = std::max<std::int64_t>(0, last - first)};
}

bool is_responsible(const Plan& plan, Rank rank, const LocalTensor& tensor) {
  if (tensor.shard_dim >= 0) return true;
  if (tensor.expert_count == 0) return rank_place(plan, rank).tensor == 0;
  const MoeLayerPlan* moe = plan.moe(tensor.layer);
  if (moe == nullptr) fail("block {}: expert tensors without an MoE layer", tensor.layer);
  return expert_place(plan, *moe, rank).slice == 0;
}

}  // namespace imhotep::executor
