#pragma once
// Lists that people write on one line.

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace imhotep {

// "a,b" is {"a", "b"}; an empty text is one empty word, and so is what follows a last comma.
[[nodiscard]] inline std::vector<std::string> words_between_commas(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    words.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

}  // namespace imhotep
