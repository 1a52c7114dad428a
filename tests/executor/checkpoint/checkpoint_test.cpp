#include "executor/checkpoint/checkpoint.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/json_document.h"
#include "tests/executor/checkpoint/model_memory.h"
#include "tests/executor/checkpoint/rank_threads.h"
#include "tests/executor/data/sample_text.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

struct SaveOptions {
  std::int64_t step = 100;
  bool moments = true;
  int keep = 2;
  std::string tokenizer_file, tokenizer_hash;
};

// All ranks save; returns the first complaint.
template <class T>
std::string save(const Plan& plan, const std::string& run, const SaveOptions& options = {}) {
  const auto thrown = ThreadWorld(plan.world).run([&](Cooperation& ranks) {
    RankMemory<T> memory(plan, ranks.rank());
    memory.fill();
    auto regions = memory.template regions<const void*>();
    for (auto& region : regions) {
      if (!options.moments) region.first_moment = region.second_moment = nullptr;
    }
    save_checkpoint({.run_folder = run,
                     .plan = plan,
                     .layout = memory.layout,
                     .regions = regions,
                     .state = {.step = options.step,
                               .seed = 7,
                               .next_sequence = 800,
                               .tokenizer_hash = options.tokenizer_hash},
                     .tokenizer_file = options.tokenizer_file,
                     .keep = options.keep},
                    ranks);
  });
  for (const std::string& error : thrown) CHECK(error == thrown[0]);
  return thrown[0];
}

// All ranks load and compare every bit; returns the first complaint.
template <class T>
std::string load(const Plan& plan, const std::string& path,
                 OptimizerUse optimizer = OptimizerUse::Required) {
  const auto thrown = ThreadWorld(plan.world).run([&](Cooperation& ranks) {
    RankMemory<T> memory(plan, ranks.rank());
    const LoadedCheckpoint loaded = load_checkpoint({.path = path,
                                                     .plan = plan,
                                                     .layout = memory.layout,
                                                     .regions = memory.template regions<void*>(),
                                                     .optimizer = optimizer},
                                                    ranks);
    if (loaded.state.seed != 7 || loaded.state.next_sequence != 800) {
      throw std::runtime_error("another state");
    }
    if (const auto wrong = memory.wrong_values(); wrong > 0) {
      throw std::runtime_error(std::to_string(wrong) + " wrong values");
    }
  });
  for (const std::string& error : thrown) {
    if (!error.empty()) return error;
  }
  return {};
}

Plan small_plan() { return random_plan(random_model(3), 5); }

std::string model_file(const std::string& run) {
  return find_checkpoint(run) + "/model.safetensors";
}

}  // namespace

TEST_CASE("what is saved at some degrees loads bit-equal at any others, optimizer included") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const ScratchFolder folder;
    const ModelSpec model = random_model(seed);
    const Plan saved = random_plan(model, hash(seed, 1)),
               loaded = random_plan(model, hash(seed, 2));
    CAPTURE(seed);
    CAPTURE(plan_text(saved));
    CAPTURE(plan_text(loaded));
    CHECK(save<float>(saved, folder.path("run")).empty());
    CHECK(load<float>(loaded, folder.path("run")).empty());
    CHECK(load<float>(single_rank_plan(model, {}), folder.path("run")).empty());
  }
}

