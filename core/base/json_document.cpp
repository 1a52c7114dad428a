#include "core/base/json_document.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <vector>

#include "core/base/fail.h"

namespace imhotep {
namespace {

// Walks valid JSON text, counting lines, and stops at the value of one path or, without a path, at
// the first key that its object already has.
class LineFinder {
 public:
  explicit LineFinder(std::string_view text, std::string_view path = {})
      : text_(text), path_(path) {}

  int find() {
    value("$");
    return found_;
  }
  [[nodiscard]] const std::string& duplicate() const { return duplicate_; }

 private:
  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) {
      line_ += text_[at_++] == '\n' ? 1 : 0;
    }
  }

  std::string string() {
    const std::size_t begin = at_;
    bool escaped = false;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] != '\\') continue;
      escaped = true;
      ++at_;
    }
    ++at_;
    const std::string_view quoted = text_.substr(begin, at_ - begin);
    if (escaped) return nlohmann::json::parse(quoted).get<std::string>();
    return std::string(quoted.substr(1, quoted.size() - 2));
  }

  void value(const std::string& path) {
    skip_space();
    if (found_ == 0 && path == path_) found_ = line_;
    if (at_ >= text_.size() || found_ != 0) return;
    if (text_[at_] == '{') {
      object(path);
    } else if (text_[at_] == '[') {
      array(path);
    } else if (text_[at_] == '"') {
      string();
    } else {
      while (at_ < text_.size() && std::strchr(",]} \t\r\n", text_[at_]) == nullptr) ++at_;
    }
  }

  void object(const std::string& path) {
    std::set<std::string> known;
    for (++at_; at_ < text_.size() && found_ == 0;) {
      skip_space();
      if (at_ >= text_.size() || text_[at_] == '}') break;
      if (text_[at_] == ',') {
        ++at_;
        continue;
      }
      const std::string key = string();
      skip_space();
      ++at_;  // the colon
      if (path_.empty() && !known.insert(key).second) {
        duplicate_ = path + "." + key;
        found_ = line_;
        return;
      }
      value(path + "." + key);
    }
    ++at_;
  }

  void array(const std::string& path) {
    int index = 0;
    for (++at_; at_ < text_.size() && found_ == 0;) {
      skip_space();
      if (at_ >= text_.size() || text_[at_] == ']') break;
      if (text_[at_] == ',') {
        ++at_;
        continue;
      }
      value(fmt::format("{}[{}]", path, index++));
    }
    ++at_;
  }

  std::string_view text_, path_;
  std::string duplicate_;
  std::size_t at_ = 0;
  int line_ = 1, found_ = 0;
};

constexpr int kDeepest = 100;

int line_at(std::string_view text, std::size_t byte) {
  int line = 1;
  for (std::size_t i = 0; i < std::min(byte, text.size()); ++i) line += text[i] == '\n' ? 1 : 0;
  return line;
}

}  // namespace

JsonDocument JsonDocument::read(const std::string& file) {
  return parse(read_text_file(file), file);
}

JsonDocument JsonDocument::parse(std::string text, std::string name) {
  using Json = nlohmann::ordered_json;
  JsonDocument document;
  std::vector<std::set<std::string>> keys;
  bool duplicates = false;
  const auto inspect = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kDeepest) fail_input("{}: nested deeper than {} levels", name, kDeepest);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      duplicates |= !keys.back().insert(parsed.get<std::string>()).second;
    }
    return true;
  };
  try {
    document.value_ = Json::parse(text, inspect);
  } catch (const nlohmann::json::parse_error& error) {
    const bool truncated = error.byte > text.size();
    fail_input("{}:{}: not valid JSON: {}", name, line_at(text, error.byte),
               truncated ? "the text ends too early" : std::string(error.what()));
  } catch (const nlohmann::json::exception& error) {  // a number beyond double
    fail_input("{}: not valid JSON: {}", name, error.what());
  }
  if (duplicates) {
    LineFinder finder(text);
    const int line = finder.find();
    fail_input("{}:{}: {}: duplicate key", name, line, finder.duplicate());
  }
  document.name_ = std::move(name);
  document.text_ = std::move(text);
  return document;
}

int JsonDocument::line_of(std::string_view path) const { return LineFinder(text_, path).find(); }

void JsonDocument::fail_at(const std::string& path, const std::string& message) const {
  const int line = line_of(path);
  if (line > 0) fail_input("{}:{}: {}: {}", name_, line, path, message);
  fail_input("{}: {}: {}", name_, path, message);
}

std::string read_text_file(const std::string& file) {
  std::FILE* stream = std::fopen(file.c_str(), "rb");
  if (stream == nullptr) fail_input("{}: cannot read: {}", file, std::strerror(errno));
  std::string text;
  char block[1 << 16];
  std::size_t count = 0;
  while ((count = std::fread(block, 1, sizeof block, stream)) > 0) text.append(block, count);
  const bool broken = std::ferror(stream) != 0;
  std::fclose(stream);
  if (broken) fail_input("{}: cannot read: {}", file, std::strerror(errno));
  return text;
}

void write_text_file(const std::string& file, std::string_view text) {
  const std::string temporary = fmt::format("{}.tmp{}", file, getpid());
  std::FILE* stream = std::fopen(temporary.c_str(), "wb");
  if (stream == nullptr) fail("{}: cannot write: {}", file, std::strerror(errno));
  const bool written = std::fwrite(text.data(), 1, text.size(), stream) == text.size();
  const bool flushed = std::fflush(stream) == 0;
  int error = errno;
  bool whole = written && flushed;
  if (std::fclose(stream) != 0 && whole) {
    error = errno;
    whole = false;
  }
  if (whole && std::rename(temporary.c_str(), file.c_str()) != 0) {
    error = errno;
    whole = false;
  }
  if (!whole) {
    std::remove(temporary.c_str());
    fail("{}: cannot write: {}", file, std::strerror(error));
  }
}

}  // namespace imhotep
