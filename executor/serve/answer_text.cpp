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
