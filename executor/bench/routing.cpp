#include "executor/bench/routing.h"

#include "kernels/initialize.h"

namespace imhotep::executor {

void set_routing(const Plan& plan, Runner& runner, Routing routing, std::uint64_t seed) {
  if (routing == Routing::Natural) return;
  const WeightLayout& weights = runner.program(0).weights;
  const LocalTensor* table = weights.find(TensorRole::PositionEmbedding);
  const Dtype dtype = weights.regions[table->region].dtype;
  std::byte* out =
      runner.region(program::BufferKind::Weight, table->region) + table->offset * bytes_of(dtype);
  kernels::initialize(runner.queue(dtype),
                      {.seed = seed,
                       .key = 1,
                       .count = table->elements,
                       .deviation = routing == Routing::Skewed ? 4 * plan.model.init_std : 0},
                      {.out = out});
  runner.wait();
}

}  // namespace imhotep::executor
