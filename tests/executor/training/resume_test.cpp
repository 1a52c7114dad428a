// A run goes on where it stopped, was stopped or died.

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "executor/checkpoint/checkpoint.h"
#include "executor/comm/stop_signal.h"
#include "tests/executor/training/small_run.h"

namespace imhotep::executor {

TEST_CASE("a run that stops and resumes is the run that never stopped") {
  const Place place;
  const Plan plan = small_plan();
  const TrainingOutcome whole = run(plan, place.options(6, "whole"));
  static_cast<void>(run(plan, place.options(3, "parts")));
  TrainingRunOptions rest = place.options(6, "parts");
  rest.resume = true;
  const TrainingOutcome resumed = run(plan, rest);
  const auto expected = steps_of(place.file("whole/log.jsonl"));
  CHECK(expected.size() == 6);
  CHECK(steps_of(place.file("parts/log.jsonl")) == expected);
  CHECK(resumed.report.last_loss == whole.report.last_loss);
  CHECK(resumed.held_out_loss == whole.held_out_loss);
  CHECK(whole.report.last_loss < whole.report.first_loss);
  CHECK(same_checkpoint(resumed.checkpoint, whole.checkpoint));
  const std::string picture = place.file("parts/loss.svg");
  CHECK(std::count(picture.begin(), picture.end(), 'L') == 5);  // of six points
}

TEST_CASE("the log tells the load of experts every ten steps, the report its mean") {
  const Place place;
  const TrainingOutcome outcome = run(small_plan(), place.options(14));
  std::vector<std::int64_t> steps;
  std::vector<std::vector<std::vector<double>>> told;
  std::istringstream log(place.file("run/log.jsonl"));
  for (std::string line; std::getline(log, line);) {
    const nlohmann::json json = nlohmann::json::parse(line);
    if (!json.contains("expert_load")) continue;
    steps.push_back(json.at("step"));
    told.push_back(json.at("expert_load"));
  }
  REQUIRE(steps == std::vector<std::int64_t>{10, 14});
  const auto& mean = outcome.report.expert_load;
  REQUIRE(mean.size() == told[0].size());
  for (std::size_t layer = 0; layer < mean.size(); ++layer) {
    double sum = 0;
    for (std::size_t e = 0; e < mean[layer].size(); ++e) {
      sum += mean[layer][e];
      const double expected = (10 * told[0][layer][e] + 4 * told[1][layer][e]) / 14;
      CHECK(mean[layer][e] == doctest::Approx(expected).epsilon(1e-3));
    }
    CHECK(sum == doctest::Approx(1));
  }
}

TEST_CASE("a run that died after its checkpoint goes on from there") {
  const Place place;
  const Plan plan = small_plan();
  const TrainingOutcome whole = run(plan, place.options(6, "whole"));
  TrainingRunOptions options = place.options(6);
  options.save_every = 2;
  CHECK_THROWS_WITH(run(plan, options,
                        [](const TrainingProgress& progress) {
                          if (progress.step == 5) throw std::runtime_error("died");
                        }),
                    "died");
  options.resume = true;
  CHECK(same_checkpoint(run(plan, options).checkpoint, whole.checkpoint));
  CHECK(steps_of(place.file("run/log.jsonl")) == steps_of(place.file("whole/log.jsonl")));
}

TEST_CASE("resuming a finished run changes nothing") {
  const Place place;
  const Plan plan = small_plan();
  TrainingRunOptions options = place.options(3);
  const TrainingOutcome first = run(plan, options);
  const auto before = contents(first.checkpoint);
  const std::string picture = place.file("run/loss.svg"), log = place.file("run/log.jsonl");
  options.resume = true;
  const TrainingOutcome again = run(plan, options);
  CHECK(contents(first.checkpoint) == before);
  CHECK(again.checkpoint == first.checkpoint);
  CHECK(steps_of(place.file("run/log.jsonl")) == steps_of(log));
}

TEST_CASE("Ctrl-C saves a checkpoint from which the run goes on") {
  const Place place;
  const Plan plan = small_plan();
  const TrainingOutcome whole = run(plan, place.options(6, "whole"));
  TrainingRunOptions options = place.options(6);
  // A noted signal stays noted for the life of the process.
  const pid_t child = fork();
  if (child == 0) {
    watch_stop_signals();
    const TrainingOutcome outcome = run(plan, options, [](const TrainingProgress& progress) {
      if (progress.step == 2) std::raise(SIGINT);
    });
    const bool right = outcome.stop_signal == SIGINT && outcome.checkpoint.ends_with("step_000002");
    _exit(right ? 7 : 8);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
  CHECK(read_state(find_checkpoint(options.out) + "/state.json").step == 2);
  options.resume = true;
  const TrainingOutcome resumed = run(plan, options);
  CHECK(resumed.stop_signal == 0);
  CHECK(same_checkpoint(resumed.checkpoint, whole.checkpoint));
}

}  // namespace imhotep::executor
