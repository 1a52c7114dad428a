// A checkpoint is free of degrees: saved by eight ranks at one plan it loads at others, bit by bit,
// moments included, and training goes on as if it had never stopped.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "core/base/json_document.h"
#include "executor/train/saved_state.h"
#include "tests/executor/data/sample_text.h"
#include "tests/executor/mpi_main.h"
#include "tests/executor/plans/plan_cover.h"
#include "tests/executor/plans/tiny_text.h"
#include "tests/executor/scratch_folder.h"
#include "tests/executor/training/whole_tensors.h"

namespace imhotep::executor {
namespace {

using test::Held;

constexpr double kTolerance = 1e-5;  // of losses, relative
constexpr int kSteps = 3;            // before saving, and after

struct Degrees {
  int tensor = 1;
  int experts[3] = {1, 1, 1};  // of the layers with 2, 4 and 8 experts
  int slicing = 1;
  int zero = 0;
};

Plan plan_of(const Degrees& degrees) {
  Workload workload{.global_batch = 16, .sequence = 8};
  workload.optimizer = {.learning_rate = 3e-3, .warmup_steps = 1, .decay_steps = 2 * kSteps};
  Plan plan = single_rank_plan(
      read_model(IMHOTEP_SOURCE_DIR "/profiles/models/nano-pr-moe-2-8.json"), workload);
  plan.world = test_bootstrap().world();
  plan.tensor = degrees.tensor;
  plan.data = plan.world / plan.tensor;
  plan.ranks_per_node = 4;
  plan.accumulation = 2;
  plan.micro_batch = 16 / plan.accumulation / plan.data;
  plan.zero = degrees.zero;
  for (std::size_t i = 0; i < 3; ++i) {
    MoeLayerPlan& moe = plan.moe_layers[i];
    moe.expert = degrees.experts[i];
    moe.slicing = degrees.slicing;
    moe.replica = plan.world / (moe.expert * moe.slicing);
  }
  const Verdict verdict = check_degrees(plan);
  CAPTURE(verdict.reasons.empty() ? std::string() : verdict.reasons.front());
  REQUIRE(verdict.feasible);
  return plan;
}

// A folder of rank 0 that all ranks know, with a tokenizer in it.
class SharedFolder {
 public:
  SharedFolder() {
    if (test_bootstrap().rank() == 0) {
      own_.emplace();
      path_ = own_->path();
      own_->write("text/a.txt", kAlice + random_lines(1, 200));
      train_tokenizer(open_corpus(path("text")), {.vocab = 300}).save(path("tokenizer.model"));
    }
    test_bootstrap().broadcast(path_);
  }
  ~SharedFolder() { test_bootstrap().barrier(); }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }
  // A run folder, with the tokenizer that saving copies.
  [[nodiscard]] std::string run(const std::string& name) const {
    if (test_bootstrap().rank() == 0) {
      std::filesystem::create_directories(path(name));
      std::filesystem::copy_file(path("tokenizer.model"), path(name) + "/tokenizer.model");
    }
    test_bootstrap().barrier();
    return path(name);
  }

 private:
  std::optional<ScratchFolder> own_;
  std::string path_;
};

struct Tensors {
  test::WholeTensors weights, first, second;
};

Tensors tensors_of(Trainer& trainer, CommunicatorPool& pool) {
  Communicator& all = pool.get(world_group(trainer.plan()));
  return {test::whole_tensors(trainer, Held::Weights, &all),
          test::whole_tensors(trainer, Held::FirstMoment, &all),
          test::whole_tensors(trainer, Held::SecondMoment, &all)};
}

void check_equal(const Tensors& a, const Tensors& b) {
  CHECK(test::worst_difference(a.weights, b.weights) == 0);
  CHECK(test::worst_difference(a.first, b.first) == 0);
  CHECK(test::worst_difference(a.second, b.second) == 0);
  CHECK(a.weights.disagreement == 0);
  CHECK(a.first.disagreement == 0);
  CHECK(a.second.disagreement == 0);
}

std::vector<double> train(Trainer& trainer, std::int64_t from) {
  std::vector<double> losses;
  const Plan& plan = trainer.plan();
  for (std::int64_t step = from; step < from + kSteps; ++step) {
    const StepResult result = trainer.step(step, [&](std::int64_t first, auto in, auto out) {
      test::fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, in, out);
    });
    losses.push_back(result.loss);
  }
  return losses;
}

