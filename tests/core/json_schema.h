#pragma once
// Validates a JSON text against a JSON Schema text with valijson, an implementation that shares
// no code with ours.

#include <string>

namespace imhotep::test {

// Empty when `document` is valid, else every complaint, one a line.
[[nodiscard]] std::string schema_problem(const std::string& schema, const std::string& document);

}  // namespace imhotep::test
