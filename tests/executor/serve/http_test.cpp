// The server from outside, byte by byte.

#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/executor/serve/live_server.h"

namespace imhotep::test {
namespace {

using Json = nlohmann::json;

constexpr const char* kShort = R"({"prompt": "abc", "max_tokens": 5, "temperature": 0})";

Json json_of(const std::string& answer) { return Json::parse(body_of(answer)); }

std::string streamed(const std::string& body) {
  return http_post("/v1/completions", body, "Connection: close\r\n");
}

// The chunks of a chunked body, one string each.
std::vector<std::string> chunks_of(const std::string& body) {
  std::vector<std::string> chunks;
  for (std::size_t at = 0; at < body.size();) {
    const std::size_t line = body.find("\r\n", at);
    const auto size = std::stoul(body.substr(at, line - at), nullptr, 16);
    if (size == 0) break;
    chunks.push_back(body.substr(line + 2, size));
    at = line + 2 + size + 2;
  }
  return chunks;
}

}  // namespace

TEST_CASE("a completion, the models, health, metrics and the plan can be asked for") {
  LiveServer server;
  Line line(server.port());  // one connection for all
  line.send(http_post("/v1/completions", kShort, "X-Request-ID: my-id\r\n"));
  const std::string answer = line.read_answer();
  CHECK(status_of(answer) == 200);
  CHECK(answer.find("X-Request-ID: my-id\r\n") != std::string::npos);
  const Json json = json_of(answer);
  CHECK(json["object"] == "text_completion");
  CHECK(json["choices"][0]["finish_reason"] == "length");
  CHECK(json["usage"] == Json{{"prompt_tokens", 3}, {"completion_tokens", 5}, {"total_tokens", 8}});
  line.send(http_get("/v1/models"));
  CHECK(json_of(line.read_answer())["data"][0]["id"] == "nano");
  line.send(http_get("/v1/models/nano"));
  CHECK(json_of(line.read_answer())["max_model_len"] == 32);
  line.send(http_get("/plan"));
  CHECK(json_of(line.read_answer())["model"]["name"] == "nano-pr-moe-2-8");
  line.send(http_post("/tokenize", R"({"prompt": "hi"})"));
  CHECK(json_of(line.read_answer())["tokens"] == Json{104, 105});
  line.send(http_post("/detokenize", R"({"tokens": [104, 105]})"));
  CHECK(json_of(line.read_answer())["prompt"] == "hi");
  line.send(http_get("/metrics"));
  const std::string metrics = line.read_answer();
  for (const char* name :
       {"imhotep_generation_tokens_total{model_name=\"nano\"} 5\n",
        "imhotep_requests_total{model_name=\"nano\",finished_reason=\"length\"} 1\n",
        "imhotep_time_to_first_token_seconds_count{model_name=\"nano\"} 1\n",
        "imhotep_expert_tokens_total{model_name=\"nano\",layer=\"1\",expert=\"0\"}",
        "imhotep_kv_cache_usage_ratio", "imhotep_dropped_tokens_total{model_name=\"nano\"} 0\n"}) {
    CAPTURE(std::string(name));
    CHECK(metrics.find(name) != std::string::npos);
  }
}

TEST_CASE("a stream is one event a chunk, and its texts add up to the whole") {
  LiveServer server;
  const Json whole = json_of(ask(server.port(), http_post("/v1/completions", kShort)));
  Line line(server.port());
  line.send(streamed(R"({"prompt": "abc", "max_tokens": 5, "temperature": 0, "stream": true,
                         "stream_options": {"include_usage": true}})"));
  const std::string answer = line.read_until("");
  CHECK(answer.find("Content-Type: text/event-stream") != std::string::npos);
  const auto chunks = chunks_of(body_of(answer));
  REQUIRE(chunks.size() == 7);  // five tokens, usage, [DONE]
  std::string text;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    CHECK(chunks[i].starts_with("data: "));
    CHECK(chunks[i].ends_with("\n\n"));
    CHECK(chunks[i].find("\n\n") == chunks[i].size() - 2);
    if (i >= 5) continue;
    const Json event = Json::parse(chunks[i].substr(6));
    text += event["choices"][0]["text"].get<std::string>();
    CHECK(event["choices"][0]["finish_reason"] == (i == 4 ? Json("length") : Json()));
  }
  CHECK(text == whole["choices"][0]["text"].get<std::string>());
  CHECK(Json::parse(chunks[5].substr(6))["usage"]["completion_tokens"] == 5);
  CHECK(chunks[6] == "data: [DONE]\n\n");
}

