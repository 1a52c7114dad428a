// Runs from text to checkpoint on one rank: going on where a run stopped, and every bad input in
// one clear message with nothing lost.

#include "executor/train/training_run.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "core/base/error.h"
#include "core/base/json_document.h"
#include "executor/checkpoint/checkpoint.h"
#include "executor/comm/stop_signal.h"
#include "tests/executor/data/sample_text.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

Plan small_plan(double learning_rate = 3e-3) {
  ModelSpec model{.name = "small", .layers = 2, .hidden = 16, .heads = 2, .vocab = 300};
  model.context = 32;
  model.experts = ExpertList::parse("2");
  model.residual = true;
  model.init_std = 0.08;
  Workload workload{.global_batch = 4, .sequence = 16};
  workload.optimizer = {.learning_rate = learning_rate, .warmup_steps = 2, .decay_steps = 6};
  return single_rank_plan(model, workload);
}

// A folder of text and a place for runs.
struct Place {
  Place() { folder.write("text/a.txt", kAlice + random_lines(3, 400)); }
  [[nodiscard]] TrainingRunOptions options(std::int64_t steps, const char* run = "run") const {
    return {.data = folder.path("text"), .out = folder.path(run), .steps = steps};
  }
  [[nodiscard]] std::string file(const std::string& name) const {
    return read_text_file(folder.path(name));
  }
  ScratchFolder folder;
};

using Notify = std::function<void(const TrainingProgress&)>;

TrainingOutcome run(
    const Plan& plan, const TrainingRunOptions& options,
    const Notify& notify = [](const TrainingProgress&) {}) {
  const Bootstrap ranks;
  return run_training(plan, options, ranks, notify, [](const std::string&) {});
}

struct Refusal {
  std::string message;
  ErrorKind kind = ErrorKind::Failed;
};

Refusal refusal_of(
    const Plan& plan, const TrainingRunOptions& options,
    const Notify& notify = [](const TrainingProgress&) {}) {
  try {
    static_cast<void>(run(plan, options, notify));
  } catch (const Error& error) {
    return {error.what(), error.kind()};
  }
  return {"no error"};
}

// The lines of a log that tell a training step, as text, by step.
std::map<std::int64_t, std::string> steps_of(const std::string& log) {
  std::map<std::int64_t, std::string> steps;
  std::istringstream stream(log);
  for (std::string line; std::getline(stream, line);) {
    if (!holds(line, "grad_norm")) continue;
    std::int64_t step = 0;
    REQUIRE(std::sscanf(line.c_str(), "{\"step\": %ld", &step) == 1);
    CHECK(!steps.contains(step));  // a step is told once
    steps[step] = line.substr(0, line.find(", \"tokens_per_s\""));
  }
  return steps;
}

// Every file below a folder with its contents.
std::map<std::string, std::string> contents(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files[entry.path()] = read_text_file(entry.path());
  }
  return files;
}

bool same_checkpoint(const std::string& a, const std::string& b) {
  for (const char* name : {"/model.safetensors", "/optimizer.safetensors", "/state.json"}) {
    if (read_text_file(a + name) != read_text_file(b + name)) return false;
  }
  return true;
}

// Files may not grow beyond `bytes` while this lives, as on a full disk.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) {
    before_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit_);
    const rlimit small{bytes, limit_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallDisk() {
    setrlimit(RLIMIT_FSIZE, &limit_);
    std::signal(SIGXFSZ, before_);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

 private:
  rlimit limit_{};
  void (*before_)(int) = nullptr;
};

}  // namespace

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

TEST_CASE("an output folder that exists is refused and stays as it is") {
  const Place place;
  place.folder.write("run/precious.txt", "mine");
  const Refusal refusal = refusal_of(small_plan(), place.options(2));
  CHECK(refusal.kind == ErrorKind::Input);
  CHECK(holds(refusal.message, place.folder.path("run")));
  CHECK(holds(refusal.message, "--overwrite"));
  CHECK(holds(refusal.message, "--resume"));
  CHECK(contents(place.folder.path("run")).size() == 1);
}

TEST_CASE("a folder without text is refused before anything is written") {
  const Place place;
  place.folder.write("other/image.png", std::string("\x89PNG\0\0", 6));
  fs::create_directories(place.folder.path("nothing"));
  for (const char* data : {"nothing", "other", "absent"}) {
    TrainingRunOptions options = place.options(2);
    options.data = place.folder.path(data);
    const Refusal refusal = refusal_of(small_plan(), options);
    CHECK(refusal.kind == ErrorKind::Input);
    CHECK(holds(refusal.message, options.data));
    CHECK(!fs::exists(options.out));
  }
}

TEST_CASE("text that is too short for the model is refused with the numbers") {
  const Place place;
  place.folder.write("short/a.txt", "To be, or not to be.\n");
  TrainingRunOptions options = place.options(2);
  options.data = place.folder.path("short");
  const Refusal refusal = refusal_of(small_plan(), options);
  CHECK(refusal.kind == ErrorKind::Input);
  CHECK(refusal.message.size() < 400);
}

