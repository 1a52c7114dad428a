#include "executor/data/corpus.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/base/content_hash.h"
#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "executor/data/utf8.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBinaryProbeBytes = 8192;
constexpr std::int64_t kBrokenPart = 10;  // more than one broken byte in so many: not text
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string path_of(const Corpus& corpus, const std::string& name) {
  return name.empty() ? corpus.folder : (fs::path(corpus.folder) / name).string();
}

bool looks_binary(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) fail_input("{}: cannot read: {}", file, std::strerror(errno));
  std::string head(kBinaryProbeBytes, ' ');
  stream.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(stream.gcount()));
  return head.find('\0') != std::string::npos;
}

void add_file(Corpus& corpus, const std::string& name) {
  const std::string file = path_of(corpus, name);
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) {
    fail_input("{}: cannot read: {}", file, std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode) || status.st_size == 0) return;
  if (looks_binary(file)) {
    corpus.notices.push_back(fmt::format("{}: skipped, a binary file", file));
    return;
  }
  corpus.files.push_back(
      {.name = name,
       .bytes = status.st_size,
       .modified_ns = status.st_mtim.tv_sec * 1'000'000'000LL + status.st_mtim.tv_nsec});
}

std::vector<std::string> visible_names(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    if (entry->path().filename().string().starts_with('.')) {
      entry.disable_recursion_pending();
    } else if (!entry->is_directory()) {
      names.push_back(fs::relative(entry->path(), folder).generic_string());
    }
  }
  if (error) fail_input("{}: cannot read the folder: {}", folder, error.message());
  std::sort(names.begin(), names.end());
  return names;
}

void join_line_ends(std::string& text) {
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  std::size_t to = 0;
  for (std::size_t from = 0; from < text.size(); ++from) {
    if (text[from] == '\r' && from + 1 < text.size() && text[from + 1] == '\n') continue;
    text[to++] = text[from];
  }
  text.resize(to);
}

// Where the last `lines` lines of `text` begin.
std::size_t last_lines(std::string_view text, std::int64_t lines) {
  std::size_t at = text.size();
  if (text.ends_with('\n')) --at;
  for (;;) {
    const std::size_t end = at == 0 ? std::string_view::npos : text.rfind('\n', at - 1);
    if (end == std::string_view::npos) return 0;
    if (--lines == 0) return end + 1;
    at = end;
  }
}

SplitDocument cut_at(std::string_view text, std::size_t at) {
  return {.training = text.substr(0, at), .held_out = text.substr(at)};
}

}  // namespace

std::int64_t Corpus::bytes() const {
  std::int64_t total = 0;
  for (const CorpusFile& file : files) total += file.bytes;
  return total;
}

std::uint64_t Corpus::fingerprint() const {
  std::string listing;
  for (const CorpusFile& file : files) {
    listing += fmt::format("{} {} {}\n", file.bytes, file.modified_ns, file.name);
  }
  return fnv1a(listing);
}

Corpus open_corpus(const std::string& path) {
  Corpus corpus{.folder = path, .files = {}, .notices = {}};
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) fail_input("{}: no such file or folder", path);
  if (!fs::is_directory(status)) {
    add_file(corpus, "");
  } else {
    for (const std::string& name : visible_names(path)) add_file(corpus, name);
  }
  if (corpus.files.empty()) {
    const std::string skipped =
        corpus.notices.empty() ? "" : fmt::format(" ({} binary skipped)", corpus.notices.size());
    fail_input("{}: no text: expected at least one non-empty UTF-8 text file, got none{}", path,
               skipped);
  }
  return corpus;
}

std::string read_document(const Corpus& corpus, std::size_t index,
                          std::vector<std::string>& notices) {
  const std::string file = path_of(corpus, corpus.files[index].name);
  std::string text = read_text_file(file);
  const auto bytes = static_cast<std::int64_t>(text.size());
  RepairedText repaired = repair_utf8(std::move(text));
  if (repaired.replaced * kBrokenPart > bytes) {
    notices.push_back(
        fmt::format("{}: skipped, {} of {} bytes are not UTF-8", file, repaired.replaced, bytes));
    return {};
  }
  if (repaired.replaced > 0) {
    notices.push_back(fmt::format("{}: {} bytes that are not UTF-8 were replaced by U+FFFD", file,
                                  repaired.replaced));
  }
  join_line_ends(repaired.text);
  return std::move(repaired.text);
}

SplitDocument split_document(std::string_view text, std::size_t index, std::size_t documents) {
  std::int64_t lines = std::count(text.begin(), text.end(), '\n');
  if (!text.empty() && !text.ends_with('\n')) ++lines;
  if (lines >= kHeldOutPart) return cut_at(text, last_lines(text, lines / kHeldOutPart));
  if (documents >= kHeldOutPart) {
    const bool held_out = index % kHeldOutPart == kHeldOutPart - 1;
    return cut_at(text, held_out ? 0 : text.size());
  }
  std::size_t at = text.size() - text.size() / kHeldOutPart;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  return cut_at(text, at);
}

}  // namespace imhotep::executor
