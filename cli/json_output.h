#pragma once
// JSON on stdout. Takes text, so that no header of this folder needs the JSON library.

#include <string>

namespace imhotep::cli {

// {"error": {"code": 2, "message": "..."}}
void print_json_error(const std::string& message, int code);

}  // namespace imhotep::cli
