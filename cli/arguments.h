#pragma once
// The options of one subcommand. A thin face over CLI11, so that only one file compiles it, every
// help looks alike, and numbers are read the way people write them (8k, 40GiB).

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/enum_names.h"

namespace CLI {
class App;
}

namespace imhotep::cli {

class Arguments {
 public:
  explicit Arguments(CLI::App& app) : app_(app) {}

  // Names as CLI11 takes them: "--gpus", "-o,--out", or "MODEL" for a positional argument.
  void flag(const char* names, bool& value, const char* help);
  void text(const char* names, std::string& value, const char* help);
  // A file that the command writes at its end.
  // Throws at parsing: Error(Input) where its folder is missing, cannot be written, or it is one.
  void output(const char* names, std::string& file, const char* help);
  void texts(const char* names, std::vector<std::string>& values, const char* help);
  void required(const char* names, std::string& value, const char* help);
  // Throws at parsing: Error(Input) for anything that is not a whole number >= least.
  void integer(const char* names, std::optional<std::int64_t>& value, const char* help,
               std::int64_t least = 1);
  void integer(const char* names, std::int64_t& value, const char* help, std::int64_t least = 1);
  void number(const char* names, std::optional<double>& value, const char* help);
  template <NamedEnum E>
  void choice(const char* names, std::optional<E>& value, const char* help) {
    one_of(names, names_of<E>(), help, [&value](const std::string& text) {
      if (E parsed{}; parse_enum(text, parsed)) value = parsed;
    });
  }
  void one_of(const char* names, const std::vector<std::string>& allowed, const char* help,
              const std::function<void(const std::string&)>& take);
  // Shown at the end of --help, one a line.
  void example(const std::string& line);

 private:
  CLI::App& app_;
  std::string examples_;
};

// Throws: Error(Input) that names the nearest word unless `text` is one of them.
void expect_one_of(const std::string& name, const std::vector<std::string>& allowed,
                   const std::string& text);

}  // namespace imhotep::cli
