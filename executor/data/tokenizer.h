#pragma once
// Text to tokens and back, by SentencePiece. Every string of bytes round-trips: pieces hold runs
// of printable characters; whatever else there is (line ends, control characters, U+2581, bytes
// that are not UTF-8) and characters unknown to the pieces are written as byte tokens.
// Source: T. Kudo, J. Richardson, "SentencePiece" (arXiv 1808.06226); unigram model: T. Kudo
// (arXiv 1804.10959).

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/enum_names.h"
#include "executor/data/corpus.h"

namespace imhotep::executor {

enum class TokenizerKind : std::uint8_t { Unigram, Bpe };

struct TokenizerOptions {
  TokenizerKind kind = TokenizerKind::Unigram;
  int vocab = 4096;                     // pieces, among them 256 bytes and 3 control pieces
  std::int64_t sample_bytes = 8 << 20;  // of a longer text every n-th line is read
};

class Tokenizer {
 public:
  // Throws: Error(Input) unless the model writes bytes and round-trips text.
  [[nodiscard]] static Tokenizer load(const std::string& file);
  [[nodiscard]] static Tokenizer parse(std::string model, const std::string& name);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  [[nodiscard]] int vocab() const { return static_cast<int>(pieces_.size()); }
  // The piece </s>, written after every document and before every prompt.
  [[nodiscard]] std::int32_t separator() const { return separator_; }
  [[nodiscard]] std::uint64_t hash() const { return hash_; }  // of the model file
  [[nodiscard]] std::string hash_text() const;                // in 16 hexadecimal digits
  [[nodiscard]] const std::string& model() const { return model_; }
  void save(const std::string& file) const;

  void encode(std::string_view text, std::vector<std::int32_t>& tokens) const;  // appends
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const;
  // The bytes a token stands for: nothing for <s> and </s>, U+FFFD for an unknown or foreign one.
  [[nodiscard]] std::string_view bytes_of(std::int32_t token) const;
  [[nodiscard]] std::string decode(std::span<const std::int32_t> tokens) const;

 private:
  Tokenizer();
  void index_pieces(const std::string& name);
  void encode_run(std::string_view text, std::vector<std::int32_t>& tokens) const;

  struct Model;
  std::unique_ptr<Model> processor_;
  std::string model_;
  std::vector<std::string> pieces_;
  std::int32_t byte_tokens_[256] = {};
  std::int32_t separator_ = 0;
  std::uint64_t hash_ = 0;
};

// Turns tokens into text as they come: holds back the bytes of an unfinished character, so that
// what it returns is always valid UTF-8 (broken bytes become U+FFFD).
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  [[nodiscard]] std::string add(std::int32_t token);
  [[nodiscard]] std::string finish();  // what was held back

 private:
  const Tokenizer& tokenizer_;
  std::string held_;
};

// Trains on the training part of the documents: one thread, no sampling by chance, so that one
// text gives one model.
// Throws: Error(Input) naming the text and the vocabulary when they do not fit each other.
[[nodiscard]] Tokenizer train_tokenizer(const Corpus& corpus, const TokenizerOptions& options);

}  // namespace imhotep::executor

IMHOTEP_ENUM_NAMES(imhotep::executor::TokenizerKind,
                   {imhotep::executor::TokenizerKind::Unigram, "unigram"},
                   {imhotep::executor::TokenizerKind::Bpe, "bpe"})
