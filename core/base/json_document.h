#pragma once
// A JSON file that remembers its text, so that an error can name file, line and path:
// `clusters/h100.json:14: $.nodes: expected an integer >= 1, got "8"`.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace imhotep {

class JsonDocument {
 public:
  // Throws: Error(Input) on unreadable files, syntax errors (with line), duplicate keys.
  [[nodiscard]] static JsonDocument read(const std::string& file);
  [[nodiscard]] static JsonDocument parse(std::string text, std::string name);

  [[nodiscard]] const nlohmann::ordered_json& value() const { return value_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  // Path: "$.links[0].bandwidth". The first line is 1; 0 when the path is not in the text.
  [[nodiscard]] int line_of(std::string_view path) const;
  // Throws: Error(Input) "name:line: path: message".
  [[noreturn]] void fail_at(const std::string& path, const std::string& message) const;

 private:
  std::string name_, text_;
  nlohmann::ordered_json value_;
};

// Writes to a temporary name beside `file` and renames. Throws: Error(Failed) naming the cause.
void write_text_file(const std::string& file, std::string_view text);
[[nodiscard]] std::string read_text_file(const std::string& file);

}  // namespace imhotep
