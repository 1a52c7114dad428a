#include "cli/json_output.h"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace imhotep::cli {

void print_json_error(const std::string& message, int code) {
  nlohmann::ordered_json body;
  body["error"] = {{"code", code}, {"message", message}};
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  std::printf("%s\n", body.dump(2, ' ', false, replace).c_str());
}

}  // namespace imhotep::cli
