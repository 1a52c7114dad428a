#include <algorithm>
#include <utility>

#include "executor/data/utf8.h"
#include "executor/serve/vocabulary.h"

namespace imhotep::executor {
namespace {

// Bytes at the end of `text` that a stop string begins with.
std::size_t begun_stop(const std::string& text, const std::vector<std::string>& stops) {
  std::size_t most = 0;
  for (const std::string& stop : stops) {
    for (std::size_t n = std::min(stop.size() - 1, text.size()); n > most; --n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) most = n;
    }
  }
  return most;
}

}  // namespace

std::string Vocabulary::decode(const std::vector<std::int32_t>& tokens) const {
  std::string text;
  for (const std::int32_t token : tokens) text += bytes_of(token);
  return repair_utf8(std::move(text)).text;
}

std::vector<std::int32_t> Vocabulary::encode_special(std::string_view text) const {
  std::vector<std::int32_t> tokens;
  const auto append = [&](std::string_view run) {
    const std::vector<std::int32_t> more = encode(run);
    tokens.insert(tokens.end(), more.begin(), more.end());
  };
  while (!text.empty()) {
    const Special* next = nullptr;
    std::size_t first = std::string_view::npos;
    for (const Special& special : specials()) {
      const std::size_t found = text.find(special.first);
      const bool longer = next != nullptr && special.first.size() > next->first.size();
      if (found < first || (found == first && found != std::string_view::npos && longer)) {
        first = found;
        next = &special;
      }
    }
    if (next == nullptr) break;
    append(text.substr(0, first));
    tokens.push_back(next->second);
    text.remove_prefix(first + next->first.size());
  }
  append(text);
  return tokens;
}

std::string_view Vocabulary::name_of(std::int32_t token) const {
  for (const Special& special : specials()) {
    if (special.second == token) return special.first;
  }
  return {};
}

std::string AnswerText::add(std::int32_t token, bool may_stop) {
  if (stopped_) return {};
  bytes_ += vocabulary_.bytes_of(token);
  std::size_t begin = bytes_.size();
  const std::string rest = ends_inside_character(bytes_, begin) ? bytes_.substr(begin) : "";
  bytes_.resize(bytes_.size() - rest.size());
  held_ += repair_utf8(std::exchange(bytes_, rest)).text;
  if (!may_stop) return std::exchange(held_, {});
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    stopped_ = true;
    bytes_.clear();
    return std::exchange(held_, {}).substr(0, first);
  }
  const std::size_t kept = begun_stop(held_, stops_);
  std::string certain = held_.substr(0, held_.size() - kept);
  held_.erase(0, certain.size());
  return certain;
}

std::string AnswerText::finish() {
  if (stopped_) return {};
  std::string text = std::exchange(held_, {});
  return text + repair_utf8(std::exchange(bytes_, {})).text;
}

}  // namespace imhotep::executor
