#pragma once
// A request that the engine has taken. Internal to executor/serve.

#include "executor/serve/engine.h"

namespace imhotep::executor {

struct Engine::Active {
  ServeRequest request;
  std::vector<std::int32_t> tokens;  // prompt and answer
  AnswerText text;
  double arrival_us = 0, placed_us = -1, first_us = -1, last_us = -1;
  [[nodiscard]] std::int64_t generated() const {
    return static_cast<std::int64_t>(tokens.size() - request.prompt.size());
  }
};

[[nodiscard]] const char* reason_name(Finish finish);  // as metrics name it

}  // namespace imhotep::executor
