// How requests end that cannot be finished: a status of their own, or an error event in a stream.

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "executor/serve/api.h"
#include "tests/executor/serve/serving.h"

namespace imhotep::executor {
namespace {

using Json = nlohmann::json;

struct Case {
  Finish finish;
  bool started;
  int status;
  const char* code;
};
constexpr Case kCases[] = {{Finish::Timeout, false, 503, "unavailable"},
                           {Finish::Timeout, true, 504, "timeout"},
                           {Finish::Shutdown, true, 503, "unavailable"},
                           {Finish::Failed, true, 500, "server_failed"}};

}  // namespace

TEST_CASE("what cannot be finished ends with its reason, as a status or in the stream") {
  const test::NumberWords words(50);
  const ApiContext context{.vocabulary = words,
                           .model = "nano",
                           .words = 50,
                           .max_context = 64,
                           .problem = [](std::int64_t, std::int64_t) { return std::string(); }};
  for (const Case& one : kCases) {
    for (const bool stream : {false, true}) {
      CAPTURE(one.status);
      CAPTURE(stream);
      const Json body = {{"prompt", "ab"}, {"max_tokens", 4}, {"stream", stream}};
      const ApiRequest request = parse_request(ApiKind::Completion, body.dump(), context);
      ApiAnswer answer(context, request, "cmpl-1", 7);
      const auto first = answer.add(
          0, {.id = 1, .text = "<3>", .tokens = {{3, -0.5, {}}}, .generated = 1, .started = true});
      CHECK(first.size() == (stream ? 1 : 0));
      const auto last = answer.add(0, {.id = 1,
                                       .text = {},
                                       .tokens = {},
                                       .finish = one.finish,
                                       .generated = 1,
                                       .reason = "because",
                                       .started = one.started});
      REQUIRE(answer.failed());
      CHECK(answer.error().status == one.status);
      CHECK(answer.error().message == "because");
      const Json error = Json::parse(stream ? last.at(0) : error_body(answer.error()))["error"];
      CHECK(error["code"] == one.code);
      CHECK(error["message"] == "because");
      CHECK(error["type"].is_string());
    }
  }
}

}  // namespace imhotep::executor