TEST_CASE("expert degree 4 x replica 2 loads at 8 x 1 and at 2 x slicing 2, in fp32 and fp64") {
  ModelSpec model = random_model(0);
  model.experts = ExpertList::parse("8");
  Plan base = single_rank_plan(model, {});
  base.world = base.data = 8;
  base.zero = 1;
  const auto with = [&](int tensor, int world, MoeLayerPlan degrees) {
    Plan plan = base;
    plan.world = world;
    plan.tensor = tensor;
    plan.data = world / tensor;
    for (MoeLayerPlan& moe : plan.moe_layers) {
      moe.expert = degrees.expert;
      moe.slicing = degrees.slicing;
      moe.replica = degrees.replica;
    }
    return plan;
  };
  Plan from = with(1, 8, {.expert = 4, .replica = 2});
  std::vector<Plan> targets = {with(1, 8, {.expert = 8}), with(2, 4, {.expert = 2, .slicing = 2}),
                               with(2, 8, {.expert = 2, .slicing = 2, .replica = 2})};
  for (const Dtype dtype : {Dtype::F32, Dtype::F64}) {
    const ScratchFolder folder;
    from.dtype = dtype;
    CHECK(
        (dtype == Dtype::F32 ? save<float>(from, folder.path()) : save<double>(from, folder.path()))
            .empty());
    for (Plan& target : targets) {
      target.dtype = dtype;
      const std::string error = dtype == Dtype::F32 ? load<float>(target, folder.path())
                                                    : load<double>(target, folder.path());
      CHECK(error.empty());
    }
  }
}

TEST_CASE("a rank that slices tensors finds its heads and columns in the file") {
  ModelSpec model = random_model(0);
  model.experts = {};
  Plan plan = single_rank_plan(model, {});
  plan.world = plan.tensor = 2;
  const ScratchFolder folder;
  REQUIRE(save<float>(plan, folder.path()).empty());
  const SafetensorsFile file(model_file(folder.path()));
  const auto layout = weight_layout(plan, Rank(1));
  RankMemory<float> memory(plan, 1);
  memory.fill();
  const std::int64_t h = model.hidden, half = h / 2;
  const LocalTensor& qkv = *layout.find(TensorRole::QkvWeight, 1);
  const LocalTensor& projection = *layout.find(TensorRole::ProjectionWeight, 1);
  std::vector<float> all(static_cast<std::size_t>(3 * h * h));
  file.read(*file.find("blocks.1.attention.qkv.weight"), {.first = 0, .count = 3 * h * h},
            all.data(), Dtype::F32);
  for (std::int64_t part = 0; part < 3; ++part) {
    for (std::int64_t i = 0; i < half * h; ++i) {
      CHECK(memory.weights[0][qkv.offset + part * half * h + i] == all[(part * h + half) * h + i]);
    }
  }
  file.read(*file.find("blocks.1.attention.projection.weight"), {.first = 0, .count = h * h},
            all.data(), Dtype::F32);
  for (std::int64_t row = 0; row < h; ++row) {
    for (std::int64_t i = 0; i < half; ++i) {
      CHECK(memory.weights[0][projection.offset + row * half + i] == all[row * h + half + i]);
    }
  }
}

