#include "core/program/serving.h"

#include <algorithm>

namespace imhotep::program {

Plan ready_for_all(Plan plan) {
  for (MoeLayerPlan& moe : plan.moe_layers) moe.receive_rows = 0;
  return plan;
}

GenerateShape serving_program(const ServingShape& shape, const schedule::Bucket& bucket) {
  return {.rows = bucket.rows,
          .sequences = shape.sequences,
          .samples = bucket.samples,
          .max_context = shape.max_context,
          .context = static_cast<double>(shape.max_context) / 2,
          .pages = shape.pages};
}

MemoryUse serving_memory(const Plan& plan, Rank rank, const ServingShape& shape) {
  const Plan ready = ready_for_all(plan);
  MemoryUse use;
  for (const schedule::Bucket& bucket : schedule::usual_buckets(shape.sequences, shape.chunk)) {
    const MemoryUse one = memory_use(build_generate(ready, rank, serving_program(shape, bucket)));
    for (int kind = 0; kind < kBufferKinds; ++kind) {
      use.by_kind[kind] = std::max(use.by_kind[kind], one.by_kind[kind]);
    }
  }
  return use;
}

}  // namespace imhotep::program
