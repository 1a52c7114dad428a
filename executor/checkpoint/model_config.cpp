#include "executor/checkpoint/model_config.h"

#include <filesystem>
#include <initializer_list>

#include "core/base/fail.h"
#include "core/base/json_document.h"

namespace imhotep::executor {
namespace {

using Json = nlohmann::ordered_json;

class Config {
 public:
  explicit Config(const JsonDocument& document) : document_(document) {}

  // The first of these names that is there.
  [[nodiscard]] const Json* find(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      const auto entry = document_.value().find(name);
      if (entry != document_.value().end() && !entry->is_null()) return &*entry;
    }
    return nullptr;
  }
  [[nodiscard]] int number(std::initializer_list<const char*> names, int otherwise) const {
    const Json* entry = find(names);
    if (entry == nullptr && otherwise >= 0) return otherwise;
    if (entry == nullptr) {
      fail_input("{}: key \"{}\" is missing", document_.name(), *names.begin());
    }
    return integer(*entry, *names.begin());
  }
  [[nodiscard]] int integer(const Json& entry, const char* name) const {
    const bool fits = entry.is_number_integer() && entry.get<std::int64_t>() >= 0 &&
                      entry.get<std::int64_t>() <= 1 << 24;
    if (!fits) {
      fail_input("{}: $.{}: expected a whole number, got {}", document_.name(), name, entry.dump());
    }
    return entry.get<int>();
  }
  void expect(std::initializer_list<const char*> names, std::initializer_list<Json> allowed) const {
    const Json* entry = find(names);
    if (entry == nullptr) return;
    for (const Json& one : allowed) {
      if (*entry == one) return;
    }
    fail_input("{}: $.{}: expected {}, as this program's models have, got {}", document_.name(),
               *names.begin(), allowed.begin()->dump(), entry->dump());
  }

 private:
  const JsonDocument& document_;
};

ModelSpec hugging_face_model(const JsonDocument& document) {
  const Config config(document);
  ModelSpec model;
  model.name = std::filesystem::path(document.name()).parent_path().filename().string();
  if (const Json* name = config.find({"_name_or_path", "name"});
      name != nullptr && name->is_string()) {
    model.name = name->get<std::string>();
  }
  model.layers = config.number({"num_hidden_layers", "n_layer"}, -1);
  model.hidden = config.number({"hidden_size", "n_embd"}, -1);
  model.heads = config.number({"num_attention_heads", "n_head"}, -1);
  model.vocab = config.number({"vocab_size"}, -1);
  model.context = config.number({"max_position_embeddings", "n_positions"}, -1);
  model.top_k = config.number({"num_experts_per_tok", "num_experts_per_token"}, 1);
  model.moe_interval = 1;
  if (const Json* experts = config.find({"num_experts", "num_local_experts"})) {
    if (experts->is_array()) {
      for (const Json& count : *experts) {
        model.experts.slots.push_back(config.integer(count, "num_experts"));
      }
    } else {
      const int count = config.integer(*experts, "num_experts");
      model.experts.slots.assign(static_cast<std::size_t>(model.layers), count);
    }
    if (static_cast<int>(model.experts.slots.size()) != model.layers) {
      fail_input("{}: $.num_experts: expected {} counts, one a layer, got {}", document.name(),
                 model.layers, model.experts.slots.size());
    }
  }
  if (const Json* residual = config.find({"residual_moe", "use_residual"})) {
    model.residual = residual->is_boolean() && residual->get<bool>();
  }
  config.expect({"intermediate_size", "n_inner"}, {Json(4 * model.hidden)});
  config.expect({"hidden_act", "activation_function"},
                {Json("gelu_new"), Json("gelu_pytorch_tanh"), Json("gelu_fast")});
  config.expect({"tie_word_embeddings"}, {Json(true)});
  config.expect({"num_key_value_heads"}, {Json(model.heads)});
  config.expect({"layer_norm_epsilon", "layer_norm_eps"}, {Json(1e-5)});
  if (model.layers < 1 || model.hidden < 8 || model.heads < 1 || model.vocab < 2 ||
      model.context < 1) {
    fail_input(
        "{}: a model of {} layers, width {}, {} heads, {} words and context {} makes no sense",
        document.name(), model.layers, model.hidden, model.heads, model.vocab, model.context);
  }
  check(model);
  return model;
}

}  // namespace

ModelSpec read_model_config(const std::string& file) {
  const JsonDocument document = JsonDocument::read(file);
  const bool ours = document.value().is_object() && document.value().contains("schema");
  const bool theirs = document.value().is_object() && (document.value().contains("model_type") ||
                                                       document.value().contains("architectures"));
  return theirs && !ours ? hugging_face_model(document) : read_model(file);
}

}  // namespace imhotep::executor
