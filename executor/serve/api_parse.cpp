// Bodies to requests.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "executor/serve/api_json.h"
#include "executor/serve/chat_template.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kMostStops = 16, kLongestStop = 256, kMostAlternatives = 20;

using Tokens = std::vector<std::int32_t>;

struct Prompt {
  Tokens tokens;
  std::string text;  // for echo
};

Tokens tokens_of(const ApiJson& list, const char* name, const ApiContext& context) {
  Tokens tokens;
  tokens.reserve(list.size());
  for (const ApiJson& item : list) {
    const bool is_token = item.is_number_integer() && item.get<std::int64_t>() >= 0 &&
                          item.get<std::int64_t>() < context.words;
    if (!is_token) {
      throw ApiError(400, fmt::format("{}: expected tokens from 0 to {}", name, context.words - 1),
                     name);
    }
    tokens.push_back(item.get<std::int32_t>());
  }
  return tokens;
}

Prompt text_prompt(const std::string& text, const ApiContext& context) {
  Prompt prompt{.tokens = {}, .text = text};
  if (context.vocabulary.beginning() >= 0) prompt.tokens.push_back(context.vocabulary.beginning());
  const Tokens tokens = context.vocabulary.encode(text);
  prompt.tokens.insert(prompt.tokens.end(), tokens.begin(), tokens.end());
  return prompt;
}

// A text, a list of texts, a list of tokens, or a list of such lists.
std::vector<Prompt> completion_prompts(const Fields& fields, const ApiContext& context) {
  const ApiJson* prompt = fields.find("prompt");
  if (prompt == nullptr) throw ApiError(400, "prompt: it is missing", "prompt");
  if (prompt->is_string()) return {text_prompt(prompt->get<std::string>(), context)};
  if (!prompt->is_array() || prompt->empty()) {
    throw ApiError(400, "prompt: expected a text, texts, or lists of tokens", "prompt");
  }
  const auto from_tokens = [&](const ApiJson& list) {
    const Tokens tokens = tokens_of(list, "prompt", context);
    return Prompt{.tokens = tokens, .text = context.vocabulary.decode(tokens)};
  };
  if (prompt->front().is_number()) return {from_tokens(*prompt)};
  std::vector<Prompt> prompts;
  for (const ApiJson& item : *prompt) {
    if (item.is_string()) {
      prompts.push_back(text_prompt(item.get<std::string>(), context));
    } else if (item.is_array()) {
      prompts.push_back(from_tokens(item));
    } else {
      throw ApiError(400, "prompt: expected a text, texts, or lists of tokens", "prompt");
    }
  }
  return prompts;
}

// A text, or parts of which each is {"type": "text", "text": ...}.
std::string content_text(const ApiJson& content) {
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  if (!content.is_array()) throw ApiError(400, "messages: expected content as text", "messages");
  for (const ApiJson& part : content) {
    const bool is_text = part.is_object() && part.value("type", ApiJson()) == ApiJson("text") &&
                         part.contains("text") && part["text"].is_string();
    if (!is_text) throw ApiError(400, "messages: this model reads text alone", "messages");
    text += part["text"].get<std::string>();
  }
  return text;
}

std::vector<Prompt> chat_prompts(const Fields& fields, const ApiContext& context) {
  const ApiJson* messages = fields.find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    throw ApiError(400, "messages: expected a list of messages", "messages");
  }
  const std::string& source = context.vocabulary.chat_template();
  if (source.empty()) {
    throw ApiError(400,
                   "this checkpoint has no chat template: use /v1/completions, or start the "
                   "server with --chat-template",
                   "messages", "no_chat_template");
  }
  std::vector<ChatMessage> chat;
  for (const ApiJson& message : *messages) {
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string() ||
        !message.contains("content")) {
      throw ApiError(400, "messages: each needs a role and a content", "messages");
    }
    chat.push_back({message["role"].get<std::string>(), content_text(message["content"])});
  }
  const auto special = [&](std::int32_t token) {
    return token >= 0 ? std::string(context.vocabulary.name_of(token)) : std::string();
  };
  const auto& ends = context.vocabulary.ends();
  Prompt prompt;
  try {
    prompt.text = render_chat(
        source, {.messages = chat,
                 .beginning = special(context.vocabulary.beginning()),
                 .end = ends.empty() ? "" : special(ends.front()),
                 .add_generation_prompt = fields.boolean("add_generation_prompt", true)});
  } catch (const TemplateError& error) {
    throw ApiError(400, fmt::format("chat template: {}", error.what()), "messages");
  }
  prompt.tokens = context.vocabulary.encode_special(prompt.text);
  return {std::move(prompt)};
}

