#include "cli/application.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cli/commands.h"
#include "cli/json_output.h"
#include "cli/signals.h"
#include "core/base/fail.h"
#include "core/base/units.h"

namespace imhotep::cli {
namespace {

constexpr const char* kVersion = "imhotep 0.1.0";

std::string overview() {
  std::string text =
      "Plans, simulates, trains and runs Pyramid-Residual Mixture-of-Experts transformers.\n"
      "Usage: imhotep COMMAND [OPTIONS]     imhotep COMMAND --help\n\n";
  for (const Command& command : commands()) {
    text += fmt::format("  {:<10} {}\n", command.name, command.summary);
  }
  return text +
         "\nExamples:\n"
         "  imhotep models\n"
         "  imhotep plan 1.3b-pr-moe-64-128 --cluster azure-nd-a100-v4 --gpus 128\n"
         "  imhotep run tiny-pr-moe-4-8 --data texts --out run/a\n";
}

const Command& find_command(const std::string& verb) {
  std::vector<std::string> known;
  for (const Command& command : commands()) {
    if (verb == command.name) return command;
    known.emplace_back(command.name);
  }
  const std::string near = nearest(verb, known);
  if (!near.empty()) fail_input("unknown command \"{}\" (did you mean \"{}\"?)", verb, near);
  fail_input("unknown command \"{}\"; known: {}", verb, fmt::join(known, ", "));
}

// What CLI11 has left over: it offers no suggestions of its own.
void refuse_unknown(const CLI::App& app) {
  const std::vector<std::string> left = app.remaining();
  if (left.empty()) return;
  const auto option = std::find_if(left.begin(), left.end(), [](const std::string& text) {
    return text.size() > 1 && text.front() == '-';
  });
  if (option == left.end()) fail_input("unexpected argument \"{}\"", left.front());
  const std::string name = option->substr(0, option->find('='));
  std::vector<std::string> known;
  for (const CLI::Option* known_option : app.get_options()) {
    for (const std::string& text : known_option->get_lnames()) known.push_back("--" + text);
    for (const std::string& text : known_option->get_snames()) known.push_back("-" + text);
  }
  const std::string near = nearest(name, known);
  fail_input("unknown option {}{}", name,
             near.empty() ? "" : fmt::format(" (did you mean {}?)", near));
}

bool wants_color(const std::string& when) {
  if (when == "always") return true;
  if (when == "never" || isatty(STDOUT_FILENO) == 0) return false;
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool dumb = terminal == nullptr || std::strcmp(terminal, "dumb") == 0;
  return !dumb && (no_color == nullptr || *no_color == '\0');
}

int run_command(const Command& command, std::vector<std::string> words) {
  CLI::App app{command.summary, fmt::format("imhotep {}", command.name)};
  app.set_help_flag("-h,--help", "this text");
  app.get_formatter()->column_width(32);
  app.allow_extras();
  Arguments arguments(app);
  Session session;
  std::string color = "auto";
  const Run run = command.setup(arguments);
  arguments.flag("--json", session.json, "one JSON value on stdout");
  arguments.flag("-q,--quiet", session.quiet, "no progress");
  arguments.one_of("--color", {"auto", "always", "never"}, "colours on stdout",
                   [&color](const std::string& when) { color = when; });
  try {
    std::reverse(words.begin(), words.end());  // as CLI11 wants a vector
    app.parse(words);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  } catch (const CLI::ParseError& error) {
    refuse_unknown(app);  // the likelier mistake
    fail_input("{}", error.what());
  }
  refuse_unknown(app);
  session.color = wants_color(color);
  return run(session);
}

int dispatch(std::vector<std::string> words) {
  if (words.empty()) {
    std::fputs(overview().c_str(), stdout);
    return 2;
  }
  if (words.front() == "--version") {
    std::puts(kVersion);
    return 0;
  }
  const auto verb = std::find_if(words.begin(), words.end(), [](const std::string& word) {
    return word.empty() || word.front() != '-';
  });
  const bool help = words.front() == "help";
  if (help && words.size() > 1) return run_command(find_command(words[1]), {"--help"});
  const bool asks_help = words.front() == "-h" || words.front() == "--help";
  if (help || (verb == words.end() && asks_help)) {
    std::fputs(overview().c_str(), stdout);
    return 0;
  }
  if (verb == words.end()) fail_input("expected a command, got \"{}\"", words.front());
  // A name of two words ("bench serve") comes before its first one.
  for (const Command& command : commands()) {
    const auto next = verb + 1;
    if (next == words.end() || *verb + " " + *next != command.name) continue;
    words.erase(verb, verb + 2);
    return run_command(command, std::move(words));
  }
  const Command& command = find_command(*verb);
  words.erase(verb);
  return run_command(command, std::move(words));
}

int report(const std::string& message, int code, bool json) {
  if (json) print_json_error(message, code);
  std::fprintf(stderr, "imhotep: %s\n", message.c_str());
  return code;
}

}  // namespace

int run(std::vector<std::string> arguments) {
  catch_signals();
  const bool json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  int code = 1;
  try {
    code = dispatch(std::move(arguments));
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) fail("cannot write to stdout");
  } catch (const Error& error) {
    const int stopped = signal_exit_code();
    code = report(error.what(), stopped != 0 ? stopped : static_cast<int>(error.kind()), json);
  } catch (const std::exception& error) {
    code = report(fmt::format("unexpected: {}", error.what()), 1, json);
  }
  return signal_exit_code() != 0 ? signal_exit_code() : code;
}

}  // namespace imhotep::cli
