#include "executor/data/word_split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/base/fail.h"

namespace imhotep::executor {

struct WordSplit::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

WordSplit::WordSplit(const std::string& expression) : code_(std::make_unique<Code>()) {
  int error = 0;
  PCRE2_SIZE at = 0;
  code_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &at, nullptr);
  if (code_->code == nullptr) {
    fail_input("the expression \"{}\": not understood at byte {}", expression, at);
  }
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // where there is none, it is interpreted
}
WordSplit::WordSplit(WordSplit&&) noexcept = default;
WordSplit& WordSplit::operator=(WordSplit&&) noexcept = default;
WordSplit::~WordSplit() = default;

void WordSplit::split(std::string_view text, std::vector<std::string_view>& pieces) const {
  pcre2_match_data* match = pcre2_match_data_create_from_pattern(code_->code, nullptr);
  std::size_t done = 0;
  while (done < text.size()) {
    const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), done, 0, match, nullptr);
    if (found < 0) break;
    const PCRE2_SIZE* place = pcre2_get_ovector_pointer(match);
    if (place[1] <= place[0]) break;  // an empty word cuts nothing
    if (place[0] > done) pieces.push_back(text.substr(done, place[0] - done));
    pieces.push_back(text.substr(place[0], place[1] - place[0]));
    done = place[1];
  }
  if (done < text.size()) pieces.push_back(text.substr(done));
  pcre2_match_data_free(match);
}

}  // namespace imhotep::executor
