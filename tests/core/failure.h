#pragma once
// What a call that must fail says.

#include <string>

#include "core/base/error.h"

namespace imhotep::test {

// The message of the Error that `call` throws; a sentence that no test expects where it throws
// none or one of another kind.
template <class Call>
[[nodiscard]] std::string failure(Call call, ErrorKind kind = ErrorKind::Input) {
  try {
    call();
  } catch (const Error& error) {
    if (error.kind() == kind) return error.what();
    return "an error of kind " + std::to_string(static_cast<int>(error.kind())) + ": " +
           error.what();
  }
  return "no error was thrown";
}

[[nodiscard]] inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace imhotep::test
