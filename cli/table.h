#pragma once
// A table for a terminal: columns as wide as their widest cell, two spaces apart. Plain text, so
// that it pastes well; widths count characters, not bytes.

#include <string>
#include <vector>

namespace imhotep::cli {

enum class Align { Left, Right };

struct Column {
  std::string title;
  Align align = Align::Left;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // Requires: as many cells as columns.
  void row(std::vector<std::string> cells);
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  // Titles, then rows, each line after `indent` spaces and without blanks at its end. `bold`
  // marks the titles with terminal codes.
  [[nodiscard]] std::string text(int indent = 2, bool bold = false) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Characters of a UTF-8 text.
[[nodiscard]] std::size_t display_width(const std::string& text);

}  // namespace imhotep::cli
