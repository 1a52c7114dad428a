// Byte-level BPE against a tokenizer small enough to follow by hand, and against what the library
// tokenizers 0.23 makes of the same files (tests/data/tokenizers).
#include "executor/data/byte_bpe.h"

#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "core/base/error.h"
#include "core/base/json_document.h"

namespace imhotep::executor {
namespace {

using Json = nlohmann::json;

std::string utf8(unsigned c) {
  if (c < 0x80) return {static_cast<char>(c)};
  return {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
}

// 256 bytes, three merges, one special token.
Json tiny() {
  Json vocab;
  unsigned next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    vocab[utf8(printable ? byte : next++)] = byte;
  }
  vocab["ab"] = 256;
  vocab["bc"] = 257;
  vocab["abc"] = 258;
  vocab
      ["\xC4\xA0"
       "ab"] = 259;
  return {{"added_tokens", {{{"id", 260}, {"content", "<|end|>"}, {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", nullptr},
          {"model",
           {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"b c", "a b", "\xC4\xA0 ab", "ab c"}}}}};
}

using Tokens = std::vector<std::int32_t>;

std::string decoded(const ByteBpe& tokenizer, const Tokens& tokens) {
  std::string text;
  for (const std::int32_t token : tokens) text += tokenizer.bytes_of(token);
  return text;
}

}  // namespace

TEST_CASE("the merge of the lowest rank goes first, of equal ones the leftmost") {
  const ByteBpe tokenizer = ByteBpe::parse(tiny().dump(), "tiny");
  CHECK(tokenizer.size() == 261);
  CHECK(tokenizer.encode("ab") == Tokens{256});
  CHECK(tokenizer.encode("abc") == Tokens{'a', 257});  // "b c" before "a b"
  CHECK(tokenizer.encode("abab") == Tokens{256, 256});
  CHECK(tokenizer.encode("x ab") == Tokens{'x', 259});
  CHECK(tokenizer.encode("").empty());
  CHECK(tokenizer.find_special("<|end|>") == 260);
  CHECK(tokenizer.bytes_of(260).empty());
  CHECK(tokenizer.encode("<|end|>").size() == 7);
}

TEST_CASE("whole words come before merges where the file says so") {
  Json json = tiny();
  json["model"]["ignore_merges"] = true;
  CHECK(ByteBpe::parse(json.dump(), "tiny").encode("abc") == Tokens{258});
}

TEST_CASE("every text comes back, byte by byte") {
  const ByteBpe tokenizer = ByteBpe::parse(tiny().dump(), "tiny");
  constexpr std::uint64_t kSeed = 12;
  CAPTURE(kSeed);
  std::mt19937_64 draw(kSeed);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (std::uint64_t i = draw() % 60; i > 0; --i) text += static_cast<char>(draw());
    CHECK(decoded(tokenizer, tokenizer.encode(text)) == text);
  }
  const std::string words = "It's 42 na\xC3\xAFve  caf\xC3\xA9s,\n\n\t\xE4\xBD\xA0\xE5\xA5\xBD! ";
  CHECK(decoded(tokenizer, tokenizer.encode(words)) == words);
}

TEST_CASE("a word of a million letters takes no longer than many words") {
  const ByteBpe tokenizer = ByteBpe::parse(tiny().dump(), "tiny");
  std::string word;
  for (int i = 0; i < 500000; ++i) word += "ab";
  CHECK(tokenizer.encode(word).size() == 500000);
}

TEST_CASE("what is no byte-level BPE is refused by name") {
  const auto message = [](const Json& json) {
    try {
      static_cast<void>(ByteBpe::parse(json.dump(), "file.json"));
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  Json json = tiny();
  json["normalizer"] = {{"type", "NFC"}};
  CHECK(message(json).find("normalizer") != std::string::npos);
  json = tiny();
  json["model"]["type"] = "Unigram";
  CHECK(message(json).find("model") != std::string::npos);
  json = tiny();
  json["pre_tokenizer"] = {{"type", "Metaspace"}};
  CHECK(message(json).find("Metaspace") != std::string::npos);
  json = tiny();
  json["model"]["merges"].push_back("q nothing");
  CHECK(message(json).find("merge 4") != std::string::npos);
  json = tiny();
  json["model"]["vocab"].erase("a");
  CHECK_FALSE(message(json).empty());
  json = tiny();
  json["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}};
  CHECK(message(json).find("expression") != std::string::npos);
  CHECK_FALSE(message(Json(3)).empty());
  CHECK_FALSE(message(Json::object()).empty());
}

TEST_CASE("texts become the tokens that the library tokenizers makes of them") {
  for (const char* name : {"gpt2", "llama3"}) {
    const std::string file = std::string(IMHOTEP_SOURCE_DIR "/tests/data/tokenizers/") + name;
    CAPTURE(file);
    const ByteBpe tokenizer = ByteBpe::load(file + ".json");
    const Json cases = Json::parse(read_text_file(file + ".cases.json"));
    REQUIRE(cases.size() > 30);
    for (const Json& one : cases) {
      const auto text = one["text"].get<std::string>();
      CAPTURE(text);
      CHECK(tokenizer.encode(text) == one["tokens"].get<Tokens>());
      CHECK(decoded(tokenizer, tokenizer.encode(text)) == text);
    }
  }
}

}  // namespace imhotep::executor
