#include "executor/data/corpus.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "executor/data/prepare.h"
#include "executor/data/token_file.h"
#include "executor/data/utf8.h"
#include "tests/executor/data/sample_text.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {

TEST_CASE("a folder gives its text files by name, whatever the order they were written in") {
  const ScratchFolder folder;
  folder.write("b.txt", "second\n");
  folder.write("sub/c.md", "third\n");
  folder.write("a", "first\n");
  folder.write(".hidden", "no\n");
  folder.write(".git/config", "no\n");
  folder.write("empty.txt", "");
  folder.write("picture.png", std::string("\x89PNG\0\0", 6));
  const Corpus corpus = open_corpus(folder.path());
  REQUIRE(corpus.files.size() == 3);
  CHECK(corpus.files[0].name == "a");
  CHECK(corpus.files[1].name == "b.txt");
  CHECK(corpus.files[2].name == "sub/c.md");
  CHECK(corpus.bytes() == 19);
  REQUIRE(corpus.notices.size() == 1);
  CHECK(holds(corpus.notices[0], "picture.png: skipped, a binary file"));
}

TEST_CASE("a file alone is a corpus of one document") {
  const ScratchFolder folder;
  folder.write("one.txt", "text");
  std::vector<std::string> notices;
  const Corpus corpus = open_corpus(folder.path("one.txt"));
  REQUIRE(corpus.files.size() == 1);
  CHECK(read_document(corpus, 0, notices) == "text");
}

TEST_CASE("missing, empty and binary folders are refused by name") {
  const ScratchFolder folder;
  const auto open = [&] { (void)open_corpus(folder.path()); };
  CHECK(holds(complaint([&] { (void)open_corpus(folder.path("no")); }), "no: no such file"));
  CHECK(holds(complaint(open), folder.path() + ": no text"));
  folder.write("x.bin", std::string("a\0b", 3));
  CHECK(holds(complaint(open), "(1 binary skipped)"));
}

TEST_CASE("documents lose carriage returns and byte-order marks, and broken bytes are replaced") {
  const ScratchFolder folder;
  folder.write("a.txt", "\xEF\xBB\xBFone\r\ntwo\rthree\r\n");
  folder.write("b.txt", "the caf\xE9 of a Latin-1 file\n");
  folder.write("c.txt", "\xFF\xFE\xFD\xFC");
  const Corpus corpus = open_corpus(folder.path());
  std::vector<std::string> notices;
  CHECK(read_document(corpus, 0, notices) == "one\ntwo\rthree\n");
  CHECK(notices.empty());
  CHECK(read_document(corpus, 1, notices) == "the caf\xEF\xBF\xBD of a Latin-1 file\n");
  CHECK(read_document(corpus, 2, notices).empty());
  REQUIRE(notices.size() == 2);
  CHECK(holds(notices[0], "b.txt: 1 bytes that are not UTF-8 were replaced"));
  CHECK(holds(notices[1], "c.txt: skipped, 4 of 4 bytes are not UTF-8"));
}

TEST_CASE("UTF-8 is judged as the Unicode standard does") {
  const auto replaced = [](const std::string& text) { return repair_utf8(text).replaced; };
  CHECK(replaced("\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF") == 0);
  CHECK(replaced("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF") == 0);
  CHECK(replaced("\xC1\xBF") == 2);          // overlong
  CHECK(replaced("\xE0\x9F\xBF") == 3);      // overlong
  CHECK(replaced("\xED\xA0\x80") == 3);      // a surrogate
  CHECK(replaced("\xF4\x90\x80\x80") == 4);  // beyond U+10FFFF
  CHECK(replaced("\xE6\x97") == 2);          // ends early
}

TEST_CASE("a long document ends with its held-out lines, and nothing is lost or doubled") {
  for (const int lines : {20, 39, 40, 400}) {
    CAPTURE(lines);
    const std::string text = random_lines(11, lines);
    for (const bool last_newline : {true, false}) {
      const std::string_view whole(text.data(), text.size() - (last_newline ? 0 : 1));
      const SplitDocument split = split_document(whole, 0, 1);
      CHECK(std::string(split.training) + std::string(split.held_out) == whole);
      const auto held = std::count(split.held_out.begin(), split.held_out.end(), '\n');
      CHECK(held + (last_newline ? 0 : 1) == lines / kHeldOutPart);
      CHECK(split.training.ends_with('\n'));
    }
  }
}