TEST_CASE("a client of HTTP/1.0 reads its stream until the line closes") {
  LiveServer server;
  const std::string body = R"({"prompt": "abc", "max_tokens": 3, "stream": true})";
  Line line(server.port());
  line.send(fmt::format("POST /v1/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{}",
                        body.size(), body));
  const std::string answer = line.read_until("");
  CHECK(answer.find("chunked") == std::string::npos);
  CHECK(body_of(answer).starts_with("data: {"));
  CHECK(answer.ends_with("data: [DONE]\n\n"));
}

TEST_CASE("a request that comes byte by byte, and two at once on one line, are answered") {
  LiveServer server;
  Line line(server.port());
  for (const char c : http_post("/v1/completions", kShort)) line.send(std::string(1, c));
  CHECK(status_of(line.read_answer()) == 200);
  line.send(http_post("/v1/completions", kShort) + http_get("/health"));
  CHECK(status_of(line.read_answer()) == 200);
  CHECK(body_of(line.read_answer()) == R"({"status":"ok"})");
}

TEST_CASE("what is wrong with a request is said in the shape that OpenAI's clients read") {
  LiveServer server({.max_body_bytes = 2000});
  const struct {
    std::string request;
    int status;
    const char* part;
  } cases[] = {
      {http_get("/nowhere"), 404, "nothing is at"},
      {http_get("/v1/completions"), 405, "POST alone"},
      {http_post("/v1/completions", "{"), 400, "not valid JSON"},
      {http_post("/v1/completions", "[]"), 400, "JSON object"},
      {http_post("/v1/completions", "{}"), 400, "prompt"},
      {http_post("/v1/completions", R"({"prompt": ""})"), 400, "no token"},
      {http_post("/v1/completions", R"({"prompt": [1, 999]})"), 400, "tokens from 0"},
      {http_post("/v1/completions", R"({"prompt": "a", "model": "gpt-9"})"), 404, "gpt-9"},
      {http_post("/v1/completions", R"({"prompt": "a", "max_tokens": 0})"), 400, "max_tokens"},
      {http_post("/v1/completions", R"({"prompt": "a", "max_tokens": 100})"), 400, "exceed the 32"},
      {http_post("/v1/completions", R"({"prompt": "a", "temperature": 3})"), 400, "temperature"},
      {http_post("/v1/completions", R"({"prompt": "a", "stop": [""]})"), 400, "stop"},
      {http_post("/v1/completions", R"({"prompt": "a", "n": 99})"), 400, "n: expected"},
      {http_post("/v1/completions", R"({"prompt": "a", "logit_bias": {"1": 2}})"), 400,
       "logit_bias"},
      {http_post("/v1/chat/completions", R"({"messages": []})"), 400, "messages"},
      {http_post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "a"}]})"),
       400, "no chat template"},
      {http_post("/v1/completions", std::string(3000, ' ')), 413, "too large"},
      {"NONSENSE\r\n\r\n", 400, "not an HTTP request"},
  };
  for (const auto& one : cases) {
    CAPTURE(one.request);
    const std::string answer = ask(server.port(), one.request);
    CHECK(status_of(answer) == one.status);
    const Json error = json_of(answer)["error"];
    CHECK(error["message"].get<std::string>().find(one.part) != std::string::npos);
    CHECK(error.contains("type"));
    CHECK(error.contains("param"));
    CHECK(error.contains("code"));
  }
}

TEST_CASE("with keys, nothing but health is open to strangers") {
  LiveServer server({.keys = {"secret", "other"}});
  CHECK(status_of(ask(server.port(), http_get("/health"))) == 200);
  for (const char* headers : {"", "Authorization: Bearer wrong\r\n", "Authorization: secret\r\n"}) {
    CHECK(status_of(ask(server.port(), http_get("/v1/models", headers))) == 401);
    CHECK(status_of(ask(server.port(), http_get("/metrics", headers))) == 401);
    CHECK(status_of(ask(server.port(), http_post("/v1/completions", kShort, headers))) == 401);
  }
  CHECK(status_of(ask(server.port(), http_post("/v1/completions", kShort,
                                               "Authorization: Bearer other\r\n"))) == 200);
}

