// Gradients, norms and updated weights of plans of eight ranks, put together tensor by tensor,
// against those of one rank, in double.
//
// After a first step with clipping off, the first moment divided by 1 - beta1 is the gradient,
// summed over all ranks; it is there with and without ZeRO. Two more steps with tight clipping
// then show that every plan clips by the same norm.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>

#include "executor/train/trainer.h"
#include "tests/executor/mpi_main.h"
#include "tests/executor/plans/plan_cover.h"
#include "tests/executor/plans/tiny_text.h"
#include "tests/executor/training/whole_tensors.h"

namespace imhotep::executor {
namespace {

using test::Held;
using test::WholeTensors;

constexpr double kTolerance = 1e-10;  // of gradients, relative to the largest of the tensor
constexpr std::uint64_t kSeed = 2022;

struct Trained {
  WholeTensors gradient, weights;
  std::vector<double> numbers;  // loss, balance loss and norm of every step
};

// `clip`: 0 to clip nothing.
void run_steps(Plan plan, double clip, int steps, CommunicatorPool& pool, Trained& trained) {
  plan.workload.optimizer.clip = clip;
  Trainer trainer(plan, Rank(test_bootstrap().rank() % plan.world), pool,
                  {.initialize = {.seed = 11}, .run_steps = steps});
  trainer.initialize();
  Communicator* all = plan.world > 1 ? &pool.get(world_group(plan)) : nullptr;
  for (int step = 0; step < steps; ++step) {
    const StepResult result = trainer.step(step, [&](std::int64_t first, auto in, auto out) {
      test::fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, in, out);
    });
    trained.numbers.insert(trained.numbers.end(), {result.loss, result.gradient_norm});
    double balance = result.aux_loss;  // of the rank's own tokens where statistics are local
    if (all != nullptr && plan.model.router.aux == AuxScope::Local) {
      all->all_reduce(&balance, 1, Dtype::F64);
      balance /= plan.world;
    }
    trained.numbers.push_back(balance);
  }
  if (clip == 0) {
    trained.gradient = test::whole_tensors(trainer, Held::FirstMoment, all);
  } else {
    trained.weights = test::whole_tensors(trainer, Held::Weights, all);
  }
}

Trained train(const Plan& plan, CommunicatorPool& pool) {
  Trained trained;
  run_steps(plan, 0, 1, pool, trained);
  run_steps(plan, 0.05, 2, pool, trained);
  return trained;
}

struct Worst {
  double gradient = 0, weights = 0, numbers = 0;
};

void compare(const Trained& one, const Trained& reference, Worst& worst) {
  const double gradient = test::worst_difference(one.gradient, reference.gradient);
  const double weights = test::worst_difference(one.weights, reference.weights);
  CHECK(gradient <= kTolerance);
  CHECK(weights <= 1e-8);  // AdamW divides by the root of the second moment
  CHECK(one.gradient.disagreement <= 1e-15);
  CHECK(one.weights.disagreement == 0);
  for (std::size_t i = 0; i < one.numbers.size(); ++i) {
    const double difference = std::abs(one.numbers[i] - reference.numbers[i]);
    CHECK(difference <= 1e-10 * std::abs(reference.numbers[i]));
    worst.numbers = std::max(worst.numbers, difference);
  }
  worst.gradient = std::max(worst.gradient, gradient);
  worst.weights = std::max(worst.weights, weights);
}

Plan in_double(Plan plan) {
  plan.dtype = Dtype::F64;
  plan.workload.optimizer.epsilon = 1e-4;  // so that tiny gradients do not become whole steps
  return plan;
}

Worst check_plans(const std::vector<Plan>& plans, const Plan& single, CommunicatorPool& pool) {
  const Trained reference = train(in_double(single), pool);
  Worst worst;
  for (const Plan& plan : plans) {
    const std::string label = test::plan_label(plan);
    CAPTURE(label);
    compare(train(in_double(plan), pool), reference, worst);
  }
  return worst;
}

test::PlanSpace space_of(const std::string& model) {
  test::PlanSpace space;
  space.model = read_model(IMHOTEP_SOURCE_DIR "/profiles/models/" + model + ".json");
  space.world = test_bootstrap().world();
  return space;
}

Plan single_plan(test::PlanSpace space) {
  space.world = 1;
  return test::all_plans(space).front();
}

}  // namespace

TEST_CASE("plans of eight ranks compute the gradients, norms and updates of one rank") {
  CommunicatorPool pool(test_bootstrap());
  Worst worst;
  std::size_t count = 0;
  const std::pair<const char*, std::size_t> models[] = {
      {"nano-pr-moe-2-8", 40}, {"nano-top2-moe-4", 16}, {"nano-dense", 8}};
  for (const auto& [model, plans] : models) {
    const test::PlanSpace space = space_of(model);
    const std::vector<Plan> some = test::pairwise_cover(space, kSeed, plans).plans;
    const Worst one = check_plans(some, single_plan(space), pool);
    worst = {std::max(worst.gradient, one.gradient), std::max(worst.weights, one.weights),
             std::max(worst.numbers, one.numbers)};
    count += some.size();
  }
  if (test_bootstrap().rank() == 0) {
    fmt::print(
        "{} plans, seed {}: worst differences: gradients {:.1e}, weights {:.1e}, losses and "
        "norms {:.1e}\n",
        count, kSeed, worst.gradient, worst.weights, worst.numbers);
  }
}

TEST_CASE("a rank drops and balances its tokens as one rank does its micro-batches") {
  CommunicatorPool pool(test_bootstrap());
  struct Kind {
    int top_k;
    DropPolicy drop;
  };
  using enum DropPolicy;
  for (const auto& [top_k, drop] :
       {Kind{1, Random}, {1, Position}, {2, Position}, {3, Probability}, {1, None}}) {
    test::PlanSpace space = space_of("nano-pr-moe-2-8");
    space.model.top_k = top_k;
    space.model.experts = ExpertList::parse("4x1,8x2");
    space.model.router = {.drop = drop,
                          .capacity_factor = 0.6,
                          .min_capacity = 1,
                          .aux_coefficient = 0.1,
                          .aux = AuxScope::Local};
    for (const int tensor : {1, 2, 4}) {
      const int data = space.world / tensor;
      space.accumulation = 1;
      std::vector<Plan> plans;
      for (const Plan& plan : test::pairwise_cover(space, kSeed, 16).plans) {
        if (plan.tensor == tensor && plans.size() < 3) plans.push_back(plan);
      }
      REQUIRE(!plans.empty());
      test::PlanSpace split = space;
      split.accumulation = data;
      CAPTURE(top_k);
      CAPTURE(static_cast<int>(drop));
      check_plans(plans, single_plan(split), pool);
    }
  }
}

TEST_CASE("ranks of a tensor group share a single token") {
  CommunicatorPool pool(test_bootstrap());
  for (const char* model : {"nano-pr-moe-2-8", "nano-top2-moe-4"}) {
    test::PlanSpace space = space_of(model);
    std::vector<Plan> plans;
    for (Plan plan : test::pairwise_cover(space, kSeed, 40).plans) {
      if (plan.tensor != 4 || plans.size() == 8) continue;
      plan.micro_batch = 1;
      plan.workload.global_batch = plan.accumulation * plan.data;
      plan.workload.sequence = 1;
      plans.push_back(plan);
    }
    REQUIRE(plans.size() == 8);
    space.global_batch = plans.front().workload.global_batch;
    space.sequence = 1;
    check_plans(plans, single_plan(space), pool);
  }
}

}  // namespace imhotep::executor