TEST_CASE("a folder holds the files that the format lists, and every element was written once") {
  const ScratchFolder folder;
  const Plan plan = small_plan();
  folder.write("t.model", "not read here");
  REQUIRE(
      save<float>(plan, folder.path("run"), {.tokenizer_file = folder.path("t.model")}).empty());
  const std::string checkpoint = folder.path("run/checkpoints/step_000100");
  CHECK(find_checkpoint(folder.path("run")) == checkpoint);
  CHECK(find_checkpoint(checkpoint) == checkpoint);
  for (const char* name : {"config.json", "plan.json", "model.safetensors", "optimizer.safetensors",
                           "state.json", "tokenizer.model"}) {
    CHECK(fs::exists(fs::path(checkpoint) / name));
  }
  CHECK(checkpoint_model(folder.path("run")) == plan.model);
  CHECK(plan_text(checkpoint_plan(folder.path("run"))) == plan_text(plan));
  const SafetensorsFile file(checkpoint + "/model.safetensors");
  for (const TensorEntry& tensor : file.header().tensors) {
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    file.read(tensor, {.first = 0, .count = tensor.elements()}, values.data(), Dtype::F32);
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < tensor.elements(); ++i) {
      wrong += values[i] != expected_value<float>(tensor.name, i) ? 1 : 0;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("the newest checkpoints stay, and the latest one is found even when its note is lost") {
  const ScratchFolder folder;
  const Plan plan = small_plan();
  for (const std::int64_t step : {10, 20, 30, 15}) {  // the run went back to step 10 after 30
    REQUIRE(save<float>(plan, folder.path(), {.step = step}).empty());
  }
  const auto names = [&] {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder.path("checkpoints"))) {
      found.push_back(entry.path().filename().string());
    }
    std::sort(found.begin(), found.end());
    return found;
  };
  CHECK(names() == std::vector<std::string>{"latest", "step_000015", "step_000030"});
  CHECK(read_text_file(folder.path("checkpoints/latest")) == "step_000015\n");
  CHECK(find_checkpoint(folder.path()).ends_with("step_000015"));
  folder.write("checkpoints/latest", "step_999999\n");
  CHECK(find_checkpoint(folder.path()).ends_with("step_000015"));
  folder.write("checkpoints/latest", "../elsewhere");
  CHECK(find_checkpoint(folder.path()).ends_with("step_000015"));
  fs::remove(folder.path("checkpoints/latest"));
  CHECK(find_checkpoint(folder.path()).ends_with("step_000015"));
  REQUIRE(save<float>(plan, folder.path(), {.step = 40, .keep = 1}).empty());
  CHECK(names() == std::vector<std::string>{"latest", "step_000040"});
}

TEST_CASE("saving one step again replaces its checkpoint") {
  const ScratchFolder folder;
  const Plan plan = small_plan();
  REQUIRE(save<float>(plan, folder.path(), {.moments = false}).empty());
  REQUIRE(save<float>(plan, folder.path()).empty());
  CHECK(load<float>(plan, folder.path()).empty());
  CHECK(std::distance(fs::directory_iterator(folder.path("checkpoints")),
                      fs::directory_iterator()) == 2);
}

TEST_CASE("a model without optimizer loads where that is allowed") {
  const ScratchFolder folder;
  const Plan plan = small_plan();
  REQUIRE(save<float>(plan, folder.path(), {.moments = false}).empty());
  CHECK(holds(load<float>(plan, folder.path()), "optimizer.safetensors is missing"));
  RankMemory<float> memory(single_rank_plan(plan.model, {}), 0);
  SingleProcess alone;
  const LoadedCheckpoint loaded = load_checkpoint({.path = folder.path(),
                                                   .plan = single_rank_plan(plan.model, {}),
                                                   .layout = memory.layout,
                                                   .regions = memory.regions<void*>(),
                                                   .optimizer = OptimizerUse::IfPresent},
                                                  alone);
  CHECK_FALSE(loaded.optimizer_loaded);
  CHECK(loaded.has_state);
  CHECK(memory.weights[0][0] != 0);
}

TEST_CASE("a checkpoint of fp32 loads into fp64, each value as it was") {
  const ScratchFolder folder;
  Plan plan = small_plan();
  REQUIRE(save<float>(plan, folder.path()).empty());
  plan.dtype = Dtype::F64;
  const auto thrown = ThreadWorld(plan.world).run([&](Cooperation& ranks) {
    RankMemory<double> memory(plan, ranks.rank());
    (void)load_checkpoint({.path = folder.path(),
                           .plan = plan,
                           .layout = memory.layout,
                           .regions = memory.regions<void*>()},
                          ranks);
    for (std::size_t r = 0; r < memory.weights.size(); ++r) {
      for_each_piece(memory.layout.regions[r], [&](const TensorPiece& piece) {
        for (std::int64_t i = 0; i < piece.count; ++i) {
          const double expected = expected_value<float>(piece.name, piece.file_first + i);
          if (memory.weights[r][piece.region_first + i] != expected)
            throw std::runtime_error("off");
        }
      });
    }
  });
  for (const std::string& error : thrown) CHECK(error.empty());
}

