// Resident memory of a model of at least 500 MB: within a tenth of the programs' buffers, in
// training and in generation. Skipped (exit 77) where less than 6 GB are free.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "core/base/units.h"
#include "executor/generate/generator.h"
#include "executor/train/trainer.h"
#include "tests/executor/plans/tiny_text.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kNeeded = 6'000'000'000, kLargeModel = 500'000'000;

ModelSpec large_model() { return read_model(IMHOTEP_SOURCE_DIR "/profiles/models/cpu-500m.json"); }

void expect_resident(const char* phase, std::int64_t baseline, std::int64_t buffers) {
  const auto resident = static_cast<double>(resident_memory_bytes() - baseline);
  const auto expected = static_cast<double>(buffers);
  MESSAGE(fmt::format("{}: {} resident beyond the baseline, {} of buffers ({:+.1f} %)", phase,
                      format_bytes(resident), format_bytes(expected),
                      100 * (resident / expected - 1)));
  CHECK(std::abs(resident - expected) <= expected / 10);
}

void skip_without_memory() {
  const std::int64_t free = available_memory_bytes();
  if (free >= kNeeded) return;
  fmt::print("skipped: {} bytes of memory are free, the test needs {}\n", free, kNeeded);
  std::exit(77);
}

}  // namespace

TEST_CASE("training a model of 500 MB holds its buffers and little else") {
  skip_without_memory();
  const Bootstrap ranks;
  CommunicatorPool pool(ranks);
  const std::int64_t baseline = resident_memory_bytes();
  const Plan plan = single_rank_plan(large_model(), {.global_batch = 1, .sequence = 64});
  Trainer trainer(plan, Rank(0), pool, {});
  trainer.initialize();
  std::int64_t weights = 0;
  for (const Region& region : trainer.weights().regions) weights += region.elements * 4;
  CHECK(weights >= kLargeModel);
  const StepResult result = trainer.step(0, [&](std::int64_t first, auto inputs, auto targets) {
    test::fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, inputs, targets);
  });
  CHECK(std::isfinite(result.loss));
  expect_resident("training", baseline, trainer.runner().memory().bytes());
}

TEST_CASE("generating with a model of 500 MB holds its buffers and little else") {
  skip_without_memory();
  const Bootstrap ranks;
  CommunicatorPool pool(ranks);
  const std::int64_t baseline = resident_memory_bytes();
  const Plan plan = single_rank_plan(
      large_model(),
      {.kind = WorkloadKind::Generation, .global_batch = 4, .prompt = 32, .output = 32});
  Generator generator(plan, Rank(0), pool, 1);
  initialize_weights(plan, generator.runner(), {});
  const std::vector<GenerationRequest> requests(
      4, {.prompt = std::vector<std::int32_t>(32, 7), .max_tokens = 32});
  const auto results = generator.generate(requests, [](bool done) { return done; });
  CHECK(results[3].tokens.size() == 32);
  expect_resident("generation", baseline, generator.runner().memory().bytes());
}

}  // namespace imhotep::executor
