#include "executor/data/tokenizer.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "core/base/error.h"
#include "executor/data/utf8.h"
#include "tests/executor/data/sample_text.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {
namespace {

Tokenizer trained(const std::string& text, const TokenizerOptions& options) {
  const ScratchFolder folder;
  folder.write("text.txt", text);
  return train_tokenizer(open_corpus(folder.path()), options);
}

std::string random_bytes(std::uint64_t seed, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    static const std::string kUseful = " \n\t\r.abe\xE2\x96\x81\xC3\xA9\xF0\x9F\x98\x80<0x41></s>";
    const std::uint64_t draw = hash(seed, i);
    text += draw % 3 == 0 ? static_cast<char>(draw >> 8) : kUseful[(draw >> 8) % kUseful.size()];
  }
  return text;
}

}  // namespace

TEST_CASE("every string of bytes survives encoding and decoding, for both kinds") {
  for (const TokenizerKind kind : {TokenizerKind::Unigram, TokenizerKind::Bpe}) {
    const Tokenizer tokenizer =
        trained(random_lines(1, 400) + kAlice, {.kind = kind, .vocab = 400});
    CHECK(tokenizer.vocab() == 400);
    const std::vector<std::string> texts = {"",
                                            " ",
                                            "\n",
                                            "a",
                                            "  two  spaces ",
                                            "line\r\n\r\nline\n\n",
                                            kAlice,
                                            "tab\tand\vcontrol\x01\x7f",
                                            std::string("zero\0byte", 9),
                                            "<s></s><unk><0x0A> ",
                                            "\xE2\x96\x81 a literal mark \xE2\x96\x85\xE2\x81\x87",
                                            "\xC3\xA9t\xC3\xA9 \xE6\x97\xA5\xE6\x9C\xAC",
                                            "\xF0\x9F\x98\x80\xED\xA0\x80\xC0\x80\xFF",
                                            "\xE2\x96",
                                            "\xEF\xBF\xBD"};
    for (const std::string& text : texts) CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
      CAPTURE(seed);
      const std::string text = random_bytes(seed, hash(seed, 99) % 60);
      CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
    }
  }
}

TEST_CASE("a text without spaces trains, and text with spaces survives it") {
  for (const TokenizerKind kind : {TokenizerKind::Unigram, TokenizerKind::Bpe}) {
    const Tokenizer tokenizer = trained("abcabcabcabcab\nabcab\n", {.kind = kind, .vocab = 264});
    CHECK(tokenizer.decode(tokenizer.encode("a b  c ")) == "a b  c ");
  }
}

TEST_CASE("pieces shorten text, and the separator never comes from text") {
  const Tokenizer tokenizer = trained(random_lines(2, 500), {.vocab = 500});
  const std::string text = random_lines(3, 50);
  const auto tokens = tokenizer.encode(text);
  CHECK(tokens.size() * 2 < text.size());
  CHECK(tokenizer.bytes_of(tokenizer.separator()).empty());
  for (const auto token : tokenizer.encode("</s>\n")) CHECK(token != tokenizer.separator());
}

TEST_CASE("training twice on one text gives one model, and another text another") {
  const TokenizerOptions options{.vocab = 320};
  const Tokenizer first = trained(random_lines(4, 300), options);
  CHECK(first.model() == trained(random_lines(4, 300), options).model());
  CHECK(first.hash() != trained(random_lines(5, 300), options).hash());
}

TEST_CASE("a sample of a long text trains, with lines longer than the library takes") {
  std::string text = random_lines(6, 600);
  std::replace(text.begin(), text.end(), '\n', ' ');
  text += random_lines(7, 400);
  const Tokenizer tokenizer = trained(text, {.vocab = 350, .sample_bytes = 10'000});
  CHECK(tokenizer.vocab() == 350);
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("a vocabulary that does not fit the text is refused with both sizes") {
  for (const TokenizerKind kind : {TokenizerKind::Unigram, TokenizerKind::Bpe}) {
    const auto train = [&](int vocab) {
      return complaint([&] { (void)trained(kAlice, {.kind = kind, .vocab = vocab}); });
    };
    const std::string large = train(50'000);
    CHECK(holds(large, "a vocabulary of 50000"));
    CHECK(holds(large, "give at most"));
    CHECK(holds(large, "imhotep-test-"));
    CHECK(holds(train(265), "need a vocabulary of at least"));
    CHECK(holds(train(100), "expected a vocabulary above 259"));
  }
}

TEST_CASE("saved and loaded tokenizers agree; other files are refused by name") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = trained(kAlice, {.vocab = 320});
  const std::string file = folder.path("tokenizer.model");
  tokenizer.save(file);
  const Tokenizer loaded = Tokenizer::load(file);
  CHECK(loaded.hash() == tokenizer.hash());
  CHECK(loaded.encode(kAlice) == tokenizer.encode(kAlice));
  folder.write("broken.model", tokenizer.model().substr(0, 1000));
  CHECK(holds(complaint([&] { (void)Tokenizer::load(folder.path("broken.model")); }),
              "broken.model"));
  CHECK(holds(complaint([&] { (void)Tokenizer::load(folder.path("absent.model")); }),
              "absent.model: cannot read"));
}

TEST_CASE("streamed text equals decoded text and is valid UTF-8 at every step") {
  const Tokenizer tokenizer = trained(kAlice, {.vocab = 320});
  const std::string text = "caf\xC3\xA9 \xE6\x97\xA5\xE6\x9C\xAC \xF0\x9F\x98\x80!\n";
  TextStream stream(tokenizer);
  std::string shown;
  for (const auto token : tokenizer.encode(text)) {
    const std::string part = stream.add(token);
    CHECK(repair_utf8(part).replaced == 0);
    shown += part;
  }
  CHECK(shown + stream.finish() == text);

  TextStream broken(tokenizer);
  std::string repaired;
  for (const auto token : tokenizer.encode("a\xE6\x97 b\xFF\xF0\x9F"))
    repaired += broken.add(token);
  repaired += broken.finish();
  CHECK(repair_utf8(repaired).replaced == 0);
  CHECK(repaired.starts_with("a\xEF\xBF\xBD"));
  CHECK(holds(repaired, " b\xEF\xBF\xBD"));
}

TEST_CASE("tokens beyond the vocabulary read as the replacement character") {
  const Tokenizer tokenizer = trained(kAlice, {.vocab = 320});
  CHECK(tokenizer.bytes_of(320) == kReplacementCharacter);
  CHECK(tokenizer.bytes_of(-1) == kReplacementCharacter);
}

}  // namespace imhotep::executor
