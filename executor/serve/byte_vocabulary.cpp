// Words for a model without a tokenizer: the first 256 are bytes, the rest are their numbers.

#include <fmt/format.h>

#include "executor/serve/vocabulary.h"

namespace imhotep::executor {
namespace {

class ByteVocabulary : public Vocabulary {
 public:
  ByteVocabulary(std::int32_t words, std::string chat_template)
      : chat_template_(std::move(chat_template)) {
    for (std::int32_t word = 0; word < words; ++word) {
      words_.push_back(word < 256 ? std::string(1, static_cast<char>(word))
                                  : fmt::format(" {}", word));
    }
  }
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c) % size());
    return tokens;
  }
  [[nodiscard]] std::string_view bytes_of(std::int32_t token) const override {
    return token >= 0 && token < size() ? words_[token] : std::string_view();
  }
  [[nodiscard]] std::int32_t size() const override {
    return static_cast<std::int32_t>(words_.size());
  }
  [[nodiscard]] std::int32_t beginning() const override { return -1; }
  [[nodiscard]] const std::vector<std::int32_t>& ends() const override { return ends_; }
  [[nodiscard]] const std::string& chat_template() const override { return chat_template_; }
  [[nodiscard]] const std::vector<Special>& specials() const override { return specials_; }

 private:
  std::vector<std::string> words_;
  std::vector<std::int32_t> ends_;
  std::vector<Special> specials_;
  std::string chat_template_;
};

}  // namespace

std::unique_ptr<Vocabulary> make_byte_vocabulary(std::int32_t words, std::string chat_template) {
  return std::make_unique<ByteVocabulary>(words, std::move(chat_template));
}

}  // namespace imhotep::executor
