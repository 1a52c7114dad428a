// Disks that fill up, folders that cannot be written, files that were damaged.
#include <doctest/doctest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/json_document.h"
#include "executor/checkpoint/checkpoint.h"
#include "tests/executor/checkpoint/model_memory.h"
#include "tests/executor/checkpoint/rank_threads.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

Plan two_ranks() {
  Plan plan = single_rank_plan(random_model(1), {});
  plan.world = plan.data = 2;
  for (MoeLayerPlan& moe : plan.moe_layers) moe.replica = 2;
  plan.zero = 1;
  return plan;
}

std::vector<std::string> save(const Plan& plan, const std::string& run, std::int64_t step,
                              const std::function<void(int rank)>& before = {}) {
  return ThreadWorld(plan.world).run([&](Cooperation& ranks) {
    RankMemory<float> memory(plan, ranks.rank());
    memory.fill();
    if (before) before(ranks.rank());
    save_checkpoint({.run_folder = run,
                     .plan = plan,
                     .layout = memory.layout,
                     .regions = memory.regions<const void*>(),
                     .state = {.step = step}},
                    ranks);
  });
}

// What loading complains about; "wrong values" when it takes them for good.
std::string load(const Plan& plan, const std::string& path) {
  RankMemory<float> memory(plan, 0);
  SingleProcess alone;
  return complaint([&] {
    (void)load_checkpoint(
        {.path = path, .plan = plan, .layout = memory.layout, .regions = memory.regions<void*>()},
        alone);
    if (memory.wrong_values() > 0) throw std::runtime_error("wrong values");
  });
}

void expect_only_step_one(const std::string& run, const Plan& plan) {
  CHECK(find_checkpoint(run).ends_with("step_000001"));
  CHECK(std::distance(fs::directory_iterator(run + "/checkpoints"), fs::directory_iterator()) == 2);
  CHECK(load(single_rank_plan(plan.model, {}), run).empty());
}

class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::uint64_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    signal_ = std::signal(SIGXFSZ, SIG_IGN);
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, signal_);
  }

 private:
  rlimit before_{};
  void (*signal_)(int) = nullptr;
};

}  // namespace

