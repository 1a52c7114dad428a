#pragma once
// One exception type for everything that stops a command: unreadable input, a failed system or
// library call, a broken invariant. A plan that does not fit is data (Verdict), never an Error.
// This header is safe to include from .cu files: it names no formatting library.

#include <stdexcept>
#include <string>

namespace imhotep {

// The values are the exit codes of the command line.
enum class ErrorKind {
  Failed = 1,      // failed while running
  Input = 2,       // wrong usage or a bad input file
  Infeasible = 3,  // no plan satisfies the request
  Gate = 4,        // a requested limit was exceeded (compare --fail-over)
  Missing = 5,     // needed data, library or hardware is absent
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  [[nodiscard]] ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

[[noreturn]] void raise(ErrorKind kind, const std::string& message);

}  // namespace imhotep
