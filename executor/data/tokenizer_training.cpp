// Trains a SentencePiece model on lines of the corpus that this file picks itself: the library's
// own sampling is random, and it drops long lines.

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "core/base/fail.h"
#include "executor/data/tokenizer.h"

namespace imhotep::executor {
namespace {

constexpr std::size_t kLongestLine = 4000;  // bytes; the library drops lines beyond 4192
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";
constexpr int kFixedPieces = 259;  // <unk>, <s>, </s> and 256 bytes

class LineIterator : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(std::vector<std::string> lines) : lines_(std::move(lines)) {}
  [[nodiscard]] bool done() const override { return at_ >= lines_.size(); }
  void Next() override { ++at_; }
  [[nodiscard]] const std::string& value() const override { return lines_[at_]; }
  [[nodiscard]] sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> lines_;
  std::size_t at_ = 0;
};

// Cuts `text` at control characters and after kLongestLine bytes, there at a space or, failing
// that, between two characters.
void add_lines(std::string_view text, std::int64_t every, std::int64_t& seen,
               std::vector<std::string>& lines) {
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && static_cast<unsigned char>(text[end]) >= 0x20) ++end;
    if (end - at > kLongestLine) {
      const std::size_t space = text.rfind(' ', at + kLongestLine);
      end = space != std::string_view::npos && space > at ? space : at + kLongestLine;
      while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    }
    if (end == at) {
      ++at;
      continue;
    }
    if (seen++ % every == 0) lines.emplace_back(text.substr(at, end - at));
    at = end;
  }
}

std::vector<std::string> training_lines(const Corpus& corpus, std::int64_t sample_bytes) {
  const std::int64_t every = std::max<std::int64_t>(1, (corpus.bytes() - 1) / sample_bytes + 1);
  std::vector<std::string> lines, notices;
  std::int64_t seen = 0;
  for (std::size_t i = 0; i < corpus.files.size(); ++i) {
    const std::string text = read_document(corpus, i, notices);
    add_lines(split_document(text, i, corpus.files.size()).training, every, seen, lines);
  }
  if (lines.empty()) fail_input("{}: no text to train a tokenizer on", corpus.folder);
  return lines;
}

// The library dies (it does not return) where a required character never occurs.
void ensure_a_space(std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    if (line.find(' ') != std::string::npos) return;
  }
  lines.push_back(lines.front() + " " + lines.front());
}

// The number after the last occurrence of `words`; 0 if there is none.
int number_after(const std::string& text, const std::string& words) {
  const std::size_t at = text.rfind(words);
  return at == std::string::npos ? 0 : std::atoi(text.c_str() + at + words.size());
}

[[noreturn]] void refuse(const Corpus& corpus, int vocab, const std::string& message) {
  if (const int most = number_after(message, "to a value <= "); most > 0) {
    fail_input(
        "{}: {} bytes of text give at most {} pieces, the model has a vocabulary of {}: more text "
        "is needed, or a model with a smaller \"vocab\"",
        corpus.folder, corpus.bytes(), most, vocab);
  }
  if (const int least = number_after(message, " vs "); least > 0) {
    fail_input("{}: the characters of the text need a vocabulary of at least {}, got {}",
               corpus.folder, least, vocab);
  }
  fail_input("{}: cannot train a tokenizer of {} pieces: {}", corpus.folder, vocab, message);
}

}  // namespace

Tokenizer train_tokenizer(const Corpus& corpus, const TokenizerOptions& options) {
  if (options.vocab <= kFixedPieces) {
    fail_input("{}: expected a vocabulary above {} (256 bytes and 3 control pieces), got {}",
               corpus.folder, kFixedPieces, options.vocab);
  }
  std::vector<std::string> lines = training_lines(corpus, options.sample_bytes);
  ensure_a_space(lines);
  LineIterator iterator(std::move(lines));
  const std::unordered_map<std::string, std::string> settings = {
      {"model_type", name_of(options.kind)},
      {"vocab_size", std::to_string(options.vocab)},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"add_dummy_prefix", "false"},
      {"required_chars", std::string(kSpaceMark)},
      {"num_threads", "1"},
      {"minloglevel", "2"},
  };
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &iterator, &model);
  if (!status.ok()) refuse(corpus, options.vocab, status.ToString());
  return Tokenizer::parse(std::move(model), corpus.folder + ": trained tokenizer");
}

}  // namespace imhotep::executor
