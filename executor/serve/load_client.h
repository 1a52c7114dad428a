#pragma once
// A load for servers that speak OpenAI's dialect: streams of completions, opened when their time
// comes (open loop) or when one ends (closed loop), and the moment of every token. One thread, so
// that it takes little from the server beside it; a request is a connection.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace imhotep::executor {

struct LoadTarget {
  std::string host = "127.0.0.1", port = "8000", key, model;
};

struct LoadRequest {
  double at_us = 0;  // open loop: when to send, since the start
  std::string body;  // JSON; it must ask for a stream
};

// Times since the start of the load; -1: it never came to that.
struct LoadResult {
  double sent_us = -1, first_us = -1, end_us = -1;
  std::vector<double> tokens_us;  // every event that carries a choice
  int status = 0;                 // of HTTP; 0: no answer
  std::string error;              // empty: a whole stream came
  [[nodiscard]] bool complete() const { return error.empty(); }
};

struct LoadOptions {
  std::int64_t concurrency = 0;  // closed loop: connections at once; 0: open loop
  double limit_us = 600e6;       // then what is still open fails
  std::function<void(std::int64_t done)> progress;
};

// Throws: Error(Failed) when the host cannot be found.
[[nodiscard]] std::vector<LoadResult> run_load(const LoadTarget& target,
                                               const std::vector<LoadRequest>& requests,
                                               const LoadOptions& options);
// One GET; the body. Throws: Error(Failed) unless it is answered with 200.
[[nodiscard]] std::string http_fetch(const LoadTarget& target, const std::string& path);

}  // namespace imhotep::executor
