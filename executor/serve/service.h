#pragma once
// What the server answers, apart from sockets: routes, keys, request ids, and what becomes of a
// request on its way to the engine. Lives on the front end's thread.

#include <atomic>
#include <memory>
#include <optional>
#include <variant>

#include "executor/serve/api.h"
#include "executor/serve/engine.h"
#include "executor/serve/metrics.h"

namespace imhotep::executor {

struct HttpQuestion {
  std::string method, path, body, authorization, request_id;
  std::uint64_t peer = 0;  // hash of the client's address
};

struct HttpAnswer {
  int status = 200;
  std::string body, content_type = "application/json";
  int retry_after_s = 0;  // 0: no such header
};

struct ServiceOptions {
  std::string model;              // the name clients use
  std::string plan_text;          // for /plan
  std::vector<std::string> keys;  // empty: everybody may ask
  std::int64_t max_choices = 16;
  std::uint64_t seed = 0;  // for requests without one
};

// A completion under way. Its requests are `first_id`, `first_id` + 1, ...
struct Job {
  ApiRequest request;
  ApiAnswer answer;
  schedule::RequestId first_id = 0;
  [[nodiscard]] std::size_t size() const { return request.choices.size(); }
};

class Service {
 public:
  Service(ServiceOptions options, Metrics& metrics);

  // From now on completions are possible; until then they get 503, as /health does.
  // Requires: both outlive the service, or its last question.
  void open(Engine& engine, const Vocabulary& vocabulary, const Plan& plan,
            std::int64_t max_context);
  [[nodiscard]] bool is_open() const { return engine_ != nullptr; }

  // Never throws for what a client sends: errors are answers.
  [[nodiscard]] std::variant<HttpAnswer, std::unique_ptr<Job>> handle(const HttpQuestion& question);
  // Hands the job's requests to the engine; an answer when it refuses them.
  [[nodiscard]] std::optional<HttpAnswer> start(Job& job);
  void cancel(const Job& job);

  [[nodiscard]] HttpAnswer refusal(const ApiError& error) const;

 private:
  [[nodiscard]] HttpAnswer simple(const HttpQuestion& question);
  [[nodiscard]] std::unique_ptr<Job> job(ApiKind kind, const HttpQuestion& question);
  [[nodiscard]] std::uint64_t client_of(const HttpQuestion& question) const;
  void expect_open() const;
  [[nodiscard]] std::string stats() const;

  ServiceOptions options_;
  Metrics& metrics_;
  std::int64_t created_s_;
  double began_us_;
  Engine* engine_ = nullptr;
  std::optional<ApiContext> context_;
  schedule::RequestId next_id_ = 1;
};

}  // namespace imhotep::executor