TEST_CASE("another model is refused by the first field that differs") {
  const ScratchFolder folder;
  const Plan plan = small_plan();
  REQUIRE(save<float>(plan, folder.path()).empty());
  const auto load_as = [&](auto&& change) {
    ModelSpec model = plan.model;
    change(model);
    return load<float>(single_rank_plan(model, {}), folder.path());
  };
  CHECK(load_as([](ModelSpec& m) { m.name = "renamed"; }).empty());
  CHECK(holds(load_as([](ModelSpec& m) { m.hidden *= 2; }), "wrong model: hidden is "));
  CHECK(holds(load_as([](ModelSpec& m) { m.vocab += 1; }), "wrong model: vocab is 200"));
  CHECK(holds(load_as([](ModelSpec& m) { m.residual = !m.residual; }), "wrong model: residual"));
  CHECK(holds(load_as([](ModelSpec& m) { m.experts = ExpertList::parse("4x2"); }),
              "the number of experts of block"));
}

TEST_CASE("the wrong tokenizer for a checkpoint is refused with both hashes") {
  const ScratchFolder folder;
  folder.write("a/t.txt", random_lines(1, 100));
  folder.write("b/t.txt", random_lines(2, 100));
  const Tokenizer right = train_tokenizer(open_corpus(folder.path("a")), {.vocab = 320});
  const Tokenizer wrong = train_tokenizer(open_corpus(folder.path("b")), {.vocab = 320});
  right.save(folder.path("right.model"));
  REQUIRE(save<float>(
              small_plan(), folder.path("run"),
              {.tokenizer_file = folder.path("right.model"), .tokenizer_hash = right.hash_text()})
              .empty());
  CHECK(checkpoint_tokenizer(folder.path("run")).hash() == right.hash());
  wrong.save(find_checkpoint(folder.path("run")) + "/tokenizer.model");
  const std::string error = complaint([&] { (void)checkpoint_tokenizer(folder.path("run")); });
  CHECK(holds(error, "wrong tokenizer"));
  CHECK(holds(error, right.hash_text()));
  CHECK(holds(error, wrong.hash_text()));
}

TEST_CASE("a state comes back as written, a loss that is no number as none") {
  const ScratchFolder folder;
  TrainingState state{.step = 12,
                      .seed = ~std::uint64_t{0},
                      .tokens_seen = std::int64_t{1} << 60,
                      .next_sequence = 96,
                      .planned_steps = 500,
                      .learning_rate = 2.5e-4,
                      .loss = 3.25,
                      .tokenizer_hash = "00ff",
                      .program_version = "0.1.0"};
  const std::string file = folder.path("state.json");
  write_state(state, file);
  const TrainingState read = read_state(file);
  CHECK(read.step == 12);
  CHECK(read.seed == state.seed);
  CHECK(read.tokens_seen == state.tokens_seen);
  CHECK(read.next_sequence == 96);
  CHECK(read.planned_steps == 500);
  CHECK(read.learning_rate == 2.5e-4);
  CHECK(read.loss == 3.25);
  CHECK(read.tokenizer_hash == "00ff");
  state.loss = std::nan("");
  write_state(state, file);
  CHECK_FALSE(read_state(file).loss.has_value());
  folder.write("state.json", R"({"schema": "imhotep.state/1", "step": 1, "stpe": 2})");
  CHECK(holds(complaint([&] { (void)read_state(file); }), "state.json"));
}

TEST_CASE("folders without a checkpoint are refused by name") {
  const ScratchFolder folder;
  CHECK(holds(complaint([&] { (void)find_checkpoint(folder.path("no")); }), "no: no such folder"));
  CHECK(holds(complaint([&] { (void)find_checkpoint(folder.path()); }), "no checkpoint: expected"));
  folder.write("checkpoints/step_000001/config.json", "{}");  // not complete
  CHECK(holds(complaint([&] { (void)find_checkpoint(folder.path()); }), "no checkpoint: expected"));
}

}  // namespace imhotep::executor
