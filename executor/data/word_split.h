#pragma once
// Cuts a text into words by regular expressions, as tokenizers do. Internal to executor/data.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace imhotep::executor {

// One expression; matches and what lies between them are pieces.
class WordSplit {
 public:
  // Throws: Error(Input) naming the place in the expression.
  explicit WordSplit(const std::string& expression);
  WordSplit(WordSplit&&) noexcept;
  WordSplit& operator=(WordSplit&&) noexcept;
  ~WordSplit();

  void split(std::string_view text, std::vector<std::string_view>& pieces) const;  // appends

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace imhotep::executor
