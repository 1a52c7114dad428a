#include "planner/search/sample_plan.h"

namespace imhotep::planner {
namespace {

// Place of a block among the MoE layers of the model: the index of its histogram.
std::size_t moe_index(const ModelSpec& model, int layer) {
  std::size_t index = 0;
  for (int l = 0; l < layer; ++l) index += model.experts_at(l) > 0 ? 1 : 0;
  return index;
}

class SampleBuilder {
 public:
  SampleBuilder(const Space& space, const Frame& frame) : space_(space), frame_(frame) {
    sample_.plan = space.frame_plan(frame.world, frame.tensor, frame.rank_order);
    sample_.plan.micro_batch = frame.micro_batch;
    sample_.plan.accumulation = frame.accumulation;
    sample_.plan.model.moe_interval = 1;
    sample_.plan.model.experts.slots.clear();
    sample_.plan.workload.routing.histograms.clear();
  }

  Sample build() {
    const ModelSpec& model = space_.request().model;
    const int dense = model.layers - model.moe_layers();
    if (dense > 0) add({.times = static_cast<double>(dense)}, 0);
    const bool measured = space_.request().workload.routing.kind == RoutingKind::Measured;
    for (std::size_t k = 0; k < space_.kinds().size(); ++k) {
      const LayerKind& kind = space_.kinds()[k];
      for (std::size_t c = 0; c < frame_.choices[k].size(); ++c) {
        SampleBlock block{.kind = static_cast<int>(k), .choice = static_cast<int>(c)};
        if (!measured) block.times = static_cast<double>(kind.layers.size());
        add_moe(block, kind.layers.front());
        for (std::size_t l = 1; measured && l < kind.layers.size(); ++l) {
          add_moe(block, kind.layers[l]);
        }
      }
    }
    sample_.plan.model.layers = static_cast<int>(sample_.blocks.size());
    return std::move(sample_);
  }

 private:
  void add(SampleBlock block, int experts) {
    sample_.blocks.push_back(block);
    sample_.plan.model.experts.slots.push_back(experts);
  }

  void add_moe(SampleBlock block, int layer) {
    const LayerChoice& choice = frame_.choices[block.kind][block.choice];
    const LayerKind& kind = space_.kinds()[block.kind];
    sample_.plan.moe_layers.push_back({.layer = static_cast<int>(sample_.blocks.size()),
                                       .experts = kind.experts,
                                       .expert = choice.expert,
                                       .slicing = choice.slicing,
                                       .replica = choice.replica,
                                       .exchange = choice.exchange,
                                       .receive_rows = choice.receive_rows});
    const auto& histograms = space_.request().workload.routing.histograms;
    if (const std::size_t index = moe_index(space_.request().model, layer);
        index < histograms.size()) {
      sample_.plan.workload.routing.histograms.push_back(histograms[index]);
    }
    add(block, kind.experts);
  }

  const Space& space_;
  const Frame& frame_;
  Sample sample_;
};

}  // namespace

Sample sample_of(const Space& space, const Frame& frame, Recompute recompute) {
  Sample sample = SampleBuilder(space, frame).build();
  sample.plan.recompute = recompute;
  return sample;
}

}  // namespace imhotep::planner
