#pragma once
// Text to tokens and back, whatever the tokenizer.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "executor/data/tokenizer.h"

namespace imhotep::executor {

class Vocabulary {
 public:
  virtual ~Vocabulary() = default;
  [[nodiscard]] virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  // The bytes a token stands for; nothing for control tokens.
  [[nodiscard]] virtual std::string_view bytes_of(std::int32_t token) const = 0;
  [[nodiscard]] virtual std::int32_t size() const = 0;
  // Put before every prompt; -1: nothing.
  [[nodiscard]] virtual std::int32_t beginning() const = 0;
  // Tokens that end a text.
  [[nodiscard]] virtual const std::vector<std::int32_t>& ends() const = 0;
  // How a chat becomes a prompt (executor/serve/chat_template.h); empty: the checkpoint says none.
  [[nodiscard]] virtual const std::string& chat_template() const = 0;

  // Control tokens by the name they have in templates: "</s>", "<|endoftext|>".
  using Special = std::pair<std::string, std::int32_t>;
  [[nodiscard]] virtual const std::vector<Special>& specials() const = 0;

  [[nodiscard]] std::string decode(const std::vector<std::int32_t>& tokens) const;
  // Like encode(), but the names of control tokens in the text become those tokens.
  [[nodiscard]] std::vector<std::int32_t> encode_special(std::string_view text) const;
  [[nodiscard]] std::string_view name_of(std::int32_t token) const;
};

// Of the tokenizer that lies beside a model: tokenizer.model (SentencePiece) or tokenizer.json
// (Hugging Face, byte-level BPE); with chat_template.jinja where there is one.
// Throws: Error(Input).
// `chat_template`: a file that replaces the checkpoint's; empty: none does.
[[nodiscard]] std::unique_ptr<Vocabulary> load_vocabulary(const std::string& path,
                                                          const std::string& chat_template = {});
[[nodiscard]] std::unique_ptr<Vocabulary> make_vocabulary(Tokenizer tokenizer,
                                                          std::string chat_template);
// For a model without a tokenizer: the first 256 tokens are bytes, the others numbers.
[[nodiscard]] std::unique_ptr<Vocabulary> make_byte_vocabulary(std::int32_t words,
                                                               std::string chat_template);

// The text of one answer as its tokens come: valid UTF-8 (broken bytes become U+FFFD), cut before
// the first stop string. What may still become part of a character or of a stop string is held
// back.
class AnswerText {
 public:
  AnswerText(const Vocabulary& vocabulary, std::vector<std::string> stops)
      : vocabulary_(vocabulary), stops_(std::move(stops)) {}

  // The text that is certain now. Stop strings are looked for only where `may_stop`.
  [[nodiscard]] std::string add(std::int32_t token, bool may_stop);
  [[nodiscard]] std::string finish();  // what was held back
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  const Vocabulary& vocabulary_;
  std::vector<std::string> stops_;
  std::string bytes_;  // of an unfinished character
  std::string held_;   // valid text that may begin a stop string
  bool stopped_ = false;
};

}  // namespace imhotep::executor
