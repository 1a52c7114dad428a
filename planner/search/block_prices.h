#pragma once
// Time and memory of every choice of a frame, block by block.
//
// A step is a sum over blocks: what flows from one block to the next passes through one buffer, so
// blocks do not overlap. All choices of a frame are therefore priced by one program, that of a
// sample model with one layer for each choice; the ordinary listings write it and the ordinary
// simulator prices it. The thousands of plans of the frame are sums of its parts.

#include <cstdint>
#include <vector>

#include "planner/space/space.h"
#include "simulator/step.h"

namespace imhotep::planner {

// Of all layers of one kind together (time), and of one of its layers (bytes).
struct BlockPrice {
  double step_us = 0;       // forward and backward of a micro-batch; or of a decode step
  double recompute_us = 0;  // beside that, with recomputation
  double prompt_us = 0;     // generation: the whole prompt
  // Arena bytes, by recomputation {none, full}: alive from forward to backward; most alive while
  // the block runs. Lower bounds: what the allocator loses between buffers comes on top.
  std::int64_t kept[2] = {0, 0};
  std::int64_t peak[2] = {0, 0};
};

struct FramePrice {
  double base_us = 0;         // embedding, head and loss: of a micro-batch or decode step
  double base_prompt_us = 0;  // generation
  BlockPrice dense;           // all dense blocks; zero when the model has none
  std::vector<std::vector<BlockPrice>> kinds;  // by kind and choice
  std::int64_t base_bytes = 0;                 // arena bytes of the head, or of generation's peak
  std::int64_t fixed_bytes = 0;                // inputs and KV cache
};

[[nodiscard]] FramePrice price_frame(const Space& space, const Frame& frame,
                                     const simulator::Simulator& simulator);

}  // namespace imhotep::planner
