// Numbers that are not finite end a run, which says where they came from and loses nothing.

#include <cmath>
#include <fstream>

#include "core/base/fail.h"
#include "core/program/build.h"
#include "executor/checkpoint/safetensors.h"
#include "executor/train/not_finite.h"
#include "executor/train/trainer.h"
#include "tests/executor/plans/tiny_text.h"
#include "tests/executor/training/small_run.h"
#include "tests/executor/training/tiny_models.h"

namespace imhotep::executor {
namespace {

// Overwrites the first element of a tensor in a checkpoint of fp32, and forgets its checksum.
void spoil(const std::string& checkpoint, const std::string& tensor, float value) {
  const std::string file = checkpoint + "/model.safetensors";
  std::int64_t at = 0;
  {
    const SafetensorsFile model(file);
    REQUIRE(model.find(tensor) != nullptr);
    at = static_cast<std::int64_t>(fs::file_size(file)) - model.data_bytes() +
         model.find(tensor)->begin_bytes;
  }
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(at);
  stream.write(reinterpret_cast<const char*>(&value), sizeof value);
  std::string state = read_text_file(checkpoint + "/state.json");
  const auto sum = state.find("\"model_checksum\"");
  REQUIRE(sum != std::string::npos);
  state.erase(sum, state.find('\n', sum) - sum);
  write_text_file(checkpoint + "/state.json", state);
}

struct Training {
  explicit Training(const Plan& plan)
      : pool(ranks), trainer(plan, Rank(0), pool, {.run_steps = 4}) {
    trainer.initialize();
  }
  float* weight(TensorRole role, int layer) {
    const LocalTensor* tensor = trainer.weights().find(role, layer);
    REQUIRE(tensor != nullptr);
    auto* region = trainer.runner().region(program::BufferKind::Weight, tensor->region);
    return reinterpret_cast<float*>(region) + tensor->offset;
  }
  std::vector<std::byte> all_weights() {
    const std::byte* data = trainer.runner().region(program::BufferKind::Weight, 0);
    return {data, data + trainer.weights().regions[0].elements * 4};
  }

  Bootstrap ranks;
  CommunicatorPool pool;
  Trainer trainer;
};

BatchSource tiny_text(const Plan& plan) {
  return [plan](std::int64_t first, auto inputs, auto targets) {
    test::fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, inputs, targets);
  };
}

Plan fp32_plan(const test::TinyKind& kind, const test::TinyRun& run) {
  Plan plan = test::tiny_plan(test::tiny_model(kind), run);
  plan.dtype = Dtype::F32;
  plan.workload.optimizer.learning_rate = 1e-3;
  return plan;
}

}  // namespace

TEST_CASE("a step that goes wrong names its layer and leaves the weights as they were") {
  struct Case {
    test::TinyKind kind;
    TensorRole role;
    int layer;
    const char* operation;
  };
  const Case cases[] = {{{}, TensorRole::UpWeight, 2, "forward"},
                        {{}, TensorRole::QkvBias, 0, "forward"},
                        {{"4", true}, TensorRole::ExpertDownBias, 3, "forward"},
                        {{"2", false, 2}, TensorRole::Ln2Gain, 1, "forward"}};
  for (const Case& c : cases) {
    for (const Recompute recompute : {Recompute::None, Recompute::Full}) {
      const Plan plan = fp32_plan(c.kind, {.accumulation = 2, .recompute = recompute});
      Training run(plan);
      const LocalTensor* tensor = run.trainer.weights().find(c.role, c.layer);
      float* weight = run.weight(c.role, c.layer);
      for (std::int64_t i = 0; i < tensor->elements; ++i) weight[i] = HUGE_VALF;
      const auto before = run.all_weights();
      const StepResult result = run.trainer.step(0, tiny_text(plan));
      CHECK(!(std::isfinite(result.loss) && std::isfinite(result.gradient_norm)));
      CHECK(run.all_weights() == before);
      const auto found = run.trainer.find_not_finite(0, tiny_text(plan));
      REQUIRE(found.has_value());
      CAPTURE(found->text);
      CHECK(found->micro_batch == 0);
      CHECK(holds(found->text, fmt::format("layer {0} (blocks.{0})", c.layer)));
      CHECK(holds(found->text, c.operation));
    }
  }
}

