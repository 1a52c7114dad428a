#pragma once
// Models that speak, for tests of generation: weights by seed, in double.

#include <string>
#include <vector>

#include "core/base/random.h"
#include "executor/generate/generator.h"
#include "executor/train/initialize.h"

namespace imhotep::test {

inline constexpr std::uint64_t kWeightSeed = 17;

// A plan for generation on one rank, in double, so that rounding decides nothing.
[[nodiscard]] inline Plan speaking_plan(const std::string& model, std::int64_t sequences) {
  Workload workload{.kind = WorkloadKind::Generation, .global_batch = sequences};
  workload.sequence = 32;
  workload.prompt = 16;
  workload.output = 16;
  Plan plan = single_rank_plan(read_model(IMHOTEP_SOURCE_DIR "/profiles/models/" + model + ".json"),
                               workload);
  plan.dtype = Dtype::F64;
  plan.page_size = 4;
  plan.prefill_chunk = 16;
  return plan;
}

inline void fill_weights(const Plan& plan, executor::Runner& runner) {
  executor::initialize_weights(plan, runner, {.seed = kWeightSeed});
}

[[nodiscard]] inline std::vector<std::int32_t> prompt_of(std::uint64_t seed, int tokens,
                                                         int vocab) {
  std::vector<std::int32_t> prompt;
  for (int t = 0; t < tokens; ++t) {
    prompt.push_back(static_cast<std::int32_t>(hash(seed, static_cast<std::uint64_t>(t)) % vocab));
  }
  return prompt;
}

}  // namespace imhotep::test
