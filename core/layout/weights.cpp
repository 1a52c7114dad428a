#include "core/layout/weights.h"

#include <algorithm>
#include <numeric>

#include "core/base/fail.h"
#include "core/layout/groups.h"

namespace imhotep {
namespace {

constexpr std::int64_t kTensorAlignment = 16;  // elements: one cache line of fp32
constexpr std::int64_t kShardAlignment = kTensorAlignment;

struct Draft {
  LocalTensor tensor;
  bool decay = false;
};

// Collects the tensors of one region in the order of the model.
class RegionBuilder {
 public:
  RegionBuilder(std::string name, Dtype dtype, Members group, Rank rank, double copies)
      : copies_(copies) {
    region_.name = std::move(name);
    region_.dtype = dtype;
    region_.own_index = static_cast<int>(group.index_of(rank));
    region_.group = std::move(group);
  }

  void add(TensorRole role, int layer, std::vector<std::int64_t> shape, bool decay) {
    add_sharded(role, layer, std::move(shape), decay, -1, 1, 0);
  }

  void add_sharded(TensorRole role, int layer, std::vector<std::int64_t> shape, bool decay, int dim,
                   int parts, int index, int expert_begin = 0, int expert_count = 0) {
    Draft draft{.tensor = {.role = role, .layer = layer, .shape = std::move(shape)},
                .decay = decay};
    LocalTensor& tensor = draft.tensor;
    tensor.elements = std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1},
                                      std::multiplies<>());
    if (dim >= 0 && parts > 1) {
      const std::int64_t part = tensor.shape[dim] / parts;
      tensor.shard_dim = dim;
      tensor.begin = part * index;
      tensor.end = part * (index + 1);
      tensor.elements /= parts;
    }
    tensor.expert_begin = expert_begin;
    tensor.expert_count = expert_count;
    if (expert_count > 0) tensor.elements *= expert_count;
    drafts_.push_back(std::move(draft));
  }

  Region finish(int index) {
    for (const bool decay : {true, false}) {
      for (const bool sharded : {true, false}) {
        region_.used = (region_.used + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
        const std::int64_t begin = region_.used;
        for (Draft& draft : drafts_) {
          if (draft.decay != decay || (draft.tensor.shard_dim >= 0) != sharded) continue;
          region_.used =
              (region_.used + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
          draft.tensor.region = index;
          draft.tensor.offset = region_.used;
          region_.used += draft.tensor.elements;
          region_.tensors.push_back(draft.tensor);
        }
        if (region_.used > begin) {
          region_.norm_ranges.push_back(
              {.begin = begin, .end = region_.used, .scale = sharded ? 1.0 : 1.0 / copies_});
        }
      }
      if (decay) region_.decayed = region_.used;
    }
    const auto unit = kShardAlignment * static_cast<std::int64_t>(region_.group.size());
    region_.elements = (region_.used + unit - 1) / unit * unit;
    return std::move(region_);
  }

 private:
  Region region_;
  std::vector<Draft> drafts_;
  double copies_;  // ranks outside `group` that hold the same replicated tensors
};

void add_dense_block(RegionBuilder& region, const ModelSpec& m, int layer, int parts, int index) {
  using R = TensorRole;
  const std::int64_t h = m.hidden, f = m.ffn(), experts = m.experts_at(layer);
  region.add(R::Ln1Gain, layer, {h}, false);
  region.add(R::Ln1Bias, layer, {h}, false);
  region.add_sharded(R::QkvWeight, layer, {3, h, h}, true, 1, parts, index);
  region.add_sharded(R::QkvBias, layer, {3, h}, false, 1, parts, index);
  region.add_sharded(R::ProjectionWeight, layer, {h, h}, true, 1, parts, index);
  region.add(R::ProjectionBias, layer, {h}, false);
  region.add(R::Ln2Gain, layer, {h}, false);
  region.add(R::Ln2Bias, layer, {h}, false);
  if (experts == 0 || m.residual) {
    region.add_sharded(R::UpWeight, layer, {f, h}, true, 0, parts, index);
    region.add_sharded(R::UpBias, layer, {f}, false, 0, parts, index);
    region.add_sharded(R::DownWeight, layer, {h, f}, true, 1, parts, index);
    region.add(R::DownBias, layer, {h}, false);
  }
}

void add_router(RegionBuilder& region, const ModelSpec& m, int layer) {
  using R = TensorRole;
  const std::int64_t h = m.hidden, experts = m.experts_at(layer);
  if (experts == 0) return;
  region.add(R::GateWeight, layer, {experts, h}, true);
  if (!m.residual) return;
  region.add(R::CoefficientWeight, layer, {2, h}, true);
  region.add(R::CoefficientBias, layer, {2}, false);
}

bool has_router_region(const Plan& plan) {
  return plan.dtype == Dtype::Bf16 && !plan.moe_layers.empty();
}

Region router_region(const Plan& plan, Rank rank, int index) {
  RegionBuilder region("router", Dtype::F32, data_group(plan, rank), rank, plan.tensor);
  for (int layer = 0; layer < plan.model.layers; ++layer) add_router(region, plan.model, layer);
  return region.finish(index);
}

Region dense_region(const Plan& plan, Rank rank) {
  const ModelSpec& m = plan.model;
  const std::int64_t h = m.hidden;
  const int parts = plan.tensor, index = rank_place(plan, rank).tensor;
  RegionBuilder region("dense", plan.dtype, data_group(plan, rank), rank, plan.tensor);
  region.add_sharded(TensorRole::TokenEmbedding, -1, {m.padded_vocab(), h}, true, 0, parts, index);
  region.add(TensorRole::PositionEmbedding, -1, {m.context, h}, true);
  for (int layer = 0; layer < m.layers; ++layer) {
    add_dense_block(region, m, layer, parts, index);
    if (!has_router_region(plan)) add_router(region, m, layer);
  }
  region.add(TensorRole::FinalGain, -1, {h}, false);
  region.add(TensorRole::FinalBias, -1, {h}, false);
  return region.finish(0);
}

void add_experts(RegionBuilder& region, const Plan& plan, const MoeLayerPlan& moe, Rank rank) {
  using R = TensorRole;
  const std::int64_t h = plan.model.hidden, f = plan.model.ffn();
  const ExpertPlace place = expert_place(plan, moe, rank);
  const int held = moe.experts / moe.expert, first = held * place.expert;
  const auto add = [&](R role, std::vector<std::int64_t> shape, bool decay, int dim) {
    region.add_sharded(role, moe.layer, std::move(shape), decay, dim, moe.slicing, place.slice,
                       first, held);
  };
  add(R::ExpertUpWeight, {f, h}, true, 0);
  add(R::ExpertUpBias, {f}, false, 0);
  add(R::ExpertDownWeight, {h, f}, true, 1);
  add(R::ExpertDownBias, {h}, false, -1);
}

}  // namespace

WeightLayout weight_layout(const Plan& plan, Rank rank) {
  WeightLayout layout;
  layout.regions.push_back(dense_region(plan, rank));
  std::vector<const MoeLayerPlan*> heads;  // one layer for every distinct set of degrees
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    const bool known = std::any_of(heads.begin(), heads.end(), [&](const MoeLayerPlan* head) {
      return head->expert == moe.expert && head->slicing == moe.slicing;
    });
    if (!known) heads.push_back(&moe);
  }
  for (const MoeLayerPlan* head : heads) {
    RegionBuilder region(
        fmt::format("experts {}x{}x{}", head->expert, head->slicing, head->replica), plan.dtype,
        replica_group(plan, *head, rank), rank, head->slicing);
    for (const MoeLayerPlan& moe : plan.moe_layers) {
      if (moe.expert == head->expert && moe.slicing == head->slicing) {
        add_experts(region, plan, moe, rank);
      }
    }
    layout.regions.push_back(region.finish(static_cast<int>(layout.regions.size())));
  }
  if (has_router_region(plan)) {
    layout.regions.push_back(router_region(plan, rank, static_cast<int>(layout.regions.size())));
  }
  return layout;
}

