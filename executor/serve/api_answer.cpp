// Answers to bodies.

#include <nlohmann/json.hpp>

#include "executor/serve/api_json.h"

namespace imhotep::executor {
namespace {

std::string text_of(const Vocabulary& vocabulary, std::int32_t token) {
  return printable(vocabulary.bytes_of(token));
}

ApiJson bytes_json(std::string_view bytes) {
  ApiJson list = ApiJson::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

ApiJson chat_logprobs(const std::vector<TokenReport>& tokens, const Vocabulary& vocabulary) {
  ApiJson content = ApiJson::array();
  const auto entry = [&](std::int32_t token, double logprob) {
    return ApiJson{{"token", text_of(vocabulary, token)},
                   {"logprob", logprob},
                   {"bytes", bytes_json(vocabulary.bytes_of(token))}};
  };
  for (const TokenReport& token : tokens) {
    ApiJson one = entry(token.token, token.logprob);
    one["top_logprobs"] = ApiJson::array();
    for (const Alternative& other : token.alternatives) {
      one["top_logprobs"].push_back(entry(other.token, other.logprob));
    }
    content.push_back(std::move(one));
  }
  return {{"content", std::move(content)}};
}

// Offsets count from `begin`, the text before these tokens.
ApiJson completion_logprobs(const std::vector<TokenReport>& tokens, const Vocabulary& vocabulary,
                            std::size_t begin) {
  ApiJson out = {{"tokens", ApiJson::array()},
                 {"token_logprobs", ApiJson::array()},
                 {"top_logprobs", ApiJson::array()},
                 {"text_offset", ApiJson::array()}};
  for (const TokenReport& token : tokens) {
    const std::string text = text_of(vocabulary, token.token);
    out["tokens"].push_back(text);
    out["token_logprobs"].push_back(token.logprob);
    out["text_offset"].push_back(begin);
    begin += text.size();
    ApiJson top = ApiJson::object();
    for (const Alternative& other : token.alternatives) {
      const std::string key = text_of(vocabulary, other.token);
      if (!top.contains(key)) top[key] = other.logprob;  // the likelier one of equal texts
    }
    top[text] = token.logprob;
    out["top_logprobs"].push_back(std::move(top));
  }
  return out;
}

ApiJson usage_json(std::int64_t prompt, std::int64_t generated) {
  return {{"prompt_tokens", prompt},
          {"completion_tokens", generated},
          {"total_tokens", prompt + generated}};
}

const char* finish_name(Finish finish) { return finish == Finish::Stop ? "stop" : "length"; }

ApiJson or_null(const std::string& text) { return text.empty() ? ApiJson() : ApiJson(text); }

}  // namespace

ApiError::ApiError(int http_status, std::string text, std::string field, std::string name)
    : status(http_status),
      message(std::move(text)),
      param(std::move(field)),
      code(std::move(name)) {
  if (status == 401) type = "authentication_error";
  if (status == 429) type = "rate_limit_error";
  if (status >= 500) type = "server_error";
}

std::string error_body(const ApiError& error) {
  const ApiJson json = {{"error",
                         {{"message", printable(error.message)},
                          {"type", error.type},
                          {"param", or_null(error.param)},
                          {"code", or_null(error.code)}}}};
  return json.dump();
}

std::string model_entry(const ApiContext& context, std::int64_t created_s) {
  const ApiJson json = {{"id", context.model},
                        {"object", "model"},
                        {"created", created_s},
                        {"owned_by", "imhotep"},
                        {"max_model_len", context.max_context}};
  return json.dump();
}

std::string model_list(const ApiContext& context, std::int64_t created_s) {
  return R"({"object":"list","data":[)" + model_entry(context, created_s) + "]}";
}

namespace {

ApiError error_of(const ServeEvent& event) {
  if (event.finish == Finish::Failed) return {500, event.reason, {}, "server_failed"};
  const bool ran_late = event.finish == Finish::Timeout && event.started;
  return {ran_late ? 504 : 503, event.reason, {}, ran_late ? "timeout" : "unavailable"};
}

}  // namespace

ApiAnswer::ApiAnswer(const ApiContext& context, const ApiRequest& request, std::string id,
                     std::int64_t created_s)
    : context_(context),
      kind_(request.kind),
      stream_(request.stream),
      include_usage_(request.include_usage),
      logprobs_(request.logprobs),
      id_(std::move(id)),
      created_s_(created_s),
      open_(request.choices.size()),
      choices_(request.choices.size()) {
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    choices_[i].text = request.echoes[i];
    choices_[i].text_begin = request.echoes[i].size();
    if (static_cast<std::int64_t>(i) % request.choices_a_prompt == 0) {
      prompt_tokens_ += static_cast<std::int64_t>(request.choices[i].prompt.size());
    }
  }
}

std::vector<std::string> ApiAnswer::add(std::size_t index, const ServeEvent& event) {
  Choice& choice = choices_[index];
  choice.generated = event.generated;
  const bool ends = event.finish != Finish::None;
  if (ends) --open_;
  if (event.finish != Finish::None && event.finish != Finish::Stop &&
      event.finish != Finish::Length) {
    failed_ = true;
    error_ = error_of(event);
    return stream_ ? std::vector<std::string>{error_body(error_)} : std::vector<std::string>{};
  }
  if (ends) choice.reason = finish_name(event.finish);
  if (!stream_) {
    choice.text += event.text;
    choice.tokens.insert(choice.tokens.end(), event.tokens.begin(), event.tokens.end());
    return {};
  }
  std::vector<std::string> payloads;
  const bool first = !choice.begun;
  choice.begun = true;
  const std::string text = first ? choice.text + event.text : event.text;
  payloads.push_back(chunk(index, text, event.tokens, choice.reason, first));
  for (const TokenReport& token : event.tokens) {
    choice.text_begin += text_of(context_.vocabulary, token.token).size();
  }
  if (done()) {
    if (include_usage_) payloads.push_back(usage_chunk());
    payloads.emplace_back("[DONE]");
  }
  return payloads;
}

std::string ApiAnswer::chunk(std::size_t index, const std::string& text,
                             const std::vector<TokenReport>& tokens, const std::string& reason,
                             bool first) const {
  ApiJson choice = {{"index", index}};
  if (kind_ == ApiKind::Chat) {
    ApiJson delta = ApiJson::object();
    if (first) delta["role"] = "assistant";
    delta["content"] = text;
    choice["delta"] = std::move(delta);
    choice["logprobs"] = logprobs_ ? chat_logprobs(tokens, context_.vocabulary) : ApiJson();
  } else {
    choice["text"] = text;
    choice["logprobs"] =
        logprobs_ ? completion_logprobs(tokens, context_.vocabulary, choices_[index].text_begin)
                  : ApiJson();
  }
  choice["finish_reason"] = or_null(reason);
  ApiJson json = {{"id", id_},
                  {"object", kind_ == ApiKind::Chat ? "chat.completion.chunk" : "text_completion"},
                  {"created", created_s_},
                  {"model", context_.model},
                  {"choices", ApiJson::array({std::move(choice)})}};
  if (include_usage_) json["usage"] = ApiJson();
  return json.dump();
}

std::string ApiAnswer::usage_chunk() const {
  std::int64_t generated = 0;
  for (const Choice& choice : choices_) generated += choice.generated;
  const ApiJson json = {
      {"id", id_},
      {"object", kind_ == ApiKind::Chat ? "chat.completion.chunk" : "text_completion"},
      {"created", created_s_},
      {"model", context_.model},
      {"choices", ApiJson::array()},
      {"usage", usage_json(prompt_tokens_, generated)}};
  return json.dump();
}

std::string ApiAnswer::body() const {
  ApiJson list = ApiJson::array();
  std::int64_t generated = 0;
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    generated += choice.generated;
    ApiJson one = {{"index", i}};
    if (kind_ == ApiKind::Chat) {
      one["message"] = {{"role", "assistant"}, {"content", choice.text}};
      one["logprobs"] = logprobs_ ? chat_logprobs(choice.tokens, context_.vocabulary) : ApiJson();
    } else {
      one["text"] = choice.text;
      one["logprobs"] =
          logprobs_ ? completion_logprobs(choice.tokens, context_.vocabulary, choice.text_begin)
                    : ApiJson();
    }
    one["finish_reason"] = or_null(choice.reason);
    list.push_back(std::move(one));
  }
  const ApiJson json = {{"id", id_},
                        {"object", kind_ == ApiKind::Chat ? "chat.completion" : "text_completion"},
                        {"created", created_s_},
                        {"model", context_.model},
                        {"choices", std::move(list)},
                        {"usage", usage_json(prompt_tokens_, generated)}};
  return json.dump();
}

}  // namespace imhotep::executor
