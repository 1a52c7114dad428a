#include "executor/data/token_file.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <numeric>
#include <vector>

#include "core/base/error.h"
#include "core/base/json_document.h"
#include "core/base/random.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {
namespace {

std::string write_tokens(const ScratchFolder& folder, std::int64_t vocab, int count) {
  std::string file = folder.path("a.tokens");
  TokenFileWriter writer(file, {.vocab = vocab, .tokenizer_hash = 0xABC, .text_fingerprint = 5});
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    tokens[i] = static_cast<std::int32_t>(hash(1, i) % static_cast<std::uint64_t>(vocab));
  }
  writer.append(std::span(tokens).first(tokens.size() / 2));
  writer.append(std::span(tokens).subspan(tokens.size() / 2));
  writer.finish();
  return file;
}

}  // namespace

TEST_CASE("tokens come back as written, in two bytes for small vocabularies and four for large") {
  const ScratchFolder folder;
  for (const auto& [vocab, width] : {std::pair{4096, 2}, {65536, 2}, {65537, 4}, {200'000, 4}}) {
    const std::string file = write_tokens(folder, vocab, 1001);
    CHECK(std::filesystem::file_size(file) == 64 + 1001 * width);
    const TokenFile tokens(file);
    CHECK(tokens.count() == 1001);
    CHECK(tokens.info().vocab == vocab);
    CHECK(tokens.info().text_fingerprint == 5);
    std::vector<std::int32_t> read(1001);
    tokens.read(0, read);
    bool same = true;
    for (int i = 0; i < 1001; ++i) {
      same = same && read[i] == static_cast<std::int32_t>(hash(1, i) % std::uint64_t(vocab));
    }
    CHECK(same);
    CHECK_NOTHROW(tokens.expect_tokenizer(0xABC));
    CHECK(holds(complaint([&] { tokens.expect_tokenizer(0xDEF); }),
                "wrong tokenizer: the tokens were written by tokenizer 0000000000000abc"));
  }
}

TEST_CASE("damaged token files are refused with what was expected") {
  const ScratchFolder folder;
  const std::string good = read_text_file(write_tokens(folder, 4096, 100));
  const auto open = [&](const std::string& bytes) {
    folder.write("b.tokens", bytes);
    return complaint([&] { const TokenFile tokens(folder.path("b.tokens")); });
  };
  CHECK(holds(open(good.substr(0, good.size() - 1)), "truncated: expected 100 tokens of 2 bytes"));
  CHECK(holds(open(good + "x"), "too long: expected 100 tokens"));
  CHECK(holds(open(good.substr(0, 40)), "truncated: expected a header of 64 bytes, got 40"));
  CHECK(holds(open(""), "truncated"));
  CHECK(holds(open("plain text, long enough to hold a header of a token file, and more of it"),
              "expected a token file"));
  std::string newer = good;
  newer[8] = 2;
  CHECK(holds(open(newer), "expected token file version 1, got 2"));
  std::string wide = good;
  wide[12] = 3;
  CHECK(holds(open(wide), "damaged header"));
  std::string huge = good;
  huge[23] = '\x7F';
  CHECK(holds(open(huge), "truncated"));
  CHECK(holds(complaint([&] { const TokenFile tokens(folder.path()); }), "cannot read"));
}

TEST_CASE("an id beyond the vocabulary is found when it is read") {
  const ScratchFolder folder;
  std::string bytes = read_text_file(write_tokens(folder, 4096, 100));
  bytes[64 + 2 * 50 + 1] = '\x7F';
  folder.write("b.tokens", bytes);
  const TokenFile tokens(folder.path("b.tokens"));
  std::vector<std::int32_t> read(50);
  CHECK_NOTHROW(tokens.read(0, read));
  CHECK(holds(complaint([&] { tokens.read(50, read); }), "damaged: token 32"));
  CHECK(holds(complaint([&] { tokens.read(51, read); }), "there are 100"));
}

TEST_CASE("an unfinished token file leaves nothing behind, and the old one stays") {
  const ScratchFolder folder;
  const std::string file = write_tokens(folder, 4096, 100);
  {
    TokenFileWriter writer(file, {.vocab = 4096});
    writer.append(std::vector<std::int32_t>{1, 2, 3});
    CHECK(holds(complaint([&] { writer.append(std::vector<std::int32_t>{4096}); }), "token 4096"));
  }
  CHECK(TokenFile(file).count() == 100);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()),
                      std::filesystem::directory_iterator()) == 1);
  CHECK(holds(complaint([&] { TokenFileWriter(folder.path("no/x.tokens"), {.vocab = 2}); }),
              "no/x.tokens: cannot write"));
}

}  // namespace imhotep::executor