const LocalTensor* WeightLayout::find(TensorRole role, int layer) const {
  for (const Region& region : regions) {
    for (const LocalTensor& tensor : region.tensors) {
      if (tensor.role == role && tensor.layer == layer) return &tensor;
    }
  }
  return nullptr;
}

std::int64_t WeightLayout::elements() const {
  std::int64_t total = 0;
  for (const Region& region : regions) total += region.elements;
  return total;
}

std::string tensor_name(TensorRole role, int layer, int expert) {
  using R = TensorRole;
  const auto block = [&](const char* name) { return fmt::format("blocks.{}.{}", layer, name); };
  const auto expert_name = [&](const char* name) {
    return fmt::format("blocks.{}.experts.{}.{}", layer, expert, name);
  };
  switch (role) {
    case R::TokenEmbedding:
      return "embedding.token.weight";
    case R::PositionEmbedding:
      return "embedding.position.weight";
    case R::Ln1Gain:
      return block("attention_norm.weight");
    case R::Ln1Bias:
      return block("attention_norm.bias");
    case R::QkvWeight:
      return block("attention.qkv.weight");
    case R::QkvBias:
      return block("attention.qkv.bias");
    case R::ProjectionWeight:
      return block("attention.projection.weight");
    case R::ProjectionBias:
      return block("attention.projection.bias");
    case R::Ln2Gain:
      return block("mlp_norm.weight");
    case R::Ln2Bias:
      return block("mlp_norm.bias");
    case R::UpWeight:
      return block("mlp.up.weight");
    case R::UpBias:
      return block("mlp.up.bias");
    case R::DownWeight:
      return block("mlp.down.weight");
    case R::DownBias:
      return block("mlp.down.bias");
    case R::GateWeight:
      return block("gate.weight");
    case R::CoefficientWeight:
      return block("coefficient.weight");
    case R::CoefficientBias:
      return block("coefficient.bias");
    case R::ExpertUpWeight:
      return expert_name("up.weight");
    case R::ExpertUpBias:
      return expert_name("up.bias");
    case R::ExpertDownWeight:
      return expert_name("down.weight");
    case R::ExpertDownBias:
      return expert_name("down.bias");
    case R::FinalGain:
      return "final_norm.weight";
    case R::FinalBias:
      return "final_norm.bias";
  }
  fail("unknown tensor role {}", static_cast<int>(role));
}

std::vector<TensorRun> tensor_runs(const LocalTensor& tensor) {
  const std::int64_t held = tensor.elements_per_tensor();
  if (tensor.shard_dim < 0) return {{.global_offset = 0, .local_offset = 0, .count = held}};
  std::int64_t outer = 1, inner = 1;
  for (int d = 0; d < tensor.shard_dim; ++d) outer *= tensor.shape[d];
  for (std::size_t d = tensor.shard_dim + 1; d < tensor.shape.size(); ++d) inner *= tensor.shape[d];
  const std::int64_t count = (tensor.end - tensor.begin) * inner;
  std::vector<TensorRun> runs;
  for (std::int64_t i = 0; i < outer; ++i) {
    runs.push_back({.global_offset = (i * tensor.shape[tensor.shard_dim] + tensor.begin) * inner,
                    .local_offset = i * count,
                    .count = count});
  }
  return runs;
}

}  // namespace imhotep