std::vector<std::string> stops_of(const Fields& fields) {
  const ApiJson* stop = fields.find("stop");
  std::vector<std::string> stops;
  if (stop == nullptr) return stops;
  const auto add = [&](const ApiJson& item) {
    const bool fits = item.is_string() && !item.get<std::string>().empty() &&
                      static_cast<std::int64_t>(item.get<std::string>().size()) <= kLongestStop;
    if (!fits || static_cast<std::int64_t>(stops.size()) == kMostStops) {
      throw ApiError(
          400,
          fmt::format("stop: expected at most {} texts of 1 to {} bytes", kMostStops, kLongestStop),
          "stop");
    }
    stops.push_back(item.get<std::string>());
  };
  if (!stop->is_array()) {
    add(*stop);
  } else {
    for (const ApiJson& item : *stop) add(item);
  }
  return stops;
}

void refuse_what_is_missing(const Fields& fields) {
  for (const char* name : {"presence_penalty", "frequency_penalty", "min_p"}) {
    fields.refuse_unless(name, "0");
  }
  fields.refuse_unless("repetition_penalty", "1");
  fields.refuse_unless("logit_bias", "{}");
  fields.refuse_unless("tools", "[]");
  fields.refuse_unless("suffix", "\"\"");
  fields.refuse_unless("response_format", R"({"type": "text"})");
  fields.refuse_unless("use_beam_search", "false");
}

// Completions ask for a number of alternatives, chats for them and the log-probability apart.
void read_logprobs(const Fields& fields, ApiRequest& out, ServeRequest& one) {
  std::optional<std::int64_t> wanted;
  if (out.kind == ApiKind::Chat) {
    out.logprobs = fields.boolean("logprobs", false);
    wanted = fields.integer("top_logprobs", 0, kMostAlternatives);
    if (wanted && !out.logprobs) {
      throw ApiError(400, "top_logprobs: it needs \"logprobs\": true", "top_logprobs");
    }
  } else {
    wanted = fields.integer("logprobs", 0, kMostAlternatives);
    out.logprobs = wanted.has_value();
  }
  one.alternatives = static_cast<std::int32_t>(wanted.value_or(0));
}

ServeRequest common_fields(const Fields& fields, ApiRequest& out) {
  ServeRequest one;
  one.temperature = fields.number("temperature", 0, 2).value_or(1);
  one.top_p = fields.number("top_p", 0, 1).value_or(1);
  one.top_k = std::max<std::int64_t>(0, fields.integer("top_k", -1, INT32_MAX).value_or(0));
  one.priority = static_cast<int>(fields.integer("priority", -1000, 1000).value_or(0));
  one.ignore_end = fields.boolean("ignore_eos", false);
  one.stop = stops_of(fields);
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) {
    one.seed = static_cast<std::uint64_t>(*seed);
    out.seeded = true;
  }
  read_logprobs(fields, out, one);
  return one;
}

void expect_model(const Fields& fields, const ApiContext& context) {
  const auto model = fields.text("model");
  if (!model || *model == context.model) return;
  throw ApiError(404,
                 fmt::format("the model \"{}\" does not exist; this server has \"{}\"",
                             printable(*model), context.model),
                 "model", "model_not_found");
}

}  // namespace

