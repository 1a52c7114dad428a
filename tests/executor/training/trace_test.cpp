// What runs is what the program lists: the operations seen in a run are those of its programs, one
// to one and in order, for every phase and at several plans.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "executor/generate/generator.h"
#include "executor/train/trainer.h"
#include "tests/executor/mpi_main.h"
#include "tests/executor/plans/plan_cover.h"
#include "tests/executor/plans/tiny_text.h"

namespace imhotep::executor {
namespace {

using Trace = std::vector<std::string>;

std::string line_of(const program::Operation& op) {
  return fmt::format("{} {} {} layer {} group {} of {} inputs, {} outputs", op.name,
                     program::family_name(op.shape), program::pass_name(op.pass), op.layer,
                     op.group.valid() ? op.group.value : -1, op.inputs.size(), op.outputs.size());
}

class Recorder {
 public:
  explicit Recorder(Runner& runner) : runner_(runner) {
    runner_.observe([this](const program::Operation& op, double time_us) {
      seen_.push_back(line_of(op));
      negative_ = negative_ || time_us < 0;
    });
  }
  ~Recorder() { runner_.observe({}); }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  void expect(const std::vector<int>& programs) {
    Trace listed;
    for (const int index : programs) {
      for (const program::Operation& op : runner_.program(index).operations) {
        listed.push_back(line_of(op));
      }
    }
    REQUIRE(seen_.size() == listed.size());
    for (std::size_t i = 0; i < listed.size(); ++i) CHECK(seen_[i] == listed[i]);
    CHECK(!negative_);
    seen_.clear();
  }

 private:
  Runner& runner_;
  Trace seen_;
  bool negative_ = false;
};

void check_training(const Plan& plan, Rank rank, CommunicatorPool& pool) {
  Trainer trainer(plan, rank, pool, {.evaluate_sequences = 2});
  trainer.initialize();
  const BatchSource batch = [&](std::int64_t first, auto inputs, auto targets) {
    test::fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, inputs, targets);
  };
  Recorder recorder(trainer.runner());
  const int update = trainer.update_program();
  std::vector<int> step(static_cast<std::size_t>(plan.accumulation), update - 1);
  step.front() = 0;
  step.push_back(update);
  for (int i = 0; i < 2; ++i) {
    static_cast<void>(trainer.step(i, batch));
    recorder.expect(step);
  }
  CHECK(trainer.runner().program(update).phase == program::Phase::Update);
  static_cast<void>(trainer.evaluate(0, batch));
  recorder.expect({update + 1});
  CHECK(trainer.runner().program(update + 1).phase == program::Phase::Evaluate);
}

void check_generation(Plan plan, Rank rank, CommunicatorPool& pool,
                      const Generator::Agreement& all) {
  plan.workload.kind = WorkloadKind::Generation;
  plan.workload.global_batch = 8;
  plan.workload.prompt = 8;
  plan.workload.output = 4;
  plan.prefill_chunk = 4;
  Generator generator(plan, rank, pool, plan.world);
  Recorder recorder(generator.runner());
  std::vector<int> programs;
  generator.on_step = [&](int program, std::span<const std::size_t>) {
    programs.push_back(program);
  };
  std::vector<GenerationRequest> requests(8, {.prompt = {1, 2, 3, 4, 5}, .max_tokens = 3});
  static_cast<void>(generator.generate(requests, all));
  CHECK(std::count(programs.begin(), programs.end(), generator.decode_program()) == 2);
  CHECK(std::count(programs.begin(), programs.end(), 0) == 2 * plan.sequences_per_rank());
  recorder.expect(programs);
}

}  // namespace

TEST_CASE("what runs is what the program lists") {
  const Bootstrap& ranks = test_bootstrap();
  CommunicatorPool pool(ranks);
  for (const char* model : {"nano-pr-moe-2-8", "nano-top2-moe-4", "nano-dense"}) {
    test::PlanSpace space;
    space.model = read_model(fmt::format("{}/profiles/models/{}.json", IMHOTEP_SOURCE_DIR, model));
    space.world = ranks.world();
    for (const Plan& plan : test::pairwise_cover(space, 5, 6).plans) {
      const std::string label = test::plan_label(plan);
      CAPTURE(label);
      check_training(plan, Rank(ranks.rank()), pool);
      check_generation(plan, Rank(ranks.rank()), pool,
                       [&](bool done) { return ranks.all_true(done); });
    }
    space.world = 1;
    const Plan single = test::pairwise_cover(space, 5, 1).plans.front();
    check_training(single, Rank(0), pool);
    check_generation(single, Rank(0), pool, [](bool done) { return done; });
  }
}

}  // namespace imhotep::executor
