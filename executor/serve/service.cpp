#include "executor/serve/service.h"

#include <fmt/format.h>

#include <chrono>
#include <functional>

#include "core/base/random.h"

namespace imhotep::executor {
namespace {

double steady_us() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::micro>(now).count();
}

std::int64_t unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

// Takes as long whatever differs.
bool same_key(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = static_cast<unsigned char>(difference | (a[i] ^ b[i]));
  }
  return difference == 0;
}

enum class Route {
  Health,
  Metrics,
  Plan,
  Stats,
  Models,
  Model,
  Tokenize,
  Detokenize,
  Completion,
  Chat
};

struct Entry {
  const char* path;
  const char* method;
  Route route;
};
constexpr Entry kRoutes[] = {
    {"/health", "GET", Route::Health},
    {"/metrics", "GET", Route::Metrics},
    {"/plan", "GET", Route::Plan},
    {"/stats", "GET", Route::Stats},
    {"/v1/models", "GET", Route::Models},
    {"/tokenize", "POST", Route::Tokenize},
    {"/detokenize", "POST", Route::Detokenize},
    {"/v1/completions", "POST", Route::Completion},
    {"/v1/chat/completions", "POST", Route::Chat},
};

// Throws: ApiError 404 or 405.
Route route_of(const HttpQuestion& question) {
  const std::string path = question.path.substr(0, question.path.find('?'));
  for (const Entry& entry : kRoutes) {
    if (path != entry.path) continue;
    if (question.method == entry.method) return entry.route;
    throw ApiError(405, fmt::format("{} answers {} alone", path, entry.method), {},
                   "method_not_allowed");
  }
  if (path.starts_with("/v1/models/") && question.method == "GET") return Route::Model;
  throw ApiError(404, fmt::format("nothing is at {}", path.substr(0, 200)), {}, "not_found");
}

}  // namespace

Service::Service(ServiceOptions options, Metrics& metrics)
    : options_(std::move(options)),
      metrics_(metrics),
      created_s_(unix_seconds()),
      began_us_(steady_us()) {}

void Service::open(Engine& engine, const Vocabulary& vocabulary, const Plan& plan,
                   std::int64_t max_context) {
  context_.emplace(ApiContext{.vocabulary = vocabulary,
                              .model = options_.model,
                              .words = plan.model.vocab,
                              .max_context = max_context,
                              .max_choices = options_.max_choices,
                              .problem = [&engine](std::int64_t prompt, std::int64_t output) {
                                return engine.problem(prompt, output);
                              }});
  engine_ = &engine;
}

HttpAnswer Service::refusal(const ApiError& error) const {
  HttpAnswer answer{.status = error.status, .body = error_body(error)};
  if (error.status == 429 || error.status == 503) {
    answer.retry_after_s = engine_ != nullptr ? engine_->retry_after_s() : 5;
  }
  return answer;
}

void Service::expect_open() const {
  if (engine_ == nullptr) throw ApiError(503, "the model is being loaded", {}, "loading");
}

std::uint64_t Service::client_of(const HttpQuestion& question) const {
  constexpr std::string_view kBearer = "Bearer ";
  if (options_.keys.empty()) return question.peer;
  std::uint64_t client = 0;
  if (question.authorization.starts_with(kBearer)) {
    const std::string_view given = std::string_view(question.authorization).substr(kBearer.size());
    for (std::size_t i = 0; i < options_.keys.size(); ++i) {
      if (same_key(given, options_.keys[i])) client = i + 1;
    }
  }
  if (client == 0) {
    throw ApiError(401, "a valid API key is needed: Authorization: Bearer KEY", {},
                   "invalid_api_key");
  }
  return client;
}

std::variant<HttpAnswer, std::unique_ptr<Job>> Service::handle(const HttpQuestion& question) {
  try {
    const Route route = route_of(question);
    if (route != Route::Completion && route != Route::Chat) return simple(question);
    return job(route == Route::Chat ? ApiKind::Chat : ApiKind::Completion, question);
  } catch (const ApiError& error) {
    return refusal(error);
  } catch (const std::exception& error) {
    return refusal(ApiError(500, fmt::format("the server failed: {}", error.what())));
  }
}

