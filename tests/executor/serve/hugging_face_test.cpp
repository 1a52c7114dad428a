// Folders in the manner of Hugging Face: a model and its tokenizer from somebody else's files.
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/json_document.h"
#include "executor/checkpoint/checkpoint.h"
#include "executor/checkpoint/model_config.h"
#include "executor/train/saved_state.h"
#include "tests/executor/scratch_folder.h"
#include "tests/executor/serve/hugging_face_files.h"
#include "tests/executor/serve/serving.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// nano-pr-moe-2-8 as such a config.json.
Json config() {
  return {{"model_type", "pr_moe"},        {"_name_or_path", "somebody/pyramid"},
          {"num_hidden_layers", 4},        {"hidden_size", 32},
          {"num_attention_heads", 4},      {"vocab_size", 700},
          {"max_position_embeddings", 64}, {"num_experts", {0, 2, 0, 8}},
          {"num_experts_per_tok", 1},      {"residual_moe", true},
          {"intermediate_size", 128},      {"hidden_act", "gelu_new"},
          {"tie_word_embeddings", true},   {"eos_token_id", 0}};
}

}  // namespace

TEST_CASE("a config.json with the experts of every layer is a model of ours") {
  const ScratchFolder folder;
  const std::string file = folder.path() + "/config.json";
  write_text_file(file, config().dump());
  const ModelSpec model = read_model_config(file);
  CHECK(model.name == "somebody/pyramid");
  CHECK(model.experts_at(0) == 0);
  CHECK(model.experts_at(1) == 2);
  CHECK(model.experts_at(3) == 8);
  CHECK(model.residual);
  for (const auto& [key, value] :
       std::initializer_list<std::pair<const char*, Json>>{{"hidden_act", "silu"},
                                                           {"tie_word_embeddings", false},
                                                           {"intermediate_size", 100},
                                                           {"num_key_value_heads", 1},
                                                           {"num_experts", Json::array({2, 4})},
                                                           {"num_hidden_layers", "four"},
                                                           {"num_attention_heads", 5},
                                                           {"hidden_size", nullptr}}) {
    CAPTURE(std::string(key));
    Json changed = config();
    changed[key] = value;
    write_text_file(file, changed.dump());
    CHECK_THROWS_AS(static_cast<void>(read_model_config(file)), Error);
  }
}

TEST_CASE("shards and tokenizer.json of a folder give a model that speaks") {
  const ScratchFolder scratch;
  const fs::path folder = scratch.path();
  write_text_file((folder / "config.json").string(), config().dump());
  fs::copy_file(IMHOTEP_SOURCE_DIR "/tests/data/tokenizers/gpt2.json", folder / "tokenizer.json");
  const Json tokenizer_config = {{"chat_template", "{{ messages[0].content }}"}};
  write_text_file((folder / "tokenizer_config.json").string(), tokenizer_config.dump());
  const ModelSpec model = read_model_config((folder / "config.json").string());
  test::write_shards(folder.string(), model);
  CHECK(checkpoint_model(folder.string()) == model);

  const auto words = load_vocabulary(folder.string());
  CHECK(words->ends() == std::vector<std::int32_t>{0});
  CHECK(words->size() == 700);
  CHECK(words->chat_template() == "{{ messages[0].content }}");
  CHECK(words->encode_special("a<|endoftext|>") ==
        std::vector<std::int32_t>{words->encode("a")[0], 0});

  Workload workload{.kind = WorkloadKind::Generation, .global_batch = 2};
  workload.prompt = workload.output = 16;
  const Plan plan = single_rank_plan(model, workload);
  const Bootstrap ranks;
  CommunicatorPool pool(ranks);
  const ServeShape shape = serve_shape(plan);
  Stepper stepper(plan, Rank(0), pool, shape, 1);
  static_cast<void>(load_weights(folder.string(), plan, ranks, stepper.runner()));
  ServeRequest request{.id = 1, .prompt = words->encode("the experts of"), .max_tokens = 8};
  request.temperature = 0;
  const auto served = test::serve_with(stepper, plan, shape, {request}, ranks, *words);
  CHECK(served.answers.at(1).generated >= 1);
}

}  // namespace imhotep::executor
