// Every bad input ends a run in one clear message, with nothing lost.

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <optional>

#include "executor/checkpoint/checkpoint.h"
#include "executor/train/folder_claim.h"
#include "tests/executor/training/small_run.h"

namespace imhotep::executor {
namespace {

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

TEST_CASE("a folder that another run is writing into is refused, and free once that ends") {
  const Place place;
  {
    const FolderClaim other(place.folder.path("run"));
    const Refusal refusal = refusal_of(small_plan(), place.options(2));
    CHECK(refusal.kind == ErrorKind::Input);
    CHECK(holds(refusal.message, "another run is writing here"));
    CHECK(!fs::exists(place.folder.path("run/data")));
  }
  CHECK(run(small_plan(), place.options(2)).report.first_loss > 0);
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
  const std::string prepared = place.file("run/data/tokenizer.model");
  Plan more_words = small_plan();  // refused before the text is prepared for so many words
  more_words.model.vocab = 290;
  CHECK(holds(refusal_of(more_words, options).message, "wrong model: vocab is 300"));
  CHECK(place.file("run/data/tokenizer.model") == prepared);
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
