#pragma once
// The weight regions of a plan: their size, and what an optimizer step costs for each. A region is
// the dense part of the model, or the experts of all kinds of layers that share their degrees; an
// update treats one region after the other, so regions are priced once and added.

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "planner/space/space.h"
#include "simulator/step.h"

namespace imhotep::planner {

struct RegionPrice {
  std::int64_t elements = 0;     // held by a rank
  std::int64_t group = 1;        // ranks that hold the same
  double update_us[2] = {0, 0};  // by ZeRO stage; zeroing the gradients included
};

class RegionPrices {
 public:
  RegionPrices(const Space& space, const simulator::Simulator& simulator)
      : space_(space), simulator_(simulator) {}

  // Embeddings, attention, gates, dense MLPs; with what an update costs once, whatever it updates.
  const RegionPrice& dense(const Frame& frame);
  // The experts of the kinds in `kinds` (bit k: kind k), which share these degrees.
  const RegionPrice& experts(const Frame& frame, std::uint64_t kinds, const LayerChoice& degrees);
  // The experts of so many layers of each kind, which share these degrees.
  const RegionPrice& experts(const Frame& frame, const std::vector<int>& layers,
                             const LayerChoice& degrees);

 private:
  RegionPrice price(Plan plan, std::size_t region) const;
  [[nodiscard]] double zeroing_us(const Plan& plan, const Region& region) const;
  [[nodiscard]] Plan experts_plan(const Frame& frame, const std::vector<int>& layers,
                                  const LayerChoice& degrees) const;

  const Space& space_;
  const simulator::Simulator& simulator_;
  std::map<std::array<std::uint64_t, 2>, RegionPrice> dense_;
  std::map<std::array<std::uint64_t, 5>, const RegionPrice*> whole_kinds_;
  std::map<std::vector<int>, RegionPrice> experts_;
};

}  // namespace imhotep::planner