TEST_CASE("several answers, echo, log-probabilities and seeds") {
  LiveServer server;
  const Json json = json_of(
      ask(server.port(),
          http_post("/v1/completions",
                    R"({"prompt": ["ab", "cd"], "n": 2, "max_tokens": 4, "seed": 7, "echo": true,
                    "logprobs": 2})")));
  REQUIRE(json["choices"].size() == 4);
  CHECK(json["usage"]["prompt_tokens"] == 4);
  CHECK(json["usage"]["completion_tokens"] == 16);
  for (int i = 0; i < 4; ++i) {
    const Json& choice = json["choices"][i];
    CHECK(choice["index"] == i);
    CHECK(choice["text"].get<std::string>().starts_with(i < 2 ? "ab" : "cd"));
    CHECK(choice["logprobs"]["tokens"].size() == 4);
    CHECK(choice["logprobs"]["top_logprobs"][0].size() >= 2);
    CHECK(choice["logprobs"]["text_offset"][0] == 2);
  }
  CHECK(json["choices"][0]["text"] != json["choices"][1]["text"]);
  const std::string again = R"({"prompt": "ab", "max_tokens": 4, "seed": 7})";
  CHECK(json_of(ask(server.port(),
                    http_post("/v1/completions", again)))["choices"][0]["logprobs"] == Json());
  const auto text = [&] {
    return json_of(ask(server.port(), http_post("/v1/completions", again)))["choices"][0]["text"];
  };
  CHECK(text() == text());
}

TEST_CASE("a chat goes through the checkpoint's template") {
  LiveServer server(
      {.chat_template = "{% for m in messages %}<{{ m.role[:1] }}>{{ m.content }}{% endfor %}:"});
  const Json whole =
      json_of(ask(server.port(),
                  http_post("/v1/chat/completions",
                            R"({"messages": [{"role": "user", "content": "hey"}], "max_tokens": 4,
                    "temperature": 0, "logprobs": true, "top_logprobs": 1})")));
  CHECK(whole["object"] == "chat.completion");
  CHECK(whole["usage"]["prompt_tokens"] == 7);  // "<u>hey:"
  CHECK(whole["choices"][0]["message"]["role"] == "assistant");
  CHECK(whole["choices"][0]["logprobs"]["content"].size() == 4);
  const Json plain = json_of(ask(
      server.port(),
      http_post("/v1/completions", R"({"prompt": "<u>hey:", "max_tokens": 4, "temperature": 0})")));
  CHECK(plain["choices"][0]["text"] == whole["choices"][0]["message"]["content"]);
}

TEST_CASE("overload is refused with a time to come back, and what was accepted is answered") {
  LiveServer server({.engine = {.max_waiting = 2}, .sequences = 1, .kv_tokens = 32});
  const std::string body = R"({"prompt": "a", "max_tokens": 31, "temperature": 0})";
  std::vector<std::unique_ptr<Line>> lines;
  for (int i = 0; i < 40; ++i) {
    lines.push_back(std::make_unique<Line>(server.port()));
    lines.back()->send(http_post("/v1/completions", body));
  }
  int served = 0, refused = 0;
  for (const auto& line : lines) {
    const std::string answer = line->read_answer();
    served += status_of(answer) == 200;
    refused += status_of(answer) == 429 && answer.find("Retry-After: ") != std::string::npos;
  }
  CHECK(served >= 2);
  CHECK(refused >= 1);
  CHECK(served + refused == 40);
}

TEST_CASE("clients that vanish leave nothing behind") {
  LiveServer server;
  const std::string body = R"({"prompt": "a", "max_tokens": 31, "ignore_eos": true)";
  for (int i = 0; i < 60; ++i) {
    Line line(server.port());
    const std::string request =
        http_post("/v1/completions", body + (i % 2 == 0 ? ", \"stream\": true}" : "}"));
    const bool half = i % 5 == 4;
    line.send(half ? request.substr(0, request.size() / 2) : request);
    if (i % 4 == 0 && !half) static_cast<void>(line.read_until("data: "));
    if (i % 3 == 0) line.hang_up();
  }
  server.wait_until_idle();
  CHECK(status_of(ask(server.port(), http_post("/v1/completions", kShort))) == 200);
}

TEST_CASE("a thousand damaged bodies get an answer of the 400s, or a sound one") {
  LiveServer server;
  constexpr std::uint64_t kSeed = 4;
  CAPTURE(kSeed);
  std::mt19937_64 draw(kSeed);
  const std::string whole =
      R"({"model":"nano","prompt":["abc",[1,2]],"max_tokens":2,"temperature":0.5,"top_p":0.9,)"
      R"("n":1,"stop":["x"],"seed":3,"logprobs":1,"stream":false,"messages":[{"role":"user",)"
      R"("content":[{"type":"text","text":"\u00e9"}]}],"echo":true,"tokens":[1,2,3]})";
  const char* paths[] = {"/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"};
  const char* values[] = {"null",     "-1",     "1e400", "\"\\ud800\"",
                          "[[[[]]]]", "{}",     "true",  "18446744073709551615",
                          "\"\"",     "[null]", "0.5"};
  int refused = 0;
  Line* line = nullptr;
  std::unique_ptr<Line> held;
  for (int i = 0; i < 1000; ++i) {
    std::string body = whole;
    const int damages = 1 + static_cast<int>(draw() % 3);
    for (int d = 0; d < damages; ++d) {
      const std::size_t at = draw() % body.size();
      switch (draw() % 4) {
        case 0:
          body[at] = static_cast<char>(draw());
          break;
        case 1:
          body.erase(at, draw() % 20);
          break;
        case 2:
          body.insert(at, body.substr(draw() % body.size(), draw() % 30));
          break;
        default:
          if (const std::size_t colon = body.find(':', at); colon != std::string::npos) {
            const std::size_t end = body.find_first_of(",}", colon);
            body.replace(colon + 1, end - colon - 1, values[draw() % std::size(values)]);
          }
      }
      if (body.empty()) body = "x";
    }
    CAPTURE(body);
    if (line == nullptr) {
      held = std::make_unique<Line>(server.port());
      line = held.get();
    }
    line->send(http_post(paths[i % 4], body));
    const std::string answer = line->read_answer();
    const int status = status_of(answer);
    REQUIRE((status == 200 || (status >= 400 && status < 500)));
    refused += status != 200;
    if (answer.find("Connection: close") != std::string::npos) line = nullptr;
  }
  CHECK(refused > 500);
  server.wait_until_idle();
  CHECK(status_of(ask(server.port(), http_get("/health"))) == 200);
}

TEST_CASE("a thousand streams at once are held in little memory") {
  const auto resident_kib = [] {
    std::ifstream status("/proc/self/status");
    for (std::string text; std::getline(status, text);) {
      if (text.starts_with("VmRSS:")) return std::stol(text.substr(6));
    }
    return 0L;
  };
  LiveServer server({.engine = {.max_waiting = 2000, .queue_limit_us = 0}});
  [[maybe_unused]] const long before = resident_kib();
  std::vector<std::unique_ptr<Line>> lines;
  const std::string body = R"({"prompt": "a", "max_tokens": 8, "temperature": 0, "stream": true})";
  constexpr int kStreams = 1024;
  for (int i = 0; i < kStreams; ++i) {
    lines.push_back(std::make_unique<Line>(server.port()));
    lines.back()->send(http_post("/v1/completions", body));
  }
  int done = 0;
  long most = 0;
  for (const auto& line : lines) {
    done += line->read_until("data: [DONE]\n\n").ends_with("data: [DONE]\n\n");
    most = std::max(most, resident_kib());
  }
  CHECK(done == kStreams);
#ifndef IMHOTEP_SANITIZED  // sanitizers keep what is freed
  CHECK(most - before < 200 * 1024);
#endif
}

TEST_CASE("a draining server refuses what comes and finishes what it has") {
  auto server = std::make_unique<LiveServer>();
  const int port = server->port();
  Line line(port), late(port);
  line.send(streamed(R"({"prompt": "a", "max_tokens": 31, "stream": true, "ignore_eos": true})"));
  CHECK(line.read_until("data: ").ends_with("data: "));
  server->engine().drain();
  late.send(http_post("/v1/completions", kShort));
  const int status = status_of(late.read_answer());
  CHECK((status == 503 || status == 0));  // 0: the answer came too late for anything
  CHECK(line.read_until("").find("data: [DONE]\n\n") != std::string::npos);
  server.reset();
  CHECK_THROWS(Line{port});
}

}  // namespace imhotep::test
