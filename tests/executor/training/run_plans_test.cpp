// Runs from text to checkpoint over several ranks: every plan tells the losses of one rank, also
// when a run goes on at another plan, and what is refused is refused at every rank alike.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <csignal>
#include <optional>

#include "core/base/error.h"
#include "core/base/json_document.h"
#include "executor/comm/stop_signal.h"
#include "executor/train/training_run.h"
#include "tests/executor/data/sample_text.h"
#include "tests/executor/mpi_main.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {
namespace {

struct Degrees {
  int tensor = 1, expert = 1, slicing = 1, zero = 0;
  std::int64_t accumulation = 1;
};

Plan plan_of(const Degrees& degrees) {
  ModelSpec model{.name = "small", .layers = 2, .hidden = 16, .heads = 2, .vocab = 300};
  model.context = 32;
  model.experts = ExpertList::parse("4");
  model.residual = true;
  model.init_std = 0.08;
  Workload workload{.global_batch = 8, .sequence = 16};
  workload.optimizer = {.learning_rate = 3e-3, .warmup_steps = 2, .decay_steps = 6};
  Plan plan = single_rank_plan(model, workload);
  plan.world = test_bootstrap().world();
  plan.tensor = degrees.tensor;
  plan.data = plan.world / plan.tensor;
  plan.accumulation = degrees.accumulation;
  plan.micro_batch = 8 / plan.data / plan.accumulation;
  plan.zero = degrees.zero;
  MoeLayerPlan& moe = plan.moe_layers.front();
  moe.expert = degrees.expert;
  moe.slicing = degrees.slicing;
  moe.replica = plan.world / (moe.expert * moe.slicing);
  REQUIRE(check_degrees(plan).feasible);
  return plan;
}

constexpr std::int64_t kRows = 40;  // for one rank of four, which would get 32 evenly

// Text at rank 0 and a place for runs, known to all ranks.
class SharedPlace {
 public:
  SharedPlace() {
    if (test_bootstrap().rank() == 0) {
      own_.emplace();
      own_->write("text/a.txt", kAlice + random_lines(3, 400));
      path_ = own_->path();
    }
    test_bootstrap().broadcast(path_);
  }
  ~SharedPlace() { test_bootstrap().barrier(); }
  SharedPlace(const SharedPlace&) = delete;
  SharedPlace& operator=(const SharedPlace&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] TrainingRunOptions options(std::int64_t steps, const std::string& run) const {
    return {.data = path("text"), .out = path(run), .steps = steps};
  }

 private:
  std::optional<ScratchFolder> own_;
  std::string path_;
};

struct Told {
  std::vector<double> losses;
  double held_out = 0;
  std::int64_t tokens = 0;
};

Told run(const Plan& plan, const TrainingRunOptions& options) {
  Told told;
  const TrainingOutcome outcome = run_training(
      plan, options, test_bootstrap(),
      [&](const TrainingProgress& progress) { told.losses.push_back(progress.loss); },
      [](const std::string&) {});
  told.held_out = outcome.held_out_loss;
  told.tokens = outcome.held_out_tokens;
  CHECK(told.losses.empty() == (test_bootstrap().rank() != 0));
  return told;
}

void check_same(const Told& told, const std::vector<double>& losses, const Told& reference) {
  for (std::size_t i = 0; i < told.losses.size(); ++i) {
    CHECK(std::abs(told.losses[i] - losses[i]) <= 1e-5 * losses[i]);
  }
  CHECK(told.tokens == reference.tokens);
  CHECK(std::abs(told.held_out - reference.held_out) <= 1e-5 * reference.held_out);
}

// What every rank complains about: one message.
void check_refused(const Plan& plan, const TrainingRunOptions& options, const std::string& part) {
  const std::string message = complaint([&] { static_cast<void>(run(plan, options)); });
  CAPTURE(message);
  CHECK(holds(message, part));
  std::string first = message;
  test_bootstrap().broadcast(first);
  CHECK(message == first);
}

}  // namespace

TEST_CASE("a run tells the same losses at every plan, also when it goes on at another one") {
  const SharedPlace place;
  const Told whole = run(plan_of({}), place.options(6, "whole"));
  CHECK(whole.tokens > 0);
  const Degrees plans[] = {{.expert = 4},
                           {.tensor = 2, .expert = 2, .slicing = 2, .zero = 1},
                           {.expert = 2, .zero = 1},
                           {.tensor = 2, .expert = 4}};
  for (std::size_t i = 0; i < 4; ++i) {
    const std::string name = fmt::format("run{}", i);
    CAPTURE(name);
    check_same(run(plan_of(plans[i]), place.options(6, name)), whole.losses, whole);
    const std::string parts = fmt::format("parts{}", i);
    static_cast<void>(run(plan_of(plans[i]), place.options(3, parts)));
    TrainingRunOptions rest = place.options(6, parts);
    rest.resume = true;
    const Told later = run(plan_of(plans[(i + 1) % 4]), rest);
    const std::size_t from = whole.losses.size() / 2;
    check_same(later,
               {whole.losses.begin() + static_cast<std::ptrdiff_t>(from), whole.losses.end()},
               whole);
  }
}

