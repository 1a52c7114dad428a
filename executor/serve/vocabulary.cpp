#include "executor/serve/vocabulary.h"

#include <filesystem>

#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "executor/checkpoint/checkpoint.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

class SentencePieces : public Vocabulary {
 public:
  SentencePieces(Tokenizer tokenizer, std::string chat_template)
      : tokenizer_(std::move(tokenizer)),
        ends_{tokenizer_.separator()},
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

 private:
  Tokenizer tokenizer_;
  std::vector<std::int32_t> ends_;
  std::string chat_template_;
};

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

std::unique_ptr<Vocabulary> load_vocabulary(const std::string& path) {
  const fs::path folder = find_checkpoint(path);
  return make_vocabulary(checkpoint_tokenizer(path), read_chat_template(folder));
}

}  // namespace imhotep::executor