TEST_CASE("a gradient that overflows is called a gradient, and the step leaves the weights whole") {
  Plan plan = fp32_plan({"4"}, {});
  plan.model.router.aux_coefficient = 1e40;  // the balance loss is in no output, only in gradients
  Training run(plan);
  const auto before = run.all_weights();
  const StepResult result = run.trainer.step(0, tiny_text(plan));
  CHECK(std::isfinite(result.loss));
  CHECK(!std::isfinite(result.gradient_norm));
  CHECK(run.all_weights() == before);
  const auto found = run.trainer.find_not_finite(0, tiny_text(plan));
  REQUIRE(found.has_value());
  CAPTURE(found->text);
  CHECK(holds(found->text, "layer 3 (blocks.3) is the first whose gradient is not finite"));
  CHECK(holds(found->text, "backward"));
}

TEST_CASE("what an operation surely writes lies within its buffer, for every operation of a step") {
  for (const test::TinyKind& kind :
       {test::TinyKind{}, {"4", true}, {"2", false, 2}, {"4", false, 1, DropPolicy::Random}}) {
    const Plan plan = fp32_plan(kind, {.recompute = Recompute::Full});
    const program::Program step = program::build_train_step(plan, Rank(0));
    std::int64_t looked_at = 0;
    for (const program::Operation& operation : step.operations) {
      for (std::size_t i = 0; i < operation.outputs.size(); ++i) {
        const program::Operand& output = operation.outputs[i];
        if (!output.valid()) continue;
        CAPTURE(operation.name);
        const std::int64_t written = elements_written(operation.shape, i);
        CHECK(written <= step[output.buffer].elements - output.offset);
        looked_at += written > 0 ? 1 : 0;
      }
    }
    CHECK(looked_at * 2 > static_cast<std::int64_t>(step.operations.size()));
  }
}

TEST_CASE("a run whose loss is not finite says step and layer and keeps its checkpoint") {
  const Place place;
  const Plan plan = small_plan();
  const std::string checkpoint = run(plan, place.options(2)).checkpoint;
  spoil(checkpoint, "blocks.1.mlp.up.weight", std::nanf(""));
  const auto before = contents(place.folder.path("run/checkpoints"));
  TrainingRunOptions options = place.options(6);
  options.resume = true;
  options.save_every = 1;
  const Refusal refusal = refusal_of(plan, options);
  CAPTURE(refusal.message);
  CHECK(refusal.kind == ErrorKind::Failed);
  CHECK(holds(refusal.message, "step 3: the loss is nan"));
  CHECK(holds(refusal.message, "layer 1 (blocks.1) is the first whose output is not finite"));
  CHECK(holds(refusal.message, checkpoint + " is untouched"));
  CHECK(contents(place.folder.path("run/checkpoints")) == before);
}

TEST_CASE("weights that an update has spoilt are not saved over good ones") {
  const Place place;
  static_cast<void>(run(small_plan(), place.options(2)));
  const auto before = contents(place.folder.path("run/checkpoints"));
  Plan wild = small_plan();
  wild.workload.optimizer = {.learning_rate = 1e39, .warmup_steps = 0, .decay_steps = 1000};
  TrainingRunOptions options = place.options(3);
  options.resume = true;
  options.save_every = 1;
  const Refusal refusal = refusal_of(wild, options);
  CAPTURE(refusal.message);
  CHECK(holds(refusal.message, "step 3: the update left "));
  CHECK(holds(refusal.message, "is untouched"));
  CHECK(contents(place.folder.path("run/checkpoints")) == before);
}

}  // namespace imhotep::executor