void save(const std::string& run, const Tokenizer& tokenizer, Trainer& trainer, double loss) {
  static_cast<void>(save_training_state(
      {.step = kSteps, .seed = 1, .planned_steps = 2 * kSteps, .learning_rate = 1e-3, .loss = loss},
      run, tokenizer, test_bootstrap(), trainer));
}

struct Origin {
  std::string run;
  Tensors tensors;
  double loss = 0;
  std::vector<double> later;  // losses of the steps after the checkpoint
};

Origin train_and_save(const Plan& plan, const SharedFolder& folder, const Tokenizer& tokenizer,
                      CommunicatorPool& pool) {
  Trainer trainer(plan, Rank(test_bootstrap().rank()), pool, {});
  trainer.initialize();
  Origin origin{.run = folder.run(fmt::format("zero{}", plan.zero))};
  origin.loss = train(trainer, 0).back();
  save(origin.run, tokenizer, trainer, origin.loss);
  origin.tensors = tensors_of(trainer, pool);
  origin.later = train(trainer, kSteps);
  return origin;
}

void load_and_go_on(const Plan& plan, const Origin& origin, const std::string& copy,
                    const Tokenizer& tokenizer, CommunicatorPool& pool) {
  Trainer trainer(plan, Rank(test_bootstrap().rank()), pool, {.initialize = {.seed = 99}});
  trainer.initialize();
  const TrainingState state = load_training_state(origin.run, tokenizer, test_bootstrap(), trainer);
  CHECK(state.step == kSteps);
  CHECK(state.next_sequence == kSteps * plan.workload.global_batch);
  CHECK(state.loss == origin.loss);
  check_equal(tensors_of(trainer, pool), origin.tensors);
  save(copy, tokenizer, trainer, origin.loss);
  for (const char* name : {"/model.safetensors", "/optimizer.safetensors", "/state.json"}) {
    CAPTURE(std::string(name));
    const std::string step = "/checkpoints/step_000003";
    CHECK(read_text_file(copy + step + name) == read_text_file(origin.run + step + name));
  }
  const std::vector<double> losses = train(trainer, kSteps);
  for (int i = 0; i < kSteps; ++i) {
    CHECK(std::abs(losses[i] - origin.later[i]) <= kTolerance * origin.later[i]);
  }
}

}  // namespace

TEST_CASE("a checkpoint loads bit by bit at any other degrees, and training goes on the same") {
  const SharedFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(folder.path("tokenizer.model"));
  CommunicatorPool pool(test_bootstrap());
  const Degrees others[] = {
      {.experts = {2, 4, 4}},                // the same: expert degree 4 x replica 2
      {.experts = {2, 4, 8}},                // 8 x 1
      {.experts = {2, 2, 2}, .slicing = 2},  // 2 x slicing 2 x replica 2
      {.tensor = 2, .experts = {2, 4, 4}},
      {.tensor = 4, .experts = {1, 2, 2}, .slicing = 4},
      {.experts = {1, 1, 1}, .slicing = 8},
      {.tensor = 2, .experts = {1, 1, 1}},
  };
  int copies = 0;
  for (const int saved_zero : {0, 1}) {
    const Origin origin = train_and_save(plan_of({.experts = {2, 4, 4}, .zero = saved_zero}),
                                         folder, tokenizer, pool);
    for (Degrees degrees : others) {
      for (const int zero : {0, 1}) {
        degrees.zero = zero;
        const Plan plan = plan_of(degrees);
        const std::string label = test::plan_label(plan);
        CAPTURE(saved_zero);
        CAPTURE(label);
        load_and_go_on(plan, origin, folder.run(fmt::format("copy{}", copies++)), tokenizer, pool);
      }
    }
  }
}

}  // namespace imhotep::executor
