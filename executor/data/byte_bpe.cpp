#include "executor/data/byte_bpe.h"

#include <algorithm>
#include <queue>

#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "executor/data/word_split.h"

namespace imhotep::executor {
namespace {

using Json = nlohmann::ordered_json;

// GPT-2's expression; tokenizer.json says "ByteLevel" for it.
constexpr const char* kByteLevelWords =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::string utf8(std::uint32_t c) {
  if (c < 0x80) return {static_cast<char>(c)};
  return {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
}

// The letter that stands for each byte in a vocabulary: itself where it is printable, else one of
// the letters from U+0100 on, in order.
std::unordered_map<std::string, char> letters_of_bytes() {
  std::unordered_map<std::string, char> bytes;
  std::uint32_t next = 0x100;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    bytes[utf8(printable ? byte : next++)] = static_cast<char>(byte);
  }
  return bytes;
}

// "Ġthe" -> " the"; false where a letter stands for no byte.
bool spelled(const std::string& token, const std::unordered_map<std::string, char>& letters,
             std::string& bytes) {
  for (std::size_t i = 0; i < token.size();) {
    const std::size_t count = static_cast<unsigned char>(token[i]) < 0x80 ? 1 : 2;
    const auto letter = letters.find(token.substr(i, count));
    if (letter == letters.end()) return false;
    bytes += letter->second;
    i += count;
  }
  return true;
}

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

[[noreturn]] void refuse(const std::string& name, const char* part, const std::string& got) {
  fail_input("{}: {}: expected that of a byte-level BPE, got {}", name, part, got);
}

std::string type_of(const Json& json) {
  return json.is_object() ? json.value("type", std::string("nothing")) : "nothing";
}

}  // namespace

struct ByteBpe::Words {
  std::vector<WordSplit> splits;  // one after the other
};

ByteBpe::ByteBpe() : words_(std::make_unique<Words>()) {}
ByteBpe::ByteBpe(ByteBpe&&) noexcept = default;
ByteBpe& ByteBpe::operator=(ByteBpe&&) noexcept = default;
ByteBpe::~ByteBpe() = default;

ByteBpe ByteBpe::load(const std::string& file) { return parse(read_text_file(file), file); }

ByteBpe ByteBpe::parse(const std::string& json, const std::string& name) {
  ByteBpe tokenizer;
  tokenizer.read(json, name);
  return tokenizer;
}

namespace {

// The expressions of a pre-tokenizer, and whether a text gets a blank in front.
void read_splits(const Json& json, const std::string& name, std::vector<WordSplit>& splits,
                 bool& prefix_space) {
  const std::string type = type_of(json);
  if (type == "Sequence") {
    for (const Json& part : json.value("pretokenizers", Json::array())) {
      read_splits(part, name, splits, prefix_space);
    }
  } else if (type == "ByteLevel") {
    prefix_space = prefix_space || json.value("add_prefix_space", false);
    if (json.value("use_regex", true)) splits.emplace_back(kByteLevelWords);
  } else if (type == "Digits" && json.value("individual_digits", false)) {
    splits.emplace_back("\\p{Nd}");
  } else if (type == "Split") {
    const Json pattern = json.value("pattern", Json::object());
    if (json.value("behavior", "") != "Isolated" || json.value("invert", false) ||
        !pattern.contains("Regex")) {
      refuse(name, "pre_tokenizer", json.dump());
    }
    splits.emplace_back(pattern["Regex"].get<std::string>());
  } else {
    refuse(name, "pre_tokenizer", type);
  }
}

// The first special token of the template for one text.
std::string template_beginning(const Json& json) {
  if (type_of(json) == "Sequence") {
    for (const Json& part : json.value("processors", Json::array())) {
      std::string found = template_beginning(part);
      if (!found.empty()) return found;
    }
  }
  if (type_of(json) != "TemplateProcessing") return {};
  const Json single = json.value("single", Json::array());
  const bool special = !single.empty() && single.front().contains("SpecialToken");
  return special ? single.front()["SpecialToken"].value("id", "") : "";
}

}  // namespace

void ByteBpe::read(const std::string& text, const std::string& name) {
  const JsonDocument document = JsonDocument::parse(text, name);
  const Json& root = document.value();
  try {
    const Json normalizer = root.value("normalizer", Json());
    if (!normalizer.is_null()) refuse(name, "normalizer", type_of(normalizer));
    const Json& model = root.at("model");
    if (model.value("type", "BPE") != "BPE" || model.value("byte_fallback", false)) {
      refuse(name, "model", type_of(model));
    }
    ignore_merges_ = model.value("ignore_merges", false);
    read_splits(root.at("pre_tokenizer"), name, words_->splits, prefix_space_);
    const auto letters = letters_of_bytes();
    std::unordered_map<std::string, std::int32_t> ids;
    const auto place = [&](std::int32_t id) -> std::string& {
      if (id < 0 || id > 1 << 24) fail_input("{}: token number {} makes no sense", name, id);
      if (id >= size()) bytes_.resize(static_cast<std::size_t>(id) + 1);
      return bytes_[id];
    };
    for (const auto& [token, value] : model.at("vocab").items()) {
      const auto id = value.get<std::int32_t>();
      ids[token] = id;
      std::string bytes;
      // What is not spelled in letters of bytes can only be a special token, named below.
      if (spelled(token, letters, bytes)) {
        by_bytes_.emplace(bytes, id);
        place(id) = std::move(bytes);
      }
    }
    for (const Json& added : root.value("added_tokens", Json::array())) {
      const auto content = added.at("content").get<std::string>();
      const auto id = added.at("id").get<std::int32_t>();
      const bool special = added.value("special", false);
      by_bytes_.erase(place(id));
      place(id) = special ? "" : content;
      specials_.emplace_back(content, id);
    }
    for (const auto& [letter, byte] : letters) {
      const auto entry = ids.find(letter);
      if (entry == ids.end())
        fail_input("{}: no token for the byte {}", name, int{static_cast<unsigned char>(byte)});
      byte_tokens_[static_cast<unsigned char>(byte)] = entry->second;
    }
    std::int32_t rank = 0;
    for (const Json& merge : model.at("merges")) {
      std::string left, right;
      if (merge.is_string()) {
        const auto line = merge.get<std::string>();
        const std::size_t blank = line.find(' ', 1);
        left = line.substr(0, blank);
        right = blank == std::string::npos ? "" : line.substr(blank + 1);
      } else {
        left = merge.at(0).get<std::string>();
        right = merge.at(1).get<std::string>();
      }
      const auto whole = ids.find(left + right), a = ids.find(left), b = ids.find(right);
      if (whole == ids.end() || a == ids.end() || b == ids.end()) {
        fail_input("{}: merge {}: \"{}\" and \"{}\" are not all in the vocabulary", name, rank,
                   left, right);
      }
      merges_.emplace(pair_key(a->second, b->second), Merge{rank++, whole->second});
    }
    beginning_ = find_special(template_beginning(root.value("post_processor", Json())));
  } catch (const nlohmann::json::exception& error) {
    fail_input("{}: not a tokenizer.json: {}", name, error.what());
  }
}

std::int32_t ByteBpe::find_special(const std::string& name) const {
  for (const auto& [text, token] : specials_) {
    if (text == name) return token;
  }
  return -1;
}

std::string_view ByteBpe::bytes_of(std::int32_t token) const {
  return token >= 0 && token < size() ? std::string_view(bytes_[token]) : std::string_view();
}

std::vector<std::int32_t> ByteBpe::encode(std::string_view text) const {
  std::string spaced;
  if (prefix_space_ && !text.empty() && text.front() != ' ') {
    spaced = ' ' + std::string(text);
    text = spaced;
  }
  std::vector<std::string_view> pieces = {text};
  for (const WordSplit& split : words_->splits) {
    std::vector<std::string_view> finer;
    for (const std::string_view piece : pieces) split.split(piece, finer);
    pieces = std::move(finer);
  }
  std::vector<std::int32_t> tokens;
  for (const std::string_view piece : pieces) encode_word(piece, tokens);
  return tokens;
}

// The pair of the lowest rank first, of equal ones the leftmost; a heap, so that a long word costs
// n log n.
void ByteBpe::encode_word(std::string_view word, std::vector<std::int32_t>& tokens) const {
  if (ignore_merges_) {
    const auto whole = by_bytes_.find(std::string(word));
    if (whole != by_bytes_.end()) {
      tokens.push_back(whole->second);
      return;
    }
  }
  struct Symbol {
    std::int32_t token, previous, next;
  };
  struct Candidate {
    std::int32_t rank, left, token, right_token;
    bool operator>(const Candidate& other) const {
      return std::pair(rank, left) > std::pair(other.rank, other.left);
    }
  };
  const auto count = static_cast<std::int32_t>(word.size());
  std::vector<Symbol> symbols;
  for (std::int32_t i = 0; i < count; ++i) {
    symbols.push_back(
        {byte_tokens_[static_cast<unsigned char>(word[i])], i - 1, i + 1 < count ? i + 1 : -1});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto offer = [&](std::int32_t left) {
    if (left < 0 || symbols[left].next < 0) return;
    const std::int32_t a = symbols[left].token, b = symbols[symbols[left].next].token;
    const auto merge = merges_.find(pair_key(a, b));
    if (merge != merges_.end()) heap.push({merge->second.rank, left, a, b});
  };
  for (std::int32_t i = 0; i < count; ++i) offer(i);
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    Symbol& left = symbols[best.left];
    const std::int32_t next = left.next;
    // Stale: one of the two has been merged meanwhile.
    if (left.token != best.token || next < 0 || symbols[next].token != best.right_token) continue;
    left.token = merges_.at(pair_key(best.token, best.right_token)).token;
    left.next = symbols[next].next;
    symbols[next].token = -1;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    offer(left.previous);
    offer(best.left);
  }
  for (std::int32_t i = count > 0 ? 0 : -1; i >= 0; i = symbols[i].next) {
    tokens.push_back(symbols[i].token);
  }
}

}  // namespace imhotep::executor
