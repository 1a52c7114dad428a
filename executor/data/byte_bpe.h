#pragma once
// Tokenizers as Hugging Face's tokenizer.json describes them, of the kind GPT-2 brought: the text
// is cut into words by a regular expression, each word is a row of bytes, and pairs are merged by
// rank. Every string of valid UTF-8 round-trips.
// Sources: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016);
// Radford et al., GPT-2 (2019), encoder.py; huggingface.co/docs/tokenizers (file format).

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace imhotep::executor {

class ByteBpe {
 public:
  // Throws: Error(Input) for what is no byte-level BPE, naming the part that is not understood.
  [[nodiscard]] static ByteBpe load(const std::string& file);
  [[nodiscard]] static ByteBpe parse(const std::string& json, const std::string& name);
  ByteBpe(ByteBpe&&) noexcept;
  ByteBpe& operator=(ByteBpe&&) noexcept;
  ~ByteBpe();

  // Names of special tokens in the text are text like other text.
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const;
  // Nothing for special tokens and for numbers that no token has.
  [[nodiscard]] std::string_view bytes_of(std::int32_t token) const;
  [[nodiscard]] std::int32_t size() const { return static_cast<std::int32_t>(bytes_.size()); }
  // Put before every text by the file's own template; -1: nothing.
  [[nodiscard]] std::int32_t beginning() const { return beginning_; }
  // Special tokens by name.
  [[nodiscard]] const std::vector<std::pair<std::string, std::int32_t>>& specials() const {
    return specials_;
  }
  [[nodiscard]] std::int32_t find_special(const std::string& name) const;  // -1: there is none

 private:
  struct Words;  // the regular expressions that cut a text
  struct Merge {
    std::int32_t rank = 0, token = 0;
  };
  ByteBpe();
  void read(const std::string& json, const std::string& name);
  void encode_word(std::string_view word, std::vector<std::int32_t>& tokens) const;

  std::unique_ptr<Words> words_;
  std::vector<std::string> bytes_;  // by token
  std::int32_t byte_tokens_[256] = {};
  std::unordered_map<std::uint64_t, Merge> merges_;         // by left and right token
  std::unordered_map<std::string, std::int32_t> by_bytes_;  // whole words, where merges are ignored
  std::vector<std::pair<std::string, std::int32_t>> specials_;
  std::int32_t beginning_ = -1;
  bool ignore_merges_ = false, prefix_space_ = false;
};

}  // namespace imhotep::executor
