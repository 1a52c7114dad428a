#include "cli/arguments.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/base/fail.h"
#include "core/base/units.h"

namespace imhotep::cli {
namespace {

// CLI11 turns what its callbacks return into a message that begins with the option's name.
template <class Parse>
CLI::callback_t taking(Parse parse) {
  return [parse](const CLI::results_t& results) {
    try {
      parse(results.back());
    } catch (const Error& error) {
      throw CLI::ValidationError(error.what());
    }
    return true;
  };
}

std::int64_t at_least(std::int64_t value, std::int64_t least) {
  if (value < least) fail_input("expected a whole number >= {}, got {}", least, value);
  return value;
}

// What is found out before the work need not be found out after it.
void expect_writable(const std::string& file) {
  const std::filesystem::path path(file);
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) fail_input("{}: is a folder", file);
  if (std::filesystem::is_other(path, ignored)) {  // it would be replaced
    fail_input("{}: is a device or a pipe, expected a file", file);
  }
  if (!std::filesystem::is_directory(folder, ignored)) {
    fail_input("{}: there is no folder {}", file, folder.string());
  }
  if (access(folder.c_str(), W_OK) != 0) {
    fail_input("{}: cannot write in {}: {}", file, folder.string(), std::strerror(errno));
  }
}

}  // namespace

void Arguments::flag(const char* names, bool& value, const char* help) {
  app_.add_flag(names, value, help);
}

void Arguments::text(const char* names, std::string& value, const char* help) {
  app_.add_option(names, value, help)->type_name("TEXT");
}

void Arguments::output(const char* names, std::string& file, const char* help) {
  app_.add_option(names, taking([&file, names](const std::string& text) {
                    try {
                      expect_writable(text);
                    } catch (const Error& error) {
                      fail_input("{}: {}", names, error.what());
                    }
                    file = text;
                  }),
                  help)
      ->type_name("FILE");
}

void Arguments::texts(const char* names, std::vector<std::string>& values, const char* help) {
  app_.add_option(names, values, help)->type_name("TEXT");
}

void Arguments::required(const char* names, std::string& value, const char* help) {
  app_.add_option(names, value, help)->required()->type_name("");
}

void Arguments::integer(const char* names, std::optional<std::int64_t>& value, const char* help,
                        std::int64_t least) {
  app_.add_option(names, taking([&value, least, names](const std::string& text) {
                    try {
                      value = at_least(parse_integer(text), least);
                    } catch (const Error& error) {
                      fail_input("{}: {}", names, error.what());
                    }
                  }),
                  help)
      ->type_name("N");
}

void Arguments::integer(const char* names, std::int64_t& value, const char* help,
                        std::int64_t least) {
  app_.add_option(names, taking([&value, least, names](const std::string& text) {
                    try {
                      value = at_least(parse_integer(text), least);
                    } catch (const Error& error) {
                      fail_input("{}: {}", names, error.what());
                    }
                  }),
                  help)
      ->type_name("N")
      ->default_str(std::to_string(value));
}

void Arguments::number(const char* names, std::optional<double>& value, const char* help) {
  app_.add_option(names, taking([&value, names](const std::string& text) {
                    try {
                      value = parse_number(text);
                    } catch (const Error& error) {
                      fail_input("{}: {}", names, error.what());
                    }
                  }),
                  help)
      ->type_name("X");
}

void expect_one_of(const std::string& name, const std::vector<std::string>& allowed,
                   const std::string& text) {
  if (std::find(allowed.begin(), allowed.end(), text) != allowed.end()) return;
  const std::string near = nearest(text, allowed);
  fail_input("{}: expected {}, got \"{}\"{}", name, fmt::join(allowed, "|"), text,
             near.empty() ? "" : fmt::format(" (did you mean {}?)", near));
}

void Arguments::one_of(const char* names, const std::vector<std::string>& allowed, const char* help,
                       const std::function<void(const std::string&)>& take) {
  app_.add_option(names, taking([=](const std::string& text) {
                    expect_one_of(names, allowed, text);
                    take(text);
                  }),
                  help)
      ->type_name(fmt::to_string(fmt::join(allowed, "|")));
}

void Arguments::example(const std::string& line) {
  examples_ += (examples_.empty() ? "Example:\n  " : "\n  ") + line;
  app_.footer(examples_);
}

}  // namespace imhotep::cli