TEST_CASE("a mistyped text folder does not cost the run that was to be overwritten") {
  const Place place;
  const TrainingOutcome first = run(small_plan(), place.options(2));
  const auto before = contents(place.folder.path("run"));
  TrainingRunOptions options = place.options(2);
  options.data = place.folder.path("absent");
  options.overwrite = true;
  CHECK(refusal_of(small_plan(), options).kind == ErrorKind::Input);
  CHECK(contents(place.folder.path("run")) == before);
  options.data = place.folder.path("text");
  CHECK(same_checkpoint(run(small_plan(), options).checkpoint, first.checkpoint));
}

TEST_CASE("resuming with another text, and so another tokenizer, is refused") {
  const Place place;
  const TrainingOutcome first = run(small_plan(), place.options(2));
  const auto before = contents(first.checkpoint);
  const std::string tokenizer = place.file("run/tokenizer.model");
  place.folder.write("other/b.txt", "Call me Ishmael. " + random_lines(9, 400));
  TrainingRunOptions options = place.options(4);
  options.data = place.folder.path("other");
  options.resume = true;
  const Refusal refusal = refusal_of(small_plan(), options);
  CHECK(refusal.kind == ErrorKind::Input);
  CHECK(holds(refusal.message, "tokenizer"));
  CHECK(contents(first.checkpoint) == before);
  CHECK(place.file("run/tokenizer.model") == tokenizer);
  options.data = place.folder.path("text");
  CHECK(run(small_plan(), options).report.first_loss > 0);
}

TEST_CASE("resuming what was never started, or with another model or seed, is refused") {
  const Place place;
  TrainingRunOptions options = place.options(4);
  options.resume = true;
  const Refusal nothing = refusal_of(small_plan(), options);
  CHECK(nothing.kind == ErrorKind::Input);
  CHECK(holds(nothing.message, "run"));
  options.resume = false;
  const TrainingOutcome first = run(small_plan(), options);
  const auto before = contents(first.checkpoint);
  options.resume = true;
  options.steps = 6;
  options.initialize.seed = 2;
  CHECK(holds(refusal_of(small_plan(), options).message, "seed 1"));
  options.initialize.seed = 1;
  Plan wider = small_plan();
  wider.model.hidden = 32;
  const Refusal model = refusal_of(wider, options);
  CHECK(model.kind == ErrorKind::Input);
  CHECK(holds(model.message, "hidden"));
  CHECK(contents(first.checkpoint) == before);
  CHECK(run(small_plan(), options).report.last_loss > 0);
}

TEST_CASE("a loss that is not finite stops the run and keeps the last checkpoint") {
  const Place place;
  const TrainingOutcome first = run(small_plan(), place.options(3));
  const auto before = contents(first.checkpoint);
  TrainingRunOptions options = place.options(6);
  options.resume = true;
  const Refusal refusal = refusal_of(small_plan(1e30), options);
  CHECK(refusal.kind == ErrorKind::Failed);
  CHECK(holds(refusal.message, "learning rate"));
  CHECK(holds(refusal.message, "step 5"));
  CHECK(contents(first.checkpoint) == before);
  CHECK(find_checkpoint(options.out) == first.checkpoint);
  const TrainingOutcome again = run(small_plan(), options);
  CHECK(std::isfinite(again.report.last_loss));
  CHECK(steps_of(place.file("run/log.jsonl")).size() == 6);
}

TEST_CASE("a full disk while saving leaves the previous checkpoint, which loads") {
  const Place place;
  const Plan plan = small_plan();
  const TrainingOutcome whole = run(plan, place.options(6, "whole"));
  TrainingRunOptions options = place.options(6);
  options.save_every = 2;
  std::optional<SmallDisk> disk;
  const Refusal refusal = refusal_of(plan, options, [&](const TrainingProgress& progress) {
    if (progress.step == 3) disk.emplace(20000);
  });
  disk.reset();
  CHECK(refusal.kind == ErrorKind::Failed);
  CHECK(holds(refusal.message, "step 4"));
  CHECK(holds(refusal.message, "safetensors"));
  CHECK(holds(refusal.message, "earlier checkpoints are untouched"));
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(place.folder.path("run/checkpoints"))) {
    left.push_back(entry.path().filename());
  }
  std::sort(left.begin(), left.end());
  CHECK(left == std::vector<std::string>{"latest", "step_000002"});
  options.resume = true;
  CHECK(same_checkpoint(run(plan, options).checkpoint, whole.checkpoint));
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

TEST_CASE("a plan for another number of ranks is refused with the right command") {
  const Place place;
  Plan plan = small_plan();
  plan.world = plan.data = 4;
  const Refusal refusal = refusal_of(plan, place.options(2));
  CHECK(refusal.kind == ErrorKind::Input);
  CHECK(holds(refusal.message, "4 ranks"));
  CHECK(holds(refusal.message, "1 were started"));
  CHECK(holds(refusal.message, "mpirun -n 4"));
  CHECK(!fs::exists(place.folder.path("run")));
}

TEST_CASE("an output folder that cannot be made is named") {
  const Place place;
  place.folder.write("file", "not a folder");
  const Refusal refusal = refusal_of(small_plan(), place.options(2, "file/run"));
  CHECK(holds(refusal.message, place.folder.path("file/run")));
  CHECK(place.file("file") == "not a folder");
}

}  // namespace imhotep::executor
