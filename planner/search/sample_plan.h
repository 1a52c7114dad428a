#pragma once
// The sample model of a frame: one block for every choice (see block_prices.h).

#include <vector>

#include "planner/space/space.h"

namespace imhotep::planner {

struct SampleBlock {
  int kind = -1;  // -1: a dense block
  int choice = 0;
  double times = 1;  // layers of the model that it stands for
};

struct Sample {
  Plan plan;
  std::vector<SampleBlock> blocks;  // by layer of the plan
};

// Layers of a kind are alike, so one stands for all, unless measured routing tells them apart.
[[nodiscard]] Sample sample_of(const Space& space, const Frame& frame, Recompute recompute);

}  // namespace imhotep::planner
