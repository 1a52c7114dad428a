#pragma once
// Runs the built imhotep as its users do: a shell line, an exit code, two streams.

#include <string>
#include <vector>

namespace imhotep::cli {

struct Outcome {
  int code = -1;
  std::string out, err;
};

// `arguments` as typed in a shell. `before` comes before the program: "NO_COLOR=1", "timeout 1".
[[nodiscard]] Outcome run_program(const std::string& arguments, const std::string& before = "",
                                  const std::string& input = "");

// A folder of this process, removed at exit; the path of `name` in it.
[[nodiscard]] std::string scratch_file(const std::string& name);
[[nodiscard]] std::string scratch_file(const std::string& name, const std::string& content);

[[nodiscard]] std::vector<std::string> lines_of(const std::string& text);
[[nodiscard]] bool contains(const std::string& text, const std::string& part);

}  // namespace imhotep::cli