TEST_CASE("a file that may not grow leaves the previous checkpoint and nothing else") {
  const ScratchFolder folder;
  const Plan plan = two_ranks();
  for (const std::string& error : save(plan, folder.path(), 1)) CHECK(error.empty());
  std::vector<std::string> thrown;
  {
    const FileSizeLimit limit(20'000);
    thrown = save(plan, folder.path(), 2);
  }
  for (const std::string& error : thrown) {
    CHECK(holds(error, "cannot save the checkpoint of step 2: rank 0: "));
    CHECK(holds(error, "model.safetensors: cannot reserve"));
    CHECK(holds(error, "File too large"));
    CHECK(holds(error, "earlier checkpoints are untouched"));
  }
  expect_only_step_one(folder.path(), plan);
}

TEST_CASE("a full disk leaves the previous checkpoint and nothing else") {
  const ScratchFolder folder;
  if (::mount("imhotep-test", folder.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    MESSAGE("not run: mounting a small file system needs root");
    return;
  }
  const Plan plan = two_ranks();
  for (const std::string& error : save(plan, folder.path(), 1)) CHECK(error.empty());
  const auto used = fs::file_size(find_checkpoint(folder.path()) + "/optimizer.safetensors");
  folder.write("ballast", std::string(fs::space(folder.path()).available - used, 'x'));
  for (const std::string& error : save(plan, folder.path(), 2)) {
    CHECK(holds(error, "No space left on device"));
  }
  expect_only_step_one(folder.path(), plan);
  ::umount(folder.path().c_str());
}

TEST_CASE("a rank that cannot write stops all ranks with its own words") {
  const ScratchFolder folder;
  const Plan plan = two_ranks();
  for (const std::string& error : save(plan, folder.path(), 1)) CHECK(error.empty());
  const auto thrown = ThreadWorld(2).run([&](Cooperation& ranks) {
    RankMemory<float> memory(plan, ranks.rank());
    auto regions = memory.regions<const void*>();
    if (ranks.rank() == 1) regions.pop_back();
    save_checkpoint({.run_folder = folder.path(),
                     .plan = plan,
                     .layout = memory.layout,
                     .regions = regions,
                     .state = {.step = 2}},
                    ranks);
  });
  for (const std::string& error : thrown) CHECK(holds(error, "rank 1: expected memory of"));
  expect_only_step_one(folder.path(), plan);
}

TEST_CASE("an output folder that cannot be made is named") {
  const ScratchFolder folder;
  folder.write("run", "a file where a folder should be");
  for (const std::string& error : save(two_ranks(), folder.path("run"), 1)) {
    CHECK(holds(error, folder.path("run") + "/checkpoints"));
    CHECK(holds(error, "Not a directory"));
  }
  const Plan plan = two_ranks();
  RankMemory<float> memory(plan, 0);
  SingleProcess alone;
  CHECK(holds(complaint([&] {
                save_checkpoint({.run_folder = folder.path("other"),
                                 .plan = plan,
                                 .layout = memory.layout,
                                 .regions = memory.regions<const void*>(),
                                 .state = {}},
                                alone);
              }),
              "expected the 2 ranks of the plan, got 1"));
}

TEST_CASE("what a killed run left behind does not stand in the way") {
  const ScratchFolder folder;
  const Plan plan = two_ranks();
  folder.write("checkpoints/.step_000001.tmp/model.safetensors", "half a file");
  for (const std::string& error : save(plan, folder.path(), 1)) CHECK(error.empty());
  expect_only_step_one(folder.path(), plan);
}

TEST_CASE("two hundred damaged checkpoints: refused, or the same content") {
  const ScratchFolder folder;
  const Plan plan = two_ranks(), alone = single_rank_plan(plan.model, {});
  for (const std::string& error : save(plan, folder.path(), 1)) CHECK(error.empty());
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    const std::string file = find_checkpoint(folder.path()) +
                             (seed % 3 == 0 ? "/optimizer.safetensors" : "/model.safetensors");
    const std::string good = read_text_file(file);
    std::string bad = good;
    const std::uint64_t draw = hash(seed, 1), range = seed % 2 == 0 ? bad.size() : 4000;
    const std::size_t at = draw % range;
    if (seed % 10 == 0) {
      bad.resize(at);
    } else if (seed % 10 == 1) {
      bad.insert(at, 1 + draw % 9, 'x');
    } else {
      bad[at] = static_cast<char>(bad[at] ^ (1 + (draw >> 32) % 255));
    }
    folder.write(fs::relative(file, folder.path()).string(), bad);
    const std::string error = load(alone, folder.path());
    CHECK(error != "wrong values");
    refused += error.empty() ? 0 : 1;
    folder.write(fs::relative(file, folder.path()).string(), good);
  }
  CHECK(refused > 190);
  CHECK(load(alone, folder.path()).empty());
}

TEST_CASE("a missing, reshaped or foreign tensor is named") {
  const ScratchFolder folder;
  const Plan plan = two_ranks(), alone = single_rank_plan(plan.model, {});
  for (const std::string& error : save(plan, folder.path(), 1)) CHECK(error.empty());
  const std::string file = find_checkpoint(folder.path()) + "/model.safetensors";
  const auto rewritten = [&](const std::function<void(std::vector<TensorEntry>&)>& change) {
    std::vector<TensorEntry> tensors = model_tensors(plan.model, Dtype::F32);
    change(tensors);
    SafetensorsWriter writer(file, tensors, {});
    writer.create();
    writer.close();
    return load(alone, folder.path());
  };
  CHECK(holds(rewritten([](auto& t) { t.pop_back(); }), "tensor \"final_norm.bias\" is missing"));
  CHECK(holds(rewritten([](auto& t) { t.push_back({.name = "x", .shape = {2}}); }),
              "unexpected tensor \"x\" [2]"));
  CHECK(holds(rewritten([](auto& t) { t[0].shape.push_back(1); }),
              "tensor \"embedding.token.weight\": expected shape [256, "));
  CHECK(holds(rewritten([](auto& t) { t[1].type = ElementType::I64; }),
              "expected a type that converts to F32, got I64"));
  CHECK(holds(rewritten([](auto&) {}), "damaged: its elements have checksum"));
}

}  // namespace imhotep::executor
