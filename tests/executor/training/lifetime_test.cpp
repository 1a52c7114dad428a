// Every operation reads what an earlier one of its program has written, and nothing after the
// lifetime that the program gives a buffer: with NaN in all of the arena that is not alive, runs
// give the same bits.

#include <doctest/doctest.h>

#include <cstring>
#include <optional>

#include "executor/generate/generator.h"
#include "executor/train/trainer.h"
#include "tests/executor/mpi_main.h"
#include "tests/executor/plans/plan_cover.h"
#include "tests/executor/plans/tiny_text.h"

namespace imhotep::executor {
namespace {

// Overwrites each arena buffer at the end of its life, and all of the arena at the beginning.
class Poison {
 public:
  explicit Poison(Runner& runner, int programs) : runner_(runner) {
    for (int index = 0; index < programs; ++index) add(index);
    const program::Program& first = runner.program(0);
    for (std::size_t i = 0; i < first.buffers.size(); ++i) {
      if (!in_arena(first.buffers[i])) continue;
      std::byte* arena = addresses_[0][i] - first.buffers[i].offset;
      std::memset(arena, 0xFF, static_cast<std::size_t>(runner.memory().arena_bytes()));
      break;
    }
    runner.observe([this](const program::Operation& op, double) { after(op); });
  }
  ~Poison() { runner_.observe({}); }
  Poison(const Poison&) = delete;
  Poison& operator=(const Poison&) = delete;

 private:
  static bool in_arena(const program::Buffer& buffer) {
    using enum program::BufferKind;
    return buffer.first_use >= 0 &&
           (buffer.kind == Activation || buffer.kind == Exchange || buffer.kind == Scratch);
  }

  void add(int index) {
    const program::Program& program = runner_.program(index);
    addresses_.push_back(runner_.memory().addresses(program));
    ends_.emplace_back(program.operations.size());
    for (std::size_t i = 0; i < program.buffers.size(); ++i) {
      if (in_arena(program.buffers[i])) ends_.back()[program.buffers[i].last_use].push_back(i);
    }
  }

  void after(const program::Operation& op) {
    for (std::size_t index = 0; index < ends_.size(); ++index) {
      const program::Program& program = runner_.program(static_cast<int>(index));
      const auto at = static_cast<std::size_t>(&op - program.operations.data());
      if (&op < program.operations.data() || at >= program.operations.size()) continue;
      for (const std::size_t i : ends_[index][at]) {
        std::memset(addresses_[index][i], 0xFF,
                    static_cast<std::size_t>(program.buffers[i].bytes()));
      }
    }
  }

  Runner& runner_;
  std::vector<std::vector<std::byte*>> addresses_;           // by program and buffer
  std::vector<std::vector<std::vector<std::size_t>>> ends_;  // by program and operation
};

std::vector<double> train(const Plan& plan, Rank rank, CommunicatorPool& pool, bool poisoned) {
  Trainer trainer(plan, rank, pool, {.run_steps = 2, .evaluate_sequences = 1});
  trainer.initialize();
  std::optional<Poison> poison;
  if (poisoned) poison.emplace(trainer.runner(), trainer.update_program() + 2);
  std::vector<double> seen;
  const BatchSource batch = [&](std::int64_t first, auto inputs, auto targets) {
    test::fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, inputs, targets);
  };
  for (int step = 0; step < 2; ++step) {
    const StepResult result = trainer.step(step, batch);
    seen.insert(seen.end(), {result.loss, result.aux_loss, result.gradient_norm});
  }
  seen.push_back(trainer.evaluate(0, batch).negative_log_likelihood);
  // What a healthy step surely writes is finite, whatever lies around it.
  CHECK(!trainer.find_not_finite(2, batch).has_value());
  return seen;
}

std::vector<GenerationResult> generate(Plan plan, Rank rank, CommunicatorPool& pool,
                                       bool poisoned) {
  plan.workload.kind = WorkloadKind::Generation;
  plan.workload.global_batch = 8;
  plan.workload.prompt = 8;
  plan.workload.output = 4;
  plan.prefill_chunk = 4;
  Generator generator(plan, rank, pool, plan.world);
  initialize_weights(plan, generator.runner(), {});
  std::optional<Poison> poison;
  if (poisoned) poison.emplace(generator.runner(), 2);
  std::vector<GenerationRequest> requests(7, {.prompt = {1, 2, 3, 4, 5}, .max_tokens = 3});
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt[0] = static_cast<std::int32_t>(i);
    requests[i].temperature = 0.5 * static_cast<double>(i % 3);
  }
  return generator.generate(requests, [&](bool done) {
    return plan.world == 1 ? done : test_bootstrap().all_true(done);
  });
}

void check_plan(const Plan& plan, CommunicatorPool& pool) {
  const Rank rank(plan.world == 1 ? 0 : test_bootstrap().rank());
  CHECK(train(plan, rank, pool, true) == train(plan, rank, pool, false));
  const auto clean = generate(plan, rank, pool, false), with = generate(plan, rank, pool, true);
  for (std::size_t r = 0; r < clean.size(); ++r) {
    CHECK(with[r].tokens == clean[r].tokens);
    CHECK(with[r].logprobs == clean[r].logprobs);
  }
}

}  // namespace

TEST_CASE("operations read nothing outside the lives of their buffers") {
  CommunicatorPool pool(test_bootstrap());
  using enum DropPolicy;
  struct Kind {
    const char* model;
    DropPolicy drop;
  };
  for (const auto& [model, drop] : {Kind{"nano-pr-moe-2-8", None},
                                    {"nano-pr-moe-2-8", Random},
                                    {"nano-top2-moe-4", None},
                                    {"nano-top2-moe-4", Position},
                                    {"nano-dense", None}}) {
    test::PlanSpace space;
    space.model = read_model(std::string(IMHOTEP_SOURCE_DIR "/profiles/models/") + model + ".json");
    space.model.router.drop = drop;
    space.model.router.capacity_factor = 0.7;
    space.model.router.min_capacity = 1;
    for (const int world : {1, test_bootstrap().world()}) {
      space.world = world;
      for (const Plan& plan : test::pairwise_cover(space, 44, 8).plans) {
        const std::string label = test::plan_label(plan);
        CAPTURE(label);
        CAPTURE(static_cast<int>(drop));
        check_plan(plan, pool);
      }
    }
  }
}

}  // namespace imhotep::executor
