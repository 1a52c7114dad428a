#pragma once
// The OpenAI dialect: bodies in, requests and answers out. Knows nothing of sockets.
// Sources: platform.openai.com/docs/api-reference (completions, chat); vLLM's extra fields
// (min_tokens, ignore_eos, top_k, priority), which benchmark clients send.

#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "executor/serve/request.h"
#include "executor/serve/vocabulary.h"

namespace imhotep::executor {

// What a client is told when its request cannot be served.
struct ApiError : std::exception {
  int status = 400;
  std::string message, type = "invalid_request_error", param, code;
  ApiError() = default;
  ApiError(int http_status, std::string text, std::string field = {}, std::string name = {});
  [[nodiscard]] const char* what() const noexcept override { return message.c_str(); }
};
// {"error": {"message", "type", "param", "code"}}
[[nodiscard]] std::string error_body(const ApiError& error);

struct ApiContext {
  const Vocabulary& vocabulary;
  std::string model;
  std::int32_t words = 0;        // tokens are below this
  std::int64_t max_context = 0;  // prompt and answer
  std::int64_t max_choices = 16;
  // Why so many prompt tokens and new ones can never run, or an empty text.
  std::function<std::string(std::int64_t prompt, std::int64_t output)> problem;
};

enum class ApiKind : std::uint8_t { Completion, Chat };

struct ApiRequest {
  ApiKind kind = ApiKind::Completion;
  std::vector<ServeRequest> choices;  // prompt by prompt, n of each; no ids, no client yet
  std::vector<std::string> echoes;    // by choice: text to put before the answer
  bool stream = false, include_usage = false, logprobs = false;
  bool seeded = false;  // else the server draws seeds
  std::int64_t choices_a_prompt = 1;
};

// Throws: ApiError with status 400 or 404.
[[nodiscard]] ApiRequest parse_request(ApiKind kind, std::string_view body,
                                       const ApiContext& context);
// {"prompt": text} -> {"tokens", "count", "max_model_len"}.   Throws: ApiError.
[[nodiscard]] std::string tokenize(std::string_view body, const ApiContext& context);
// {"tokens": [...]} -> {"prompt": text}.   Throws: ApiError.
[[nodiscard]] std::string detokenize(std::string_view body, const ApiContext& context);
[[nodiscard]] std::string model_list(const ApiContext& context, std::int64_t created_s);
[[nodiscard]] std::string model_entry(const ApiContext& context, std::int64_t created_s);

// One answer in the making: events of its choices become server-sent events, or one body.
class ApiAnswer {
 public:
  ApiAnswer(const ApiContext& context, const ApiRequest& request, std::string id,
            std::int64_t created_s);

  // The payloads to send now (without "data: "); none unless streaming.
  [[nodiscard]] std::vector<std::string> add(std::size_t choice, const ServeEvent& event);
  [[nodiscard]] bool done() const { return open_ == 0; }
  // Whether it ended for a reason of the server; then error() says which.
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] const ApiError& error() const { return error_; }
  [[nodiscard]] std::string body() const;
  [[nodiscard]] bool streams() const { return stream_; }

 private:
  struct Choice {
    std::string text, reason;
    std::vector<TokenReport> tokens;
    std::int64_t generated = 0;
    std::size_t text_begin = 0;  // of the tokens' offsets
    bool begun = false;
  };

  [[nodiscard]] std::string chunk(std::size_t choice, const std::string& text,
                                  const std::vector<TokenReport>& tokens, const std::string& reason,
                                  bool first) const;
  [[nodiscard]] std::string usage_chunk() const;

  const ApiContext& context_;
  ApiKind kind_;
  bool stream_, include_usage_, logprobs_;
  std::string id_;
  std::int64_t created_s_, prompt_tokens_ = 0;
  std::size_t open_;
  std::vector<Choice> choices_;
  bool failed_ = false;
  ApiError error_;
};

}  // namespace imhotep::executor
