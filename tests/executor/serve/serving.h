#pragma once
// A server without a front end, for tests: words are numbers, requests come from a list.

#include <fmt/format.h>

#include <map>

#include "executor/serve/engine.h"
#include "tests/executor/generate/setup.h"

namespace imhotep::test {

// Token n is the text "<n>"; every character of a text is a token.
class NumberWords : public executor::Vocabulary {
 public:
  explicit NumberWords(int words, std::vector<std::int32_t> ends = {}) : ends_(std::move(ends)) {
    for (int word = 0; word < words; ++word) words_.push_back(fmt::format("<{}>", word));
  }
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c) % size());
    return tokens;
  }
  [[nodiscard]] std::string_view bytes_of(std::int32_t token) const override {
    return words_.at(token);
  }
  [[nodiscard]] std::int32_t size() const override {
    return static_cast<std::int32_t>(words_.size());
  }
  [[nodiscard]] std::int32_t beginning() const override { return -1; }
  [[nodiscard]] const std::vector<std::int32_t>& ends() const override { return ends_; }
  [[nodiscard]] const std::string& chat_template() const override { return template_; }
  [[nodiscard]] const std::vector<Special>& specials() const override { return specials_; }
  void set_template(std::string source) { template_ = std::move(source); }

 private:
  std::vector<std::string> words_;
  std::vector<std::int32_t> ends_;
  std::vector<Special> specials_ = {{"<end>", 0}};
  std::string template_;
};

struct Answer {
  std::string text;
  std::vector<std::int32_t> tokens;
  std::vector<double> logprobs;
  executor::Finish finish = executor::Finish::None;
  std::int64_t generated = 0;
};

struct Served {
  std::map<schedule::RequestId, Answer> answers;
  std::int64_t preemptions = 0, steps = 0;
  double dropped_tokens = 0, routed_tokens = 0;
};

// All requests at once, on the ranks of the plan; the answers are at rank 0. Collective.
[[nodiscard]] Served serve_all(const Plan& plan, const executor::ServeShape& shape,
                               const std::vector<executor::ServeRequest>& requests,
                               const executor::Bootstrap& ranks, executor::CommunicatorPool& pool,
                               const executor::Vocabulary& vocabulary);

// Like serve_all(), with the rank's programs made before.
[[nodiscard]] Served serve_with(executor::Stepper& stepper, const Plan& plan,
                                const executor::ServeShape& shape,
                                const std::vector<executor::ServeRequest>& requests,
                                const executor::Bootstrap& ranks,
                                const executor::Vocabulary& vocabulary);

// Prompts and lengths by seed, all within `room` tokens; greedy.
[[nodiscard]] std::vector<executor::ServeRequest> mixed_requests(int count, int vocab,
                                                                 std::int64_t room,
                                                                 std::uint64_t seed);

}  // namespace imhotep::test
