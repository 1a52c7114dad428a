#include "cli/table.h"

#include <algorithm>

#include "core/base/fail.h"

namespace imhotep::cli {

std::size_t display_width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) >> 6) != 2; }));
}

void Table::row(std::vector<std::string> cells) {
  if (cells.size() != columns_.size()) {
    fail("a table of {} columns got a row of {}", columns_.size(), cells.size());
  }
  rows_.push_back(std::move(cells));
}

std::string Table::text(int indent, bool bold) const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    widths.push_back(display_width(columns_[c].title));
    for (const auto& row : rows_) widths[c] = std::max(widths[c], display_width(row[c]));
  }
  const auto line = [&](auto cell) {
    std::string out(indent, ' ');
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const std::string& text = cell(c);
      const std::string blanks(widths[c] - display_width(text), ' ');
      out += columns_[c].align == Align::Left ? text + blanks : blanks + text;
      if (c + 1 < columns_.size()) out += "  ";
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out;
  };
  std::string titles = line([&](std::size_t c) -> const std::string& { return columns_[c].title; });
  if (bold) titles = "\033[1m" + titles + "\033[0m";
  std::string out = titles + "\n";
  for (const auto& row : rows_) {
    out += line([&](std::size_t c) -> const std::string& { return row[c]; }) + "\n";
  }
  return out;
}

}  // namespace imhotep::cli
