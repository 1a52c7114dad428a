#include "executor/serve/vocabulary.h"

#include <filesystem>

#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "executor/checkpoint/checkpoint.h"
#include "executor/data/byte_bpe.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

class SentencePieces : public Vocabulary {
 public:
  SentencePieces(Tokenizer tokenizer, std::string chat_template)
      : tokenizer_(std::move(tokenizer)),
        ends_{tokenizer_.separator()},
        specials_{{"</s>", tokenizer_.separator()}},
        chat_template_(std::move(chat_template)) {}

  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const override {
    return tokenizer_.encode(text);
  }
  [[nodiscard]] std::string_view bytes_of(std::int32_t token) const override {
    return tokenizer_.bytes_of(token);
  }
  [[nodiscard]] std::int32_t size() const override { return tokenizer_.vocab(); }
  [[nodiscard]] std::int32_t beginning() const override { return tokenizer_.separator(); }
  [[nodiscard]] const std::vector<std::int32_t>& ends() const override { return ends_; }
  [[nodiscard]] const std::string& chat_template() const override { return chat_template_; }
  [[nodiscard]] const std::vector<Special>& specials() const override { return specials_; }

 private:
  Tokenizer tokenizer_;
  std::vector<std::int32_t> ends_;
  std::vector<Special> specials_;
  std::string chat_template_;
};

// Hugging Face's: which tokens end a text is said by one of several files beside it.
class BytePairs : public Vocabulary {
 public:
  BytePairs(ByteBpe tokenizer, std::vector<std::int32_t> ends, std::string chat_template)
      : tokenizer_(std::move(tokenizer)),
        ends_(std::move(ends)),
        chat_template_(std::move(chat_template)) {}

  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const override {
    return tokenizer_.encode(text);
  }
  [[nodiscard]] std::string_view bytes_of(std::int32_t token) const override {
    return tokenizer_.bytes_of(token);
  }
  [[nodiscard]] std::int32_t size() const override { return tokenizer_.size(); }
  [[nodiscard]] std::int32_t beginning() const override { return tokenizer_.beginning(); }
  [[nodiscard]] const std::vector<std::int32_t>& ends() const override { return ends_; }
  [[nodiscard]] const std::string& chat_template() const override { return chat_template_; }
  [[nodiscard]] const std::vector<Special>& specials() const override {
    return tokenizer_.specials();
  }

 private:
  ByteBpe tokenizer_;
  std::vector<std::int32_t> ends_;
  std::string chat_template_;
};

// generation_config.json and config.json name them by number, tokenizer_config.json by text.
std::vector<std::int32_t> read_ends(const fs::path& folder, const ByteBpe& tokenizer) {
  for (const char* name : {"generation_config.json", "config.json"}) {
    if (!fs::exists(folder / name)) continue;
    const JsonDocument document = JsonDocument::read((folder / name).string());
    const auto entry = document.value().find("eos_token_id");
    if (entry == document.value().end()) continue;
    if (entry->is_number_integer()) return {entry->get<std::int32_t>()};
    std::vector<std::int32_t> ends;
    if (entry->is_array()) {
      for (const auto& id : *entry) {
        if (id.is_number_integer()) ends.push_back(id.get<std::int32_t>());
      }
      return ends;
    }
  }
  if (!fs::exists(folder / "tokenizer_config.json")) return {};
  const JsonDocument document = JsonDocument::read((folder / "tokenizer_config.json").string());
  auto entry = document.value().find("eos_token");
  if (entry == document.value().end()) return {};
  const auto name = entry->is_object()   ? entry->value("content", "")
                    : entry->is_string() ? entry->get<std::string>()
                                         : std::string();
  const std::int32_t token = tokenizer.find_special(name);
  return token >= 0 ? std::vector<std::int32_t>{token} : std::vector<std::int32_t>{};
}

// chat_template.jinja, or the entry of tokenizer_config.json.
std::string read_chat_template(const fs::path& folder) {
  if (fs::exists(folder / "chat_template.jinja")) {
    return read_text_file((folder / "chat_template.jinja").string());
  }
  const fs::path config = folder / "tokenizer_config.json";
  if (!fs::exists(config)) return {};
  const JsonDocument document = JsonDocument::read(config.string());
  const auto entry = document.value().find("chat_template");
  return entry != document.value().end() && entry->is_string() ? entry->get<std::string>() : "";
}

}  // namespace

std::unique_ptr<Vocabulary> make_vocabulary(Tokenizer tokenizer, std::string chat_template) {
  return std::make_unique<SentencePieces>(std::move(tokenizer), std::move(chat_template));
}

std::unique_ptr<Vocabulary> load_vocabulary(const std::string& path,
                                            const std::string& chat_template) {
  const fs::path folder = find_checkpoint(path);
  std::string source =
      chat_template.empty() ? read_chat_template(folder) : read_text_file(chat_template);
  if (fs::exists(folder / "tokenizer.json") && !fs::exists(folder / "tokenizer.model")) {
    ByteBpe tokenizer = ByteBpe::load((folder / "tokenizer.json").string());
    std::vector<std::int32_t> ends = read_ends(folder, tokenizer);
    return std::make_unique<BytePairs>(std::move(tokenizer), std::move(ends), std::move(source));
  }
  return make_vocabulary(checkpoint_tokenizer(path), std::move(source));
}

}  // namespace imhotep::executor
