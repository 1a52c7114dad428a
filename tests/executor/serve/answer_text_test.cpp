#include <doctest/doctest.h>

#include "tests/executor/serve/serving.h"

namespace imhotep::executor {
namespace {

// Each byte is a token.
class Bytes : public test::NumberWords {
 public:
  Bytes() : NumberWords(1) {
    for (int i = 0; i < 256; ++i) bytes_.emplace_back(1, static_cast<char>(i));
  }
  [[nodiscard]] std::string_view bytes_of(std::int32_t token) const override {
    return bytes_.at(token);
  }

 private:
  std::vector<std::string> bytes_;
};

std::vector<std::string> pieces_of(const std::string& text, std::vector<std::string> stops) {
  static const Bytes kBytes;
  AnswerText answer(kBytes, std::move(stops));
  std::vector<std::string> pieces;
  for (const char c : text) pieces.push_back(answer.add(static_cast<unsigned char>(c), true));
  pieces.push_back(answer.finish());
  return pieces;
}

std::string joined(const std::vector<std::string>& pieces) {
  std::string all;
  for (const std::string& piece : pieces) all += piece;
  return all;
}

}  // namespace

TEST_CASE("a character is given whole, and broken bytes are replaced") {
  CHECK(pieces_of("a\xC3\xA9z", {}) == std::vector<std::string>{"a", "", "\xC3\xA9", "z", ""});
  CHECK(joined(pieces_of("a\xC3", {})) == "a\xEF\xBF\xBD");
  CHECK(joined(pieces_of("\xFFg", {})) == "\xEF\xBF\xBDg");
}

TEST_CASE("a text ends before its first stop string, and nothing of it gets out") {
  CHECK(joined(pieces_of("hello END world", {"END"})) == "hello ");
  CHECK(joined(pieces_of("aab", {"ab"})) == "a");
  CHECK(joined(pieces_of("one two", {"two", "one t"})) == "");
  CHECK(joined(pieces_of("ENEN", {"END"})) == "ENEN");
  CHECK(pieces_of("xEN", {"END"}) == std::vector<std::string>{"x", "", "", "EN"});
}

TEST_CASE("for any cut into tokens the certain text never takes anything back") {
  const std::string text = "abcabcabdabcab";
  for (const std::string stop : {"abd", "bcab", "cabcabd", "zzz", "a"}) {
    CAPTURE(stop);
    CHECK(joined(pieces_of(text, {stop})) == text.substr(0, text.find(stop)));
  }
}

TEST_CASE("step messages survive the way, and damaged ones are refused") {
  StepOrder order{.bucket = 3, .idle_us = 7, .report_load = true, .ranks = {}};
  order.ranks.resize(2);
  order.ranks[1].pages = {{1, 2, 3}};
  order.ranks[1].sequences.push_back(
      {.piece = {.request = 9, .slot = 4, .first = 5, .count = 2, .samples = true},
       .tokens = {7, 8},
       .sampling = {.temperature = 0.5, .seed = 3},
       .alternatives = 2});
  const std::string bytes = to_bytes(order);
  const StepOrder back = order_from(bytes);
  CHECK(to_bytes(back) == bytes);
  CHECK(back.ranks[1].sequences[0].tokens == std::vector<std::int32_t>{7, 8});
  CHECK(back.ranks[1].pages[0].page == 3);
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    CHECK_THROWS(static_cast<void>(order_from(std::string_view(bytes).substr(0, cut))));
  }
  CHECK_THROWS(static_cast<void>(order_from(bytes + "x")));
  const StepOutcome outcome{.sampled = {{1, 2, -0.5, {{3, -1.5}}}}, .load = {4, 5}};
  CHECK(to_bytes(outcome_from(to_bytes(outcome))) == to_bytes(outcome));
}

}  // namespace imhotep::executor
