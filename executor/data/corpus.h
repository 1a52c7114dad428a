#pragma once
// Any folder of text files as training text. Every file is a document; files follow each other in
// the order of their names, so that one folder always gives one text.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace imhotep::executor {

inline constexpr int kHeldOutPart = 20;  // one in so many lines is kept from training

struct CorpusFile {
  std::string name;  // relative to the folder
  std::int64_t bytes = 0;
  std::int64_t modified_ns = 0;
};

struct Corpus {
  std::string folder;
  std::vector<CorpusFile> files;     // by name; none empty, none binary
  std::vector<std::string> notices;  // what was skipped, and why

  [[nodiscard]] std::int64_t bytes() const;
  // Of names, sizes and times of change: differs when a file was touched.
  [[nodiscard]] std::uint64_t fingerprint() const;
};

// `path`: a folder, searched with its subfolders, or one file. Hidden files are left out; a file
// with a zero byte among its first 8 KiB is binary.
// Throws: Error(Input) when there is no such path, no text in it, or a file cannot be read.
[[nodiscard]] Corpus open_corpus(const std::string& path);

// The document: bytes that are not UTF-8 become U+FFFD (with a notice; a file with more than one
// such byte in ten counts as binary and reads as empty), CR LF becomes LF, a byte-order mark goes.
// Throws: Error(Input) when the file cannot be read.
[[nodiscard]] std::string read_document(const Corpus& corpus, std::size_t index,
                                        std::vector<std::string>& notices);

struct SplitDocument {
  std::string_view training, held_out;
};
// A document of at least kHeldOutPart lines ends with its held-out lines. A shorter one is held
// out as a whole when it is every kHeldOutPart-th of the folder; in a folder of fewer files the
// last twentieth of its characters is.
[[nodiscard]] SplitDocument split_document(std::string_view text, std::size_t index,
                                           std::size_t documents);

}  // namespace imhotep::executor
