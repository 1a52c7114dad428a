#pragma once
// Tokens on disk: a header of 64 bytes, then ids of 2 or 4 bytes. Read through memory, so that all
// ranks of a machine share one copy. Layout: docs/formats/tokens.md.

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

#include "executor/data/mapped_file.h"

namespace imhotep::executor {

struct TokenFileInfo {
  std::int64_t vocab = 0;              // ids are below
  std::uint64_t tokenizer_hash = 0;    // of the tokenizer that wrote them
  std::uint64_t text_fingerprint = 0;  // of the corpus they came from
};

class TokenFile {
 public:
  // Throws: Error(Input) naming what is wrong: not a token file, other version, truncated.
  explicit TokenFile(const std::string& file);

  [[nodiscard]] const TokenFileInfo& info() const { return info_; }
  [[nodiscard]] const std::string& file() const { return mapped_.file(); }
  [[nodiscard]] std::int64_t count() const { return count_; }
  // Throws: Error(Input) naming both hashes unless the tokens came from this tokenizer.
  void expect_tokenizer(std::uint64_t hash) const;
  // Copies tokens [begin, begin + out.size()). Throws: Error(Input) on an id beyond the vocabulary.
  // Requires: the range lies inside the file.
  void read(std::int64_t begin, std::span<std::int32_t> out) const;

 private:
  MappedFile mapped_;
  TokenFileInfo info_;
  int width_ = 0;
  std::int64_t count_ = 0;
};

// Writes to a temporary name; finish() renames. Without finish() nothing is left behind.
class TokenFileWriter {
 public:
  TokenFileWriter(std::string file, const TokenFileInfo& info);  // Throws: Error(Failed)
  TokenFileWriter(const TokenFileWriter&) = delete;
  TokenFileWriter& operator=(const TokenFileWriter&) = delete;
  ~TokenFileWriter();

  void append(std::span<const std::int32_t> tokens);  // Throws: Error(Failed)
  void finish();                                      // Throws: Error(Failed)
  [[nodiscard]] std::int64_t count() const { return count_; }

 private:
  void write(const void* data, std::size_t bytes);
  void write_header();
  [[noreturn]] void refuse(int error) const;

  std::string file_, temporary_;
  TokenFileInfo info_;
  std::FILE* stream_ = nullptr;
  std::int64_t count_ = 0;
};

}  // namespace imhotep::executor