ApiRequest parse_request(ApiKind kind, std::string_view body, const ApiContext& context) {
  const ApiJson json = parse_object(body);
  const Fields fields(json);
  expect_model(fields, context);
  refuse_what_is_missing(fields);
  ApiRequest out{.kind = kind, .choices = {}, .echoes = {}};
  out.stream = fields.boolean("stream", false);
  if (const ApiJson* options = fields.find("stream_options")) {
    if (!options->is_object()) {
      throw ApiError(400, "stream_options: expected an object", "stream_options");
    }
    out.include_usage = Fields(*options).boolean("include_usage", false);
  }
  const ServeRequest common = common_fields(fields, out);
  const bool echo = kind == ApiKind::Completion && fields.boolean("echo", false);
  out.choices_a_prompt = fields.integer("n", 1, context.max_choices).value_or(1);
  const auto best_of = fields.integer("best_of", 1, context.max_choices);
  if (best_of && *best_of != out.choices_a_prompt) {
    throw ApiError(400, "best_of: expected the same number as n", "best_of");
  }
  const char* most_name =
      fields.find("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  const auto most = fields.integer(most_name, 1, INT32_MAX);
  const std::int64_t least = fields.integer("min_tokens", 0, INT32_MAX).value_or(0);
  const auto prompts =
      kind == ApiKind::Chat ? chat_prompts(fields, context) : completion_prompts(fields, context);
  const auto count = static_cast<std::int64_t>(prompts.size()) * out.choices_a_prompt;
  if (count > context.max_choices) {
    throw ApiError(
        400, fmt::format("{} answers asked for, at most {} at once", count, context.max_choices),
        "prompt");
  }
  for (const Prompt& prompt : prompts) {
    if (prompt.tokens.empty()) throw ApiError(400, "the prompt has no token", "prompt");
    const auto length = static_cast<std::int64_t>(prompt.tokens.size());
    ServeRequest one = common;
    one.prompt = prompt.tokens;
    const std::int64_t room = std::max<std::int64_t>(1, context.max_context + 1 - length);
    one.max_tokens = most.value_or(kind == ApiKind::Chat ? room : std::min<std::int64_t>(16, room));
    one.min_tokens = least;
    if (least > one.max_tokens) {
      throw ApiError(400, "min_tokens: it exceeds max_tokens", "min_tokens");
    }
    const std::string problem = context.problem(length, one.max_tokens);
    if (!problem.empty()) throw ApiError(400, problem, most_name, "context_length_exceeded");
    for (std::int64_t i = 0; i < out.choices_a_prompt; ++i) {
      out.choices.push_back(one);
      out.choices.back().seed += static_cast<std::uint64_t>(i);
      out.echoes.push_back(echo ? prompt.text : "");
    }
  }
  return out;
}

std::string tokenize(std::string_view body, const ApiContext& context) {
  const ApiJson json = parse_object(body);
  const Fields fields(json);
  auto text = fields.text("prompt");
  if (!text) text = fields.text("content");
  if (!text) throw ApiError(400, "prompt: it is missing", "prompt");
  const bool special = fields.boolean("add_special_tokens", true);
  const Tokens tokens =
      special ? text_prompt(*text, context).tokens : context.vocabulary.encode(*text);
  const ApiJson answer = {
      {"count", tokens.size()}, {"max_model_len", context.max_context}, {"tokens", tokens}};
  return answer.dump();
}

std::string detokenize(std::string_view body, const ApiContext& context) {
  const ApiJson json = parse_object(body);
  const ApiJson* list = Fields(json).find("tokens");
  if (list == nullptr || !list->is_array()) {
    throw ApiError(400, "tokens: expected a list of tokens", "tokens");
  }
  const ApiJson answer = {
      {"prompt", context.vocabulary.decode(tokens_of(*list, "tokens", context))}};
  return answer.dump();
}

}  // namespace imhotep::executor
