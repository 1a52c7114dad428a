#pragma once
// The HTTP front end: one thread, a coroutine a connection. HTTP/1.0 and 1.1, keep-alive,
// server-sent events as one chunk each. A client that leaves has its requests cancelled; one that
// stops reading is let go after the write limit.
// Source: RFC 9112; html.spec.whatwg.org, "Server-sent events".

#include <cstdint>
#include <memory>
#include <string>

#include "executor/serve/service.h"

namespace imhotep::executor {

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8000;  // 0: any free one
  std::int64_t max_body_bytes = std::int64_t{4} << 20;
  std::int64_t max_connections = 4096;
  double idle_limit_s = 75;   // between two requests of a connection
  double read_limit_s = 30;   // for one request to arrive
  double write_limit_s = 30;  // for one piece of an answer to be taken
};

class HttpServer {
 public:
  // Listens at once. Throws: Error(Input) when the address cannot be used.
  HttpServer(const HttpOptions& options, ServiceOptions service, Metrics& metrics);
  // Ends all connections.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] int port() const;
  // Completions become possible: takes over engine.on_events.
  // Requires: called once, before engine.run(); what is passed outlives the server.
  void open(Engine& engine, const Vocabulary& vocabulary, const Plan& plan,
            std::int64_t max_context);
  // No new connection; waits until the answers under way are written, at most so long.
  void finish(double limit_s);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace imhotep::executor