TEST_CASE("held-out loss is of the same text whatever the number of micro-batches") {
  const SharedPlace place;
  TrainingRunOptions options = place.options(1, "one");
  options.evaluate_batches = 2;
  const Told one = run(plan_of({}), options);
  CHECK(one.tokens == 2 * 8 * 16);
  options.out = place.path("two");
  const Told two = run(plan_of({.accumulation = 2}), options);
  CHECK(two.tokens == one.tokens);
  CHECK(std::abs(two.held_out - one.held_out) <= 1e-5 * one.held_out);
}

TEST_CASE("a run beyond its plan's bound replays steps, says so, and tells the same losses") {
  const SharedPlace place;
  Plan plan = plan_of({.expert = 4});
  plan.model.router.aux_coefficient = 0;  // the balance loss is taken over a micro-batch
  const Told whole = run(plan, place.options(6, "whole"));
  static_cast<void>(run(plan, place.options(3, "parts")));
  const std::string checkpoint = place.path("parts/checkpoints/step_000003");
  const std::string saved = read_text_file(checkpoint + "/state.json");

  TrainingRunOptions rest = place.options(6, "parts");
  rest.resume = true;
  MoeLayerPlan& moe = plan.moe_layers.front();
  moe.receive_rows = 4;  // below any sequence's share
  check_refused(plan, rest,
                "rows, but its buffers hold 4 (receive_rows of the plan), with one "
                "sequence at a time; the layer needs a bound of ");
  CHECK(read_text_file(checkpoint + "/state.json") == saved);

  moe.receive_rows = kRows;
  const TrainingOutcome outcome = run_training(
      plan, place.options(6, "bounded"), test_bootstrap(), [](const TrainingProgress&) {},
      [](const std::string&) {});
  CHECK(outcome.report.replayed > 0);
  CHECK(outcome.report.overflow_rows > kRows);
  CHECK(outcome.report.steps + outcome.report.replayed >= 4);  // the first two are never measured
  CHECK(outcome.report.steps < 4);
  if (test_bootstrap().rank() == 0) {
    CHECK(holds(read_text_file(place.path("bounded/log.jsonl")),
                "\"replays\": 1, \"overflow_rows\": "));
    CHECK(!holds(read_text_file(place.path("whole/log.jsonl")), "replays"));
    CHECK(std::abs(outcome.report.last_loss - whole.losses.back()) <= 1e-5 * whole.losses.back());
  }
  const Told later = run(plan, rest);
  check_same(later,
             {whole.losses.begin() + static_cast<std::ptrdiff_t>(whole.losses.size() / 2),
              whole.losses.end()},
             whole);
}

TEST_CASE("what is refused is refused at every rank with one message") {
  const SharedPlace place;
  const Plan plan = plan_of({.expert = 4});
  static_cast<void>(run(plan, place.options(1, "there")));
  check_refused(plan, place.options(1, "there"), "--overwrite");
  TrainingRunOptions options = place.options(1, "new");
  options.data = place.path("absent");
  check_refused(plan, options, "absent");
  options = place.options(1, "new");
  options.resume = true;
  check_refused(plan, options, "new");
  Plan other = plan;
  other.workload.optimizer.clip = test_bootstrap().rank() == 2 ? 0.5 : 1.0;
  check_refused(other, place.options(1, "new"), "different plans");
  Plan wild = plan;
  wild.workload.optimizer = {.learning_rate = 1e30, .warmup_steps = 0};
  check_refused(wild, place.options(4, "new"), "is the first whose output is not finite");
  Plan wider = plan;
  wider.model.hidden = 32;
  options = place.options(2, "there");
  options.resume = true;
  check_refused(wider, options, "hidden");
}

// A noted signal stays noted, so this is the last case.
TEST_CASE("a signal that one rank sees stops all of them after the same step") {
  const SharedPlace place;
  const Bootstrap& ranks = test_bootstrap();
  const Plan plan = plan_of({.expert = 2});
  watch_stop_signals();
  if (ranks.rank() == 3) std::raise(SIGUSR1);
  const TrainingOutcome outcome = run_training(
      plan, place.options(5, "run"), ranks, [](const TrainingProgress&) {},
      [](const std::string&) {});
  CHECK(outcome.stop_signal == SIGINT);
  CHECK(outcome.checkpoint == place.path("run/checkpoints/step_000001"));
}

}  // namespace imhotep::executor
