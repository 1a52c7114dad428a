#pragma once
// A request as the engine knows it, and what it reports back.

#include <cstdint>
#include <string>
#include <vector>

#include "executor/serve/step_order.h"

namespace imhotep::executor {

struct ServeRequest {
  schedule::RequestId id = 0;
  std::vector<std::int32_t> prompt;  // at least one token
  std::int64_t max_tokens = 16;
  // Before so many tokens neither an end token nor a stop string ends the text.
  std::int64_t min_tokens = 0;
  double temperature = 1, top_p = 1;
  std::int64_t top_k = 0;
  std::uint64_t seed = 0;
  std::vector<std::string> stop;
  bool ignore_end = false;        // end tokens are tokens like others
  std::int32_t alternatives = 0;  // most probable tokens to report beside each token
  int priority = 0;
  std::uint64_t client = 0;
};

enum class Finish : std::uint8_t {
  None,
  Stop,      // an end token or a stop string
  Length,    // max_tokens
  Timeout,   // it waited or ran too long
  Shutdown,  // the server ended before the text did
  Failed,    // a step failed, and the server ends
};

struct TokenReport {
  std::int32_t token = 0;
  double logprob = 0;
  std::vector<Alternative> alternatives;
};

// News of one request: after a step, or its end.
struct ServeEvent {
  schedule::RequestId id = 0;
  std::string text;  // that is certain now
  std::vector<TokenReport> tokens;
  Finish finish = Finish::None;
  std::int64_t generated = 0;  // tokens so far
  std::string reason;          // Timeout, Shutdown and Failed: what happened
  bool started = false;        // Timeout: it had begun to run
};

enum class Refusal : std::uint8_t {
  None,
  Full,      // too many requests wait
  Draining,  // the server is about to end
};

}  // namespace imhotep::executor
