#include "planner/search/region_prices.h"

#include <algorithm>

#include "core/layout/weights.h"
#include "planner/search/program_parts.h"

namespace imhotep::planner {
namespace {

using program::Program;

// Region whose tensors each buffer holds, or -1. A shard belongs to the region it is cut from.
class BufferRegions {
 public:
  explicit BufferRegions(const Program& program) : region_(program.buffers.size(), kUnseen) {
    for (const auto* list : {&program.region_weights, &program.region_gradients, &program.region_m,
                             &program.region_v}) {
      for (std::size_t r = 0; r < list->size(); ++r) {
        region_[(*list)[r].value] = static_cast<int>(r);
      }
    }
  }

  // Region of the operation, -1 for none; what it writes first belongs there too.
  int take(const program::Operation& operation) {
    int region = -1;
    for (const program::Operands* operands : {&operation.inputs, &operation.outputs}) {
      for (const program::Operand& operand : *operands) {
        if (operand.valid()) region = std::max(region, region_[operand.buffer.value]);
      }
    }
    for (const program::Operand& operand : operation.outputs) {
      if (!operand.valid()) continue;
      int& owner = region_[operand.buffer.value];
      if (owner == kUnseen) owner = region;
    }
    return region;
  }

 private:
  static constexpr int kUnseen = -2;
  std::vector<int> region_;
};

// The router of a bf16 plan counts with the dense region: as many bytes a parameter in all.
std::int64_t elements_of(const WeightLayout& layout, std::size_t region) {
  std::int64_t elements = layout.regions[region].elements;
  for (std::size_t r = 1; region == 0 && r < layout.regions.size(); ++r) {
    if (!layout.regions[r].holds_experts()) elements += layout.regions[r].elements;
  }
  return elements;
}

}  // namespace

// The gradients that a step zeroes before its first micro-batch (core/program/build.cpp).
double RegionPrices::zeroing_us(const Plan& plan, const Region& region) const {
  const int busy = std::min(plan.world, plan.ranks_per_node);
  const auto fill_us = [&](std::int64_t elements) {
    if (elements == 0) return 0.0;
    return simulator_.price(Fill{elements}, plan.dtype, {}, busy).time_us +
           simulator_.overheads().operation_us;
  };
  const std::int64_t positions =
      region.holds_experts() ? 0 : plan.model.context * plan.model.hidden;
  return fill_us(region.elements - region.decayed) + fill_us(positions);
}

// The time of one region of an update; with region 0, what belongs to none.
RegionPrice RegionPrices::price(Plan plan, std::size_t region) const {
  RegionPrice price;
  if (plan.workload.kind != WorkloadKind::Training) {
    const WeightLayout layout = weight_layout(plan, Rank(0));
    price.elements = elements_of(layout, region);
    price.group = static_cast<std::int64_t>(layout.regions[region].group.size());
    return price;
  }
  for (const int zero : {0, 1}) {
    plan.zero = zero;
    const Program update = program::build_update(plan, Rank(0));
    const std::vector<double> times = finish_increments(simulator_.timeline(update, plan));
    BufferRegions regions(update);
    for (std::size_t i = 0; i < times.size(); ++i) {
      int owner = std::max(0, regions.take(update.operations[i]));
      if (!update.weights.regions[owner].holds_experts()) owner = 0;
      if (owner == static_cast<int>(region)) price.update_us[zero] += times[i];
    }
    const Region& held = update.weights.regions[region];
    price.elements = elements_of(update.weights, region);
    price.group = static_cast<std::int64_t>(held.group.size());
    price.update_us[zero] += zeroing_us(plan, held);
  }
  return price;
}

const RegionPrice& RegionPrices::dense(const Frame& frame) {
  const std::array<std::uint64_t, 2> key = {static_cast<std::uint64_t>(frame.world),
                                            static_cast<std::uint64_t>(frame.tensor)};
  const auto known = dense_.find(key);
  if (known != dense_.end()) return known->second;
  const auto index = static_cast<std::int32_t>(&frame - space_.frames().data());
  return dense_.emplace(key, price(space_.plan({.frame = index}), 0)).first->second;
}

const RegionPrice& RegionPrices::experts(const Frame& frame, std::uint64_t kinds,
                                         const LayerChoice& degrees) {
  const std::array<std::uint64_t, 5> key = {
      static_cast<std::uint64_t>(frame.world), static_cast<std::uint64_t>(frame.rank_order), kinds,
      static_cast<std::uint64_t>(degrees.expert), static_cast<std::uint64_t>(degrees.slicing)};
  const auto known = whole_kinds_.find(key);
  if (known != whole_kinds_.end()) return *known->second;
  std::vector<int> layers;
  for (std::size_t k = 0; k < space_.kinds().size(); ++k) {
    const bool in = (kinds >> k & 1) != 0;
    layers.push_back(in ? static_cast<int>(space_.kinds()[k].layers.size()) : 0);
  }
  return *whole_kinds_.emplace(key, &experts(frame, layers, degrees)).first->second;
}

const RegionPrice& RegionPrices::experts(const Frame& frame, const std::vector<int>& layers,
                                         const LayerChoice& degrees) {
  std::vector<int> key = layers;
  key.insert(key.end(),
             {frame.world, static_cast<int>(frame.rank_order), degrees.expert, degrees.slicing});
  const auto known = experts_.find(key);
  if (known != experts_.end()) return known->second;
  return experts_.emplace(key, price(experts_plan(frame, layers, degrees), 1)).first->second;
}

// A model of these layers alone: its second region is the one asked for.
Plan RegionPrices::experts_plan(const Frame& frame, const std::vector<int>& layers,
                                const LayerChoice& degrees) const {
  Plan plan = space_.frame_plan(frame.world, 1, frame.rank_order);
  plan.workload.routing.histograms.clear();
  plan.model.moe_interval = 1;
  plan.model.experts.slots.clear();
  int layer = 0;
  for (std::size_t k = 0; k < layers.size(); ++k) {
    for (int i = 0; i < layers[k]; ++i) {
      const int experts = space_.kinds()[k].experts;
      plan.model.experts.slots.push_back(experts);
      plan.moe_layers.push_back({.layer = layer++,
                                 .experts = experts,
                                 .expert = degrees.expert,
                                 .slicing = degrees.slicing,
                                 .replica = degrees.replica});
    }
  }
  plan.model.layers = layer;
  return plan;
}

}  // namespace imhotep::planner
