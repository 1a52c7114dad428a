#pragma once
// First values of the weights: a pure function of seed, tensor name and element, so that every
// degree starts from the same model.
// Matrices and embeddings: normal with the model's init_std; the two matrices that write to the
// residual stream are scaled by 1/sqrt(2·layers) (GPT-2). Gains 1, biases 0.

#include "core/layout/weights.h"
#include "core/spec/plan.h"
#include "executor/runtime/runner.h"
#include "kernels/queue.h"

namespace imhotep::executor {

enum class ExpertStart : std::uint8_t {
  Independent,  // every expert draws its own values
  Identical,    // all experts of a layer start equal, as DeepSpeed's do
};

struct InitializeOptions {
  std::uint64_t seed = 1;
  ExpertStart experts = ExpertStart::Independent;
};

// Elements [begin, end) of a region, which start at `out`, in the queue's type. Async on a GPU.
struct RegionPart {
  void* out = nullptr;
  std::int64_t begin = 0, end = 0;
};
void initialize_region(const Plan& plan, const Region& region, const RegionPart& part,
                       const kernels::Queue& queue, const InitializeOptions& options);

// All weights of a runner; returns when they are there.
void initialize_weights(const Plan& plan, Runner& runner, const InitializeOptions& options);

}  // namespace imhotep::executor