HttpAnswer Service::simple(const HttpQuestion& question) {
  const Route route = route_of(question);
  if (route == Route::Health) {
    expect_open();
    if (engine_->draining()) throw ApiError(503, "the server is shutting down", {}, "draining");
    return {.body = R"({"status":"ok"})"};
  }
  static_cast<void>(client_of(question));
  if (route == Route::Metrics) {
    return {.body = metrics_.text((steady_us() - began_us_) / 1e6),
            .content_type = "text/plain; version=0.0.4; charset=utf-8"};
  }
  if (route == Route::Plan) return {.body = options_.plan_text};
  expect_open();
  if (route == Route::Stats) return {.body = stats()};
  if (route == Route::Models) return {.body = model_list(*context_, created_s_)};
  if (route == Route::Tokenize) return {.body = tokenize(question.body, *context_)};
  if (route == Route::Detokenize) return {.body = detokenize(question.body, *context_)};
  if (question.path.substr(std::string_view("/v1/models/").size()) != options_.model) {
    throw ApiError(404, "this server has no such model", "model", "model_not_found");
  }
  return {.body = model_entry(*context_, created_s_)};
}

std::string Service::stats() const {
  const schedule::Limits& limits = engine_->limits();
  std::string buckets;
  for (const schedule::Bucket& bucket : limits.buckets) {
    buckets += fmt::format("{}[{},{}]", buckets.empty() ? "" : ",", bucket.rows, bucket.samples);
  }
  return metrics_.read([&](const Metrics::Values& v) {
    std::string loads;
    for (const BucketLoad& load : v.bucket_loads) {
      loads += fmt::format("{}[{},{},{}]", loads.empty() ? "" : ",", load.steps, load.rows,
                           load.active_experts);
    }
    return fmt::format(
        "{{\"data\":{},\"sequences\":{},\"pages\":{},\"page_size\":{},\"max_context\":{},"
        "\"buckets\":[{}],\"max_waiting\":{},\"queue_limit_us\":{},\"aging_us\":{},\"running\":{},"
        "\"waiting\":{},"
        "\"pages_used\":{},\"preemptions\":{},\"steps\":{},\"step_seconds\":{},"
        "\"program_seconds\":{},\"active_experts\":{},\"bucket_loads\":[{}],"
        "\"output_tokens\":{}}}",
        limits.data, limits.sequences, limits.pages, limits.page_size, limits.max_context, buckets,
        engine_->max_waiting(), engine_->queue_limit_us(), limits.aging_us, v.running, v.waiting,
        v.pages_used, v.preemptions, v.steps, v.step_seconds, v.program_seconds, v.active_experts(),
        loads, v.output_tokens);
  });
}

std::unique_ptr<Job> Service::job(ApiKind kind, const HttpQuestion& question) {
  const std::uint64_t client = client_of(question);
  expect_open();
  ApiRequest request = parse_request(kind, question.body, *context_);
  const schedule::RequestId first = next_id_;
  next_id_ += request.choices.size();
  for (std::size_t i = 0; i < request.choices.size(); ++i) {
    ServeRequest& choice = request.choices[i];
    choice.id = first + i;
    choice.client = client;
    if (!request.seeded) choice.seed = hash(options_.seed, choice.id);
  }
  const char* prefix = kind == ApiKind::Chat ? "chatcmpl" : "cmpl";
  ApiAnswer answer(*context_, request,
                   fmt::format("{}-{:x}", prefix, hash(options_.seed, first, 1)), unix_seconds());
  return std::make_unique<Job>(
      Job{.request = std::move(request), .answer = std::move(answer), .first_id = first});
}

std::optional<HttpAnswer> Service::start(Job& job) {
  switch (engine_->submit(job.request.choices)) {
    case Refusal::None:
      return std::nullopt;
    case Refusal::Full:
      return refusal(ApiError(429, "too many requests wait; try again later", {}, "queue_full"));
    case Refusal::Draining:
      break;
  }
  return refusal(ApiError(503, "the server is shutting down", {}, "draining"));
}

void Service::cancel(const Job& job) {
  for (std::size_t i = 0; i < job.size(); ++i) engine_->cancel(job.first_id + i);
}

}  // namespace imhotep::executor