TEST_CASE("empty lines count as lines") {
  std::string text;
  for (int i = 0; i < 60; ++i) text += i % 3 == 0 ? "verse\n" : "\n";
  CHECK(split_document(text, 0, 1).held_out == "verse\n\n\n");
}

TEST_CASE("of many short documents every twentieth is held out, of few the last characters") {
  int held = 0;
  for (std::size_t i = 0; i < 40; ++i) {
    const SplitDocument split = split_document("short\ntext\n", i, 40);
    CHECK((split.training.empty() || split.held_out.empty()));
    held += split.held_out.empty() ? 0 : 1;
  }
  CHECK(held == 2);
  std::string word(100, 'a');
  word += "\xC3\xA9";
  for (std::size_t length = 90; length <= word.size(); ++length) {
    const SplitDocument split = split_document(std::string_view(word).substr(0, length), 0, 1);
    CHECK(split.held_out.size() >= length / kHeldOutPart - 1);
    CHECK(
        (split.held_out.empty() || (static_cast<unsigned char>(split.held_out[0]) & 0xC0) != 0x80));
  }
}

TEST_CASE("preparing writes both token files once, and again when text or tokenizer changed") {
  const ScratchFolder folder;
  folder.write("text/a.txt", random_lines(21, 200));
  folder.write("text/b.txt", random_lines(22, 100));
  const auto prepare = [&](const Tokenizer& tokenizer) {
    return prepare_tokens(open_corpus(folder.path("text")), folder.path("out"), tokenizer);
  };
  const TokenizerOptions options{.vocab = 320};
  const Tokenizer tokenizer =
      prepare_tokenizer(open_corpus(folder.path("text")), folder.path("out"), options);
  const PreparedTokens first = prepare(tokenizer);
  CHECK_FALSE(first.reused);
  CHECK(prepare(tokenizer).reused);
  CHECK(prepare(tokenizer).training_tokens == first.training_tokens);

  const TokenFile training(first.training_file), held_out(first.held_out_file);
  CHECK(training.count() == first.training_tokens);
  CHECK(held_out.count() == first.held_out_tokens);
  std::string text;
  for (const TokenFile* part : {&training, &held_out}) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(part->count()));
    part->read(0, tokens);
    CHECK(std::count(tokens.begin(), tokens.end(), tokenizer.separator()) == 2);
    text += tokenizer.decode(tokens);
  }
  CHECK(text.size() == (random_lines(21, 200) + random_lines(22, 100)).size());

  const Tokenizer again =
      prepare_tokenizer(open_corpus(folder.path("text")), folder.path("out"), options);
  CHECK(again.hash() == tokenizer.hash());
  const Tokenizer other =
      prepare_tokenizer(open_corpus(folder.path("text")), folder.path("out"), {.vocab = 330});
  CHECK(other.vocab() == 330);
  CHECK_FALSE(prepare(other).reused);
  folder.write("text/c.txt", random_lines(23, 30));
  CHECK_FALSE(prepare(other).reused);
}

TEST_CASE("preparing reports its progress up to the whole text") {
  const ScratchFolder folder;
  for (int i = 0; i < 5; ++i) folder.write("t/" + std::to_string(i), random_lines(31, 40));
  const Corpus corpus = open_corpus(folder.path("t"));
  const Tokenizer tokenizer = train_tokenizer(corpus, {.vocab = 320});
  std::vector<std::int64_t> steps;
  prepare_tokens(corpus, folder.path("out"), tokenizer, [&](std::int64_t done, std::int64_t total) {
    CHECK(total == corpus.bytes());
    steps.push_back(done);
  });
  REQUIRE(steps.size() == 5);
  CHECK(steps.back() == corpus.bytes());
  CHECK(std::is_sorted(steps.begin(), steps.end()));
}

TEST_CASE("a text that reads as nothing leaves no token files behind") {
  const ScratchFolder folder;
  folder.write("text/a.txt", random_lines(41, 60));
  const Tokenizer tokenizer = train_tokenizer(open_corpus(folder.path("text")), {.vocab = 320});
  folder.write("text/a.txt", std::string(100, '\xFF'));
  const auto prepare = [&] {
    prepare_tokens(open_corpus(folder.path("text")), folder.path("out"), tokenizer);
  };
  CHECK(holds(complaint(prepare), "100 of 100 bytes are not UTF-8"));
  CHECK(std::filesystem::is_empty(folder.path("out")));
}

}  // namespace imhotep::executor
